"""100 SIGKILLs at random moments: ``python -m tests.embedding_cache.kills FOLDER``.

Prints what was found in the cache afterwards as JSON. It is a program of its own, without
threads, so that it may fork freely.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from medfusion_sdk.embedding_cache import EmbeddingCache
from tests.embedding_cache.actors import (
    BATCH,
    Encoder,
    Journal,
    database,
    forked,
    joined,
)
from tests.embedding_cache.items import key, right, value

WRITERS = 4


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


def play(folder, rounds=25, rounds_a_folder=5):
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
        totals["confirmed"] += len(acknowledged)
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


if __name__ == "__main__":
    print(json.dumps(play(sys.argv[1])))
