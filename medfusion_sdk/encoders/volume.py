"""Volumes -> embeddings: MRI, CT and other scans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medfusion_sdk._parameters import FLAG, NONE, Allowed, ListOf, Number, OneOf, Whole
from medfusion_sdk.encoders._read_batches import encode_cells, read_first
from medfusion_sdk.encoders.base import BaseEncoder, _Run
from medfusion_sdk.readers.volume import (
    ORIENTATION,
    is_orientation,
    read_volume,
    volume_digest,
)

if TYPE_CHECKING:
    import torch

    from medfusion_sdk.backbones.volume_source import VolumeSource

__all__ = ["VOLUME_READING", "VolumeEncoder"]

# Tokens computed at once, all volumes together.
_CPU_TOKENS, _GPU_TOKENS = 2048, 1 << 15


class _Orientation(Allowed):
    """Three letters for the directions of depth, height and width."""

    def allows(self, value: Any) -> bool:
        return is_orientation(value)

    @property
    def choices(self) -> list[str]:
        return ["three letters such as 'SPL', one of S and I, one of A and P, one of L and R"]


#: How volumes are read, for every class that reads them.
VOLUME_READING: Mapping[str, Allowed] = {
    "spacing": Number(above=0) | ListOf(Number(above=0), length=3) | NONE,
    "orientation": _Orientation() | NONE,
    "max_nan": Number(least=0, most=1),
}


class VolumeEncoder(BaseEncoder):
    """Encode each volume as one vector of a frozen three-dimensional vision transformer.

    A cell is the path of a NIfTI (``.nii``, ``.nii.gz``) or ``.npy`` file, or an array ``(depth,
    height, width)``. It is turned to one orientation, brought to values from 0 to 1 and resampled
    to the network's input size. Volumes are read batch by batch, so a column of paths never lies
    in memory as a whole.

    Parameters
    ----------
    backbone : str or path, default="standin-vit3d"
        Which network. ``"standin-vit3d"`` is a tiny random one for tests and first steps, which
        knows nothing of medicine, as a process's first use warns. For M3D-CLIP name its folder,
        its image tower's file (``pretrained_ViT.bin``), its hub id, or ``"m3d-clip"``, which looks
        for it in the local hub cache. No code from a model folder is run and nothing is unpickled.
    revision : str, optional
        Branch, tag or commit of a hub model.
    allow_download : bool, default=False
        Whether a hub model that isn't on this machine may be fetched.
    target_size : three ints, optional
        Depth, height and width that the network reads; by default its own. With another size its
        positions are interpolated.
    pool : {"cls", "mean"}, default="cls"
        The class token's state, or the mean of the patches'.
    spacing : float or three floats, optional
        Millimetres between voxels to resample to first, with `target_size` then reached by cutting
        or padding about the centre. By default volumes are resampled to `target_size` whatever
        their spacing.
    orientation : str or None, default="SPL"
        Where depth, height and width point to: by default axial slices from below, front on top,
        the patient's right on the left. None leaves axes as files store them.
    max_nan : float, default=0.0
        Share of a volume's voxels that may be NaN; they become its minimum.
    missing : {"nan", "zero", "mean"}, default="nan"
        What a missing cell becomes.
    on_error : {"raise", "missing"}, default="raise"
        Whether a volume that can't be used raises or counts as missing and is listed in `errors_`.
    device : str, default="auto"
        ``"auto"`` is the CUDA device where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the network. ``"auto"`` is bfloat16 where the hardware has matrix units for
        it and a first volume agrees with float32 (cosine at least 0.999), else float32.
    batch_size : int or "auto", default="auto"
        Volumes at once. Results don't depend on it.
    cache : EmbeddingCache, path or None, default=None
        Where embeddings are kept.

    Attributes
    ----------
    mean_embedding_ : ndarray of shape (n_features,)
        Only with ``missing="mean"``.
    errors_ : DataFrame
        Cells of the last call that could not be used.

    See Also
    --------
    BrainAdapterClassifier : Trains what comes before the network.

    References
    ----------
    .. [1] Bai, F. et al. "M3D: Advancing 3D Medical Image Analysis with Multi-Modal Large Language
       Models". arXiv 2404.00578.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk import VolumeEncoder
    >>> volumes = [np.random.default_rng(0).random((20, 40, 40)), None]
    >>> VolumeEncoder().fit_transform(volumes).shape
    (2, 48)
    """

    def __init__(
        self,
        backbone: str | PathLike[str] = "standin-vit3d",
        *,
        revision: str | None = None,
        allow_download: bool = False,
        target_size: Sequence[int] | None = None,
        pool: str = "cls",
        spacing: float | Sequence[float] | None = None,
        orientation: str | None = ORIENTATION,
        max_nan: float = 0.0,
        missing: str = "nan",
        on_error: str = "raise",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | str = "auto",
        cache: Any = None,
    ) -> None:
        self.backbone = backbone
        self.revision = revision
        self.allow_download = allow_download
        self.target_size = target_size
        self.pool = pool
        self.spacing = spacing
        self.orientation = orientation
        self.max_nan = max_nan
        self.missing = missing
        self.on_error = on_error
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size
        self.cache = cache

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **BaseEncoder._allowed,
        **VOLUME_READING,
        "allow_download": FLAG,
        "target_size": ListOf(Whole(least=1), length=3) | NONE,
        "pool": OneOf("cls", "mean"),
        "dtype": OneOf("auto", "float32", "bfloat16", "float16"),
        "batch_size": Whole(least=1) | OneOf("auto"),
    }

    # -- what BaseEncoder asks for ------------------------------------------------------------

    def _configuration(self) -> dict[str, Any]:
        names = ("pool", "orientation", "max_nan", "dtype")
        return {
            # As declared: "auto" promises no more than a cosine, whatever machine it meets.
            **{name: getattr(self, name) for name in names},
            "size": self._source().input_size(self.target_size),
            "spacing": None if self.spacing is None else np.broadcast_to(self.spacing, 3).tolist(),
        }

    def _weights_fingerprint(self) -> str:
        return self._source().fingerprint

    def _n_features(self) -> int:
        return self._source().shape.width

    def _item_digest(self, cell: Any) -> bytes:
        return volume_digest(cell)

    def _encode(self, cells: Sequence[Any], run: _Run) -> Iterator[tuple[list[int], np.ndarray]]:
        from medfusion_sdk.backbones.volume import borrow_volume_embedder
        from medfusion_sdk.encoders._pixel_embedder import PixelEmbedder

        source = self._source()
        size = source.input_size(self.target_size)
        reading = {name: getattr(self, name) for name in VOLUME_READING}
        embedder = PixelEmbedder(
            self,
            source,
            borrow_volume_embedder,
            vector=self.pool,
            device=self.device,
            dtype=self.dtype,
        )

        def read(cell: Any) -> np.ndarray:
            return read_volume(cell, size=size, **reading)

        if embedder.needs_check and (few := read_first(cells, read, 1)):
            embedder.check(few)
        most = self._volumes_at_once(int(np.prod(source.shape.grid(size))), embedder.device)
        yield from encode_cells(
            cells, run, read=read, embed=embedder, size=most, device=embedder.device
        )

    def _warn_of_stand_in(self, stacklevel: int) -> None:
        from medfusion_sdk.backbones.standins import warn_of_stand_in

        instead = "M3D-CLIP's folder, or 'm3d-clip' for the published model in the local hub cache"
        warn_of_stand_in(self, "backbone", instead, stacklevel=stacklevel)

    # -- parts of it --------------------------------------------------------------------------

    def _source(self) -> VolumeSource:
        from medfusion_sdk.backbones.volume_source import find_volume_source

        return find_volume_source(
            self.backbone, revision=self.revision, allow_download=self.allow_download
        )

    def _volumes_at_once(self, n_tokens: int, device: torch.device) -> int:
        if self.batch_size != "auto":
            return int(self.batch_size)
        return max(1, (_CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS) // n_tokens)
