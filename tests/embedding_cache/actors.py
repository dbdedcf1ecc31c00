"""What the scenarios with several processes are played with."""

from __future__ import annotations

import gc
import os
import sqlite3
import struct
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

from tests.embedding_cache.items import value

BATCH = 8


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
    gc.collect()
    return sum(1 for _ in Path("/dev/fd").iterdir())


def database(folder):
    return sqlite3.connect(next(Path(folder).glob("*.sqlite")), isolation_level=None)
