"""What TGMM's `explain` returns: gates, attention, prompts and drop-one changes as a tidy table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._explanations import tidy

__all__ = ["TaskOutput", "drop_one", "tgmm_explanation"]

_COLUMNS = ["row", "task", "quantity", "modality", "source", "token", "label", "value"]
Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TaskOutput:
    """What a task answers.

    Attributes
    ----------
    quantity : str
        What the answer is called.
    values : ndarray of shape (n, K)
        The answers.
    labels : sequence
        Names of their K entries.
    """

    quantity: str
    values: np.ndarray
    labels: Sequence[Any]


def drop_one(
    X: np.ndarray,
    blocks: Mapping[str, np.ndarray],
    present: np.ndarray,
    answers: Mapping[str, TaskOutput],
    usual: Mapping[str, np.ndarray],
    rerun: Callable[[np.ndarray, np.ndarray], Mapping[str, TaskOutput]],
) -> dict[str, np.ndarray]:
    """Change of each task's answer by each modality: with it less without it, by predicting twice.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
        A block table's values.
    blocks : mapping of str to ndarray of int
        Columns of each modality.
    present : ndarray of shape (n, M), bool
        Which modalities each row has.
    answers : mapping of str to TaskOutput
        Of the whole rows.
    usual : mapping of str to ndarray of shape (K,)
        Each task's mean answer to the training rows: what is left of a row that loses its only
        modality. NaN stands for one that isn't there.
    rerun : callable
        Gives the answers of some rows of a table: values and positions of the rows.

    Returns
    -------
    dict of str to ndarray of shape (n, M, K)
        Zero for a modality that a row lacks.
    """
    changes = {
        task: np.zeros((len(X), len(blocks), answer.values.shape[1]))
        for task, answer in answers.items()
    }
    several = present.sum(axis=1) > 1
    for m, columns in enumerate(blocks.values()):
        alone = ~several & present[:, m]
        for task, answer in answers.items():
            changes[task][alone, m] = answer.values[alone] - usual.get(task, np.nan)
        rows = np.flatnonzero(several & present[:, m])
        if not len(rows):
            continue
        hidden = X[rows].copy()
        hidden[:, columns] = np.nan
        for task, answer in rerun(hidden, rows).items():
            changes[task][rows, m] = answers[task].values[rows] - answer.values
    return changes


def tgmm_explanation(
    rows: pd.Index,
    modalities: Sequence[str],
    out: Outputs,
    answers: Mapping[str, TaskOutput],
    changes: Mapping[str, np.ndarray],
    prompt_tokens: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """Lay out what led to each task's answer.

    Parameters
    ----------
    rows : Index
        Row labels.
    modalities : sequence of str
        Names of the modalities.
    out : mapping of str to ndarray
        Output of the tasks' ``predict``.
    answers : mapping of str to TaskOutput
        What each task answers.
    changes : mapping of str to ndarray of shape (n, M, K)
        From :func:`drop_one`.
    prompt_tokens : mapping of str to sequence of str
        How each task's prompt tokens read.

    Returns
    -------
    DataFrame
        Columns row, task, quantity, modality, source, token, label, value; unused ones are None.
    """
    names, parts = list(modalities), []
    one: list[tuple[str, Sequence[Any]]] = [("modality", names)]
    for task, answer in answers.items():
        attention = out[f"{task}.attention"].mean(axis=1)
        told = [
            tidy(rows, out[f"{task}.gate"], one).assign(quantity="gate"),
            tidy(rows, attention, [*one, ("source", names)]).assign(quantity="attention"),
        ]
        if f"{task}.prompt" in out:
            axes = [("token", prompt_tokens[task]), ("source", ["fused", *names])]
            looked = out[f"{task}.prompt"].mean(axis=1)
            told.append(tidy(rows, looked, axes).assign(quantity="prompt"))
        label = [("label", answer.labels)]
        told.append(tidy(rows, answer.values, label).assign(quantity=answer.quantity))
        told.append(tidy(rows, changes[task], [*one, *label]).assign(quantity="drop_one"))
        parts += [part.assign(task=task) for part in told]
    table = pd.concat(
        [part.reindex(columns=_COLUMNS).astype(object) for part in parts], ignore_index=True
    )
    value = table["value"].astype(float)
    return table.where(table.notna(), None).assign(value=value)
