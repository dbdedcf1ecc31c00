"""How each kind of value is written as JSON and read back, both ways side by side.

A value that JSON lacks becomes an object with a single key, ``{"$kind": packed}``.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils import Bunch

from medfusion_sdk.embedding_cache import EmbeddingCache

__all__ = ["KINDS", "Kind", "kind_of"]

Step = Callable[..., Any]


class Kind(NamedTuple):
    """One kind of value.

    Attributes
    ----------
    pack : callable
        ``pack(value, write)`` gives what JSON holds; ``write(part, key)`` writes a part.
    unpack : callable
        ``unpack(packed, read)`` gives the value again; ``read(packed)`` reads a part.
    """

    pack: Step
    unpack: Step


def _pack_items(value: Any, write: Step) -> list[Any]:
    return [write(item, i) for i, item in enumerate(value)]


def _pack_dict(value: dict[Any, Any], write: Step) -> list[Any]:
    return [[write(key, f"key {i}"), write(value[key], key)] for i, key in enumerate(value)]


def _pack_scalar(value: np.generic, write: Step) -> list[Any]:
    if value.dtype.kind not in "biufU" or (value.dtype.kind == "f" and value.dtype.itemsize > 8):
        raise TypeError(f"a {type(value).__name__} has no exact form in JSON")
    name = "str" if isinstance(value, np.str_) else value.dtype.name
    return [name, write(value.item(), "value")]


def _pack_sparse(value: Any, write: Step) -> dict[str, Any]:
    parts = {name: write(getattr(value, name), name) for name in ("data", "indices", "indptr")}
    return {"class": type(value).__name__, "shape": list(value.shape), **parts}


def _unpack_sparse(packed: dict[str, Any], read: Step) -> Any:
    parts = tuple(read(packed[name]) for name in ("data", "indices", "indptr"))
    matrix = _SPARSE[packed["class"]](parts, shape=tuple(packed["shape"]))
    matrix.check_format(full_check=True)  # an index out of range would read foreign memory
    return matrix


def _pack_index(value: pd.Index, write: Step) -> dict[str, Any]:
    name = write(value.name, "name")
    if isinstance(value, pd.RangeIndex):
        return {"range": [value.start, value.stop, value.step], "name": name}
    values = write(value.to_numpy(), "values")
    return {"values": values, "dtype": str(value.dtype), "name": name}


def _unpack_index(packed: dict[str, Any], read: Step) -> pd.Index:
    name = read(packed["name"])
    if "range" in packed:
        return pd.RangeIndex(*packed["range"], name=name)
    return pd.Index(_column(packed["values"], read), dtype=packed["dtype"], name=name)


def _column(packed: Any, read: Step, length: int | None = None) -> np.ndarray:
    """Read a vector. A number or a range in its place would be spread over any number of rows."""
    values = read(packed)
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise ValueError("a column of a table isn't a vector")
    if length is not None and len(values) != length:
        raise ValueError(f"a column has {len(values)} values for {length} rows")
    return values


def _pack_frame(value: pd.DataFrame, write: Step) -> dict[str, Any]:
    columns = [value.iloc[:, i] for i in range(value.shape[1])]
    return {
        "index": write(value.index, "index"),
        "columns": write(value.columns, "columns"),
        "dtypes": [str(column.dtype) for column in columns],
        "values": [write(column.to_numpy(), f"column {i}") for i, column in enumerate(columns)],
    }


def _unpack_frame(packed: dict[str, Any], read: Step) -> pd.DataFrame:
    index = read(packed["index"])
    columns = {
        i: pd.Series(_column(values, read, len(index)), index=index, dtype=dtype)
        for i, (values, dtype) in enumerate(zip(packed["values"], packed["dtypes"], strict=True))
    }
    return pd.DataFrame(columns, index=index).set_axis(read(packed["columns"]), axis=1)


def _unpack_scalar(packed: Any, read: Step) -> np.generic:
    name, value = packed
    dtype = np.dtype(name) if isinstance(name, str) else None
    if dtype is None or dtype.kind not in "biufU":  # np.void(n) would be n bytes
        raise ValueError(f"{name!r} isn't a type of numbers")
    return dtype.type(read(value))


def _unpack_range(packed: Any) -> range:
    start, stop, step = packed
    return range(start, stop, step)


def _unpack_random_state(packed: Any, read: Step) -> np.random.RandomState:
    kind, keys, position, *rest = read(packed)
    random_state = np.random.RandomState()
    random_state.set_state((kind, keys, _position(position), *rest))
    return random_state


def _position(position: Any) -> int:
    """Where a Mersenne Twister goes on; it reads memory there without looking."""
    if not isinstance(position, int) or not 0 <= position <= _TWISTER_WORDS:
        raise ValueError(f"a random generator can't be at word {position!r}")
    return position


def _unpack_generator(packed: Any, read: Step) -> np.random.Generator:
    state = read(packed)
    if state["bit_generator"] == np.random.MT19937.__name__:
        _position(state["state"]["pos"])
    bits = {kind.__name__: kind for kind in _BIT_GENERATORS}[state["bit_generator"]]()
    bits.state = state
    return np.random.Generator(bits)


_TWISTER_WORDS = 624
_BIT_GENERATORS = (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937)
_SPARSE = {
    kind.__name__: kind for kind in (sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array)
}

KINDS: dict[str, Kind] = {
    "float": Kind(lambda x, _: repr(x), lambda packed, _: float(packed)),  # nan, inf
    "bytes": Kind(lambda x, _: x.hex(), lambda packed, _: bytes.fromhex(packed)),
    "tuple": Kind(_pack_items, lambda packed, read: tuple(map(read, packed))),
    # Sorted: equal models are equal files.
    "set": Kind(
        lambda x, write: _pack_items(sorted(x, key=repr), write),
        lambda packed, read: set(map(read, packed)),
    ),
    "frozenset": Kind(
        lambda x, write: _pack_items(sorted(x, key=repr), write),
        lambda packed, read: frozenset(map(read, packed)),
    ),
    "dict": Kind(
        _pack_dict, lambda packed, read: {read(key): read(value) for key, value in packed}
    ),
    "bunch": Kind(_pack_dict, lambda packed, read: Bunch(**{k: read(v) for k, v in packed})),
    "slice": Kind(
        lambda x, write: _pack_items((x.start, x.stop, x.step), write),
        lambda packed, read: slice(*map(read, packed)),
    ),
    "range": Kind(lambda x, _: [x.start, x.stop, x.step], lambda packed, _: _unpack_range(packed)),
    "path": Kind(lambda x, _: str(x), lambda packed, _: pathlib.Path(packed)),
    "dtype": Kind(
        lambda x, write: write(np.lib.format.dtype_to_descr(x), "descr"),
        lambda packed, read: np.lib.format.descr_to_dtype(read(packed)),
    ),
    "scalar": Kind(_pack_scalar, _unpack_scalar),
    "sparse": Kind(_pack_sparse, _unpack_sparse),
    "index": Kind(_pack_index, _unpack_index),
    "frame": Kind(_pack_frame, _unpack_frame),
    "random_state": Kind(lambda x, write: write(x.get_state(), "state"), _unpack_random_state),
    "generator": Kind(lambda x, write: write(x.bit_generator.state, "state"), _unpack_generator),
    "masked": Kind(
        lambda x, write: _pack_items((x.data, np.ma.getmaskarray(x), x.fill_value), write),
        lambda packed, read: np.ma.MaskedArray(
            read(packed[0]), mask=read(packed[1]), fill_value=read(packed[2])
        ),
    ),
    "cache": Kind(
        lambda x, _: [str(x.path), x.max_bytes],
        lambda packed, _: EmbeddingCache(packed[0], max_bytes=packed[1]),
    ),
}

# A subclass may hold more than its base's form shows: these types must be met exactly.
_EXACT: dict[type, str] = {
    **{kind: kind.__name__ for kind in (float, bytes, tuple, set, frozenset, dict, slice, range)},
    **dict.fromkeys((pathlib.PosixPath, pathlib.WindowsPath), "path"),
    **dict.fromkeys((pd.Index, pd.RangeIndex, pd.DatetimeIndex), "index"),
    **dict.fromkeys(_SPARSE.values(), "sparse"),
    pd.DataFrame: "frame",
    Bunch: "bunch",
    np.ma.MaskedArray: "masked",
    np.random.RandomState: "random_state",
    np.random.Generator: "generator",
    EmbeddingCache: "cache",
}


def kind_of(value: Any) -> str | None:
    """Name the kind of a value.

    Parameters
    ----------
    value : object
        Any value.

    Returns
    -------
    str or None
        A key of KINDS; None for arrays, functions and objects, which need more than their parts.
    """
    if isinstance(value, np.generic):
        return "scalar"
    if isinstance(value, np.dtype):
        return "dtype"
    return _EXACT.get(type(value))
