"""What parameters may be: one table per class, checked as a whole when the class is put to work.

A table maps names of parameters to pieces that ``|`` joins, as in
``{"batch_size": Whole(least=1) | OneOf("auto")}``. scikit-learn has the same idea in a private
module, which takes True for the number 1 and raises another error.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Protocol

import numpy as np

from medfusion_sdk.exceptions import ParameterError

__all__ = [
    "FLAG",
    "NONE",
    "RANDOM_STATE",
    "Allowed",
    "Having",
    "InstanceOf",
    "ListOf",
    "MappingTo",
    "Number",
    "OneOf",
    "Whole",
    "check_parameters",
]


class Allowed(ABC):
    """What a parameter may be."""

    @abstractmethod
    def allows(self, value: Any) -> bool:
        """Tell whether the parameter may have a value."""

    @property
    @abstractmethod
    def choices(self) -> list[str]:
        """The same in words, one entry per alternative."""

    def __or__(self, other: Allowed) -> Allowed:
        return _Either((self, other))

    def __str__(self) -> str:
        *others, last = self.choices
        return f"{', '.join(others)} or {last}" if others else last


@dataclass(frozen=True)
class _Either(Allowed):
    alternatives: tuple[Allowed, ...]

    def allows(self, value: Any) -> bool:
        return any(allowed.allows(value) for allowed in self.alternatives)

    @property
    def choices(self) -> list[str]:
        return [choice for allowed in self.alternatives for choice in allowed.choices]


@dataclass(frozen=True, kw_only=True)
class Number(Allowed):
    """A finite number, Python's or NumPy's; True isn't one."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    kind: ClassVar[Any] = Real
    called: ClassVar[str] = "a number"

    def allows(self, value: Any) -> bool:
        return (
            isinstance(value, self.kind)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    @property
    def choices(self) -> list[str]:
        bounds = {">=": self.least, ">": self.above, "<=": self.most, "<": self.below}
        shown = [f"{sign} {bound}" for sign, bound in bounds.items() if bound is not None]
        return [f"{self.called} {' and '.join(shown)}".strip()]


class Whole(Number):
    """A whole number; 8.0 isn't one."""

    kind = Integral
    called = "a whole number"


class OneOf(Allowed):
    """One of some words, True, False or None."""

    def __init__(self, *values: str | bool | None) -> None:
        self.values = values

    def allows(self, value: Any) -> bool:
        # Only these kinds: 1 is no True, and an array answers == with an array.
        if isinstance(value, np.bool_):
            value = bool(value)
        return isinstance(value, str | bool | None) and value in self.values

    @property
    def choices(self) -> list[str]:
        return [repr(value) for value in self.values]


class InstanceOf(Allowed):
    """An instance of one of some classes."""

    def __init__(self, *kinds: type) -> None:
        self.kinds = kinds

    def allows(self, value: Any) -> bool:
        return isinstance(value, self.kinds)

    @property
    def choices(self) -> list[str]:
        return [f"a {kind.__name__}" for kind in self.kinds]


class Having(Allowed):
    """An object, not a class, with some methods."""

    def __init__(self, *methods: str) -> None:
        self.methods = methods

    def allows(self, value: Any) -> bool:
        return not isinstance(value, type) and all(
            callable(getattr(value, method, None)) for method in self.methods
        )

    @property
    def choices(self) -> list[str]:
        return [f"an object with {' and '.join(self.methods)}"]


class ListOf(Allowed):
    """A list, tuple, array or index of values; text isn't one."""

    def __init__(self, each: Allowed, *, length: int | None = None) -> None:
        self.each = each
        self.length = length

    def allows(self, value: Any) -> bool:
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not listed and not (hasattr(value, "__array__") and np.ndim(value) == 1):
            return False
        return self.length in (None, len(value)) and all(self.each.allows(item) for item in value)

    @property
    def choices(self) -> list[str]:
        size = "" if self.length is None else f"{self.length} values, "
        return [f"a list ({size}each {self.each})"]


class MappingTo(Allowed):
    """A mapping to allowed values, of any keys or of some."""

    def __init__(self, each: Allowed, *, keys: tuple[str, ...] | None = None) -> None:
        self.each = each
        self.keys = keys

    def allows(self, value: Any) -> bool:
        return (
            isinstance(value, Mapping)
            and (self.keys is None or set(value) <= set(self.keys))
            and all(self.each.allows(item) for item in value.values())
        )

    @property
    def choices(self) -> list[str]:
        keys = "" if self.keys is None else f"from {OneOf(*self.keys)} "
        return [f"a mapping {keys}(each to {self.each})"]


FLAG = OneOf(True, False)
NONE = OneOf(None)
RANDOM_STATE = Whole(least=0, most=2**32 - 1) | InstanceOf(np.random.RandomState) | NONE


class _HasTable(Protocol):
    _allowed: ClassVar[Mapping[str, Allowed]]


def check_parameters(owner: _HasTable) -> None:
    """Refuse an object whose parameters aren't what its class's table allows.

    Parameters
    ----------
    owner : object
        Its class has the table as ``_allowed``. Estimators of ours among its parameters are
        checked with it, before anything is learnt.

    Raises
    ------
    ParameterError
        For the first parameter with a value that it can't have.
    """
    for name, allowed in owner._allowed.items():
        value = getattr(owner, name)
        if not allowed.allows(value):
            raise ParameterError(
                f"{type(owner).__name__}: {name} must be {allowed}, got {value!r}."
            )
        if hasattr(value, "_check_parameters"):
            value._check_parameters()
