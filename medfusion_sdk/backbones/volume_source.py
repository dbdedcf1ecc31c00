"""What a volume network's files say about it, read without its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

from medfusion_sdk.backbones import m3d_clip
from medfusion_sdk.backbones.weights import (
    find_folder,
    fingerprint_files,
    read_json,
    told_of,
    weight_files,
)
from medfusion_sdk.exceptions import ParameterError, WeightsError, WeightsNotFoundError
from medfusion_sdk.nn.vit3d_shape import ViT3DShape

__all__ = ["VolumeSource", "find_volume_source", "fingerprint_volume_files"]

_STANDIN = "standin-vit3d"
# The image tower alone, as it is published beside the whole model.
_TOWER_FILE = "pretrained_ViT.bin"
_POSITIONS = "patch_embedding.position_embeddings"
# What M3D-CLIP's configuration states, for files that have none beside them.
_PUBLISHED: dict[str, Any] = {
    "img_size": (32, 256, 256),
    "patch_size": (4, 16, 16),
    "num_heads": 12,
}


@dataclass(frozen=True)
class VolumeSource:
    """A volume network that was found.

    Attributes
    ----------
    name : str
        What the user called it.
    files : tuple of Path
        Its weights; none for the stand-in.
    prefix : str
        What the names of its tensors begin with.
    fingerprint : str
        Digest of weights and configuration.
    shape : ViT3DShape
        Its sizes.
    """

    name: str
    files: tuple[Path, ...]
    prefix: str
    fingerprint: str
    shape: ViT3DShape

    @property
    def width(self) -> int:
        """Entries of a volume's vector."""
        return self.shape.width

    def input_size(self, target_size: Any = None) -> tuple[int, int, int]:
        """Return the size of volume that it is to read.

        Parameters
        ----------
        target_size : sequence of int or None
            Another size than its own; positions are interpolated then.

        Returns
        -------
        tuple of int
            Depth, height and width.

        Raises
        ------
        ParameterError
            If that isn't a whole number of patches.
        """
        if target_size is None:
            return self.shape.image_size
        depth, height, width = (int(length) for length in target_size)
        patch = self.shape.patch_size
        if depth % patch[0] or height % patch[1] or width % patch[2]:
            raise ParameterError(
                f"target_size={tuple(target_size)} must be a multiple of the patch size {patch} of "
                f"{self.name!r}; its own size is {self.shape.image_size}."
            )
        return depth, height, width


def find_volume_source(
    backbone: str | PathLike[str], *, revision: str | None = None, allow_download: bool = False
) -> VolumeSource:
    """Find a volume network and read everything about it but its weights.

    Parameters
    ----------
    backbone : str or path
        "standin-vit3d"; "m3d-clip", which is the published model in the local hub cache; or a
        folder, a file or a hub id with a checkpoint in M3D-CLIP's layout.
    revision : str, optional
        Branch, tag or commit of a hub model.
    allow_download : bool, default=False
        Whether a hub model may be fetched.

    Returns
    -------
    VolumeSource
        With a fingerprint, so that a cache can be asked before anything is loaded.

    Raises
    ------
    WeightsNotFoundError
        If the model isn't there.
    WeightsError
        If its tensors aren't those of a three-dimensional vision transformer in that layout.

    Examples
    --------
    >>> find_volume_source("standin-vit3d").input_size()
    (16, 32, 32)
    """
    if backbone == _STANDIN:
        from medfusion_sdk.backbones.standin_vit3d import SHAPE, standin_fingerprint

        return VolumeSource(_STANDIN, (), "", standin_fingerprint(), SHAPE)
    from medfusion_sdk.backbones.checkpoints import tensor_shapes

    files, config = _find_files(backbone, revision, allow_download)
    with told_of(files[0]):
        shapes = {name: shape for file in files for name, shape in tensor_shapes(file).items()}
        prefix = _find_prefix(files[0], shapes)
        settings = _PUBLISHED | (read_json(config) if config.is_file() else {})
        return VolumeSource(
            str(backbone),
            tuple(files),
            prefix,
            fingerprint_volume_files(files),
            _read_shape(files[0], shapes, prefix, settings),
        )


def fingerprint_volume_files(files: Sequence[Path]) -> str:
    """Digest of a volume network's weights and of the configuration beside them.

    Parameters
    ----------
    files : sequence of Path
        Its weights.

    Returns
    -------
    str
        Hexadecimal.
    """
    config = files[0].parent / "config.json"
    return fingerprint_files([*files, *([config] if config.is_file() else [])])


def _find_files(
    backbone: str | PathLike[str], revision: str | None, allow_download: bool
) -> tuple[list[Path], Path]:
    """Weight files, and where a configuration would lie."""
    path = Path(backbone).expanduser()
    if path.is_file():
        return [path], path.parent / "config.json"
    if backbone == m3d_clip.NAME and not path.is_dir():
        backbone = m3d_clip.HUB_ID
    folder = find_folder(backbone, revision=revision, allow_download=allow_download)
    try:
        files = [path for path in weight_files(folder) if path.suffix != ".json"]
    except WeightsNotFoundError:
        if not (folder / _TOWER_FILE).is_file():
            raise
        files = [folder / _TOWER_FILE]
    return files, folder / "config.json"


def _find_prefix(file: Path, shapes: dict[str, tuple[int, ...]]) -> str:
    found = [name.removesuffix(_POSITIONS) for name in shapes if name.endswith(_POSITIONS)]
    if len(found) != 1:
        raise WeightsError(
            f"{file} holds {len(found)} tensors *{_POSITIONS}, expected one: a vision transformer "
            "in M3D-CLIP's layout, such as vision_encoder.*."
        )
    return found[0]


def _read_shape(
    file: Path, shapes: dict[str, tuple[int, ...]], prefix: str, settings: dict[str, Any]
) -> ViT3DShape:
    """Take from the tensors what they tell, from the configuration the rest."""
    n_layers = len({n.split(".")[1] for n in _names(shapes, prefix) if n.startswith("blocks.")})
    try:
        _, n_patches, width = shapes[prefix + _POSITIONS]
        n_voxels = shapes[f"{prefix}patch_embedding.patch_embeddings.1.weight"][1]
        mlp_width = shapes[f"{prefix}blocks.0.mlp.linear1.weight"][0]
        image_size, patch_size = (tuple(map(int, settings[k])) for k in ("img_size", "patch_size"))
        shape = ViT3DShape(
            image_size,  # type: ignore[arg-type]
            patch_size,  # type: ignore[arg-type]
            width,
            n_layers,
            int(settings["num_heads"]),
            mlp_width,
        )
        fits = len(image_size) == len(patch_size) == 3 and width % shape.n_heads == 0
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{file}: its tensors aren't those of a vision transformer in M3D-CLIP's layout "
            f"({type(error).__name__}: {error})."
        ) from error
    if not fits or prod(patch_size) != n_voxels or prod(shape.grid()) != n_patches:
        raise WeightsError(
            f"{file} has {n_patches} positions, patches of {n_voxels} voxels and width {width}, "
            f"which img_size={image_size}, patch_size={patch_size} and num_heads={shape.n_heads} "
            "don't fit. Put its config.json beside it."
        )
    return shape


def _names(shapes: dict[str, tuple[int, ...]], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in shapes if name.startswith(prefix)]
