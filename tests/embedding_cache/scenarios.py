"""What several processes do to one cache folder; run as a script, prints its findings as JSON.

``python scenarios.py NAME FOLDER`` runs in a fresh interpreter without threads, so that it may
fork freely.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sqlite3
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

from medfusion_sdk.embedding_cache import EmbeddingCache
from medfusion_sdk.exceptions import CacheError

BATCH = 8
WRITERS = 4


def key(number):
    return hashlib.blake2b(number.to_bytes(8, "little"), digest_size=32).digest()


def value(number):
    return np.arange(24, dtype=np.float32) * (number + 1)


def right(numbers, values):
    return all(
        np.array_equal(value(number), found) for number, found in zip(numbers, values, strict=True)
    )


class Journal:
    """Who has computed what, in a file that all processes of a scenario append to."""

    def __init__(self):
        descriptor, path = tempfile.mkstemp()
        os.close(descriptor)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND)
        self._read = 0
        Path(path).unlink()

    def note(self, sender, numbers):
        os.write(self._file, b"".join(struct.pack("<II", sender, n) for n in numbers))

    def news(self):
        size = os.fstat(self._file).st_size
        records = os.pread(self._file, size - self._read, self._read)
        self._read = size
        return list(struct.iter_unpack("<II", records))


class Encoder:
    """Computes values in small batches, noting each one in a journal after it was stored."""

    def __init__(self, numbers, journal=None, *, sender=0, batch=BATCH, seconds=0.0):
        self.numbers, self.journal, self.sender = numbers, journal or Journal(), sender
        self.batch, self.seconds = batch, seconds

    def __call__(self, positions):
        for start in range(0, len(positions), self.batch):
            some = positions[start : start + self.batch]
            numbers = [self.numbers[position] for position in some]
            time.sleep(self.seconds)
            yield some, np.stack([value(number) for number in numbers])
            self.journal.note(self.sender, numbers)


def forked(work):
    child = os.fork()
    if child:
        return child
    try:
        work()
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def joined(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def open_files():
    return sum(1 for _ in Path("/dev/fd").iterdir())


def database(folder):
    return sqlite3.connect(next(Path(folder).glob("*.sqlite")), isolation_level=None)


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


def killed_round(folder, numbers, rng, *, while_opening):
    journal = Journal()

    def write(sender):
        mine = numbers[:]
        random.Random(sender).shuffle(mine)
        encode = Encoder(mine, journal, sender=sender)
        EmbeddingCache(folder).get_or_compute([key(n) for n in mine], encode)
        time.sleep(60)

    writers = [forked(lambda sender=sender: write(sender)) for sender in range(WRITERS)]
    start = time.monotonic()
    acknowledged = []
    while not (acknowledged or while_opening) and time.monotonic() < start + 30:
        time.sleep(0.001)
        acknowledged = journal.news()
    start = time.monotonic()
    for moment, writer in sorted((rng.uniform(0, 0.08), writer) for writer in writers):
        time.sleep(max(0.0, start + moment - time.monotonic()))
        os.kill(writer, signal.SIGKILL)
    killed = sum(status == -signal.SIGKILL for status in joined(writers))
    return killed, [number for _, number in acknowledged + journal.news()]


def survey(folder, numbers, known, rounds):
    """Compare everything in a cache with what it must be; `known` was stored for sure."""
    with EmbeddingCache(folder) as cache:
        items = cache.stats().items
        values = cache.get_many([key(n) for n in numbers])
    found = {n: v for n, v in zip(numbers, values, strict=True) if v is not None}
    connection = database(folder)
    (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
    (vectors,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
    connection.close()
    in_flight = rounds * WRITERS * BATCH
    return {
        "broken_files": int(integrity != "ok"),
        "damaged": abs(items - len(found)) + abs(vectors - items),
        "wrong": sum(not np.array_equal(v, value(n)) for n, v in found.items()),
        "lost": len(known - found.keys()),
        "more_than_in_flight": int(len(found.keys() - known) > in_flight),
    }


def kills(folder, rounds=25, rounds_a_folder=5):
    """Four writers a round, each killed at a random moment; also while they make the folder."""
    rng = random.Random(0)
    totals = Counter()
    for turn in range(rounds):
        in_folder = turn % rounds_a_folder
        if in_folder == 0:
            place, numbers, known = Path(folder) / f"from-{turn}", [], set()
        # What the last round had in flight is asked for again.
        numbers += range(len(numbers), len(numbers) + 1500)
        killed, acknowledged = killed_round(
            place, numbers[-2000:], rng, while_opening=in_folder == 0
        )
        totals["kills"] += killed
        totals["kills_at_work"] += len(list(place.glob("*.owner")))
        totals["twice"] += len(acknowledged) - len(set(acknowledged) - known)
        known.update(acknowledged)
        totals.update(survey(place, numbers, known, in_folder + 1))
    with EmbeddingCache(place) as cache:
        values = cache.get_or_compute([key(n) for n in numbers], Encoder(numbers, batch=100))
    connection = database(place)
    (claims,) = connection.execute("SELECT count(*) FROM claims").fetchone()
    connection.close()
    return {
        **totals,
        "works_after": right(numbers, values),
        "left_behind": claims + len(list(place.glob("*.owner"))),
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
                yield positions, np.stack([value(numbers[p]) % 7 for p in positions])

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
