"""A fitted object as JSON values and arrays, and back. No code is stored and none is run."""

from __future__ import annotations

import copy
import copyreg
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

from medfusion_sdk.encoders.base import require_fingerprint
from medfusion_sdk.exceptions import (
    MissingDependencyError,
    UnsavableModelError,
    WeightsNotFoundError,
)
from medfusion_sdk.persistence._kinds import KINDS, kind_of
from medfusion_sdk.persistence._trust import Trust, name_of

__all__ = ["Reader", "Writer"]

# What an encoder remembers of its last call is no part of the model, and names patients' rows;
# what it was loaded with is written as its fingerprint.
_LEFT_OUT = ("errors_", "_last_report", "_expected_fingerprint")
# Kinds of dtype that safetensors stores as they are; others go as bytes.
_NATIVE = {np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)}
_NATIVE |= {np.dtype(name) for name in ("f2", "f4", "f8", "bool")}
# Bytes of an array of strings beyond those that its longest string asks for.
_SPARE = 1 << 25


class Writer:
    """Turns objects into JSON values; collects their arrays on the way.

    Parameters
    ----------
    trust : Trust
        What may be stored by name.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Named by the way that leads to them, such as ``state_.head.weight``.
    """

    def __init__(self, trust: Trust) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._trust = trust
        # Objects and arrays written so far, by id; holding them keeps their ids theirs.
        self._places: dict[int, tuple[str, Any]] = {}
        self._taken: set[str] = set()

    def write(self, value: Any, at: str = "") -> Any:
        """Write a value.

        Parameters
        ----------
        value : object
            A parameter, a fitted attribute, an estimator.
        at : str
            The way that leads to it.

        Returns
        -------
        object
            What ``json`` writes.

        Raises
        ------
        UnsavableModelError
            For a value that has no safe form.
        """
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float and math.isfinite(value):
            return value
        if type(value) is list:
            return [self.write(item, _join(at, i)) for i, item in enumerate(value)]
        if type(value) is dict and all(type(k) is str and not k.startswith("$") for k in value):
            return {key: self.write(item, _join(at, key)) for key, item in value.items()}
        kind = kind_of(value)
        if kind is None:
            return self._write_shared(value, at)
        try:
            packed = KINDS[kind].pack(value, lambda part, key: self.write(part, _join(at, key)))
        except UnsavableModelError:
            raise
        except TypeError as error:
            raise _unsavable(at, str(error)) from error
        return {f"${kind}": packed}

    def _write_shared(self, value: Any, at: str) -> dict[str, Any]:
        """Arrays, objects and functions; the first two are written once and then referred to."""
        if id(value) in self._places:
            return {"$same": self._places[id(value)][0]}
        named = callable(value) and hasattr(value, "__qualname__")
        if named or isinstance(value, type | np.ufunc):
            return self._write_name(value, at)
        while at in self._taken:
            at += "'"
        self._taken.add(at)
        self._places[id(value)] = (at, value)
        if type(value) in (np.ndarray, np.memmap):
            return {"$array": self._pack_array(np.asarray(value), at)}
        return {"$object": self._pack_object(value, at)}

    def _write_name(self, value: Any, at: str) -> dict[str, Any]:
        name = name_of(value)
        try:
            found = self._trust.find_value(name)
        except LookupError as error:
            raise _unsavable(at, _hint(name, error)) from None
        if found is not value:
            raise _unsavable(at, f"{name} isn't what its name leads to")
        return {"$name": name}

    def _pack_array(self, array: np.ndarray, at: str) -> dict[str, Any]:
        packed: dict[str, Any] = {"at": at, "shape": list(array.shape)}
        if array.dtype.kind in "OU":
            dtype = "object" if array.dtype == object else array.dtype.str
            values = [
                self.write(item, _join(at, i)) for i, item in enumerate(array.ravel().tolist())
            ]
            return {**packed, "dtype": dtype, "values": values}
        # The order in memory decides the last bits of a matrix product.
        if array.flags.f_contiguous and not array.flags.c_contiguous:
            packed["order"] = "F"
        if array.dtype in _NATIVE and array.dtype.isnative:
            self.arrays[at] = np.array(array, order="C")
            return packed
        if array.dtype.hasobject:
            raise _unsavable(at, f"an array of dtype {array.dtype} holds Python objects")
        self.arrays[at] = np.frombuffer(array.tobytes(), dtype=np.uint8)
        return {**packed, "dtype": self.write(array.dtype, at)}

    def _pack_object(self, value: Any, at: str) -> dict[str, Any]:
        name = name_of(type(value))
        try:
            self._trust.find_class(name)
        except LookupError as error:
            raise _unsavable(at, str(error)) from None
        arguments, state = _taken_apart(value, at)
        packed: dict[str, Any] = {"class": name, "at": at}
        if arguments:
            packed["arguments"] = self.write(list(arguments), _join(at, "arguments"))
        if hasattr(value, "fingerprint"):
            state = {key: item for key, item in state.items() if key not in _LEFT_OUT}
            expected = vars(value).get("_expected_fingerprint")
            packed["fingerprint"] = _fingerprint(value) or expected
        return {**packed, "state": self.write(state, at)}


