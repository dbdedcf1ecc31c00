"""Batches: what goes together, side by side, and what happens when memory runs out."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medfusion_sdk.encoders._batching import compute_batches, plan_batches
from medfusion_sdk.exceptions import EncoderWarning

SIZES = st.lists(st.integers(1, 300), max_size=60)
CPU = torch.device("cpu")


@given(SIZES, st.integers(1, 600), st.integers(1, 9))
def test_plan_holds_every_item_once_within_the_limits(sizes, budget, max_items):
    batches = plan_batches(sizes, budget=budget, max_items=max_items)
    assert sorted(item for batch in batches for item in batch) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) <= max_items
        assert len(batch) == 1 or len(batch) * max(sizes[item] for item in batch) <= budget


@given(SIZES)
def test_plan_goes_from_large_to_small(sizes):
    order = [sizes[item] for batch in plan_batches(sizes, budget=400) for item in batch]
    assert order == sorted(sizes, reverse=True)


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("device", [None, CPU])
def test_every_batch_is_computed_once(four_threads, device):
    sizes = list(range(1, 20))
    batches = plan_batches(sizes, budget=40)
    computed = []
    results = {
        tuple(batch): result
        for batch, result in compute_batches(
            batches,
            lambda batch: computed.append(batch) or sum(batch),
            sizes=sizes,
            device=device,
        )
    }
    assert sorted(computed) == sorted(batches)
    assert results == {tuple(batch): sum(batch) for batch in batches}


def test_workers_compute_side_by_side(four_threads):
    together = threading.Barrier(4, timeout=10)
    batches = [[0], [1], [2], [3]]
    done = list(compute_batches(batches, lambda _: together.wait(), sizes=[1] * 4, device=CPU))
    assert len(done) == 4


def fits(limit):
    """A computation that runs out of memory beyond `limit` items."""
    attempts = []

    def compute(batch):
        attempts.append(len(batch))
        if len(batch) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [10 * item for item in batch]

    return compute, attempts


def test_out_of_memory_halves_until_it_fits_with_one_warning():
    sizes = [5] * 32
    compute, attempts = fits(3)
    with pytest.warns(EncoderWarning, match="batch of 16") as caught:
        results = list(compute_batches(plan_batches(sizes, max_items=16), compute, sizes=sizes))
    assert len(caught) == 1
    assert sorted(item for batch, _ in results for item in batch) == list(range(32))
    assert all(result == [10 * item for item in batch] for batch, result in results)
    # Once a size failed, its like isn't tried again; two batches may be under way at first.
    assert attempts.count(16) <= 2


def test_out_of_memory_leaves_smaller_items_in_large_batches():
    sizes = [100] * 4 + [1] * 40
    batches = plan_batches(sizes, budget=400)

    def compute(batch):
        if sum(sizes[item] for item in batch) > 200:
            raise MemoryError
        return len(batch)

    with pytest.warns(EncoderWarning):
        results = list(compute_batches(batches, compute, sizes=sizes))
    assert sorted(result for _, result in results) == [2, 2, 40]


def test_out_of_memory_frees_the_failed_attempt_before_the_next():
    class Allocation: ...

    allocated = []

    def compute(batch):
        allocation = Allocation()
        alive = [earlier for earlier in allocated if earlier() is not None]
        allocated.append(weakref.ref(allocation))
        if len(batch) > 1:
            raise MemoryError
        return len(alive)

    with pytest.warns(EncoderWarning):
        results = list(compute_batches([[0, 1]], compute, sizes=[1, 1]))
    assert [alive for _, alive in results] == [0, 0]


def test_out_of_memory_with_one_item_raises():
    compute, _ = fits(0)
    with (
        warnings.catch_warnings(action="ignore", category=EncoderWarning),
        pytest.raises(torch.OutOfMemoryError),
    ):
        list(compute_batches([[0, 1]], compute, sizes=[1, 1]))


def test_other_errors_come_through_at_once():
    def compute(batch):
        raise RuntimeError("shapes don't fit")

    with pytest.raises(RuntimeError, match="shapes don't fit"):
        list(compute_batches([[0, 1]], compute, sizes=[1, 1]))


def test_caller_that_stops_early_leaves_no_thread_behind(four_threads):
    before = threading.active_count()
    results = compute_batches([[0], [1], [2], [3], [4]], len, sizes=[1] * 5, device=CPU)
    next(results)
    results.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("n_batches", "device", "workers", "inside"),
    [(9, "cpu", 4, 1), (3, "cpu", 1, 4), (9, "meta", 1, 4)],
    ids=["many", "few", "elsewhere"],
)
def test_threads_go_to_batches_where_there_are_enough(
    four_threads, n_batches, device, workers, inside
):
    seen = []

    def compute(batch):
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        time.sleep(0.01)

    batches = [[i] for i in range(n_batches)]
    for _ in compute_batches(batches, compute, sizes=[1] * n_batches, device=torch.device(device)):
        assert torch.get_num_threads() == 4
    assert {threads for _, threads in seen} == {inside}
    assert len({name for name, _ in seen}) == workers


def test_threads_that_begin_while_batches_are_computed_keep_their_number(four_threads):
    begun = []

    def compute(batch):
        with ThreadPoolExecutor(1) as beginner:
            begun.append(beginner.submit(torch.get_num_threads).result())

    batches = [[i] for i in range(9)]
    list(compute_batches(batches, compute, sizes=[1] * 9, device=torch.device("cpu")))
    assert begun == [4] * 9
