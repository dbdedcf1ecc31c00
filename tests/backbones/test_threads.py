"""Torch's number of threads: set for one thread, and for no other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from medfusion_sdk.backbones.threads import one_thread, set_threads_here, threads_here


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def number_of_a_new_thread():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_number_holds_inside_for_this_thread_alone():
    with one_thread():
        assert torch.get_num_threads() == 1
        assert number_of_a_new_thread() == 3
        with threads_here(2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_number_comes_back_after_an_error():
    with pytest.raises(ZeroDivisionError), threads_here(1):
        raise ZeroDivisionError
    assert (torch.get_num_threads(), number_of_a_new_thread()) == (3, 3)


def test_threads_that_leave_in_another_order_all_get_theirs_back():
    def limited(wait_for):
        with threads_here(1):
            if wait_for is not None:
                wait_for.result()
        return torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        second = pool.submit(limited, None)
        first = pool.submit(limited, second)
        assert (first.result(), second.result()) == (3, 3)
    assert number_of_a_new_thread() == 3


def test_number_set_for_good_in_one_thread_stays_there():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(set_threads_here, 1).result()
        assert pool.submit(torch.get_num_threads).result() == 1
    assert (torch.get_num_threads(), number_of_a_new_thread()) == (3, 3)
