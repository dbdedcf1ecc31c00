"""Laboratory values -> a sentence -> an embedding."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.exceptions import CellError, ParameterError
from medfusion_sdk.readers.cells import Column, is_missing

__all__ = ["LabTest", "LabTextEncoder"]

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


class LabTextEncoder(TextEncoder):
    """Put each row of laboratory values into a sentence and encode it with a text model.

    A test that a row lacks is left out of its sentence; a row without any test is a missing
    modality. The sentence depends on the row alone, so its embedding can be cached.

    Parameters
    ----------
    labs : mapping of str to LabTest, or of str to tuple
        Column name -> :class:`LabTest`, or the tuple (unit, low, high) for short. Sentences name
        the tests in this order. Columns that it doesn't name aren't read.
    template : str, optional
        How one test reads. Fields in braces are name, value, unit, reference and status; what
        stands in square brackets is left out where a field in it is empty. The default is
        ``"{name} {value}[ {unit}][ (reference {reference})][, {status}]"``.
    backbone : str or path, default="minilm"
        Text model, as in :class:`TextEncoder`; so are the parameters below.
    revision : str, optional
        Branch, tag or commit of a hub model.
    allow_download : bool, default=False
        Whether a hub model may be fetched.
    pooling : {"auto", "mean", "cls", "last"}, default="auto"
        How token states become one vector.
    normalize : bool or "auto", default="auto"
        Whether to scale embeddings to length one.
    max_length : int, optional
        Most tokens that are read; tests at the end of a longer sentence are lost.
    missing : {"nan", "zero", "mean"}, default="nan"
        What a row without any test becomes.
    on_error : {"raise", "missing"}, default="raise"
        What to do with a row that holds something unusable, such as an infinite value.
    device : str, default="auto"
        Where to compute.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the network.
    batch_size : int or "auto", default="auto"
        Sentences per batch.
    cache : EmbeddingCache, path or None, default=None
        Where embeddings are kept.

    Attributes
    ----------
    mean_embedding_ : ndarray of shape (n_features,)
        Only with ``missing="mean"``.
    errors_ : DataFrame
        Rows of the last call that could not be used.

    See Also
    --------
    TextEncoder : Encodes texts as they are.

    Examples
    --------
    >>> import pandas as pd
    >>> from medfusion_sdk.encoders.lab_text import LabTest, LabTextEncoder
    >>> labs = {"potassium": LabTest("mmol/L", 3.5, 5.1), "crp": ("mg/L", None, 5)}
    >>> X = pd.DataFrame({"potassium": [5.9, None], "crp": [None, 2.0]})
    >>> encoder = LabTextEncoder(labs, backbone="standin-text")
    >>> print(*encoder.to_sentences(X), sep="\\n")
    potassium 5.9 mmol/L (reference 3.5 to 5.1), high.
    crp 2 mg/L (reference at most 5), normal.
    >>> encoder.fit_transform(X).shape
    (2, 64)
    """

    def __init__(
        self,
        labs: Mapping[str, LabTest | tuple],
        *,
        template: str | None = None,
        backbone: str | PathLike[str] = "minilm",
        revision: str | None = None,
        allow_download: bool = False,
        pooling: str = "auto",
        normalize: bool | str = "auto",
        max_length: int | None = None,
        missing: str = "nan",
        on_error: str = "raise",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | str = "auto",
        cache: Any = None,
    ) -> None:
        super().__init__(
            backbone,
            revision=revision,
            allow_download=allow_download,
            pooling=pooling,
            normalize=normalize,
            max_length=max_length,
            missing=missing,
            on_error=on_error,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            cache=cache,
        )
        self.labs = labs
        self.template = template

    def to_sentences(self, X: pd.DataFrame) -> pd.Series:
        """Return the sentences that are encoded.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_labs)
            Has a column for each test in `labs`.

        Returns
        -------
        Series of str
            On the index of `X`; None where a row has no test.

        Raises
        ------
        CellError
            For a value that is neither a number nor text.
        """
        self._check_parameters()
        column = self._column(X, reset=False)
        sentences: list[str | None] = []
        for row, cell in zip(column.rows, column.cells, strict=True):
            try:
                sentences.append(None if cell is None else self._text(cell))
            except CellError as error:
                raise error.located(row, column.name) from error
        return pd.Series(sentences, index=X.index, name=column.name, dtype=object)

    def _column(self, X: Any, *, reset: bool) -> Column:
        if not isinstance(X, pd.DataFrame):
            raise CellError(
                f"expected a DataFrame with the columns {list(self.labs)}, found a "
                f"{type(X).__name__}."
            )
        absent = [name for name in self.labs if name not in X.columns]
        if absent:
            raise CellError(
                f"no column {', '.join(map(repr, absent))} among {list(X.columns)}; labs names "
                "the columns to read."
            )
        values = [X[name].tolist() for name in self.labs]
        rows = [None if all(map(_is_absent, row)) else row for row in zip(*values, strict=True)]
        return Column(rows, X.index, "labs")

    def _text(self, cell: Any) -> str:
        """Write the sentence of one row of values."""
        parts = [
            self._part(name, lab, value)
            for (name, lab), value in zip(self._tests().items(), cell, strict=True)
            if not _is_absent(value)
        ]
        return super()._text("; ".join(parts) + ".")

    def _part(self, column: str, lab: LabTest, value: Any) -> str:
        number = _as_number(column, value)
        written = str(value).strip() if number is None else _number(number)
        values = {
            "name": lab.name or str(column),
            "value": written,
            "unit": lab.unit,
            "reference": lab.reference,
            # Of the number as the sentence shows it: float32 has 5.3 a little above 5.3.
            "status": "" if number is None else lab.status(float(written)),
        }
        return _fill(self.template or DEFAULT_TEMPLATE, values)

    def _tests(self) -> dict[str, LabTest]:
        return {
            name: lab if isinstance(lab, LabTest) else LabTest(*lab)
            for name, lab in self.labs.items()
        }

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not isinstance(self.labs, Mapping) or not self.labs:
            raise ParameterError(
                f"labs must map column names to LabTest(unit, low, high), got {self.labs!r}."
            )
        for name, lab in self.labs.items():
            short = isinstance(lab, tuple) and len(lab) <= len(fields(LabTest))
            if not (short or isinstance(lab, LabTest)):
                raise ParameterError(
                    f"labs[{name!r}] must be a LabTest or a tuple (unit, low, high), got {lab!r}."
                )
        unknown = set(_field_names(self.template or DEFAULT_TEMPLATE)) - _FIELDS
        if unknown:
            raise ParameterError(
                f"template has the fields {sorted(unknown)}; there are {sorted(_FIELDS)}."
            )


def _is_absent(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value.strip())


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
