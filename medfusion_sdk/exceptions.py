"""Typed errors: each derives from :class:`MedFusionError` and from the built-in one would catch.

Examples
--------
>>> from medfusion_sdk.exceptions import SignalError
>>> issubclass(SignalError, ValueError)
True
"""

from __future__ import annotations

from typing import Any, Self

__all__ = [
    "BackboneMismatchError",
    "CacheError",
    "CellError",
    "CellFileNotFoundError",
    "CorruptModelError",
    "DataError",
    "DataFileNotFoundError",
    "DeviceError",
    "EncoderWarning",
    "GateCollapseWarning",
    "GroupsWarning",
    "ImageError",
    "MedFusionError",
    "MedFusionWarning",
    "MissingDependencyError",
    "ModalityError",
    "ModalityWarning",
    "ModelExistsError",
    "ParameterError",
    "RandomWeightsWarning",
    "SignalError",
    "TrainingError",
    "TrainingWarning",
    "UnsavableModelError",
    "VideoError",
    "VolumeError",
    "WeightsError",
    "WeightsNotFoundError",
]


class MedFusionError(Exception):
    """Base of every error that this package raises on purpose."""


class CellError(MedFusionError, ValueError):
    """A cell of the cohort table can't be used.

    Parameters
    ----------
    message : str
        What was expected, what was found, what to do.
    row, column : object, optional
        Where the cell stands: index label and column name. Readers don't know it; encoders
        add it with :meth:`located`.
    """

    def __init__(self, message: str, *, row: Any = None, column: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.row = row
        self.column = column

    def located(self, row: Any, column: Any) -> Self:
        """Return the same error with its place in the cohort table.

        Parameters
        ----------
        row : object
            Index label of the row.
        column : object
            Name of the column.

        Returns
        -------
        CellError
            An error of the same class.
        """
        return type(self)(self.message, row=row, column=column)

    def __str__(self) -> str:
        if self.row is None and self.column is None:
            return self.message
        # A label from a numeric index would be shown as np.int64(5).
        row = self.row.item() if hasattr(self.row, "item") else self.row
        return f"row {row!r}, column {self.column!r}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword arguments are lost by the default; worker processes send errors back pickled.
        return (_rebuild_cell_error, (type(self), self.message, self.row, self.column))


def _rebuild_cell_error(kind: type[CellError], message: str, row: Any, column: Any) -> CellError:
    return kind(message, row=row, column=column)


class SignalError(CellError):
    """A signal is unreadable, of the wrong shape, rate or leads, or holds unusable samples."""


class ImageError(CellError):
    """An image is unreadable, of the wrong shape, or holds values that aren't grey or colour."""


class VideoError(CellError):
    """A video is unreadable, of the wrong shape, or holds values that aren't grey or colour."""


class VolumeError(CellError):
    """A volume is unreadable, of the wrong shape or orientation, or holds unusable voxels."""


class CellFileNotFoundError(CellError, FileNotFoundError):
    """A cell names a file that isn't there."""

    # OSError formats itself from errno; the message with its place in the table is ours.
    __str__ = CellError.__str__


class ModalityError(MedFusionError, ValueError):
    """Modalities and columns don't fit, or a row has none of them."""


class DataError(MedFusionError, ValueError):
    """Targets, scores, groups or sizes don't fit together, or aren't what the task needs."""


class DataFileNotFoundError(MedFusionError, FileNotFoundError):
    """A data set's file or folder isn't there."""


class WeightsError(MedFusionError, ValueError):
    """Weights were found but aren't what was asked for (digest, keys, shapes)."""


class WeightsNotFoundError(MedFusionError, FileNotFoundError):
    """A backbone's files aren't on this machine and downloading wasn't allowed."""


class MissingDependencyError(MedFusionError, ImportError):
    """An optional package is needed; the message names the extra that brings it."""


class CacheError(MedFusionError, OSError):
    """The embedding cache can't be opened, read or written."""


class ParameterError(MedFusionError, ValueError):
    """A parameter has a value that it can't have."""


class DeviceError(ParameterError):
    """A device was named that torch doesn't know or this machine doesn't have."""


class TrainingError(MedFusionError, RuntimeError):
    """Training can't go on: a loss that isn't finite, a batch that can't be formed."""


class CorruptModelError(MedFusionError, ValueError):
    """A saved model was changed, is incomplete or isn't one of ours."""


class UnsavableModelError(MedFusionError, TypeError):
    """An estimator holds something that a saved model can't, such as a lambda."""


class ModelExistsError(MedFusionError, FileExistsError):
    """A model would be saved where something else stands."""


class BackboneMismatchError(MedFusionError, ValueError):
    """A saved model is loaded on another backbone than it was trained on."""


class MedFusionWarning(UserWarning):
    """Base of this package's warnings."""


class EncoderWarning(MedFusionWarning):
    """Cells became missing or were read in part, or an encoder changed its setting."""


class RandomWeightsWarning(MedFusionWarning):
    """A network with random weights stands where a pretrained one belongs."""


class ModalityWarning(MedFusionWarning):
    """A modality is missing or unseen where it may matter."""


class TrainingWarning(MedFusionWarning):
    """Training changed a setting to get through."""


class GateCollapseWarning(TrainingWarning):
    """A fusion's gates have come to trust one modality alone."""


class GroupsWarning(MedFusionWarning):
    """Rows look as if they belonged together, as a patient's do, and no groups were given."""
