from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from joblib import Parallel, delayed

from medfusion_sdk.backbones.devices import is_out_of_memory, limit_threads, resolve_device
from medfusion_sdk.exceptions import DeviceError


def test_auto_takes_cuda_where_there_is_one_and_never_metal(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


def test_named_device_is_taken_as_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "count", "message"),
    [
        ("gpu", 0, "isn't a device name"),
        (None, 0, "isn't a device name"),
        ("cuda", 0, "sees 0 CUDA devices"),
        ("cuda:2", 2, "sees 2 CUDA devices"),
        ("mps", 0, "can't use Metal"),
    ],
)
def test_absent_or_unknown_device_is_refused(monkeypatch, device, count, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=message):
        resolve_device(device)


def test_failed_allocation_of_the_cpu_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_error_is_told_apart_from_exhausted_memory(error, expected):
    assert is_out_of_memory(error) is expected


def threads_inside():
    before = torch.get_num_threads()
    with limit_threads() as told:
        inside = torch.get_num_threads()
    return told == inside and torch.get_num_threads() == before, inside


def threads_inside_of_two():
    torch.set_num_threads(2)
    return threads_inside()


def test_main_program_keeps_its_threads():
    assert threads_inside() == (True, torch.get_num_threads())


def test_ordinary_thread_keeps_its_threads():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(threads_inside_of_two).result() == (True, 2)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib_worker_gets_its_share_and_restores(backend):
    before = torch.get_num_threads()
    found = Parallel(n_jobs=2, backend=backend)(delayed(threads_inside_of_two)() for _ in range(2))
    assert found == [(True, 1), (True, 1)]
    assert torch.get_num_threads() == before


def test_single_job_of_joblib_is_no_worker():
    assert Parallel(n_jobs=1)([delayed(threads_inside)()]) == [(True, torch.get_num_threads())]


@pytest.mark.parametrize(("told", "expected"), [("", 1), ("1", 1), ("3", 2), ("2,1", 1)])
def test_process_worker_takes_the_share_it_was_told_and_never_more(monkeypatch, told, expected):
    before = torch.get_num_threads()
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    try:
        assert threads_inside_of_two() == (True, expected)
    finally:
        torch.set_num_threads(before)
