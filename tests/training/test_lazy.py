"""Lazy rows in the place of tensors: read batch by batch, one ahead, with the same results."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from medfusion_sdk.training import TrainingConfig, predict_batches, train
from medfusion_sdk.training.batches import Batches, take
from medfusion_sdk.training.lazy import LazyRows, one_ahead
from tests.training.toys import Regression, regression_data

VALUES = torch.randn(23, 3, generator=torch.Generator().manual_seed(0))


def lazy(seen=None, values=VALUES):
    def read(rows):
        if seen is not None:
            seen.append(list(rows))
        return values[list(rows)].numpy()

    return LazyRows(read, torch.arange(len(values)))


def test_slicing_indexing_and_moving_read_nothing():
    seen = []
    rows = lazy(seen).to(torch.device("cpu"))
    mask = torch.arange(23) % 2 == 0
    chosen = rows[3:21].index_select(0, torch.tensor([4, 0, 9]))
    kept = rows[mask.nonzero()[:, 0]]
    assert (len(rows), len(chosen), len(kept)) == (23, 3, 12)
    assert seen == []
    assert torch.equal(chosen.load(), VALUES[[7, 3, 12]])
    assert torch.equal(kept.load(), VALUES[::2])
    assert seen == [[7, 3, 12], list(range(0, 23, 2))]


def test_batches_are_those_of_a_tensor():
    def batches(x):
        generator = torch.Generator().manual_seed(1)
        found = Batches({"x": x, "row": torch.arange(23)}, torch.ones(23), 5, generator)
        return [batch for _ in range(2) for batch in found]

    for own, other in zip(batches(lazy()), batches(VALUES), strict=True):
        assert torch.equal(own.tensors["x"], other.tensors["x"])
        assert torch.equal(own.tensors["row"], other.tensors["row"])
        assert own.total == other.total
    picked = take({"x": lazy()}, torch.tensor([2, 1]))["x"]
    assert torch.equal(picked, VALUES[[2, 1]])


def test_no_more_than_two_batches_are_read_at_a_time():
    seen = []
    for count, _ in enumerate(Batches({"x": lazy(seen)}, None, 4)):
        assert len(seen) <= count + 2
    assert len(seen) == 6


def test_next_item_is_made_in_another_thread_and_errors_come_in_their_place():
    where = []

    def items():
        for number in range(3):
            where.append(threading.current_thread())
            yield number
        raise OSError("the disk is gone")

    got = []
    with pytest.raises(OSError, match="the disk is gone"):
        got.extend(one_ahead(items()))
    assert threading.main_thread() not in where
    assert got == [0, 1, 2]


def test_training_is_bit_identical_to_that_on_tensors_and_predictions_agree():
    data = regression_data(23)
    weight = torch.ones(23, dtype=torch.float64)
    weight[4] = 0.0
    weights, found = [], []
    for x in (data["x"], lazy(values=data["x"])):
        module, rows = Regression(), {**data, "x": x}
        config = TrainingConfig(max_epochs=3, batch_size=5)
        train(module, rows, config=config, seed=0, sample_weight=weight)
        weights.append(torch.cat([part.detach().flatten() for part in module.parameters()]))
        found.append(predict_batches(module, rows, batch_size=7))
    assert torch.equal(*weights)
    # A batch that is a slice begins anywhere in memory, and that decides a product's last bit on
    # processors with AVX-512.
    np.testing.assert_allclose(*found, rtol=0, atol=4e-16)
