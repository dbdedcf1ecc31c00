"""Run every check on an estimator and keep a record of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import SkipTest

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.testing import (
    _check_input,
    _check_missing,
    _check_rows,
    _check_seeds,
    _check_state,
    _check_targets,
)

__all__ = ["check_multimodal_estimator", "multimodal_checks"]

Check = Callable[[Any], None]

_GROUPS = (_check_missing, _check_rows, _check_seeds, _check_input, _check_targets, _check_state)


def multimodal_checks() -> dict[str, Check]:
    """List the checks of a classifier, or estimator of survival, that reads a block table.

    Returns
    -------
    dict of str to callable
        Each takes an unfitted estimator, returns nothing, raises ``AssertionError`` saying what
        was broken, or ``unittest.SkipTest`` where it doesn't apply. Its docstring says what is
        asked.

    Examples
    --------
    One check alone:

    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> from medfusion_sdk.testing import multimodal_checks
    >>> checks = multimodal_checks()
    >>> checks["check_one_row_equals_batch"](HistGradientBoostingClassifier(max_iter=2))
    """
    return {name: getattr(group, name) for group in _GROUPS for name in group.__all__}


def check_multimodal_estimator(
    estimator: Any, *, on_fail: str | None = "raise"
) -> list[dict[str, Any]]:
    """Check an estimator on a block table, beyond what scikit-learn's ``check_estimator`` asks.

    Small generated cohorts with missing modalities are fitted and predicted, some dozens of times;
    give an iterative estimator few iterations. Nothing of the estimator but its public interface
    is used, so it may come from anywhere; a pipeline is an estimator too.

    Parameters
    ----------
    estimator : estimator
        An unfitted classifier, or estimator of survival: one whose tag ``estimator_type`` is
        "survival", which is fitted on a structured array of event and time, and asked for
        ``predict_survival_function``. It is cloned, never fitted itself.
    on_fail : {"raise"} or None, default="raise"
        "raise" stops at the first check that fails, None goes through all of them.

    Returns
    -------
    list of dict
        One record per check: ``check_name``, ``status`` ("passed", "failed" or "skipped"),
        ``exception`` (None if passed) and ``estimator``.

    Raises
    ------
    AssertionError
        With ``on_fail="raise"``, if a promise is broken. Any other error of the estimator comes
        through as it is.
    ParameterError
        For another value of `on_fail`.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from medfusion_sdk.testing import check_multimodal_estimator
    >>> records = check_multimodal_estimator(DummyClassifier(), on_fail=None)
    >>> {r["check_name"] for r in records if r["status"] == "failed"} >= {
    ...     "check_row_without_modality_raises",
    ...     "check_column_names_must_match",
    ... }
    True
    """
    if on_fail not in ("raise", None):
        raise ParameterError(f"on_fail must be 'raise' or None, got {on_fail!r}.")
    records = []
    for name, check in multimodal_checks().items():
        status, exception = _run(check, estimator)
        if status == "failed" and on_fail == "raise":
            assert exception is not None
            exception.add_note(f"{name} failed for {estimator!r}.")
            raise exception
        records.append(
            {
                "estimator": estimator,
                "check_name": name,
                "status": status,
                "exception": exception,
            }
        )
    return records


def _run(check: Check, estimator: Any) -> tuple[str, Exception | None]:
    try:
        check(estimator)
    except SkipTest as reason:
        return "skipped", reason
    except Exception as error:  # noqa: BLE001 - whatever a foreign estimator raises is the finding
        return "failed", error
    return "passed", None
