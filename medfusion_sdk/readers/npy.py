"""NumPy files: the header is checked before a sample is read, and nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medfusion_sdk.exceptions import CellError
from medfusion_sdk.readers.files import require_file

__all__ = ["open_npy"]


def open_npy(path: Path, error: type[CellError] = CellError) -> np.ndarray:
    """Map a ``.npy`` file of numbers into memory, read-only.

    Nothing is allocated on the header's word: a file shorter than its header says is refused.

    Parameters
    ----------
    path : Path
        The file.
    error : type, default=CellError
        Class of the error for an unusable file.

    Returns
    -------
    ndarray
        A read-only memory map; copy what is to outlive the file.

    Raises
    ------
    CellFileNotFoundError
        If there is no such file.
    CellError
        (of class `error`) If it isn't a complete ``.npy`` file of real numbers.
    """
    require_file(path, error, ".npy file")
    try:
        # Zero-sized maps are the one case that numpy can't map. It takes a header for Python, and
        # raises whatever a tokenizer, a parser and an allocation do for a damaged one.
        with np.errstate(over="ignore"):
            array = np.lib.format.open_memmap(path, mode="r")
    except Exception as cause:
        raise error(
            f"{path} is not a complete .npy file of plain numbers: {cause} "
            "Write it with numpy.save(path, array, allow_pickle=False)."
        ) from cause
    if array.dtype.kind not in "fiu":
        raise error(f"{path} holds {array.dtype}, expected real numbers.")
    return array
