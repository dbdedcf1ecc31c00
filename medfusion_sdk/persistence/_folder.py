"""The folder of a saved model: two files, written as one, checked byte by byte."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import stat
import uuid
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

import medfusion_sdk
from medfusion_sdk.exceptions import (
    CorruptModelError,
    MedFusionError,
    MedFusionWarning,
    ModelExistsError,
    ParameterError,
    UnsavableModelError,
)
from medfusion_sdk.persistence._codec import Reader, Writer
from medfusion_sdk.persistence._trust import Trust, name_of

__all__ = ["load_estimator", "save_estimator"]

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
FORMAT = "medfusion_sdk model"
FORMAT_VERSION = 1

_PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "torch")
# The manifest's first lines: a digest of every byte after them.
_HEAD = '{\n "digest": "%s",\n'
_HEAD_PATTERN = re.compile(re.escape(_HEAD) % "([0-9a-f]{64})")
_SEE_AGAIN = "Copy the folder again from its source, or save the model again."
# What reading runs into where the digests are right and the content is forged.
_NOT_A_MODEL = (
    *(LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError),
    *(ImportError, np.ma.MAError),
)


def save_estimator(
    estimator: Any,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    trusted: Iterable[str] = (),
) -> None:
    """Save an estimator, fitted or not, as a folder that loads without running code.

    Estimators of this package and of scikit-learn can be saved, also nested in pipelines,
    ColumnTransformers and searches. The folder holds ``weights.safetensors`` with all arrays and
    ``manifest.json`` with everything else. Frozen backbones are stored by name and fingerprint,
    an embedding cache by its path; neither is copied.

    Parameters
    ----------
    estimator : estimator
        What to save.
    folder : str or os.PathLike
        Folder to make. It appears whole or not at all.
    overwrite : bool, default=False
        Replace a saved model that stands there. A folder with anything else in it is left alone.
    trusted : iterable of str, default=()
        Full names of further classes, functions or modules that the model may hold; loading
        needs the same list.

    Raises
    ------
    UnsavableModelError
        If the estimator holds something that has no safe form, such as a lambda.
    ModelExistsError
        If `folder` exists and may not be replaced.

    See Also
    --------
    load_estimator : The way back.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.linear_model import LogisticRegression
    >>> from medfusion_sdk import load_estimator, save_estimator
    >>> model = LogisticRegression().fit([[0.0], [1.0]], ["ill", "well"])
    >>> with tempfile.TemporaryDirectory() as home:
    ...     save_estimator(model, f"{home}/model")
    ...     load_estimator(f"{home}/model").predict([[2.0]])
    array(['well'], dtype='<U4')
    """
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        raise ParameterError(f"estimator must be an estimator object, got {estimator!r}.")
    folder = Path(folder)
    _check_replaceable(folder, overwrite)
    files = _as_files(estimator, Trust(trusted))
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        draft.mkdir()
        for name, content in files.items():
            _write_through(draft / name, content)
        _put_in_place(draft, folder, overwrite)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load_estimator(folder: str | os.PathLike[str], *, trusted: Iterable[str] = ()) -> Any:
    """Load a saved estimator.

    Every byte is checked against the digests, so damage doesn't go unnoticed. The digests don't
    say who made the folder; but whoever did, loading runs no code from it: nothing is unpickled,
    and only installed classes that are known, or named in `trusted`, are restored.

    Parameters
    ----------
    folder : str or os.PathLike
        What :func:`save_estimator` made.
    trusted : iterable of str, default=()
        Full names of further classes, functions or modules that the model may hold, for example
        ``["xgboost.sklearn", "my_project.cleaning.strip_header"]``. Their modules are imported.

    Returns
    -------
    estimator
        Predicts the same bits on the same machine.

    Raises
    ------
    CorruptModelError
        If a file is missing, was changed, or names what isn't trusted; it says which file.
    BackboneMismatchError
        If an encoder's weights on this machine aren't those that the model was trained on. Where
        there are none, the encoder checks at first use.

    Warns
    -----
    InconsistentVersionWarning
        If an object was saved with another version of scikit-learn, as when unpickling.
    MedFusionWarning
        If the model was saved with another version of this package.

    See Also
    --------
    save_estimator : Makes the folder.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.preprocessing import StandardScaler
    >>> from medfusion_sdk import load_estimator, save_estimator
    >>> with tempfile.TemporaryDirectory() as home:
    ...     save_estimator(StandardScaler().fit([[0.0], [2.0]]), f"{home}/scaler")
    ...     load_estimator(f"{home}/scaler").mean_
    array([1.])
    """
    folder = Path(folder)
    try:
        manifest = _read_manifest(folder / MANIFEST)
        reader = Reader(Trust(trusted), _read_weights(folder / WEIGHTS, manifest))
        estimator = reader.read(manifest["estimator"])
        reader.check_backbones()
    except MedFusionError:
        raise
    except _NOT_A_MODEL as error:
        why = error.args[0] if type(error) is LookupError else f"isn't a model's ({error!r})"
        raise CorruptModelError(f"{folder / MANIFEST}: {why}. {_SEE_AGAIN}") from error
    return estimator


# -- writing --------------------------------------------------------------------------------------


def _as_files(estimator: Any, trust: Trust) -> dict[str, bytes]:
    writer = Writer(trust)
    try:
        written = writer.write(estimator)
    except RecursionError as error:
        raise UnsavableModelError(
            "the estimator can't be saved: one of its lists or dicts contains itself."
        ) from error
    weights = safetensors.numpy.save(writer.arrays)
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "class": name_of(type(estimator)),
        "versions": _versions(),
        "weights": {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()},
        "estimator": written,
    }
    body = json.dumps(manifest, indent=1, allow_nan=False).removeprefix("{\n").encode()
    head = _HEAD % hashlib.sha256(body).hexdigest()
    return {WEIGHTS: weights, MANIFEST: head.encode() + body}


def _versions() -> dict[str, str]:
    versions = {"medfusion_sdk": medfusion_sdk.__version__, "python": platform.python_version()}
    return versions | {name: importlib.metadata.version(name) for name in _PACKAGES}


def _check_replaceable(folder: Path, overwrite: bool) -> None:
    if not os.path.lexists(folder):
        return
    if not overwrite:
        raise ModelExistsError(f"{folder} exists; choose another folder, or pass overwrite=True.")
    strangers = not folder.is_dir() or {path.name for path in folder.iterdir()} - {
        MANIFEST,
        WEIGHTS,
    }
    if folder.is_symlink() or strangers:
        raise ModelExistsError(
            f"{folder} isn't a saved model, or holds other files too; overwrite=True replaces "
            "nothing but saved models. Choose another folder."
        )


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(draft: Path, folder: Path, overwrite: bool) -> None:
    """Rename the draft to its name; a model that stands there goes once the new one is in place."""
    if not os.path.lexists(folder):
        draft.rename(folder)
        return
    _check_replaceable(folder, overwrite)  # it may have appeared meanwhile
    old = draft.with_name(f"{draft.name}.old")
    folder.rename(old)
    try:
        draft.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


# -- reading --------------------------------------------------------------------------------------


def _read_bytes(path: Path, expected: int | None = None) -> bytes:
    """Read a regular file, of a length that is known for the weights."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            raise CorruptModelError(f"{path} isn't a regular file. {_SEE_AGAIN}")
        if expected is not None and found.st_size != expected:
            raise CorruptModelError(
                f"{path} has {found.st_size} bytes instead of {expected}. {_SEE_AGAIN}"
            )
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptModelError(
            f"{path} is missing; a saved model has {MANIFEST} and {WEIGHTS}. {_SEE_AGAIN}"
        ) from None
    except OSError as error:
        raise CorruptModelError(f"{path} can't be read ({error.strerror}). {_SEE_AGAIN}") from error


