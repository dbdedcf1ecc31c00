"""AdrenalMNIST3D: volumes of adrenal glands from a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from medfusion_sdk.datasets._bundled import bundled
from medfusion_sdk.exceptions import DataError, DataFileNotFoundError, ParameterError

__all__ = ["load_adrenal"]

_PARTS = ("train", "val", "test")
_FILES = ("adrenalmnist3d_64.npz", "adrenal.npz", "adrenalmnist3d.npz")


def load_adrenal(
    data_home: str | os.PathLike[str],
    *,
    subset: str | Sequence[str] = "all",
    return_X_y: bool = False,
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Load shapes of adrenal glands, normal or not, from a folder.

    Parameters
    ----------
    data_home : path
        Folder that holds ``adrenalmnist3d_64.npz`` (or ``adrenal.npz``, or the set of 28 voxels a
        side, ``adrenalmnist3d.npz``).
    subset : "all", "train", "val", "test" or several of these, default="all"
        Parts of the published split; "all" is what the file holds.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch or tuple
        With ``return_X_y=True`` the pair ``(data, target)``, otherwise a
        :class:`~sklearn.utils.Bunch`:

        data : DataFrame of n rows
            One column, ``volume``: arrays (64, 64, 64) of uint8, 0 outside the gland and 255
            inside, read-only.
        target : Series of int
            1 for hyperplasia or a mass.
        split : Series of str
            Part of each row.
        DESCR : str
            Source, licence and what is in the file.

    Raises
    ------
    DataFileNotFoundError
        If the folder holds none of the files, or a part isn't in it.
    DataError
        If the file isn't what was published.
    ParameterError
        For another part.

    Notes
    -----
    Yang et al. (2023), doi:10.1038/s41597-022-01721-8, CC BY 4.0.

    Examples
    --------
    A file in the published form:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from medfusion_sdk.datasets import load_adrenal
    >>> folder = tempfile.TemporaryDirectory()
    >>> images = np.zeros((3, 64, 64, 64), dtype=np.uint8)
    >>> labels = np.array([[0], [1], [0]], dtype=np.uint8)
    >>> path = Path(folder.name) / "adrenalmnist3d_64.npz"
    >>> np.savez_compressed(path, val_images=images, val_labels=labels)
    >>> X, y = load_adrenal(folder.name, return_X_y=True)
    >>> folder.cleanup()
    >>> X["volume"].iloc[0].shape, y.tolist()
    ((64, 64, 64), [0, 1, 0])
    """
    wanted = [subset] if isinstance(subset, str) else list(subset)
    unknown = [part for part in wanted if part not in (*_PARTS, "all")]
    if unknown or not wanted:
        raise ParameterError(f"subset={subset!r}; parts are {_PARTS} and 'all'.")
    path = _find(Path(data_home))
    parts = _read(path, wanted)
    volumes = [volume for images, _ in parts.values() for volume in images]
    data = pd.DataFrame({"volume": pd.Series(volumes, dtype=object)})
    target = pd.Series(np.concatenate([labels for _, labels in parts.values()]), name="target")
    if return_X_y:
        return data, target
    split = np.repeat(list(parts), [len(labels) for _, labels in parts.values()])
    return Bunch(
        data=data,
        target=target,
        split=pd.Series(split, name="split"),
        DESCR=bundled("adrenal", "README.md").read_text(encoding="utf-8"),
    )


def _find(home: Path) -> Path:
    for name in _FILES:
        if (home / name).is_file():
            return home / name
    raise DataFileNotFoundError(f"{home} holds none of {', '.join(_FILES)}.")


def _read(path: Path, wanted: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels of each part."""
    parts = {}
    try:
        # Opened here, for numpy leaves a broken file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            there = [part for part in _PARTS if f"{part}_images" in archive.files]
            for part in there if "all" in wanted else wanted:
                if part not in there:
                    raise DataFileNotFoundError(f"{path} has no part {part!r}; it has {there}.")
                images, labels = archive[f"{part}_images"], archive[f"{part}_labels"].ravel()
                images.flags.writeable = False
                parts[part] = images, labels.astype(np.int64)
    except DataFileNotFoundError:
        raise
    except Exception as cause:  # zip, zlib and numpy raise their own
        raise DataError(f"{path} can't be read: {type(cause).__name__}: {cause}.") from cause
    for part, (images, labels) in parts.items():
        fits = images.ndim == 4 and len(images) == len(labels) and images.dtype == np.uint8
        if not fits or not np.isin(labels, (0, 1)).all():
            raise DataError(
                f"{path}: part {part!r} has images {images.shape} of {images.dtype} and "
                f"{len(labels)} labels; expected (n, 64, 64, 64) of uint8 and as many 0 and 1."
            )
    if not parts:
        raise DataError(f"{path} has none of the parts {_PARTS}.")
    return parts
