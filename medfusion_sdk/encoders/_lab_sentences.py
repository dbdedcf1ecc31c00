"""A row of laboratory values -> a sentence, the same one for the same values everywhere."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import CellError, ParameterError
from medfusion_sdk.readers.cells import is_missing

__all__ = ["DEFAULT_TEMPLATE", "LabTest", "check_template", "is_absent", "write_sentence"]

DEFAULT_TEMPLATE = "{name} {value}[ {unit}][ (reference {reference})][, {status}]"
_FIELDS = {"name", "value", "unit", "reference", "status"}
_DIGITS = 6  # significant ones; float32 has no more


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

    Examples
    --------
    >>> LabTest("mmol/L", 3.5, 5.1).reference
    '3.5 to 5.1'
    """

    unit: str = ""
    low: float | None = None
    high: float | None = None
    name: str | None = None

    @property
    def reference(self) -> str:
        """The reference range in words; empty if there is none."""
        if self.low is not None and self.high is not None:
            return f"{_number(self.low)} to {_number(self.high)}"
        if self.low is not None:
            return f"at least {_number(self.low)}"
        return "" if self.high is None else f"at most {_number(self.high)}"

    def status(self, value: float) -> str:
        """Tell where a value lies with respect to the reference range.

        Parameters
        ----------
        value : float
            In the test's unit.

        Returns
        -------
        str
            "low", "normal", "high", or empty without a range.
        """
        if self.low is not None and value < self.low:
            return "low"
        if self.high is not None and value > self.high:
            return "high"
        return "" if self.low is None and self.high is None else "normal"


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
    written = str(value).strip() if number is None else _number(number)
    fields = {
        "name": test.name or str(column),
        "value": written,
        "unit": test.unit,
        "reference": test.reference,
        # Of the number as the sentence shows it: float32 has 5.3 a little above 5.3.
        "status": "" if number is None else test.status(float(written)),
    }
    return _fill(template, fields)


def _as_number(column: str, value: Any) -> float | None:
    """Return a value as a number; None for text that isn't one, such as "<0.01"."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return None
    elif isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
    else:
        raise CellError(
            f"lab {column!r}: expected a number or text, found {value!r} ({type(value).__name__})."
        )
    if not np.isfinite(number):
        raise CellError(f"lab {column!r}: {value!r} isn't a finite number.")
    return number


def _number(value: float) -> str:
    """Write a number the same way whatever its type: no exponent, no trailing zeros."""
    return np.format_float_positional(
        value, precision=_DIGITS, unique=False, fractional=False, trim="-"
    )


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
