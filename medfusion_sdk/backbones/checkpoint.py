"""Single tensors of a checkpoint: their shapes without reading them, some without the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfusion_sdk.exceptions import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_tensors", "tensor_shapes"]


def tensor_shapes(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """List the tensors that some files hold.

    Parameters
    ----------
    files : sequence of Path
        Safetensors, or PyTorch's zip format.

    Returns
    -------
    dict of str to tuple of int
        Name -> shape.

    Raises
    ------
    WeightsError
        If a file isn't a checkpoint.
    """
    with _opened(files) as tensors:
        return {name: shape for name, (shape, _) in tensors.items()}


def read_tensors(files: Sequence[Path], prefix: str) -> dict[str, Tensor]:
    """Read the tensors whose names begin with a prefix.

    Parameters
    ----------
    files : sequence of Path
        As for :func:`tensor_shapes`.
    prefix : str
        Left out of the names; empty for all of them.

    Returns
    -------
    dict of str to Tensor
        In float32, in main memory.

    Raises
    ------
    WeightsError
        If a file isn't a checkpoint.
    """
    with _opened(files) as tensors:
        return {
            name.removeprefix(prefix): read().float()
            for name, (_, read) in tensors.items()
            if name.startswith(prefix)
        }


@contextmanager
def _opened(files: Sequence[Path]) -> Iterator[dict[str, tuple[tuple[int, ...], Any]]]:
    """Name -> shape, and a function that reads the tensor, of every tensor in the files."""
    tensors: dict[str, tuple[tuple[int, ...], Any]] = {}
    with ExitStack() as stack:
        for path in files:
            if path.suffix == ".json":  # the index of a checkpoint in several files
                continue
            try:
                tensors |= _of_safetensors(path, stack) if _is_safe(path) else _of_zip(path)
            except Exception as error:  # whatever a broken file makes the readers raise
                raise WeightsError(f"{path} can't be read as a checkpoint: {error}") from error
        yield tensors


def _is_safe(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _of_safetensors(path: Path, stack: ExitStack) -> dict[str, tuple[tuple[int, ...], Any]]:
    from safetensors import safe_open

    file = stack.enter_context(safe_open(path, framework="pt"))
    return {
        name: (tuple(file.get_slice(name).get_shape()), lambda name=name: file.get_tensor(name))
        for name in file.keys()  # noqa: SIM118 - no mapping
    }


def _of_zip(path: Path) -> dict[str, tuple[tuple[int, ...], Any]]:
    import torch

    # Builds tensors and nothing else; mapped, so that only what is asked for is read.
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return {
        name: (tuple(tensor.shape), tensor.clone)
        for name, tensor in content.items()
        if torch.is_tensor(tensor)
    }
