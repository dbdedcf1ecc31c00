"""The two tables: a cohort table of raw columns, a block table of ``modality__feature`` columns.

Neither is a container of ours. The first is a DataFrame with one column per raw modality; the
second is what an ordinary ColumnTransformer makes of it, so everything in scikit-learn that takes
a DataFrame takes ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from medfusion_sdk.embedding_cache import as_cache
from medfusion_sdk.encoders.modality_transformer import ModalityTransformer
from medfusion_sdk.encoders.named_columns import NamedColumns
from medfusion_sdk.encoders.skip_missing import SkipMissing
from medfusion_sdk.exceptions import ModalityError, ModalityWarning

__all__ = ["group_blocks", "make_modality_transformer", "presence_mask", "shown_rows"]

SEPARATOR = "__"
# A table wider than this without names was most likely named once, before an encoder's numpy
# output or a meta-estimator such as bagging.
_WIDE = 10


def make_modality_transformer(
    *, cache: Any = None, n_jobs: int | None = None, **modalities: tuple[Any, Any]
) -> ColumnTransformer:
    """Make the ColumnTransformer that turns a cohort table into a block table.

    Parameters
    ----------
    cache : EmbeddingCache, path or None, default=None
        Given to each of our encoders that has none of its own, also inside pipelines.
    n_jobs : int or None, default=None
        Modalities encoded in parallel. Encoders already use every core, so ``None`` is best
        unless other transformers dominate.
    **modalities : (transformer, columns)
        One entry per modality, for example ``note=(TextEncoder(), "note")``. Any scikit-learn
        transformer or pipeline serves; one column name hands over a Series (what text
        vectorisers want), a list of names a DataFrame. ``"drop"`` leaves a modality out. One
        without pandas output, such as a text vectoriser, is wrapped in :class:`SkipMissing`; one
        whose output is sparse or has no names, such as ``OneHotEncoder()`` or a
        ``FunctionTransformer``, in
        :class:`~medfusion_sdk.encoders.named_columns.NamedColumns`.

    Returns
    -------
    ColumnTransformer
        With pandas output set and columns named ``modality__feature``. Where all columns are
        given by name it can be fitted on an array of as many columns, as inside a
        ``BaggingClassifier``: it warns that they are taken in the order of their names here.

    Raises
    ------
    ModalityError
        If no modality is given, or one isn't a pair (transformer, columns).

    See Also
    --------
    SkipMissing : Lets a transformer that can't take missing cells serve as a modality.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.preprocessing import StandardScaler
    >>> X = pd.DataFrame({"age": [61.0, 48.0], "weight": [80.0, 70.0]})
    >>> encode = make_modality_transformer(labs=(StandardScaler(), ["age", "weight"]))
    >>> encode.fit_transform(X)
       labs__age  labs__weight
    0        1.0           1.0
    1       -1.0          -1.0
    """
    if not modalities:
        raise ModalityError(
            "no modality given; write for example "
            'make_modality_transformer(note=(TextEncoder(), "note")).'
        )
    steps = []
    for name, entry in modalities.items():
        if not isinstance(entry, tuple) or len(entry) != 2:
            raise ModalityError(
                f"modality {name!r}: expected a pair (transformer, columns), got {entry!r}."
            )
        transformer, columns = entry
        steps.append((name, _with_names(_with_cache(transformer, cache)), columns))
    # A sparse stack has no pandas output; verbose names are what makes blocks of columns.
    return ModalityTransformer(
        steps, n_jobs=n_jobs, sparse_threshold=0.0, verbose_feature_names_out=True
    ).set_output(transform="pandas")


def _with_cache(transformer: Any, cache: Any) -> Any:
    """Copy a transformer with `cache` set wherever an encoder of ours has none."""
    if cache is None or isinstance(transformer, str):
        return transformer
    parameters = transformer.get_params(deep=True)
    free = [
        name
        for name, value in parameters.items()
        if value is None
        and name.split(SEPARATOR)[-1] == "cache"
        and hasattr(parameters.get(name.rpartition(SEPARATOR)[0], transformer), "fingerprint")
    ]
    if not free:
        return transformer
    return clone(transformer).set_params(**dict.fromkeys(free, as_cache(cache)))


def _with_names(transformer: Any) -> Any:
    """Wrap a transformer whose columns would lose their names in pandas output."""
    if isinstance(transformer, str):
        return transformer
    try:
        clone(transformer).set_output(transform="pandas")
    except (AttributeError, ValueError):
        return SkipMissing(transformer)
    if _is_sparse(transformer) or not _names_its_columns(transformer):
        return NamedColumns(transformer)
    return transformer


def _is_sparse(transformer: Any) -> bool:
    """Tell whether a parameter asks for sparse output, of it or of a step."""
    kinds = {"sparse_output": True, "sparse": True, "encode": "onehot"}
    parameters = transformer.get_params(deep=True)
    return any(
        isinstance(value, bool | str) and kinds.get(name.split(SEPARATOR)[-1]) == value
        for name, value in parameters.items()
    )


def _names_its_columns(transformer: Any) -> bool:
    """Tell whether a transformer, or each step of a pipeline, names what it returns."""
    if isinstance(transformer, Pipeline):
        steps = [step for _, step in transformer.steps if step not in (None, "passthrough")]
        return all(map(_names_its_columns, steps))
    return hasattr(transformer, "get_feature_names_out")


def group_blocks(
    feature_names: Sequence[str] | None,
    n_features: int,
    modalities: str | Mapping[str, Any] = "auto",
) -> dict[str, np.ndarray]:
    """Group the columns of a block table by modality.

    Parameters
    ----------
    feature_names : sequence of str or None
        Column names, None for a bare array.
    n_features : int
        Number of columns.
    modalities : "auto" or mapping, default="auto"
        "auto" groups by the text before the first double underscore; names without one, and
        bare arrays, are one block called "features". A mapping gives for each modality a list
        of names or positions, a slice of positions, or a prefix: "lab" stands for the columns
        "lab__...", not for "label__..."; columns that it doesn't name aren't used.

    Returns
    -------
    dict of str to ndarray of int
        Column positions of each modality, in order of first appearance.

    Raises
    ------
    ModalityError
        For a modality without columns, an unknown column or one claimed twice.

    Examples
    --------
    >>> blocks = group_blocks(["ecg__0000", "ecg__0001", "labs__age"], 3)
    >>> {name: columns.tolist() for name, columns in blocks.items()}
    {'ecg': [0, 1], 'labs': [2]}
    """
    if isinstance(modalities, str):
        if modalities != "auto":
            raise ModalityError(f'modalities must be "auto" or a mapping, got {modalities!r}.')
        return _auto_blocks(feature_names, n_features)
    names = None if feature_names is None else [str(name) for name in feature_names]
    blocks = {
        str(name): _columns(str(name), spec, names, n_features) for name, spec in modalities.items()
    }
    if not blocks:
        raise ModalityError("modalities is an empty mapping; name at least one modality.")
    claimed = np.concatenate(list(blocks.values()))
    twice = [int(c) for c, n in zip(*np.unique(claimed, return_counts=True), strict=True) if n > 1]
    if twice:
        label = names[twice[0]] if names else f"position {twice[0]}"
        owners = [name for name, columns in blocks.items() if twice[0] in columns]
        raise ModalityError(f"column {label!r} belongs to more than one modality: {owners}.")
    return blocks


def _auto_blocks(names: Sequence[str] | None, n_features: int) -> dict[str, np.ndarray]:
    if names is None:
        if n_features > _WIDE:
            warnings.warn(
                f"{n_features} columns without names are taken as one modality. If they were "
                'named, keep the names with set_output(transform="pandas"), or say which columns '
                "are which with modalities={name: slice, ...}. BaggingClassifier, AdaBoost, RFE "
                "and SelfTrainingClassifier hand arrays on.",
                ModalityWarning,
                stacklevel=2,
            )
        return {"features": np.arange(n_features)}
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        prefix, separator, _ = str(name).partition(SEPARATOR)
        groups.setdefault(prefix if separator and prefix else "features", []).append(position)
    return {name: np.array(columns) for name, columns in groups.items()}


def _columns(modality: str, spec: Any, names: list[str] | None, n_features: int) -> np.ndarray:
    if isinstance(spec, slice):
        columns = list(range(n_features))[spec]
    elif isinstance(spec, str):
        if names is None:
            raise ModalityError(
                f"modality {modality!r}: prefix {spec!r} needs column names; give positions."
            )
        columns = _named_so(spec, names)
    else:
        columns = [_position(modality, item, names, n_features) for item in spec]
    if not columns:
        raise ModalityError(f"modality {modality!r}: no column fits {spec!r}.")
    return np.array(columns, dtype=int)


def _named_so(spec: str, names: list[str]) -> list[int]:
    """Columns of that name, of that modality, or else whose name begins so."""
    for own in (spec, f"{spec}{SEPARATOR}"):
        matches = str.__eq__ if own == spec else str.startswith
        if columns := [i for i, name in enumerate(names) if matches(name, own)]:
            return columns
    # "lab" isn't meant for another modality called "label".
    whole = SEPARATOR in spec
    return [i for i, n in enumerate(names) if n.startswith(spec) and (whole or SEPARATOR not in n)]


def _position(modality: str, item: Any, names: list[str] | None, n_features: int) -> int:
    if isinstance(item, str):
        if names is None or item not in names:
            raise ModalityError(f"modality {modality!r}: there is no column {item!r}.")
        return names.index(item)
    if not -n_features <= item < n_features:
        raise ModalityError(
            f"modality {modality!r}: position {item} is outside the table's {n_features} columns."
        )
    return int(item) % n_features


def presence_mask(
    X: np.ndarray, blocks: Mapping[str, np.ndarray], rows: Sequence[Any] | None = None
) -> np.ndarray:
    """Tell which modalities each row has: those whose block isn't all NaN.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        A block table's values.
    blocks : mapping of str to ndarray of int
        Column positions of each modality, from :func:`group_blocks`.
    rows : sequence or None, default=None
        Labels of the rows, for the message; None for their positions.

    Returns
    -------
    ndarray of shape (n_samples, n_modalities), bool
        True where the modality is present.

    Raises
    ------
    ModalityError
        If a row has no modality at all.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, 2.0]])
    >>> presence_mask(X, {"ecg": np.array([0, 1]), "labs": np.array([2])})
    array([[ True,  True],
           [False,  True]])
    """
    missing = np.isnan(X)
    mask = np.column_stack([~missing[:, columns].all(axis=1) for columns in blocks.values()])
    empty = np.flatnonzero(~mask.any(axis=1))
    if empty.size:
        raise ModalityError(
            f"{empty.size} row(s) have none of the modalities {list(blocks)}: "
            f"{shown_rows(range(len(X)) if rows is None else rows, empty)}. Drop these rows; "
            "without any input there is nothing to predict from."
        )
    return mask


def shown_rows(rows: Sequence[Any], positions: Sequence[int] | np.ndarray) -> str:
    """List rows for a message: the first five.

    Parameters
    ----------
    rows : sequence
        Labels of all rows.
    positions : sequence of int
        Which of them.

    Returns
    -------
    str
        Their labels.

    Examples
    --------
    >>> shown_rows(["p1", "p2", "p3"], [0, 2])
    "'p1', 'p3'"
    """
    labels = [rows[i] for i in positions[:5]]
    # A label from a numeric index would be shown as np.int64(5).
    shown = ", ".join(repr(x.item() if hasattr(x, "item") else x) for x in labels)
    return shown + (", ..." if len(positions) > 5 else "")
