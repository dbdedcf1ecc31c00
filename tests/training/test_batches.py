from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch

from medfusion_sdk.exceptions import TrainingError
from medfusion_sdk.training.batches import Batches


def rows_of(batches):
    return [batch.tensors["row"].tolist() for batch in batches]


def numbered(n_rows):
    return {"row": torch.arange(n_rows), "twice": 2 * torch.arange(n_rows)}


@pytest.mark.parametrize("n_rows", [1, 5, 17, 64, 65])
@pytest.mark.parametrize("shuffled", [False, True])
def test_each_pass_covers_every_row_once(n_rows, shuffled):
    generator = torch.Generator().manual_seed(0) if shuffled else None
    batches = Batches(numbered(n_rows), None, 16, generator)
    for _ in range(2):
        parts = rows_of(batches)
        assert sorted(chain(*parts)) == list(range(n_rows))
        assert len(parts) == len(batches)
        assert max(map(len, parts)) <= 16
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_tensors_and_weights_stay_together():
    weight = torch.arange(50) / 10
    batches = Batches(numbered(50), weight, 8)  # shuffled ones are drawn by weight
    for batch in batches:
        assert batch.tensors["twice"].tolist() == (2 * batch.tensors["row"]).tolist()
        assert batch.sample_weight.tolist() == weight[batch.tensors["row"]].tolist()
        assert batch.total == pytest.approx(batch.sample_weight.sum().item())


def test_passes_differ_and_repeat_with_the_generator():
    def passes():
        batches = Batches(numbered(40), None, 8, torch.Generator().manual_seed(3))
        return rows_of(batches), rows_of(batches)

    first, second = passes()
    assert first != second
    assert passes() == (first, second)


def test_single_batch_keeps_order_and_copies_nothing():
    data = numbered(9)
    batches = Batches(data, None, 9, torch.Generator().manual_seed(0))
    (batch,) = batches
    assert batch.tensors["row"].data_ptr() == data["row"].data_ptr()
    assert batch.tensors["row"].tolist() == list(range(9))


def test_order_without_generator_is_kept_by_views():
    data = numbered(20)
    batches = list(Batches(data, None, 6))
    assert list(chain(*rows_of(batches))) == list(range(20))
    assert batches[0].tensors["row"].data_ptr() == data["row"].data_ptr()


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("n_events", [6, 7, 25, 44])
def test_stratified_batches_share_events_evenly_and_cover_every_row_once(n_events, shuffled):
    event = torch.arange(50) < n_events
    generator = torch.Generator().manual_seed(0) if shuffled else None
    batches = Batches(numbered(50) | {"event": event}, None, 9, generator, stratify="event")
    for _ in range(2):
        parts = rows_of(batches)
        assert sorted(chain(*parts)) == list(range(50))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        events = [int(event[part].sum()) for part in parts]
        assert max(events) - min(events) <= 1
        assert min(events) >= 1


def test_stratified_batches_are_shuffled_within_strata():
    def one_pass(seed):
        generator = torch.Generator().manual_seed(seed)
        data = numbered(40) | {"event": torch.arange(40) % 3 == 0}
        return rows_of(Batches(data, None, 8, generator, stratify="event"))

    assert one_pass(0) == one_pass(0)
    assert one_pass(0) != one_pass(1)


@pytest.mark.parametrize(
    ("data", "weight"),
    [
        ({}, None),
        ({"x": torch.ones(0)}, None),
        ({"x": torch.ones(3), "y": torch.ones(4)}, None),
        ({"x": torch.ones(3)}, torch.ones(2)),
    ],
)
def test_unequal_or_empty_tensors_are_refused(data, weight):
    with pytest.raises(TrainingError, match="tensors of one length and at least one row, got"):
        Batches(data, weight, 2)


def uneven(n_rows=40, seed=0):
    """Weights over two orders of magnitude, and values that go with them."""
    rng = np.random.default_rng(seed)
    weight = np.exp(rng.normal(0, 1.2, n_rows))
    return torch.from_numpy(np.log(weight) + rng.normal(size=n_rows)), torch.from_numpy(weight)


def test_mini_batches_have_rows_as_often_as_they_weigh():
    _, weight = uneven()
    rows = Batches({"x": torch.arange(40)}, weight, 8, torch.Generator().manual_seed(0))
    passes = [torch.cat([batch.tensors["x"] for batch in rows]) for _ in range(2000)]
    counts = torch.stack([torch.bincount(one, minlength=40) for one in passes]).double()
    wanted = weight / weight.mean()
    assert (counts.sum(dim=1) == 40).all()
    assert (counts >= wanted.floor()).all()
    assert (counts <= wanted.ceil()).all()
    torch.testing.assert_close(counts.mean(dim=0), wanted, atol=0.06, rtol=0)
    assert all(batch.sample_weight is None and batch.total == 8 for batch in rows)


def test_mini_batches_expect_the_weighted_mean():
    x, weight = uneven()
    rows = Batches({"x": x}, weight, 4, torch.Generator().manual_seed(0))
    means = np.array([batch.tensors["x"].mean() for _ in range(1000) for batch in rows])
    wanted = ((x * weight).sum() / weight.sum()).item()
    assert abs(means.mean() - wanted) < 0.02
    # What a batch's mean divided by its own weights would come to.
    plain = Batches({"x": x, "w": weight}, None, 4, torch.Generator().manual_seed(0))
    own = np.mean(
        [
            (batch.tensors["x"] * batch.tensors["w"]).sum() / batch.tensors["w"].sum()
            for _ in range(1000)
            for batch in plain
        ]
    )
    assert abs(own - wanted) > 0.1


def test_rows_of_whole_weights_come_that_often_and_apart():
    weight = torch.tensor([3.0, 1.0, 1.0, 1.0, 0.5, 0.5, 1.0, 0.5, 0.5])
    rows = Batches({"x": torch.arange(9)}, weight, 3, torch.Generator().manual_seed(0))
    together = []
    for _ in range(200):
        batches = [batch.tensors["x"] for batch in rows]
        assert (torch.cat(batches) == 0).sum() == 3
        together.append(any((batch == 0).sum() == 3 for batch in batches))
    assert np.mean(together) < 0.1


def test_one_batch_and_even_weights_go_without_drawing():
    x, weight = torch.arange(12), torch.full((12,), 2.0)
    uneven_weight = torch.arange(1.0, 13.0)
    (whole,) = Batches({"x": x}, uneven_weight, 12, torch.Generator().manual_seed(0))
    assert whole.tensors["x"].tolist() == x.tolist()
    assert whole.sample_weight is not None
    even = Batches({"x": x}, weight, 4, torch.Generator().manual_seed(0))
    same = Batches({"x": x}, None, 4, torch.Generator().manual_seed(0))
    for one, other in zip(even, same, strict=True):
        assert one.tensors["x"].tolist() == other.tensors["x"].tolist()


def test_drawn_rows_keep_each_stratum_in_each_batch():
    event = torch.arange(30) % 3 == 0
    weight = torch.rand(30, generator=torch.Generator().manual_seed(1)) + 0.5
    data = {"event": event}
    for batch in Batches(data, weight, 10, torch.Generator().manual_seed(0), "event"):
        assert 2 <= batch.tensors["event"].sum() <= 5
