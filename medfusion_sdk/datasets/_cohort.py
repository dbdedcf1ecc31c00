"""Generated cohorts whose optimum is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from medfusion_sdk.datasets._draws import draw_presence, draw_targets, make_block
from medfusion_sdk.datasets._latent import LatentModel
from medfusion_sdk.datasets._raw_cells import FS, MOST_COORDINATES, render_notes, render_signals
from medfusion_sdk.exceptions import ModalityError, ParameterError

__all__ = ["make_multimodal_cohort"]

PerModality = float | Mapping[str, float]

_DEFAULT_MODALITIES = {"ecg": "signal", "note": "text", "labs": "tabular"}
_KINDS = ("signal", "text", "tabular")
_TASKS = ("classification", "multilabel")
# 2 ** 10 subsets are tabulated.
_MOST_MODALITIES = 10


def make_multimodal_cohort(
    n_samples: int = 300,
    *,
    modalities: Mapping[str, str] | Sequence[str] | None = None,
    shared: PerModality = 1.0,
    private: PerModality = 1.0,
    noise: PerModality = 0.5,
    missing: PerModality = 0.0,
    task: str = "classification",
    n_classes: int = 2,
    prevalence: float | None = None,
    n_groups: int | None = None,
    n_features: int | Mapping[str, int] = 16,
    as_raw: bool = False,
    random_state: int | np.random.Generator | None = None,
) -> Bunch:
    """Make a cohort of several modalities for which the best possible scores are known.

    The classes differ along a latent that all modalities observe and along one of each
    modality's own. All is normal and linear, so the score that no classifier can pass follows in
    closed form for each subset of modalities. With private signal, fusion has something to gain;
    with ``private=0`` and ``noise=0`` every modality tells the same and it has nothing to gain.

    Parameters
    ----------
    n_samples : int, default=300
        Number of rows.
    modalities : mapping of str to {"signal", "text", "tabular"}, or sequence of str, default=None
        Names and kinds; a sequence of names makes all of them tabular. By default
        ``{"ecg": "signal", "note": "text", "labs": "tabular"}``. Kinds matter with
        ``as_raw=True`` only.
    shared : float or mapping, default=1.0
        Distance of the classes along the latent that all modalities observe, in its standard
        deviations. With a mapping the largest value is the distance, and a modality with less
        observes the latent in that proportion; one with 0 doesn't see it.
    private : float or mapping, default=1.0
        Distance of the classes along each modality's own latent, in its standard deviations.
    noise : float or mapping, default=0.5
        Standard deviation of the noise with which a modality observes latents.
    missing : float or mapping, default=0.0
        Share of rows that lack a modality, completely at random and met exactly but for
        rounding. No row lacks all.
    task : {"classification", "multilabel"}, default="classification"
        One of ``n_classes`` classes, or ``n_classes`` labels independent of each other, each with
        its own latents.
    n_classes : int, default=2
        Number of classes or labels.
    prevalence : float, default=None
        Share of the second of two classes, or of each label; 0.5 by default. More than two
        classes are equally frequent.
    n_groups : int, default=None
        Number of patients. The rows of a patient have the same target and, in blocks and tabular
        columns, resemble each other in what tells nothing about it, so a split by row looks
        better than it is. By default each row is a patient. The optimum is that of classifiers
        that see one row of a new patient.
    n_features : int or mapping, default=16
        Width of each block: two per label, or twice ``n_classes - 1``, at least. The features are
        a rotation of what the modality tells together with standard normal noise.
    as_raw : bool, default=False
        Make a cohort table instead of a block table: signals (12, 1000) in mV at 100 Hz, notes,
        numbers. A note tells in words, and a signal with noise, a little less than the block
        does, so the optimum is then an upper bound.
    random_state : int, Generator or None, default=None
        Seed. Parameters that don't concern a draw leave it alone: with another ``missing`` or
        ``as_raw``, targets and the remaining values are the same.

    Returns
    -------
    Bunch
        With the entries:

        data : DataFrame of n_samples rows
            Block table with columns ``modality__0000``, float32, and a missing modality as NaN;
            with ``as_raw=True`` a cohort table.
        target : Series or DataFrame
            Integer classes; for multilabel, columns of 0 and 1.
        groups : Series
            Patient of each row.
        present : DataFrame of bool
            Which modality each row has.
        optimum : DataFrame
            Indexed by subset of modalities, such as ``"ecg+labs"``, and ``"available"`` for what
            each row of this cohort has. ``auroc`` is the best (macro) AUROC, not given for more
            than two classes; ``accuracy`` the best accuracy (of all labels at once, as
            scikit-learn counts it).
        bayes_proba : ndarray
            The best prediction for each row from what it has, as ``predict_proba`` lays it out.
        columns : dict
            Name of each modality's column, or list of columns, in ``data``.
        modalities : dict
            Kind of each modality.
        fs : float
            Sampling rate of signals in Hz.

    See Also
    --------
    load_ptbxl : Real records.

    Notes
    -----
    Two seeds are two worlds, with other features for the same latents: split one cohort rather
    than make a second one to test on.

    Examples
    --------
    >>> from medfusion_sdk.datasets import make_multimodal_cohort
    >>> cohort = make_multimodal_cohort(missing={"ecg": 0.2, "note": 0, "labs": 0}, random_state=0)
    >>> cohort.data.shape, int(cohort.data["ecg__0000"].isna().sum())
    ((300, 48), 60)
    >>> cohort.optimum.loc[["ecg", "ecg+note", "ecg+note+labs", "available"]].round(3)
                   auroc  accuracy
    modalities
    ecg            0.814     0.736
    ecg+note       0.868     0.785
    ecg+note+labs  0.901     0.819
    available      0.895     0.812
    """
    kinds = _named_kinds(modalities)
    names = list(kinds)
    model = _make_model(names, shared, private, noise, task, n_classes, prevalence)
    widths = _per_modality("n_features", n_features, names).astype(int)
    # One stream per purpose, so that what one parameter draws doesn't shift the others.
    streams = np.random.default_rng(random_state).spawn(3 + len(names))
    patient, y = draw_targets(n_samples, n_groups, model, streams[0])
    told = model.observe(model.codes(y), streams[1])
    present = draw_presence(n_samples, _per_modality("missing", missing, names), streams[2])
    tables = {}
    for number, (name, kind) in enumerate(kinds.items()):
        rng = streams[3 + number]
        if as_raw and kind != "tabular":
            cells = told[:, number] / model.spread()[number]
            table = _raw_column(name, kind, cells, rng)
        else:
            separator = "_" if as_raw else "__"
            table = make_block(name + separator, told[:, number], widths[number], patient, rng)
        gone = np.repeat(~present[:, [number]], table.shape[1], axis=1)
        tables[name] = table.mask(gone)
    return Bunch(
        data=pd.concat(tables.values(), axis=1),
        target=_as_target(y),
        groups=pd.Series(patient, name="patient"),
        present=pd.DataFrame(present, columns=names),
        optimum=model.optimum(names, present),
        bayes_proba=model.posterior(told, present),
        columns={
            name: name if as_raw and kinds[name] != "tabular" else table.columns.to_list()
            for name, table in tables.items()
        },
        modalities=kinds,
        fs=FS,
    )


def _named_kinds(modalities: Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    if modalities is None:
        kinds = dict(_DEFAULT_MODALITIES)
    elif isinstance(modalities, Mapping):
        kinds = dict(modalities)
    else:
        kinds = dict.fromkeys(modalities, "tabular")
    if not 1 <= len(kinds) <= _MOST_MODALITIES:
        raise ModalityError(f"{len(kinds)} modalities; 1 to {_MOST_MODALITIES} can be made.")
    for name, kind in kinds.items():
        if kind not in _KINDS:
            raise ModalityError(f"modality {name!r} is of kind {kind!r}; known are {_KINDS}.")
        if not name or "__" in name:
            raise ModalityError(f"{name!r} can't name a modality: '__' parts name and feature.")
    return kinds


def _per_modality(
    parameter: str, value: float | Mapping[str, float], names: list[str]
) -> np.ndarray:
    """Spread a number over the modalities, or put a mapping in their order."""
    by_name = value if isinstance(value, Mapping) else dict.fromkeys(names, value)
    if set(by_name) != set(names):
        raise ModalityError(f"{parameter} names {list(by_name)}; the modalities are {names}.")
    numbers = np.array([by_name[name] for name in names], dtype=np.float64)
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise ParameterError(f"{parameter}={value}; numbers of 0 or more are needed.")
    return numbers


def _make_model(
    names: list[str],
    shared: PerModality,
    private: PerModality,
    noise: PerModality,
    task: str,
    n_classes: int,
    prevalence: float | None,
) -> LatentModel:
    if task not in _TASKS:
        raise ParameterError(f"task={task!r}; known are {_TASKS}.")
    multilabel = task == "multilabel"
    if n_classes < 2:
        raise ParameterError(f"n_classes={n_classes}; 2 or more are needed.")
    if prevalence is not None and not multilabel and n_classes > 2:
        raise ParameterError("prevalence is for two classes or labels; more are equally frequent.")
    if prevalence is not None and not 0 < prevalence < 1:
        raise ParameterError(f"prevalence={prevalence} isn't between 0 and 1.")
    strength = _per_modality("shared", shared, names)
    distance = float(strength.max())
    return LatentModel(
        shared=distance,
        loading=strength / distance if distance else strength,
        private=_per_modality("private", private, names),
        noise=_per_modality("noise", noise, names),
        n_classes=n_classes,
        multilabel=multilabel,
        prevalence=0.5 if prevalence is None else prevalence,
    )


def _raw_column(name: str, kind: str, told: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Turn what a modality tells into a column of signals or notes."""
    if told.shape[1] > MOST_COORDINATES:
        raise ParameterError(
            f"n_classes is too large for raw cells: {name!r} would have to tell {told.shape[1]} "
            f"latents and can tell {MOST_COORDINATES}. Use as_raw=False."
        )
    if kind == "text":
        return pd.DataFrame({name: render_notes(told, rng)})
    return pd.DataFrame({name: pd.Series(list(render_signals(told, rng)), dtype=object)})


def _as_target(y: np.ndarray) -> pd.Series | pd.DataFrame:
    if y.ndim == 1:
        return pd.Series(y, name="target")
    return pd.DataFrame(y, columns=[f"label_{number}" for number in range(y.shape[1])])
