"""Randomness comes from ``random_state`` alone, and the process is left as it was."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from medfusion_sdk.testing._cohorts import cohort, fit, probabilities

__all__ = [
    "check_global_generators_are_untouched",
    "check_same_seed_same_fit_whatever_global_seeds",
    "check_thread_settings_are_untouched",
]


def check_same_seed_same_fit_whatever_global_seeds(estimator: Any) -> None:
    """Equal ``random_state`` gives equal bits, whatever the global generators were seeded with."""
    X, y = cohort()
    fits = []
    for seed in (1, 2):
        with _global_seed(seed):
            fitted = fit(estimator, X, y)
            fits.append((probabilities(fitted, X), getattr(fitted, "state_", {})))
    (first, first_state), (second, second_state) = fits
    assert np.array_equal(first, second), "probabilities of equally seeded fits differ"
    for name, array in first_state.items():
        assert np.array_equal(array, second_state[name]), f"state_[{name!r}] of equal fits differs"


def check_global_generators_are_untouched(estimator: Any) -> None:
    """Fitting, predicting and loading draw nothing from the generators of the process."""
    X, y = cohort()
    before = _generator_states()
    fitted = fit(estimator, X, y)
    probabilities(fitted, X)
    probabilities(pickle.loads(pickle.dumps(fitted)), X)
    after = _generator_states()
    moved = [name for name in before if before[name] != after[name]]
    assert not moved, f"the global generator was used or seeded: {', '.join(moved)}"


def check_thread_settings_are_untouched(estimator: Any) -> None:
    """Thread numbers and environment variables are what they were."""
    X, y = cohort()
    probabilities(fit(estimator, X, y), X)  # whatever libraries it loads are loaded now
    before = _process_settings()
    probabilities(fit(estimator, X, y), X)
    after = _process_settings()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"settings of the process were changed: {', '.join(changed)}"


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - to show that an estimator ignores it
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def _generator_states() -> dict[str, bytes]:
    import torch

    _, keys, *position = np.random.get_state()  # noqa: NPY002
    return {
        "random": repr(random.getstate()).encode(),
        "numpy.random": np.asarray(keys).tobytes() + repr(position).encode(),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def _process_settings() -> dict[str, Any]:
    import torch

    pools = {f"threads of {pool['filepath']}": pool["num_threads"] for pool in threadpool_info()}
    return {
        "os.environ": dict(os.environ),
        "torch.get_num_threads()": torch.get_num_threads(),
        "torch.are_deterministic_algorithms_enabled()": (
            torch.are_deterministic_algorithms_enabled()
        ),
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "numpy.geterr()": np.geterr(),
    } | pools
