"""Checkpoint files as a method's authors publish them: found, read as tensors, filled strictly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medfusion_sdk.exceptions import WeightsError, WeightsNotFoundError
from medfusion_sdk.readers.file_memo import FileMemo

__all__ = ["fill", "find_checkpoint", "read_checkpoint", "tensor_shapes"]

_SHOWN = 3  # tensors of each kind in a message


def find_checkpoint(weights: str | PathLike[str] | None, *, backbone: str, origin: str) -> Path:
    """Return the path of a checkpoint that the user has.

    Parameters
    ----------
    weights : str, path or None
        What the user gave.
    backbone : str
        Name of the backbone, for the message.
    origin : str
        A sentence on where its authors publish the file.

    Returns
    -------
    Path
        An existing file.

    Raises
    ------
    WeightsNotFoundError
        If none was given or there's no such file.
    """
    if weights is None:
        raise WeightsNotFoundError(
            f"backbone={backbone!r} needs weights=..., the path of its checkpoint. {origin}"
        )
    path = Path(weights).expanduser()
    if not path.is_file():
        raise WeightsNotFoundError(
            f"backbone={backbone!r}: there is no file {path.absolute()}. {origin}"
        )
    return path


def read_checkpoint(path: Path, entry: str | None = None, *, prefix: str = "") -> dict[str, Tensor]:
    """Read a state dict, building tensors and nothing else.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file, or one that ``torch.save`` wrote. It is mapped into memory where
        its format allows, so that nothing is read before it's used.
    entry : str, optional
        Where the state dict stands in a larger dict; a file that is one itself is taken as well.
    prefix : str, default=""
        Take the tensors alone whose names begin with it, and leave it out of the names.

    Returns
    -------
    dict of str to Tensor
        By name, on the CPU.

    Raises
    ------
    WeightsError
        If it can't be read without running code, or holds something else.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path, prefix)
    content = _unzip(path)
    if entry is not None and isinstance(content, dict) and entry in content:
        content = content[entry]
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path}: expected a state dict, found a {type(content).__name__}.")
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        place = "" if entry is None else f" under the key {entry!r}, or"
        raise WeightsError(
            f"{path}: expected a state dict{place} as the whole file; found entries that are no "
            f"tensors: {_some(others)}."
        )
    return {n.removeprefix(prefix): value for n, value in content.items() if n.startswith(prefix)}


def _read_safetensors(path: Path, prefix: str) -> dict[str, Tensor]:
    with _opened_safetensors(path) as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - no dict
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


@contextmanager
def _opened_safetensors(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} can't be read as safetensors: {error}") from error


def _unzip(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # a damaged file makes it raise anything
        raise WeightsError(
            f"{path} can't be read as tensors alone, and nothing else is ever unpickled: "
            f"{type(error).__name__}: {error}"
        ) from error


def _is_zip(path: Path) -> bool:
    """Tell torch's format of today, which can be mapped into memory, from the older one."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def tensor_shapes(path: Path, entry: str | None = None) -> Mapping[str, tuple[int, ...]]:
    """Read the shapes of a checkpoint's tensors, again only where the file may have changed.

    Parameters
    ----------
    path : Path
        As for :func:`read_checkpoint`.
    entry : str, optional
        As for :func:`read_checkpoint`.

    Returns
    -------
    mapping of str to tuple of int
        By name.

    Raises
    ------
    WeightsError
        As :func:`read_checkpoint` does.
    """
    return _shapes.get(path, lambda: _read_shapes(path, entry), part=entry)


_shapes: FileMemo[Mapping[str, tuple[int, ...]]] = FileMemo(64)


def _read_shapes(path: Path, entry: str | None) -> Mapping[str, tuple[int, ...]]:
    if path.suffix == ".safetensors":  # its header tells them
        with _opened_safetensors(path) as file:
            names = list(file.keys())
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    tensors = read_checkpoint(path, entry)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def fill(
    network: nn.Module, tensors: Mapping[str, Tensor], path: Path, *, unused: Collection[str] = ()
) -> None:
    """Give a network its weights; none may be missing, left over or of another shape.

    Parameters
    ----------
    network : Module
        As built, on any device, ``meta`` included.
    tensors : mapping of str to Tensor
        From :func:`read_checkpoint`; copied, as float32.
    path : Path
        Where they come from, for the message.
    unused : collection of str
        Names that may be there and aren't wanted, such as a classifier's.

    Raises
    ------
    WeightsError
        If names or shapes differ; the message names some of each kind.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tensor for name, tensor in tensors.items() if name not in unused}
    wrong = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": [
            f"{name} {tuple(found[name].shape)} instead of {shape}"
            for name, shape in wanted.items()
            if name in found and tuple(found[name].shape) != shape
        ],
    }
    told = [f"{len(names)} {kind} ({_some(names)})" for kind, names in wrong.items() if names]
    if told:
        raise WeightsError(f"{path} doesn't fit: {', '.join(told)}. Is it the published file?")
    copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in found.items()}
    network.load_state_dict(copies, assign=True)


def _some(names: list[Any]) -> str:
    return ", ".join(map(str, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
