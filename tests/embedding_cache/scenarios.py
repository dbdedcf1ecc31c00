"""Several processes on one cache: ``python -m tests.embedding_cache.scenarios NAME FOLDER``.

Prints its findings as JSON. It is a program of its own, without threads, so that it may fork
freely.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from medfusion_sdk.embedding_cache import EmbeddingCache
from medfusion_sdk.exceptions import CacheError
from tests.embedding_cache.actors import (
    BATCH,
    Encoder,
    Journal,
    database,
    forked,
    joined,
    open_files,
)
from tests.embedding_cache.items import key, right, value


def exactly_once(folder):
    """Three processes with shuffled overlapping sets, larger than a round of claims."""
    journal = Journal()
    cache = EmbeddingCache(folder)
    wanted = [range(1400), range(300, 1700), range(600, 2000)]

    def work(numbers, seed):
        numbers = list(numbers)
        random.Random(seed).shuffle(numbers)
        encode = Encoder(numbers, journal, batch=16, seconds=0.002, sender=seed)
        values = cache.get_or_compute([key(n) for n in numbers], encode)
        assert right(numbers, values)

    statuses = joined([forked(lambda n=n, i=i: work(n, i)) for i, n in enumerate(wanted)])
    computed = journal.news()
    return {
        "statuses": statuses,
        "most_often": max(Counter(number for _, number in computed).values()),
        "distinct": len({number for _, number in computed}),
        "each_worked": len({sender for sender, _ in computed}),
        "hits": cache.stats().hits,
        "misses": cache.stats().misses,
        "asked": sum(map(len, wanted)),
    }


def takeover(folder, with_grandchild=False):
    """An owner is killed after its first batch, while another process waits for its values."""
    journal = Journal()
    ready_to_die, ready = os.pipe()
    numbers = list(range(40))
    keys = [key(n) for n in numbers]

    def hang(positions):
        yield from Encoder(numbers, journal, sender=1)(positions[:BATCH])
        # Such a child has copies of all its parent's open files, locks among them.
        grandchild = forked(lambda: time.sleep(60)) if with_grandchild else 0
        os.write(ready, struct.pack("<I", grandchild))
        time.sleep(60)

    def wait():
        values = EmbeddingCache(folder).get_or_compute(keys, Encoder(numbers, journal, sender=0))
        assert right(numbers, values)

    owner = forked(lambda: EmbeddingCache(folder).get_or_compute(keys, hang))
    grandchild = struct.unpack("<I", os.read(ready_to_die, 4))[0]
    waiter = forked(wait)
    time.sleep(0.3)
    before = [sender for sender, _ in journal.news()]
    start = time.monotonic()
    os.kill(owner, signal.SIGKILL)
    statuses = joined([waiter])
    seconds = time.monotonic() - start
    joined([owner])
    if grandchild:
        os.kill(grandchild, signal.SIGKILL)
    return {
        "statuses": statuses,
        "seconds": seconds,
        "by_owner": before.count(1),
        "by_waiter_before": before.count(0),
        "by_waiter": [sender for sender, _ in journal.news()].count(0),
        "misses": EmbeddingCache(folder).stats().misses,
    }


def takeover_with_grandchild(folder):
    return takeover(folder, with_grandchild=True)


def forks(folder):
    """Children are forked while the cache is open and a thread is writing to it."""
    unopened = open_files()
    cache = EmbeddingCache(folder)
    stop = threading.Event()
    written = []

    def write():
        for number in range(100_000):
            if stop.is_set():
                return
            cache.put_many([key(number)], [value(number)])
            written.append(number)

    def child(turn):
        assert open_files() == unopened
        numbers = [0, 1, 10**6 + turn]
        values = cache.get_or_compute([key(n) for n in numbers], Encoder(numbers))
        assert right(numbers, values)

    thread = threading.Thread(target=write)
    thread.start()
    while len(written) < 2:
        time.sleep(0.001)
    statuses = []
    for turn in range(10):
        statuses += joined([forked(lambda turn=turn: child(turn))])
    stop.set()
    thread.join()
    values = cache.get_many([key(n) for n in written])
    connection = database(folder)
    (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    return {
        "statuses": statuses,
        "integrity": integrity,
        "all_right": all(v is not None for v in values) and right(written, values),
        "items": cache.stats().items - len(written),
    }


def unwinding_child(folder):
    """A child forked within compute leaves get_or_compute: the claims stay its parent's."""
    cache = EmbeddingCache(folder)
    seen = {}

    def look():
        connection = database(folder)
        (claims,) = connection.execute("SELECT count(*) FROM claims").fetchone()
        connection.close()
        return claims, len(list(Path(folder).glob("*.owner")))

    def compute(positions):
        child = os.fork()
        if not child:
            raise KeyError("only in the child")
        os.waitpid(child, 0)
        seen["after_child"] = look()
        yield positions, np.stack([value(p) for p in positions])

    try:
        values = cache.get_or_compute([key(n) for n in range(3)], compute)
    except KeyError:
        os._exit(0)
    return {**seen, "at_the_end": look(), "all_right": right(range(3), values)}


def read_only(folder):
    """Folder and files lose their write permission; who looks isn't root, for whom all is open."""
    with EmbeddingCache(folder) as cache:
        cache.put_many([key(0)], [value(0)])
    for path in Path(folder).iterdir():
        path.chmod(0o400)
    Path(folder).chmod(0o500)
    become_nobody(folder)
    cache = EmbeddingCache(folder)
    before = sorted(path.name for path in Path(folder).iterdir())
    values = [cache.get_or_compute([key(0), key(1)], Encoder([0, 1])) for _ in range(2)]
    try:
        cache.put_many([key(1)], [value(1)])
    except CacheError as error:
        message = str(error)
    return {
        "all_right": all(right([0, 1], found) for found in values),
        "hits": cache.stats().hits,
        "new_files": sorted(path.name for path in Path(folder).iterdir()) != before,
        "message": message,
    }


def unwritable(folder):
    Path(folder).chmod(0o500)
    become_nobody(folder)
    try:
        EmbeddingCache(Path(folder) / "cache").stats()
    except CacheError as error:
        return {"message": str(error)}


def become_nobody(folder):
    if os.getuid() == 0:
        for path in [Path(folder), *Path(folder).iterdir()]:
            os.chown(path, 65534, 65534)
        os.setuid(65534)


def grid_search(folder):
    """scikit-learn's own way of using a cache: clones in worker processes, overlapping folds."""
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline

    class NumberEncoder(TransformerMixin, BaseEstimator):
        def __init__(self, cache=None):
            self.cache = cache

        def fit(self, X, y=None):
            return self

        def transform(self, X):
            numbers = sorted(set(X[:, 0].tolist()))

            def compute(positions):
                time.sleep(0.01)
                yield positions, np.stack([value(numbers[p])[0] % 7 for p in positions])

            found = self.cache.get_or_compute([key(n) for n in numbers], compute)
            return np.stack(found)[np.searchsorted(numbers, X[:, 0])]

    X = np.arange(80).repeat(2)[:, None]
    y = X[:, 0] % 3 == 0
    cache = EmbeddingCache(folder)
    search = GridSearchCV(
        make_pipeline(NumberEncoder(cache), LogisticRegression()),
        {"logisticregression__C": [0.1, 1.0]},
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        n_jobs=2,
    )
    search.fit(X, y)
    cold = cache.stats()
    cache.reset_stats()
    search.fit(X, y)
    return {"cold_misses": cold.misses, "warm_misses": cache.stats().misses}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](sys.argv[2])))
