"""Several processes on one cache: kills, claims, forks, permissions. They run as programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def play():
    """Run a scenario in a folder that other users may reach, too."""
    folder = tempfile.mkdtemp(prefix="medfusion-cache-")

    def play(module, *arguments):
        module = f"tests.embedding_cache.{module}"
        command = [sys.executable, "-W", "error", "-m", module, *arguments, folder]
        one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        run = subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, "")
        return json.loads(run.stdout)

    yield play
    shutil.rmtree(folder)


def test_cache_after_100_kills_holds_every_stored_batch_and_no_wrong_value(play):
    found = play("kills")
    assert found.pop("kills") == 100
    # The others fell while the folder was being made or a file opened.
    assert found.pop("kills_at_work") >= 20
    assert found.pop("confirmed") >= 160
    assert found.pop("works_after")
    assert found == dict.fromkeys(
        ["twice", "broken_files", "damaged", "wrong", "lost", "more_than_in_flight", "left_behind"],
        0,
    )


def test_three_processes_with_overlapping_keys_share_work_and_compute_each_key_once(play):
    found = play("scenarios", "exactly_once")
    assert found["statuses"] == [0, 0, 0]
    assert found["most_often"] == 1
    assert found["distinct"] == found["misses"] == 2000
    assert found["hits"] == found["asked"] - 2000
    assert found["each_worked"] == 3


@pytest.mark.parametrize("scenario", ["takeover", "takeover_with_grandchild"])
def test_waiting_process_takes_over_from_killed_owner(play, scenario):
    found = play("scenarios", scenario)
    assert found["statuses"] == [0]
    assert (found["by_owner"], found["by_waiter_before"], found["by_waiter"]) == (8, 0, 32)
    assert found["misses"] == 40
    assert found["seconds"] < 5


def test_children_forked_while_cache_is_in_use_read_and_write_safely(play):
    found = play("scenarios", "forks")
    assert found["statuses"] == [0] * 10
    assert found["integrity"] == "ok"
    assert found["all_right"]
    assert found["items"] == 10


def test_child_that_unwinds_compute_leaves_claims_to_its_parent(play):
    assert play("scenarios", "unwinding_child") == {
        "after_child": [3, 1],
        "at_the_end": [0, 0],
        "all_right": True,
    }


def test_read_only_folder_serves_hits_and_computes_the_rest(play):
    found = play("scenarios", "read_only")
    assert found["all_right"]
    assert not found["new_files"]
    assert "can't be written" in found["message"]


def test_unwritable_folder_raises_error_that_names_it(play):
    message = play("scenarios", "unwritable")["message"]
    assert "cache can't be used (Permission denied)" in message
    assert "name another folder" in message


def test_grid_search_in_two_processes_encodes_each_distinct_item_once(play):
    assert play("scenarios", "grid_search") == {"cold_misses": 80, "warm_misses": 0}


def test_forgotten_cache_closes_without_resource_warning():
    program = """
import gc, os, tempfile, numpy as np
from medfusion_sdk.embedding_cache import EmbeddingCache
with tempfile.TemporaryDirectory() as folder:
    before = len(os.listdir("/dev/fd"))
    cache = EmbeddingCache(folder)
    cache.put_many([b"a"], [np.zeros(3)])
    del cache
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before
kept = EmbeddingCache(tempfile.mkdtemp())
kept.put_many([b"a"], [np.zeros(3)])
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
