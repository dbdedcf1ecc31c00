"""Tables for the test that rows held out teach nothing, and what listens and compares.

Which rows are held out is listened to, not guessed: the table that an estimator trains on says so.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from medfusion_sdk.estimators._network_estimator import NetworkEstimator
from medfusion_sdk.training._hooks import EarlyStopping

# What tells of the rows judged by, or holds rows to be found: nothing that is learnt.
TOLD = {"history_", "gallery_", "errors_", "_module", "early_stopping"}
WORDS = ("sinus", "rhythm", "acute", "elevation", "normal", "change", "lead", "axis")


@contextmanager
def listening(monkeypatch, estimator, held):
    """Hear which rows the estimator holds out; the last epoch's weights are kept, not the best's.

    With that an epoch isn't chosen, which is all that rows held out are for. With `held` these
    rows are held out: rows are drawn by their content, so that other contents draw others.
    """
    heard = []
    train = NetworkEstimator._train

    def listen(self, module, table, *args, **options):
        if type(self) is type(estimator):  # and no small model within
            heard.append(table.held)
        return train(self, module, table, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(NetworkEstimator, "_train", listen)
        patch.setattr(EarlyStopping, "on_train_end", lambda *_, **__: None)
        if held is not None:
            patch.setattr(type(estimator), "_held_out", lambda *_, **__: held)
        yield heard


def fit_and_hear(monkeypatch, estimator, *data, held=None, **weights):
    """Fit with early stopping; returns the estimator and the rows that it held out.

    Calibration fits anew without some rows each time, held out before or not: it is left away.
    """
    settings = {"early_stopping": True, "n_iter_no_change": 1000, "validation_fraction": 0.2}
    if "calibrate" in estimator.get_params(deep=False):
        settings["calibrate"] = False
    estimator.set_params(**settings)
    with listening(monkeypatch, estimator, held) as heard:
        fitted = estimator.fit(*data, **weights)
    return fitted, np.sort(heard[-1])


def differences(one, other, where="model"):
    """Where two fitted things differ, bit by bit, as paths."""
    if isinstance(one, BaseEstimator):
        one, other = vars(one), vars(other)
    elif hasattr(one, "__dataclass_fields__"):
        one, other = ({n: getattr(x, n) for n in x.__dataclass_fields__} for x in (one, other))
    elif type(one).__module__.startswith("medfusion_sdk"):
        one, other = vars(one), vars(other)
    if type(one) is not type(other):
        return [f"{where}: {type(one)} is {type(other)}"]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{where}: {sorted(map(str, one.keys() ^ other.keys()))}"]
        parts = [(f"{where}.{n}", one[n], other[n]) for n in one if n not in TOLD]
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)} parts"]
        parts = [(f"{where}[{i}]", *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        return [] if _same(one, other) else [f"{where}: {one!r:.60} is {other!r:.60}"]
    return [found for name, a, b in parts for found in differences(a, b, name)]


def _same(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and (
            np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        )
    if isinstance(one, pd.DataFrame | pd.Index):
        return one.equals(other)
    if isinstance(one, str | int | float | bool | type(None) | np.generic):
        return one == other or (one != one and other != other)
    return True  # a function, a reader of files: holds nothing that is learnt


def moved(X, rows):
    """The same table with other contents in some rows, far from all others."""
    X = X.copy()
    for place, column in enumerate(X.columns):
        cells = X[column].tolist()
        for step, row in enumerate(rows):
            cells[row] = _moved_cell(cells[row], step)
            if column == "vitals":  # series may differ in length
                cells[row] = np.tile(cells[row], (1, 3))
        dtype = X.dtypes.iloc[place]
        X[column] = pd.Series(cells, index=X.index, dtype=dtype if dtype.kind == "f" else object)
    numbers = [name for name in X if "__" in str(name)]
    if numbers:  # a value and a modality that no row to learn from lacks
        X.iloc[rows[0], X.columns.get_loc(numbers[0])] = np.nan
        last = [name for name in numbers if name.split("__")[0] == numbers[-1].split("__")[0]]
        X.loc[X.index[rows[-1]], last] = np.nan
    return X


def _moved_cell(cell, step):
    if isinstance(cell, str):
        # As many words: beside longer texts, others' vectors differ in their last digits.
        return " ".join([f"pneumothorax{step}"] * len(cell.split()))
    if isinstance(cell, np.ndarray) and cell.dtype == np.uint8:
        return 255 - cell
    if isinstance(cell, np.ndarray):
        return (1e3 * cell[::-1] + step).astype(cell.dtype)
    return cell if cell is None else 1e3 * cell + 50 * (step + 1)


def numbers(n_rows=48, *, width=3, seed=0, names=("ecg", "note", "labs")):
    """Block table, complete but for one value of a column in every fifth row; two classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % 2
    columns = [f"{name}__{i}" for name in names for i in range(width)]
    X = pd.DataFrame(rng.normal(size=(n_rows, len(columns))) + 0.5 * y[:, None], columns=columns)
    X.index = [f"p{i}" for i in range(n_rows)]
    X.iloc[::5, -1] = np.nan
    return X, y


def two_labels(X, y):
    """Independent labels, whose split isn't stratified."""
    rng = np.random.default_rng(1)
    return np.column_stack([y, rng.integers(0, 2, len(y))])


def cells(n_rows=40, seed=0):
    """A signal, a text, an image and numbers; two classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % 2
    X = pd.DataFrame(
        {
            "ecg": [rng.normal(t, 1, (2, 120)).astype(np.float32) for t in y],
            "note": [" ".join(rng.permutation(WORDS)[: 4 + t].tolist()) for t in y],
            "cxr": [rng.integers(0, 100 + 150 * t, (20, 16, 3), dtype=np.uint8) for t in y],
            "labs__k": rng.normal(y),
            "labs__crp": rng.normal(size=n_rows),
        },
        index=[f"p{i}" for i in range(n_rows)],
    )
    X["note"] = X["note"].astype(object)
    X.iloc[::7, 1] = None
    return X, y
