"""A crash-safe cache on disk: item digest + encoder fingerprint -> vector.

Shuffles, folds, subsets, duplicates, processes and one-row serving all find the same values,
because a key names one item and one encoder and nothing else.
"""

from medfusion_sdk.embedding_cache._cache import EmbeddingCache, as_cache
from medfusion_sdk.embedding_cache._store import CacheStats

__all__ = ["CacheStats", "EmbeddingCache", "as_cache"]
