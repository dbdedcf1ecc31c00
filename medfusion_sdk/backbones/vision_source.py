"""What a vision model's folder says about itself, read without torch and without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from medfusion_sdk.backbones.pixel_settings import (
    SETTINGS_FILE,
    PixelSettings,
    read_pixel_settings,
)
from medfusion_sdk.backbones.weights import (
    find_folder,
    fingerprint_files,
    read_json,
    told_of,
    weight_files,
)
from medfusion_sdk.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["STANDIN_IMAGE", "VisionSource", "find_vision_source"]

STANDIN_IMAGE = "standin-image"
# Towers of image and text whose published image vector is what their pooler makes.
_POOLED = ("clip", "clip_vision_model", "siglip", "siglip_vision_model")


@dataclass(frozen=True)
class VisionSource:
    """A vision model that was found, and how its publishers use it.

    Attributes
    ----------
    name : str
        What the user called it.
    folder : Path or None
        Where its files lie; None for the stand-in, which has none.
    fingerprint : str
        Digest of weights, configuration and pixel settings.
    width : int
        Entries of a patch's state, and so of an embedding.
    patch : int or None
        Side of a patch in pixels, where it states one.
    pixels : PixelSettings
        How an image becomes its input.
    pooling : {"auto", "mean", "pooler"}
        How its publishers make one vector; "auto" by the class token where there is one.
    """

    name: str
    folder: Path | None
    fingerprint: str
    width: int
    patch: int | None
    pixels: PixelSettings
    pooling: str


def find_vision_source(
    backbone: str | PathLike[str], *, revision: str | None = None, allow_download: bool = False
) -> VisionSource:
    """Find a vision model and read everything about it but its weights.

    Parameters
    ----------
    backbone : str or path
        "standin-image", a folder in the Hugging Face layout, or a hub id.
    revision : str, optional
        Branch, tag or commit of a hub model.
    allow_download : bool, default=False
        Whether a hub model may be fetched.

    Returns
    -------
    VisionSource
        With a fingerprint, so that a cache can be asked before anything is loaded.

    Raises
    ------
    WeightsNotFoundError
        If the model or one of its files isn't there.
    WeightsError
        If a file isn't what it should be.

    Examples
    --------
    >>> find_vision_source("standin-image").width
    64
    """
    if backbone == STANDIN_IMAGE:
        from medfusion_sdk.backbones.standin_image import describe_standin_image

        return VisionSource(**describe_standin_image())
    folder = find_folder(backbone, revision=revision, allow_download=allow_download)
    if not (folder / "config.json").is_file():
        raise WeightsNotFoundError(
            f"backbone={str(backbone)!r}: no config.json in {folder.absolute()}. It has to be a "
            f"model folder in the Hugging Face layout: config.json, {SETTINGS_FILE} and weights."
        )
    with told_of(folder):
        config = read_json(folder / "config.json")
        tower = config.get("vision_config") or config
        files = [folder / "config.json", folder / SETTINGS_FILE, *weight_files(folder)]
        pixels = read_pixel_settings(folder)
        return VisionSource(
            name=str(backbone),
            folder=folder,
            fingerprint=fingerprint_files(files),
            width=_width(tower, folder),
            patch=tower["patch_size"] if isinstance(tower.get("patch_size"), int) else None,
            pixels=pixels,
            pooling="pooler" if config.get("model_type") in _POOLED else "auto",
        )


def _width(tower: dict[str, Any], folder: Path) -> int:
    if isinstance(tower.get("hidden_size"), int):
        return tower["hidden_size"]
    if tower.get("hidden_sizes"):  # one per stage of a convolutional network
        return int(tower["hidden_sizes"][-1])
    raise WeightsError(f"{folder / 'config.json'} states neither hidden_size nor hidden_sizes.")
