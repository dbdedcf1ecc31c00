"""Videos -> embeddings: echocardiograms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medfusion_sdk._parameters import NONE, Allowed, InstanceOf, OneOf, Whole
from medfusion_sdk.encoders._read_batches import encode_cells, read_first
from medfusion_sdk.encoders.base import BaseEncoder, _Run
from medfusion_sdk.exceptions import CellError
from medfusion_sdk.readers.cells import Column
from medfusion_sdk.readers.pixels import SCALES
from medfusion_sdk.readers.video import as_videos, read_frames, video_digest

if TYPE_CHECKING:
    from medfusion_sdk.backbones.video import VideoSource

__all__ = ["VideoEncoder"]

# Clips in a batch: one fills a core for seconds.
_CPU_CLIPS, _GPU_CLIPS = 1, 16


class VideoEncoder(BaseEncoder):
    """Encode each study as the mean of its videos' vectors, by a frozen video network.

    A cell is one video or a list of several: paths of ``.npy`` files or arrays, ``(frames, H, W)``
    or ``(frames, H, W, 3)``. Of a file only the frames that the network looks at are read, and
    only when their batch comes.

    Parameters
    ----------
    backbone : {"echo-prime", "standin-video"}, default="echo-prime"
        ``echo-prime`` is EchoPrime's encoder of echocardiograms [1]_, of which you have the
        weights; it needs torchvision (the extra ``echo``). ``standin-video`` is a tiny random
        network for tests and first steps.
    weights : str or path, optional
        Checkpoint of ``echo-prime`` as its authors publish it.
    feature : {"trunk", "head"}, default="trunk"
        Which vector: what the trunk makes of a video (768 entries for ``echo-prime``), or what
        the published head makes of that (512), which was trained to agree with reports.
    scale : {"type", "minmax"}, default="type"
        What black and white are: the bounds of the pixels' type (0 and 255, or 65535; False and
        True; 0 and 1 for floats), or the lowest and highest value of each video.
    missing : {"nan", "zero", "mean"}, default="nan"
        What a missing cell becomes; an empty list is one.
    on_error : {"raise", "missing"}, default="raise"
        What happens to a study with a video that can't be used.
    device : str, default="auto"
        ``"auto"`` is the CUDA device where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the network. ``"auto"`` is bfloat16 where the hardware has matrix units for
        it and a first video agrees with float32 (cosine at least 0.999), else float32.
    batch_size : int or "auto", default="auto"
        Videos at once; doesn't change the results.
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
    ImageEncoder : The same for images.

    Notes
    -----
    EchoPrime looks at sixteen frames, every second one of the first thirty-two; a shorter video
    is followed by grey. Pixels outside the ultrasound sector (text, the electrocardiogram's
    trace) should be black, as they were for its authors.

    References
    ----------
    .. [1] Vukadinovic et al., "EchoPrime: A Multi-Video View-Informed Vision-Language Model for
       Comprehensive Echocardiography Interpretation", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk import VideoEncoder
    >>> video = np.zeros((40, 60, 80), dtype=np.uint8)
    >>> studies = [video, [video, video[:9]], None]
    >>> VideoEncoder("standin-video").fit_transform(studies).shape
    (3, 64)
    """

    def __init__(
        self,
        backbone: str = "echo-prime",
        *,
        weights: str | PathLike[str] | None = None,
        feature: str = "trunk",
        scale: str = "type",
        missing: str = "nan",
        on_error: str = "raise",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | str = "auto",
        cache: Any = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.feature = feature
        self.scale = scale
        self.missing = missing
        self.on_error = on_error
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size
        self.cache = cache

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **BaseEncoder._allowed,
        "backbone": OneOf("echo-prime", "standin-video"),
        "weights": InstanceOf(str, PathLike) | NONE,
        "feature": OneOf("trunk", "head"),
        "scale": OneOf(*SCALES),
        "dtype": OneOf("auto", "float32", "bfloat16", "float16"),
        "batch_size": Whole(least=1) | OneOf("auto"),
    }

    def _column(self, X: Any, *, reset: bool) -> Column:
        column = super()._column(X, reset=reset)
        none = [isinstance(cell, list | tuple) and not cell for cell in column.cells]
        cells = [None if empty else cell for empty, cell in zip(none, column.cells, strict=True)]
        return replace(column, cells=cells)

    def _configuration(self) -> dict[str, Any]:
        names = ("backbone", "feature", "scale", "dtype")
        return {name: getattr(self, name) for name in names}

    def _weights_fingerprint(self) -> str:
        return self._source().fingerprint

    def _n_features(self) -> int:
        return self._source().widths[self.feature]

    def _item_digest(self, cell: Any) -> bytes:
        return video_digest(cell)

    def _encode(self, cells: Sequence[Any], run: _Run) -> Iterator[tuple[list[int], np.ndarray]]:
        from medfusion_sdk.backbones.video import borrow_video_backbone
        from medfusion_sdk.encoders._pixel_embedder import PixelEmbedder

        source = self._source()
        embedder = PixelEmbedder(
            self,
            source,
            borrow_video_backbone,
            vector=self.feature,
            device=self.device,
            dtype=self.dtype,
        )

        def read(video: Any) -> np.ndarray:
            return source.prepare(read_frames(video, source.frames, scale=self.scale))

        studies = _Studies(cells, run)
        if embedder.needs_check and (few := read_first(studies.videos, read, 1)):
            embedder.check(few)
        size = _CPU_CLIPS if embedder.device.type == "cpu" else _GPU_CLIPS
        if self.batch_size != "auto":
            size = int(self.batch_size)
        batches = encode_cells(
            studies.videos,
            studies,
            read=read,
            embed=embedder,
            size=size,
            device=embedder.device,
        )
        for positions, vectors in batches:
            yield from studies.take(positions, vectors)

    def _source(self) -> VideoSource:
        from medfusion_sdk.backbones.video import find_video_source

        return find_video_source(self.backbone, self.weights)


class _Studies:
    """The videos of all cells side by side, and each cell's mean once its videos are there."""

    def __init__(self, cells: Sequence[Any], run: _Run) -> None:
        self._run = run
        self.videos: list[Any] = []
        self._cell_of: list[int] = []
        self._n_videos: list[int] = []
        for position, cell in enumerate(cells):
            videos = as_videos(cell)
            self.videos += videos
            self._cell_of += [position] * len(videos)
            self._n_videos.append(len(videos))
        self._found: list[dict[int, np.ndarray]] = [{} for _ in cells]
        self._bad: set[int] = set()

    def bad(self, position: int, error: CellError) -> None:
        """Give up the cell that a video belongs to."""
        cell = self._cell_of[position]
        if cell not in self._bad:
            self._bad.add(cell)
            self._run.bad(cell, error)

    def take(
        self, positions: list[int], vectors: np.ndarray
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Put videos' vectors in their places; yield the cells that became complete."""
        for position, vector in zip(positions, vectors, strict=True):
            cell = self._cell_of[position]
            parts = self._found[cell]
            parts[position] = vector
            if len(parts) == self._n_videos[cell]:
                # In the order of the videos, whichever came first: rounding depends on it.
                yield [cell], np.mean([parts[place] for place in sorted(parts)], axis=0)[None]
                parts.clear()
