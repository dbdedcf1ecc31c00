from __future__ import annotations

import subprocess
import sys

import pytest

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.training import TrainingConfig
from medfusion_sdk.training.config import FULL_BATCH_ROWS, MINI_BATCH_ROWS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("lr", float("inf")),
        ("lr", float("nan")),
        ("weight_decay", -0.1),
        ("optimizer", "lbfgs"),
        ("schedule", "step"),
        ("clip_norm", 0.0),
        ("n_iter_no_change", 0),
    ],
)
def test_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ParameterError, match=f"{name} must be .*, got {value!r}"):
        TrainingConfig(**{name: value})


def test_auto_takes_all_rows_up_to_a_bound_and_mini_batches_beyond():
    config = TrainingConfig()
    assert config.rows_per_step(FULL_BATCH_ROWS) == FULL_BATCH_ROWS
    assert config.rows_per_step(FULL_BATCH_ROWS + 1) == MINI_BATCH_ROWS
    assert TrainingConfig(batch_size=32).rows_per_step(10_000) == 32


def test_configuration_and_callbacks_are_there_without_torch():
    code = (
        "import sys; from medfusion_sdk.training import CallbackSupportMixin, TrainingConfig;"
        "TrainingConfig(); assert 'torch' not in sys.modules and 'skorch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    from medfusion_sdk import training

    assert set(training.__all__) <= set(dir(training))
    for name in training.__all__:
        assert getattr(training, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        training.missing  # noqa: B018