class Reader:
    """Turns JSON values into objects again.

    Parameters
    ----------
    trust : Trust
        Which classes and functions may be named.
    arrays : mapping of str to ndarray
        The arrays.
    """

    def __init__(self, trust: Trust, arrays: Mapping[str, np.ndarray]) -> None:
        self._trust = trust
        self._arrays = arrays
        self._places: dict[str, Any] = {}
        self._backbones: list[tuple[str, Any, str]] = []
        self._special: dict[str, Callable[[Any], Any]] = {
            "$same": self._places.__getitem__,
            "$name": trust.find_value,
            "$array": self._unpack_array,
            "$object": self._unpack_object,
        }

    def read(self, packed: Any) -> Any:
        """Read a value.

        Parameters
        ----------
        packed : object
            From :meth:`Writer.write`.

        Returns
        -------
        object
            The value.
        """
        if type(packed) is list:
            return [self.read(item) for item in packed]
        if type(packed) is not dict:
            return packed
        tag = next(iter(packed), "")
        if not tag.startswith("$"):
            return {key: self.read(item) for key, item in packed.items()}
        if tag in self._special:
            return self._special[tag](packed[tag])
        return KINDS[tag[1:]].unpack(packed[tag], self.read)

    def check_backbones(self) -> None:
        """Compare the backbones of this machine with those that the model was trained on.

        Raises
        ------
        BackboneMismatchError
            If one is another.
        """
        for at, encoder, expected in self._backbones:
            if _fingerprint(encoder) is None:
                encoder._expected_fingerprint = expected  # checked at first use
            else:
                require_fingerprint(encoder, expected, at)

    def _unpack_array(self, packed: dict[str, Any]) -> np.ndarray:
        at, shape, dtype = packed["at"], tuple(packed["shape"]), packed.get("dtype")
        if at in self._places:  # written once, then referred to: copies would fill the memory
            raise ValueError(f"the array {at} comes twice")
        if dtype is None:
            array = self._arrays[at].reshape(shape)
        elif "values" in packed:
            array = self._unpack_items(packed["values"], dtype).reshape(shape)
        else:
            content = self._arrays[at].tobytes()
            array = np.frombuffer(content, dtype=self.read(dtype)).reshape(shape).copy()
        if packed.get("order") == "F":
            array = np.asfortranarray(array)
        self._places[at] = array
        return array

    def _unpack_items(self, packed: list[Any], dtype: str) -> np.ndarray:
        """Objects, or strings as wide as the longest was when it was saved."""
        items = [self.read(item) for item in packed]
        if dtype != "object":
            kind, width = np.dtype(dtype), max([1, *map(len, items)])
            # An array that was cut is wider than what it holds; forged, it would fill the memory.
            if kind.kind != "U" or (kind.itemsize - 4 * width) * len(items) > _SPARE:
                raise ValueError(f"{dtype!r} isn't the type of its {len(items)} strings")
        array = np.empty(len(items), dtype=dtype)
        for i, item in enumerate(items):
            array[i] = item
        return array

    def _unpack_object(self, packed: dict[str, Any]) -> Any:
        kind = self._trust.find_class(packed["class"])
        value = kind.__new__(kind, *self.read(packed.get("arguments", [])))
        self._places[packed["at"]] = value
        state = self.read(packed["state"])
        if hasattr(value, "__setstate__"):
            value.__setstate__(state)
        elif state:
            vars(value).update(state)
        if packed.get("fingerprint") is not None:
            self._backbones.append((packed["at"], value, packed["fingerprint"]))
        return value


def _taken_apart(value: Any, at: str) -> tuple[tuple[Any, ...], Any]:
    """Arguments of ``__new__`` and the state, as pickle sees them."""
    make, arguments, *rest = value.__reduce_ex__(2)
    if make is getattr(copyreg, "__newobj__"):  # noqa: B009  (typeshed lacks it)
        make, *arguments = arguments
    state = rest[0] if rest else None
    if make is not type(value) or any(part is not None for part in rest[1:]):
        raise _unsavable(at, f"a {type(value).__name__} is more than its attributes")
    if not (hasattr(value, "__setstate__") or state is None or isinstance(state, dict)):
        raise _unsavable(at, f"a {type(value).__name__} keeps its attributes in slots")
    return tuple(arguments), state


def _fingerprint(encoder: Any) -> str | None:
    """Fingerprint of an encoder; None where its weights aren't on this machine."""
    encoder = copy.copy(encoder)
    if getattr(encoder, "allow_download", False):
        encoder.allow_download = False  # neither saving nor loading fetches anything
    try:
        return encoder.fingerprint()
    except (WeightsNotFoundError, MissingDependencyError, NotFittedError):
        return None


def _hint(name: str, error: LookupError) -> str:
    if "<" not in name:
        return str(error)
    return f"{name} has no name to find it by; define it in a module and pass its name as trusted"


def _join(at: str, key: Any) -> str:
    return f"{at}.{key}" if at else str(key)


def _unsavable(at: str, why: str) -> UnsavableModelError:
    return UnsavableModelError(f"{at or 'the estimator'} can't be saved: {why}.")
