"""AMFN's columns of series and of images, one array for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import CellError, ModalityError
from medfusion_sdk.readers.cells import read_column
from medfusion_sdk.readers.series import read_series

__all__ = ["read_cells", "read_images"]


def read_cells(X: pd.DataFrame, column: Any, n_channels: int | None) -> list[np.ndarray | None]:
    """Read a column of series.

    Parameters
    ----------
    X : DataFrame
        The table.
    column : object
        Name of the column.
    n_channels : int or None
        Channels that each must have; None for those of the first.

    Returns
    -------
    list of ndarray or None
        Of shape (n_channels, steps); None where nothing was observed.
    """
    return read_series(X[column], n_channels).cells


def read_images(
    X: pd.DataFrame, column: Any, shape: tuple[int, ...] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Read a column of images.

    Parameters
    ----------
    X : DataFrame
        The table.
    column : object
        Name of the column.
    shape : tuple of int or None
        Channels, height and width that each must have; None for those of the first.

    Returns
    -------
    images : ndarray of shape (n, channels, height, width), float32
        Zero where missing.
    present : ndarray of shape (n,), bool
        Where there is one.

    Raises
    ------
    CellError
        For a cell that is no image, or one of another shape.
    """
    cells = read_column(X[column])
    read: dict[int, np.ndarray] = {}
    for i in cells.present:
        image = np.asarray(cells.cells[i])
        image = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
        fits = image.ndim == 3 and image.dtype.kind in "fiub" and len(image) in (1, 3)
        if not fits or (shape is not None and image.shape != shape):
            expected = "(H, W), (H, W, 1) or (H, W, 3)" if shape is None else f"{shape[1:]}"
            raise CellError(
                f"expected an image of shape {expected}, found {np.shape(cells.cells[i])} of "
                f"{image.dtype}. Bring the images of a column to one size."
            ).located(cells.rows[i], column)
        if not np.isfinite(image).all():
            raise CellError("this image holds NaN or infinity.").located(cells.rows[i], column)
        shape = image.shape
        read[i] = image.astype(np.float32)
    present = np.zeros(len(cells), dtype=bool)
    present[list(read)] = True
    if shape is None:
        raise ModalityError(f"no row has an image in {column!r}: nothing can be learnt about it.")
    images = np.zeros((len(cells), *shape), dtype=np.float32)
    for i, image in read.items():
        images[i] = image
    return images, present
