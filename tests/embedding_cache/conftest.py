"""A cache in a folder of its own, and a look behind its back."""

from __future__ import annotations

import sqlite3

import pytest

from medfusion_sdk.embedding_cache import EmbeddingCache


@pytest.fixture
def cache(tmp_path):
    with EmbeddingCache(tmp_path / "cache") as cache:
        yield cache


@pytest.fixture
def sql(cache):
    """Run SQL on the file behind the cache's back."""

    def sql(statement, *parameters):
        connection = sqlite3.connect(next(cache.path.glob("*.sqlite")), isolation_level=None)
        rows = connection.execute(statement, parameters).fetchall()
        connection.close()
        return rows

    return sql
