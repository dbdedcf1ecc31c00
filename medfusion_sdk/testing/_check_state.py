"""What a fitted estimator holds, stores and tells."""

from __future__ import annotations

import pickle
import pickletools
from typing import Any
from unittest import SkipTest

import numpy as np
import pandas as pd
from sklearn.base import clone

from medfusion_sdk.testing._cohorts import (
    MODALITIES,
    cohort,
    fit,
    fit_in_place,
    needs,
    probabilities,
    seeded,
)

__all__ = [
    "check_clone_of_fitted_fits_alike",
    "check_explain_covers_rows_and_modalities",
    "check_pickle_holds_no_live_module",
    "check_pickle_predicts_alike",
    "check_refit_forgets",
    "check_small_model_is_frozen",
    "check_state_is_arrays",
    "check_transform_is_named_and_finite",
]


def check_pickle_predicts_alike(estimator: Any) -> None:
    """A pickled and loaded model predicts the same bits."""
    X, y = cohort()
    fitted = fit(estimator, X, y)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(probabilities(loaded, X), probabilities(fitted, X)), (
        "a loaded pickle predicts otherwise"
    )


def check_pickle_holds_no_live_module(estimator: Any) -> None:
    """A pickle names nothing of torch, so it loads without a GPU and under other versions."""
    X, y = cohort()
    fitted = fit(estimator, X, y)
    probabilities(fitted, X)
    strings = [arg for _, arg, _ in pickletools.genops(pickle.dumps(fitted)) if type(arg) is str]
    live = sorted({text for text in strings if text.split(".")[0].split(" ")[0] == "torch"})
    assert not live, f"the pickle refers to {live}"


def check_state_is_arrays(estimator: Any) -> None:
    """``state_`` holds numeric NumPy arrays by name, nothing else."""
    X, y = cohort()
    fitted = fit(estimator, X, y)
    if not hasattr(fitted, "state_"):
        raise SkipTest(f"{type(estimator).__name__} has no state_")
    for name, array in fitted.state_.items():
        assert isinstance(name, str), f"state_ has the key {name!r}"
        plain = isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
        assert plain, f"state_[{name!r}] is {type(array).__name__}, not a numeric array"


def check_clone_of_fitted_fits_alike(estimator: Any) -> None:
    """A clone of a fitted estimator is unfitted, and fits to the same bits."""
    X, y = cohort()
    fitted = fit(estimator, X, y)
    copy = clone(fitted)
    learnt = [name for name in vars(copy) if name.endswith("_") and not name.startswith("__")]
    assert not learnt, f"a clone still has {learnt}"
    assert np.array_equal(probabilities(fit_in_place(copy, X, y), X), probabilities(fitted, X)), (
        "a clone fits to something else"
    )


def check_refit_forgets(estimator: Any) -> None:
    """A second fit is a first fit: nothing is left of what was fitted before."""
    X, y = cohort()
    reused = fit_in_place(seeded(estimator), X.iloc[:30, :8] * 10.0, 1 - y[:30])
    probabilities(reused, X.iloc[:30, :8])
    expected = probabilities(fit(estimator, X, y), X)
    assert np.array_equal(probabilities(fit_in_place(reused, X, y), X), expected), (
        "a second fit depends on the first"
    )


def check_transform_is_named_and_finite(estimator: Any) -> None:
    """``transform`` gives finite columns, as many as ``get_feature_names_out`` has names."""
    needs(estimator, method="transform")
    X, y = cohort()
    fitted = fit(estimator, X, y)
    representation = np.asarray(fitted.transform(X))
    assert len(representation) == len(X), "transform doesn't give one line per row"
    assert np.isfinite(representation).all(), "transform gives values that aren't finite"
    names = fitted.get_feature_names_out()
    assert len(set(names)) == representation.shape[1], (
        f"{representation.shape[1]} columns have {len(set(names))} names"
    )


def check_explain_covers_rows_and_modalities(estimator: Any) -> None:
    """``explain`` tells finite values of each modality, by name, equally many lines per row."""
    needs(estimator, method="explain")
    X, y = cohort()
    table = fit(estimator, X, y).explain(X)
    assert isinstance(table, pd.DataFrame), f"explain returns {type(table).__name__}"
    lines = table.groupby("row", sort=False).size()
    assert set(lines.index) == set(X.index), "explain doesn't cover the rows of X, by their labels"
    assert lines.nunique() == 1, "explain has more lines for some rows than for others"
    missing = set(MODALITIES) - set(table["modality"])
    assert not missing, f"explain doesn't speak of {sorted(missing)}"
    numbers = table.select_dtypes("number").drop(columns="row", errors="ignore")
    assert numbers.shape[1] > 0, "explain gives no numbers"
    assert np.isfinite(numbers.to_numpy()).all(), "explain gives values that aren't finite"


def check_small_model_is_frozen(estimator: Any) -> None:
    """A pretrained ``small_`` equals the same model fitted by itself."""
    needs(estimator, parameter="small")
    X, y = cohort()
    fitted = fit(estimator, X, y)
    if getattr(fitted, "small_", None) is None:
        raise SkipTest(f"{type(estimator).__name__} was fitted without a small model")
    alone = clone(fitted.small_).fit(X.to_numpy(), y)
    for name, array in fitted.small_.state_.items():
        assert np.array_equal(array, alone.state_[name]), f"{name} of the small model was changed"
