"""How a vision model's publishers prepare its pixels, and the same done to one image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.backbones.weights import read_json
from medfusion_sdk.exceptions import (
    MissingDependencyError,
    WeightsError,
    WeightsNotFoundError,
)

__all__ = ["SETTINGS_FILE", "PixelSettings", "read_pixel_settings"]

SETTINGS_FILE = "preprocessor_config.json"
_BILINEAR = 2  # as pillow counts filters
# Steps that some models add and that aren't built here.
_UNKNOWN_STEPS = ("do_pad", "do_flip_channel_order", "do_reduce_labels", "do_image_splitting")
# ConvNeXt cuts a margin off small images, and squeezes from this size on.
_LARGE = 384


@dataclass(frozen=True)
class PixelSettings:
    """Steps from eight bits to a network's input, in this order.

    Attributes
    ----------
    shortest : int or None
        Length to which the shorter side is resized, the other in proportion.
    resize : tuple of int or None
        Height and width to resize to, in place of `shortest`; neither for no resizing.
    resample : int
        Pillow's number of the filter.
    crop : tuple of int or None
        Height and width to cut out of the middle.
    factor : float
        What values are multiplied with.
    mean, std : tuple of float
        Of each channel, subtracted and divided by.
    """

    shortest: int | None
    resize: tuple[int, int] | None
    resample: int
    crop: tuple[int, int] | None
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of what comes out; None where it depends on the image."""
        return self.crop or self.resize

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Make a network's input of one image.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8
            From :func:`read_image`.

        Returns
        -------
        ndarray of shape (3, height, width), float32
            Channels first.

        Raises
        ------
        MissingDependencyError
            If pillow isn't installed.
        """
        pixels = self._cut(self._resized(image)) * np.float32(self.factor)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        pixels = (pixels - mean) / std
        return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)

    def _resized(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        size = self.resize
        if self.shortest is not None:
            short, long = min(height, width), max(height, width)
            other = int(self.shortest * long / short)
            size = (self.shortest, other) if height <= width else (other, self.shortest)
        if size is None or size == (height, width):
            return image
        try:
            from PIL import Image
        except ImportError as error:
            raise MissingDependencyError(
                "resizing images needs pillow: pip install 'medfusion-sdk[imaging]'."
            ) from error
        return np.asarray(Image.fromarray(image).resize(size[::-1], self.resample))

    def _cut(self, image: np.ndarray) -> np.ndarray:
        if self.crop is None:
            return image
        top = (image.shape[0] - self.crop[0]) // 2
        left = (image.shape[1] - self.crop[1]) // 2
        return image[top : top + self.crop[0], left : left + self.crop[1]]


def read_pixel_settings(folder: Path) -> PixelSettings:
    """Read a model folder's preprocessor_config.json, of today or of earlier years.

    Parameters
    ----------
    folder : Path
        In the Hugging Face layout.

    Returns
    -------
    PixelSettings
        The steps it asks for.

    Raises
    ------
    WeightsNotFoundError
        If the file isn't there: without it nobody knows what the network expects.
    WeightsError
        If it asks for a step that isn't built here.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise WeightsNotFoundError(
            f"no {SETTINGS_FILE} in {folder.absolute()}; it says how images are resized and "
            "scaled. Copy it from where the model was published."
        )
    given = read_json(path)
    unknown = [step for step in _UNKNOWN_STEPS if given.get(step)]
    if unknown:
        raise WeightsError(f"{path} asks for {', '.join(unknown)}, which isn't built here.")
    shortest, resize, crop = _geometry(given, path)
    normalises = given.get("do_normalize", "image_mean" in given)
    rescales = given.get("do_rescale", True)
    return PixelSettings(
        shortest=shortest,
        resize=resize,
        resample=given.get("resample", _BILINEAR),
        crop=crop,
        factor=given.get("rescale_factor", 1 / 255) if rescales else 1.0,
        mean=tuple(given["image_mean"]) if normalises else (0.0, 0.0, 0.0),
        std=tuple(given["image_std"]) if normalises else (1.0, 1.0, 1.0),
    )


def _geometry(
    given: dict[str, Any], path: Path
) -> tuple[int | None, tuple[int, int] | None, tuple[int, int] | None]:
    """Shorter side, or height and width, to resize to; height and width to cut out."""
    cuts = bool(given.get("do_center_crop", False))
    crop = _pair(given.get("crop_size", given.get("size")), path) if cuts else None
    if not given.get("do_resize", True):
        return None, None, crop
    size = given.get("size")
    if isinstance(size, int):  # the shorter side where something is cut off the longer one
        size = {"shortest_edge": size} if cuts else {"height": size, "width": size}
    if not isinstance(size, dict) or "shortest_edge" not in size or "longest_edge" in size:
        return None, _pair(size, path), crop
    shortest = int(size["shortest_edge"])
    if "crop_pct" in given:
        square = (shortest, shortest)
        if shortest >= _LARGE:
            return None, square, None
        return int(shortest / (given["crop_pct"] or 224 / 256)), None, square
    if crop is not None and shortest < max(crop):
        raise WeightsError(f"{path} cuts {crop} out of images of {shortest} pixels.")
    return shortest, None, crop


def _pair(size: Any, path: Path) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    raise WeightsError(
        f"{path}: expected a size with height and width or shortest_edge, found {size!r}."
    )
