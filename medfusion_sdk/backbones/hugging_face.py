"""Models in the Hugging Face layout: loaded whole or refused, in silence, without running code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from medfusion_sdk.backbones.weights import weight_files
from medfusion_sdk.exceptions import WeightsError

__all__ = ["load_base_model", "quiet_transformers"]


def load_base_model(folder: Path, what: str) -> nn.Module:
    """Load the network that a folder's config.json describes, without any head.

    Parameters
    ----------
    folder : Path
        Model folder: config.json and weights.
    what : str
        What it is wanted as, for the message.

    Returns
    -------
    Module
        In float32. Its attribute ``pooler`` is None where the folder has no weights for one.

    Raises
    ------
    WeightsError
        If the files can't be read, or don't hold all that config.json asks for.
    """
    from transformers import AutoModel

    safe = weight_files(folder)[0].name.startswith("model.safetensors")
    try:
        # transformers may draw weights before it reads them: not from the global generator.
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            model, report = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=safe,
                weights_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # whatever a broken file makes transformers raise
        raise WeightsError(f"{folder} can't be loaded as {what}: {error}") from error
    # transformers fills gaps with random weights; embeddings of those would look like any other.
    gaps = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
    if len(gaps) < len(report["missing_keys"]):
        model.pooler = None
    gaps += [str(key) for key in report["mismatched_keys"]]
    if gaps:
        raise WeightsError(
            f"{folder}: the weights lack or misfit {len(gaps)} tensors of the model that "
            f"config.json describes, for example {sorted(gaps)[0]}."
        )
    model.float()
    for tensor in (*model.parameters(), *model.buffers()):
        # Of its own: one that lies in the file would change with it, in the middle of its use.
        tensor.data = tensor.data.clone()
    return model


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep its progress bars and load reports off the user's screen; we check the report.

    Yields
    ------
    None
        Nothing.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
