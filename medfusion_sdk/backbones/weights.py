"""Find a backbone's files, say what is missing, and fingerprint them without loading them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from medfusion_sdk.exceptions import MedFusionError, WeightsError, WeightsNotFoundError
from medfusion_sdk.readers.file_memo import file_sha256

__all__ = [
    "check_sha256",
    "find_folder",
    "fingerprint_files",
    "installed_folder",
    "read_json",
    "require_unchanged",
    "told_of",
    "weight_files",
]

# As on the hub: "name" or "owner/name".
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", flags=re.ASCII)
_SMALL_FILES = ("*.json", "*.txt", "*.model")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# A zip of tensors, read with torch's weights_only=True, which builds tensors and nothing else.
_OLDER_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def installed_folder(package: str, subfolder: str) -> Path | None:
    """Return a folder inside an installed package, without importing the package.

    Parameters
    ----------
    package : str
        Name of the top-level package.
    subfolder : str
        Folder inside it.

    Returns
    -------
    Path or None
        None if the package or the folder isn't there.

    Examples
    --------
    >>> installed_folder("no_such_package", "model") is None
    True
    """
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / subfolder
        if folder.is_dir():
            return folder
    return None


def find_folder(
    backbone: str | PathLike[str], *, revision: str | None, allow_download: bool
) -> Path:
    """Return the local folder of a backbone named by a path or by a hub id.

    Parameters
    ----------
    backbone : str or path
        A folder, or "owner/name" of a model on the Hugging Face hub.
    revision : str or None
        Branch, tag or commit of a hub model.
    allow_download : bool
        Whether files that aren't in the local hub cache may be fetched.

    Returns
    -------
    Path
        A folder that exists; what it holds isn't checked here.

    Raises
    ------
    WeightsNotFoundError
        If there's no such folder and no such model in the hub cache, or none could be fetched.
    """
    folder = Path(backbone).expanduser()
    if folder.is_dir():
        return folder
    name = fspath(backbone)
    if not isinstance(backbone, str) or not _HUB_ID.fullmatch(name):
        raise WeightsNotFoundError(
            f"backbone={name!r}: there is no folder {folder.absolute()}, and this isn't the "
            "name of a model on a hub (owner/name) either."
        )
    return _hub_folder(name, revision, allow_download)


def _hub_folder(name: str, revision: str | None, allow_download: bool) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # What is here is never asked for again, so a model once fetched works offline.
    with suppress(LocalEntryNotFoundError, HFValidationError):
        folder = _snapshot(name, revision, "*.safetensors", local=True)
        if not allow_download or _has_weights(folder):
            return folder
    what = (
        f"backbone={name!r}, revision={revision or 'main'!r}: there is no folder "
        f"{Path(name).absolute()}, and no such model in the hub cache {constants.HF_HUB_CACHE}"
    )
    if not allow_download:
        raise WeightsNotFoundError(
            f"{what}. Pass allow_download=True to fetch it once, or give the path of a folder "
            "that holds it."
        )
    try:
        folder = _snapshot(name, revision, "*.safetensors", local=False)
        if not _has_weights(folder):
            folder = _snapshot(name, revision, "pytorch_model*.bin", local=False)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsNotFoundError(f"{what}; fetching it failed: {error}") from error
    return folder


def _snapshot(name: str, revision: str | None, weights: str, *, local: bool) -> Path:
    """Return a hub model's folder with what we read of it: no other framework's weights."""
    from huggingface_hub import constants, snapshot_download

    folder = snapshot_download(
        name,
        revision=revision,
        local_files_only=local,
        cache_dir=constants.HF_HUB_CACHE,
        allow_patterns=[*_SMALL_FILES, weights],
        ignore_patterns=["onnx/*", "openvino/*", "*/*.safetensors"],
    )
    return Path(folder)


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (*_WEIGHTS, *_OLDER_WEIGHTS))


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a model's weights, an index first where there are several.

    Parameters
    ----------
    folder : Path
        A model folder in the Hugging Face layout.

    Returns
    -------
    list of Path
        Safetensors where there are any, else PyTorch's zip format.

    Raises
    ------
    WeightsNotFoundError
        If none are there, or a shard that the index lists is missing.
    """
    for name in (*_WEIGHTS, *_OLDER_WEIGHTS):
        path = folder / name
        if not path.is_file():
            continue
        if not name.endswith(".index.json"):
            return [path]
        listed = read_json(path).get("weight_map", {})
        if not (isinstance(listed, dict) and all(isinstance(s, str) for s in listed.values())):
            raise WeightsError(f"{path}: expected a file name for each tensor in its weight_map.")
        shards = sorted(set(listed.values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing or not shards:
            raise WeightsNotFoundError(
                f"{path} lists weights that aren't beside it: {missing or 'none at all'}. "
                "Copy the whole model folder."
            )
        return [path, *(folder / shard for shard in shards)]
    raise WeightsNotFoundError(
        f"no weights in {folder.absolute()}: looked for {', '.join((*_WEIGHTS, *_OLDER_WEIGHTS))}. "
        "Copy the whole model folder."
    )


def read_json(path: Path, kind: type = dict) -> Any:
    """Read one of a model folder's JSON files.

    Parameters
    ----------
    path : Path
        An existing file.
    kind : type, default=dict
        What it has to hold: dict or list.

    Returns
    -------
    dict or list
        What it holds.

    Raises
    ------
    WeightsError
        If it isn't JSON or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise WeightsError(f"{path} isn't readable as JSON: {error}") from error
    if not isinstance(content, kind):
        raise WeightsError(
            f"{path}: expected a JSON {kind.__name__}, found a {type(content).__name__}."
        )
    return content


@contextmanager
def told_of(folder: Path) -> Iterator[None]:
    """Name the folder where its descriptions hold values of other kinds than they should.

    Parameters
    ----------
    folder : Path
        A model folder.

    Yields
    ------
    None
        While its files are read.

    Raises
    ------
    WeightsError
        In place of what values of a wrong kind raise.
    """
    try:
        yield
    except MedFusionError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError) as error:
        raise WeightsError(
            f"{folder}: its configuration isn't one of a model that can be read "
            f"({type(error).__name__}: {error}). Copy the whole folder from where it was published."
        ) from error


def check_sha256(path: Path, expected: str) -> None:
    """Compare a file with its published digest.

    Parameters
    ----------
    path : Path
        An existing file.
    expected : str
        Hexadecimal SHA-256.

    Raises
    ------
    WeightsError
        If the file is another one.
    """
    found = file_sha256(path)
    if found != expected:
        raise WeightsError(
            f"{path}: expected sha256 {expected}, found {found}. The file isn't the published "
            "one; install its package again."
        )


def fingerprint_files(files: Iterable[Path]) -> str:
    """Digest of names and contents of files, without loading what they hold.

    Parameters
    ----------
    files : iterable of Path
        Weights, configuration and vocabulary, of one folder.

    Returns
    -------
    str
        Hexadecimal; where the folder lies doesn't enter.
    """
    state = hashlib.blake2b(digest_size=32)
    for path in sorted(files, key=lambda path: path.name):
        state.update(f"{path.name}:{file_sha256(path)};".encode())
    return state.hexdigest()


def require_unchanged(place: Path, fingerprint: str, now: str) -> None:
    """Refuse a network whose files changed between their fingerprint and the end of loading.

    Parameters
    ----------
    place : Path
        File or folder, for the message.
    fingerprint : str
        What caches and the pool know the network by.
    now : str
        The files' fingerprint after loading.

    Raises
    ------
    WeightsError
        If they differ.
    """
    if now != fingerprint:
        raise WeightsError(f"{place} changed while it was loaded. Try again once it is complete.")
