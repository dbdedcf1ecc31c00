"""Laboratory values -> a sentence -> an embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from typing import Any

import pandas as pd

from medfusion_sdk.encoders._lab_sentences import (
    LabTest,
    check_template,
    is_absent,
    write_sentence,
)
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.exceptions import CellError, ParameterError
from medfusion_sdk.readers.cells import Column

__all__ = ["LabTest", "LabTextEncoder"]


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
        Most tokens that are read at a time.
    long : {"cut", "chunks"}, default="cut"
        Whether tests at the end of a longer sentence are lost, with a warning, or read in a
        further window.
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
        long: str = "cut",
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
            long=long,
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
        rows = [None if all(map(is_absent, row)) else row for row in zip(*values, strict=True)]
        return Column(rows, X.index, "labs")

    def _text(self, cell: Any) -> str:
        return super()._text(write_sentence(self._tests(), cell, self.template))

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
        check_template(self.template)
