"""A row of laboratory values -> a sentence, the same one for the same values everywhere."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import CellError, ParameterError
from medfusion_sdk.readers.cells import is_missing

__all__ = ["DEFAULT_TEMPLATE", "LabTest", "check_template", "is_absent", "write_sentence"]

DEFAULT_TEMPLATE = "{name} {value}[ {unit}][ (reference {reference})][, {status}]"
_FIELDS = {"name", "value", "unit", "reference", "status"}
_DIGITS = 6  # significant ones; float32 has no more
_PLAIN = (1e-9, 1e15)  # sizes that are written without an exponent
_LEAST_SINGLE = float(np.finfo(np.float32).tiny)
_MOST_SINGLE = float(np.finfo(np.float32).max)
_MOST_BITS = 1024


@dataclass(frozen=True)
class LabTest:
    """How one laboratory test is put into words.

    Attributes
    ----------
    unit : str, default=""
        Unit of the column's values.
    low, high : float, optional
        Reference range, bounds included; one bound may be left out.
    name : str, optional
        What the sentence calls the test; the column's name if left out.

    Raises
    ------
    ParameterError
        For a bound that isn't a finite number, or a low one above the high one.

    Examples
    --------
    >>> LabTest("mmol/L", 3.5, 5.1).reference
    '3.5 to 5.1'
    """

    unit: str = ""
    low: float | None = None
    high: float | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = getattr(self, name)
            real = isinstance(bound, Real) and not isinstance(bound, bool)
            if bound is not None and not (real and np.isfinite(bound)):
                raise ParameterError(
                    f"LabTest: {name} must be a finite number, or None where there is no such "
                    f"bound, got {bound!r}."
                )
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ParameterError(f"LabTest: low={self.low} is above high={self.high}.")
        if not isinstance(self.unit, str) or not isinstance(self.name, str | None):
            raise ParameterError(
                f"LabTest: unit and name must be text, got {self.unit!r} and {self.name!r}."
            )

    @property
    def reference(self) -> str:
        """The reference range in words; empty if there is none."""
        return _range(*(None if bound is None else _rounded(bound) for bound in self._bounds))

    @property
    def _bounds(self) -> tuple[float | None, float | None]:
        return self.low, self.high

    def status(self, value: float) -> str:
        """Tell where a value lies with respect to the reference range.

        Parameters
        ----------
        value : float
            In the test's unit.

        Returns
        -------
        str
            "low", "normal", "high", or empty without a range. A value that single precision
            can't tell from a bound is on it, and so within the range.
        """
        return _status(_single(value), *(b if b is None else _single(b) for b in self._bounds))


def write_sentence(
    tests: Mapping[str, LabTest], values: Sequence[Any], template: str | None = None
) -> str:
    """Write the sentence of one row.

    Parameters
    ----------
    tests : mapping of str to LabTest
        Column name -> test.
    values : sequence
        One value per test, in the same order; absent ones are left out.
    template : str, optional
        How one test reads; DEFAULT_TEMPLATE if left out.

    Returns
    -------
    str
        Tests separated by semicolons, with a full stop.

    Raises
    ------
    CellError
        For a value that is neither a finite number nor text.

    Examples
    --------
    >>> write_sentence({"k": LabTest("mmol/L", 3.5, 5.1, "potassium")}, [5.9])
    'potassium 5.9 mmol/L (reference 3.5 to 5.1), high.'
    """
    parts = [
        _write_part(column, test, value, template or DEFAULT_TEMPLATE)
        for (column, test), value in zip(tests.items(), values, strict=True)
        if not is_absent(value)
    ]
    return "; ".join(parts) + "."


def check_template(template: str | None) -> None:
    """Raise if a template has fields that there aren't.

    Parameters
    ----------
    template : str or None
        See :class:`LabTextEncoder`.

    Raises
    ------
    ParameterError
        Naming the fields.
    """
    unknown = set(_field_names(template or DEFAULT_TEMPLATE)) - _FIELDS
    if unknown:
        raise ParameterError(
            f"template has the fields {sorted(unknown)}; there are {sorted(_FIELDS)}."
        )


def is_absent(value: Any) -> bool:
    """Tell whether a test wasn't done: missing as elsewhere, or an empty text.

    Parameters
    ----------
    value : object
        A cell of a laboratory column.

    Returns
    -------
    bool
        True for an absent value.
    """
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def _write_part(column: str, test: LabTest, value: Any, template: str) -> str:
    number = _as_number(column, value)
    if number is None:
        written, reference, status = str(value).strip(), test.reference, ""
    else:
        written, reference, status = _write_number(test, number)
    fields = {
        "name": test.name or str(column),
        "value": written,
        "unit": test.unit,
        "reference": reference,
        "status": status,
    }
    return _fill(template, fields)


def _write_number(test: LabTest, number: float) -> tuple[str, str, str]:
    """Value, reference and status, in as many digits as the status can be seen from."""
    status = test.status(number)
    for write in (_rounded, _in_full):
        value, low, high = (None if x is None else write(x) for x in (number, *test._bounds))
        seen = _status(*(None if x is None else float(x) for x in (value, low, high)))
        if seen == status:
            break
    return str(value), _range(low, high), status


def _status(value: float | None, low: float | None, high: float | None) -> str:
    assert value is not None
    if low is not None and value < low:
        return "low"
    if high is not None and value > high:
        return "high"
    return "" if low is None and high is None else "normal"


def _range(low: str | None, high: str | None) -> str:
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"at least {low}"
    return "" if high is None else f"at most {high}"


def _as_number(column: str, value: Any) -> float | None:
    """Return a value as a number; None for text that isn't one, such as "<0.01"."""
    if isinstance(value, str):
        # Python reads 1_000 as a number; nobody else does.
        number = None if "_" in value else _float(value)
        if number is None:
            return None
    elif isinstance(value, Real | Decimal) and not isinstance(value, bool):
        number = _float(value)
    else:
        raise CellError(
            f"lab {column!r}: expected a number or text, found {value!r} ({type(value).__name__})."
        )
    if number is None or not np.isfinite(number):
        raise CellError(f"lab {column!r}: {_shown(value)} isn't a finite number.")
    return number


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _shown(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:  # too long to be written
        return f"a whole number of {value.bit_length()} bits"
    return repr(value)


def _single(value: float) -> float:
    """Round to single precision, in which tables are often kept, where its range holds it."""
    value = float(value)
    if _LEAST_SINGLE <= abs(value) <= _MOST_SINGLE:
        return float(np.float32(value))
    return value


def _rounded(value: float) -> str:
    """Write a number the same way whatever its type, in few digits."""
    return _write(float(value), precision=_DIGITS, unique=False)


def _in_full(value: float) -> str:
    """Write a number in as many digits as tell it from its neighbours in single precision."""
    value = _single(value)
    held = _LEAST_SINGLE <= abs(value) <= _MOST_SINGLE
    return _write(np.float32(value) if held else value, precision=None, unique=True)


def _write(value: Any, *, precision: int | None, unique: bool) -> str:
    """Without trailing zeros, and without exponent where that is no longer than usual."""
    value = value if value else abs(value)  # no negative zero
    if value == 0 or _PLAIN[0] <= abs(value) < _PLAIN[1]:
        return np.format_float_positional(
            value, precision=precision, unique=unique, fractional=False, trim="-"
        )
    digits = None if precision is None else precision - 1
    written = np.format_float_scientific(value, precision=digits, unique=unique, trim="-")
    return written.replace(".e", "e")


def _field_names(template: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]


def _fill(template: str, values: dict[str, str]) -> str:
    """Fill a template; a bracketed part with an empty field is left out."""
    filled = []
    for index, part in enumerate(template.replace("]", "[").split("[")):
        # Every second part stood in brackets.
        if index % 2 == 0 or all(values[name] for name in _field_names(part)):
            filled.append(part.format_map(values))
    return "".join(filled)
