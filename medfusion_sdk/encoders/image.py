"""Images -> embeddings: radiographs, photographs, slides, and volumes by their slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar

import numpy as np

from medfusion_sdk._parameters import FLAG, NONE, Allowed, OneOf, Whole
from medfusion_sdk.backbones.slice_source import SliceSource
from medfusion_sdk.backbones.vision_source import VisionSource, find_vision_source
from medfusion_sdk.encoders._read_batches import encode_cells, read_first
from medfusion_sdk.encoders._slice_stacks import SLICE_POOLINGS, SliceStacks
from medfusion_sdk.encoders.base import BaseEncoder, _Run
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.readers.image import image_digest, read_image
from medfusion_sdk.readers.pixels import SCALES
from medfusion_sdk.readers.slices import PLANES, read_slices
from medfusion_sdk.readers.volume import volume_digest

__all__ = ["ImageEncoder"]

_CHECKED_IMAGES = 4
# Patches in a batch: what a core's caches hold, and what fills a GPU.
_CPU_TOKENS, _GPU_TOKENS = 1024, 32768
_USUAL_PATCH = 16  # of a network that states none


class ImageEncoder(BaseEncoder):
    """Encode each image as one vector of a frozen vision model.

    A cell is the path of a PNG, JPEG or ``.npy`` file, or an array ``(H, W)`` or ``(H, W, 3)``.
    Images are read when their batch comes, so a column of paths takes a few batches of memory
    however long it is.

    With `slices`, a cell is a volume as :class:`VolumeEncoder` reads it, and its vector is made of
    the vectors of some of its slices: a scan of few thick slices, or any other, through a network
    for images ("2.5-D").

    Parameters
    ----------
    backbone : str or path
        Which model: a folder in the Hugging Face layout (DINOv2, ViT, Swin, ConvNeXt, the image
        half of CLIP and the like), the id of a model on the Hugging Face hub, or
        ``"standin-image"``, a tiny random network for tests and first steps. No code from a model
        folder is run and nothing is unpickled.
    revision : str, optional
        Branch, tag or commit of a hub model.
    allow_download : bool, default=False
        Whether a hub model that isn't on this machine may be fetched.
    pooling : {"auto", "cls", "mean", "pooler"}, default="auto"
        How one vector is made: from the class token's state, the mean over the patches' states,
        or by the model's own pooler. "auto" is the class token where there is one, else the mean;
        for CLIP and SigLIP their pooler, for the stand-in the mean.
    scale : {"type", "minmax"}, default="type"
        What black and white are: the bounds of the pixels' type (0 and 255, or 65535; False and
        True; 0 and 1 for floats), or the lowest and highest value of each image. Of volumes it is
        always the lowest and highest value of the whole.
    slices : int, "all" or None, default=None
        How many slices of each volume are encoded, evenly spaced over its extent; "all" takes
        each volume's own number. None: cells are images.
    plane : {"axial", "coronal", "sagittal"}, default="axial"
        Which way volumes are cut; NIfTI files are turned by what they say of their axes, arrays are
        taken to be axial slices from below.
    slice_pooling : {"mean", "max"}, default="mean"
        How the slices' vectors become one: entry by entry.
    missing : {"nan", "zero", "mean"}, default="nan"
        What a missing cell becomes.
    on_error : {"raise", "missing"}, default="raise"
        What happens to a cell that can't be used.
    device : str, default="auto"
        ``"auto"`` is the CUDA device where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the network. ``"auto"`` is bfloat16 where the hardware has matrix units for
        it and a few images agree with float32 (cosine at least 0.999), else float32.
    batch_size : int or "auto", default="auto"
        Images at once; doesn't change the results.
    cache : EmbeddingCache, path or None, default=None
        Where embeddings are kept.

    Attributes
    ----------
    mean_embedding_ : ndarray of shape (n_features,)
        Only with ``missing="mean"``.
    errors_ : DataFrame
        Cells of the last call that couldn't be used.

    See Also
    --------
    VideoEncoder : The same for videos.
    VolumeEncoder : Volumes through a three-dimensional network.

    Notes
    -----
    Resizing, cutting and scaling follow the model's ``preprocessor_config.json``. A slice is taken
    for an image of square pixels, whatever the spacing of its voxels.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk import ImageEncoder
    >>> radiographs = [np.eye(40), None, np.zeros((60, 40))]
    >>> ImageEncoder("standin-image").fit_transform(radiographs).shape
    (3, 64)
    >>> scans = [np.random.default_rng(0).random((20, 40, 40)), None]
    >>> ImageEncoder("standin-image", slices=8).fit_transform(scans).shape
    (2, 64)
    """

    def __init__(
        self,
        backbone: str | PathLike[str],
        *,
        revision: str | None = None,
        allow_download: bool = False,
        pooling: str = "auto",
        scale: str = "type",
        slices: int | str | None = None,
        plane: str = "axial",
        slice_pooling: str = "mean",
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
        self.pooling = pooling
        self.scale = scale
        self.slices = slices
        self.plane = plane
        self.slice_pooling = slice_pooling
        self.missing = missing
        self.on_error = on_error
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size
        self.cache = cache

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **BaseEncoder._allowed,
        "allow_download": FLAG,
        "pooling": OneOf("auto", "cls", "mean", "pooler"),
        "scale": OneOf(*SCALES),
        "slices": Whole(least=1) | OneOf("all") | NONE,
        "plane": OneOf(*PLANES),
        "slice_pooling": OneOf(*SLICE_POOLINGS),
        "dtype": OneOf("auto", "float32", "bfloat16", "float16"),
        "batch_size": Whole(least=1) | OneOf("auto"),
    }

    def _configuration(self) -> dict[str, Any]:
        # The dtype as declared: "auto" promises no more than a cosine, whatever machine it meets.
        common = {"pooling": self._pooling(), "dtype": self.dtype}
        if self.slices is None:
            return {**common, "scale": self.scale}
        names = ("slices", "plane", "slice_pooling")
        return {**common, **{name: getattr(self, name) for name in names}}

    def _weights_fingerprint(self) -> str:
        return self._source().fingerprint

    def _n_features(self) -> int:
        return self._source().width

    def _item_digest(self, cell: Any) -> bytes:
        return image_digest(cell) if self.slices is None else volume_digest(cell)

    def _encode(self, cells: Sequence[Any], run: _Run) -> Iterator[tuple[list[int], np.ndarray]]:
        from medfusion_sdk.backbones.vision import borrow_vision_backbone
        from medfusion_sdk.encoders._pixel_embedder import PixelEmbedder

        source = self._source()
        embedder = PixelEmbedder(
            self,
            source,
            borrow_vision_backbone,
            vector=self._pooling(),
            device=self.device,
            dtype=self.dtype,
        )

        size = self._images_at_once(source, embedder.device.type)
        embed: Callable[[list[np.ndarray]], np.ndarray] = embedder
        if self.slices is not None:
            embed = SliceStacks(embedder, size=size, pooling=self.slice_pooling)
            size = 1 if self.slices == "all" else max(1, size // int(self.slices))

        def read(cell: Any) -> np.ndarray:
            return self._pixels(cell, source)

        if embedder.needs_check and (few := read_first(cells, read, _CHECKED_IMAGES)):
            embedder.check(
                few if self.slices is None else [stack[len(stack) // 2] for stack in few]
            )
        yield from encode_cells(
            cells, run, read=read, embed=embed, size=size, device=embedder.device
        )

    def _pixels(self, cell: Any, source: VisionSource) -> np.ndarray:
        """What the network reads of one cell: an image, or a stack of a volume's slices."""
        if self.slices is None:
            return source.pixels.prepare(read_image(cell, scale=self.scale))
        images = read_slices(cell, slices=self.slices, plane=self.plane)
        return np.stack([source.pixels.prepare(image) for image in images])

    def _images_at_once(self, source: VisionSource, device_type: str) -> int:
        if source.pixels.shape is None:
            return 1  # each image keeps its proportions
        if self.batch_size != "auto":
            return int(self.batch_size)
        height, width = source.pixels.shape
        patch = source.patch or _USUAL_PATCH
        budget = _CPU_TOKENS if device_type == "cpu" else _GPU_TOKENS
        return max(1, budget // ((height // patch) * (width // patch) + 1))

    def _slice_source(self) -> SliceSource:
        """How a volume network is made of this encoder's model."""
        self._check_parameters()
        if self.plane != "axial":
            turned = {"coronal": "PIL", "sagittal": "LIP"}[self.plane]
            raise ParameterError(
                f"plane={self.plane!r}: here the estimator turns volumes before they are adapted. "
                f"Leave plane= alone and set the estimator's orientation={turned!r}."
            )
        slices = None if self.slices in (None, "all") else int(self.slices)
        return SliceSource(self._source(), slices, self._pooling(), self.slice_pooling)

    def _source(self) -> VisionSource:
        return find_vision_source(
            self.backbone, revision=self.revision, allow_download=self.allow_download
        )

    def _pooling(self) -> str:
        return self._source().pooling if self.pooling == "auto" else self.pooling
