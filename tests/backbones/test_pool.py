"""Sharing of frozen networks."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import pytest
import torch
from torch import nn

from medfusion_sdk.backbones.pool import BackboneKey, BackbonePool, FrozenModule

CPU = torch.device("cpu")
KEY = BackboneKey("digest", CPU, torch.float32)

# A thread sits in a load, holding the lock, while the process forks; the child must not wait.
FORK_DURING_LOAD = """
import os, threading, torch
from medfusion_sdk.backbones.pool import BackboneKey, shared_backbones

class User: pass

key = BackboneKey("digest", torch.device("cpu"), torch.float32)
loading, finish = threading.Event(), threading.Event()

def slow_load():
    loading.set()
    finish.wait()
    return torch.nn.Linear(1, 1)

thread = threading.Thread(target=shared_backbones.borrow, args=(User(), key, slow_load))
thread.start()
loading.wait()
child = os.fork()
if child == 0:
    user = User()
    shared_backbones.borrow(user, key, lambda: torch.nn.Linear(1, 1))
    os._exit(0)
status = os.waitpid(child, 0)[1]
finish.set()
thread.join()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


class User:
    """Whoever borrows."""


def make():
    return nn.Linear(2, 2)


def test_borrow_same_key_gives_every_user_one_object():
    pool, users = BackbonePool(), [User(), User()]
    first, second = (pool.borrow(user, KEY, make) for user in users)
    assert first is second


@pytest.mark.parametrize(
    "other",
    [
        BackboneKey("another", CPU, torch.float32),
        BackboneKey("digest", torch.device("meta"), torch.float32),
        BackboneKey("digest", CPU, torch.bfloat16),
    ],
    ids=["weights", "device", "dtype"],
)
def test_borrow_other_key_gives_another_copy(other):
    pool, users = BackbonePool(), [User(), User()]
    assert pool.borrow(users[0], KEY, make) is not pool.borrow(users[1], other, make)


def test_backbone_is_released_with_its_last_user_only():
    pool, first, second = BackbonePool(), User(), User()
    released = weakref.ref(pool.borrow(first, KEY, make))
    pool.borrow(second, KEY, make)
    del first
    gc.collect()
    assert released() is not None
    del second
    gc.collect()
    assert released() is None
    assert len(pool) == 0


def test_user_of_a_new_backbone_gives_its_old_one_back_before_loading():
    pool, user = BackbonePool(), User()
    old = weakref.ref(pool.borrow(user, KEY, make))
    at_load = []

    def load():
        gc.collect()
        at_load.append(old())
        return make()

    pool.borrow(user, BackboneKey("another", CPU, torch.float32), load)
    assert at_load == [None]


def test_failed_load_leaves_nothing_behind():
    pool, user = BackbonePool(), User()

    def fail():
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        pool.borrow(user, KEY, fail)
    assert pool.borrow(user, KEY, make) is pool.borrow(user, KEY, fail)


def test_threads_that_borrow_at_once_load_once():
    pool, users, loads = BackbonePool(), [User() for _ in range(8)], []
    start = threading.Barrier(len(users))

    def load():
        loads.append(1)
        time.sleep(0.02)
        return make()

    got = []

    def work(user):
        start.wait()
        got.append(pool.borrow(user, KEY, load))

    threads = [threading.Thread(target=work, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len({id(backbone) for backbone in got}) == 1


if hasattr(os, "fork"):

    def test_fork_while_another_thread_loads_leaves_the_child_a_usable_pool():
        command = [sys.executable, "-W", "ignore", "-c", FORK_DURING_LOAD]
        assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_child_process_keeps_main_memory_copies_and_drops_device_copies():
    pool, users = BackbonePool(), [User(), User()]
    on_device = BackboneKey("digest", torch.device("meta"), torch.float32)
    kept = pool.borrow(users[0], KEY, make)
    dropped = pool.borrow(users[1], on_device, make)
    pool.restart_in_child()
    assert pool.borrow(users[0], KEY, make) is kept
    assert pool.borrow(users[1], on_device, make) is not dropped


def test_frozen_module_stays_in_eval_when_its_parent_trains():
    class Frozen(FrozenModule):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
            self.freeze()

    parent = nn.Sequential(Frozen(), nn.Dropout(0.5))
    parent.train()
    assert not any(module.training for module in parent[0].modules())
    assert parent[1].training
    assert not any(weight.requires_grad for weight in parent.parameters())
