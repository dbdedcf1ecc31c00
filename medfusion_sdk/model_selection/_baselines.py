"""Simple models of the same modalities: what a fusion method has to beat."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from medfusion_sdk.exceptions import ModalityError, ParameterError
from medfusion_sdk.model_selection._ridge_cox import RidgeCox

__all__ = ["modality_baselines"]

# On blocks of standardised columns divided by the root of their number, so that it means the same
# for an embedding and for four numbers; by cross-validation on the bundled PTB-XL records.
_C = 5.0
_PENALTIES = np.logspace(-3, 3, 13)


def modality_baselines(
    encode: ColumnTransformer | Sequence[str],
    *,
    task: str = "classification",
    linear: Any = None,
    boosted: Any = None,
) -> dict[str, Any]:
    """Make the simple models that belong beside a fusion method, for :func:`compare`.

    Each modality alone, the late vote of these, all of them concatenated, and gradient boosting on
    all. They are the ones by which results of fusion are most often explained.

    Parameters
    ----------
    encode : ColumnTransformer or sequence of str
        From :func:`~medfusion_sdk.make_modality_transformer`, where the models are to read a
        cohort table; or the names of the modalities of a block table.
    task : {"classification", "regression", "survival"}, default="classification"
        What is predicted.
    linear : estimator, default=None
        Reads one modality's columns, or all. By default logistic regression per class or label,
        ridge regression whose penalty leave-one-out chooses, or a ridge Cox model, on columns
        that are imputed by their mean, standardised, and scaled by their number.
    boosted : estimator, default=None
        Reads all columns. By default scikit-learn's histogram gradient boosting, per class or
        label; it has none for survival.

    Returns
    -------
    dict of str to Pipeline or list of str
        Named "... alone", "late vote", "concatenation" and "gradient boosting". With one modality
        there is neither vote nor concatenation, for survival no boosting unless it is given.

    Raises
    ------
    ModalityError
        If no modality is named.
    ParameterError
        For another task.

    Examples
    --------
    >>> from medfusion_sdk.datasets import make_multimodal_cohort
    >>> from medfusion_sdk.model_selection import compare, modality_baselines
    >>> cohort = make_multimodal_cohort(200, random_state=0)
    >>> models = modality_baselines(["ecg", "note", "labs"])
    >>> list(models)
    ['ecg alone', 'note alone', 'labs alone', 'late vote', 'concatenation', 'gradient boosting']
    >>> table = compare(models, cohort.data, cohort.target, random_state=0)
    >>> table["score"].idxmax()
    'late vote'
    """
    transformer = encode if isinstance(encode, ColumnTransformer) else _by_name(encode)
    names = [name for name, kind, _ in transformer.transformers if not _is_dropped(kind)]
    if not names:
        raise ModalityError("there is no modality to make a model of.")
    if task not in _TASKS:
        raise ParameterError(f"task={task!r}: baselines are made for the tasks {list(_TASKS)}.")
    on_columns, on_all = _TASKS[task]
    linear = _linear(on_columns()) if linear is None else linear
    boosted = on_all() if boosted is None else boosted
    alone = {f"{name} alone": _model(transformer, linear, names, [name]) for name in names}
    models: dict[str, Any] = dict(alone)
    if len(names) > 1:
        models["late vote"] = list(alone)
        models["concatenation"] = _model(transformer, linear, names, names)
    if boosted is not None:
        models["gradient boosting"] = _model(transformer, boosted, names, names)
    return models


def _by_name(modalities: Sequence[str]) -> ColumnTransformer:
    return ColumnTransformer(
        [
            (name, "passthrough", make_column_selector(f"^{re.escape(name)}__"))
            for name in modalities
        ]
    )


def _is_dropped(kind: Any) -> bool:
    return isinstance(kind, str) and kind == "drop"


def _model(
    encode: ColumnTransformer, estimator: Any, names: list[str], kept: list[str]
) -> Pipeline:
    model = Pipeline([("encode", clone(encode)), ("model", clone(estimator))])
    return model.set_params(**{f"encode__{name}": "drop" for name in names if name not in kept})


def _linear(model: Any) -> Pipeline:
    return make_pipeline(
        SimpleImputer(keep_empty_features=True),
        StandardScaler(),
        FunctionTransformer(_by_root_width),
        model,
    )


def _boosting(model: Any) -> Pipeline:
    # scikit-learn's can't bin a column that no row of a fold has.
    return make_pipeline(ColumnTransformer([("known", "passthrough", _known_columns)]), model)


# Of each task: the model of standardised columns, and the one of all columns as they are.
_TASKS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "classification": (
        lambda: OneVsRestClassifier(LogisticRegression(C=_C, max_iter=2000)),
        lambda: _boosting(OneVsRestClassifier(HistGradientBoostingClassifier(random_state=0))),
    ),
    "regression": (
        lambda: RidgeCV(_PENALTIES),
        lambda: _boosting(HistGradientBoostingRegressor(random_state=0)),
    ),
    "survival": (RidgeCox, lambda: None),
}


def _known_columns(X: Any) -> np.ndarray:
    return np.flatnonzero(~np.asarray(pd.DataFrame(X).isna()).all(axis=0))


def _by_root_width(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(x.shape[1])