def _read_manifest(path: Path) -> dict[str, Any]:
    content = _read_bytes(path).decode(errors="replace")
    head = _HEAD_PATTERN.match(content)
    body = content[head.end() :] if head else ""
    if not head or hashlib.sha256(body.encode()).hexdigest() != head[1]:
        raise CorruptModelError(f"{path} was changed or is incomplete. {_SEE_AGAIN}")
    manifest = json.loads("{" + body)
    found = (manifest.get("format"), manifest.get("format_version"))
    if found != (FORMAT, FORMAT_VERSION):
        raise CorruptModelError(
            f"{path} has the format {found}; this version of medfusion_sdk reads "
            f"{(FORMAT, FORMAT_VERSION)}. Load it with the version that saved it: "
            f"{manifest.get('versions', {})}."
        )
    saved_by = manifest["versions"]["medfusion_sdk"]
    if saved_by != medfusion_sdk.__version__:
        warnings.warn(
            f"{path} was saved with medfusion_sdk {saved_by} and is loaded with "
            f"{medfusion_sdk.__version__}: predictions may differ. Compare some, and save again.",
            MedFusionWarning,
            stacklevel=3,
        )
    return manifest


def _read_weights(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    expected = manifest["weights"]
    content = _read_bytes(path, expected["bytes"])
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise CorruptModelError(
            f"{path} was changed: its digest isn't the manifest's. {_SEE_AGAIN}"
        )
    try:
        return safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise CorruptModelError(f"{path} isn't a safetensors file ({error}).") from error
