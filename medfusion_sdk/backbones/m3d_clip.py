"""M3D-CLIP's parts beside its image tower: the language tower, and both linear projections.

The published folder holds one checkpoint of all parts (``vision_encoder.*``,
``language_encoder.*``, ``mm_vision_proj.*``, ``mm_language_proj.*``) and a configuration of a kind
of its own, which only code from that folder could read. Here the language tower, which is a BERT,
is built from its tensors' shapes, and no code from the folder runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medfusion_sdk.backbones.weights import weight_files
from medfusion_sdk.exceptions import WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["HUB_ID", "MODEL_TYPE", "NAME", "load_language_tower", "read_projections"]

#: What users call the published model, where it was published, and what its config.json calls it.
NAME, HUB_ID, MODEL_TYPE = "m3d-clip", "GoodBaiBai88/M3D-CLIP", "m3d_clip"
_LANGUAGE = "language_encoder."
_PROJECTIONS = {"image": "mm_vision_proj.", "text": "mm_language_proj."}
# As every BERT was published.
_HEAD_WIDTH = 64


def load_language_tower(folder: Path) -> nn.Module:
    """Load the language tower as a Hugging Face model.

    Parameters
    ----------
    folder : Path
        The published folder.

    Returns
    -------
    Module
        A BERT without a pooler, in float32.

    Raises
    ------
    WeightsError
        If the tower's tensors aren't those of a BERT.
    """
    import torch
    from transformers import BertConfig, BertModel

    files = [path for path in weight_files(folder) if path.suffix != ".json"]
    tensors = _read(files, _LANGUAGE)
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith("pooler.") and name != "embeddings.position_ids"
    }
    try:
        words = tensors["embeddings.word_embeddings.weight"]
        config = BertConfig(
            vocab_size=words.shape[0],
            hidden_size=words.shape[1],
            num_hidden_layers=len(
                {n.split(".")[2] for n in kept if n.startswith("encoder.layer.")}
            ),
            num_attention_heads=max(1, words.shape[1] // _HEAD_WIDTH),
            intermediate_size=tensors["encoder.layer.0.intermediate.dense.weight"].shape[0],
            max_position_embeddings=len(tensors["embeddings.position_embeddings.weight"]),
            type_vocab_size=len(tensors["embeddings.token_type_embeddings.weight"]),
        )
        with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
            model = BertModel(config, add_pooling_layer=False)
        model.load_state_dict(kept)
    except (KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{folder}: {_LANGUAGE}* isn't a BERT ({type(error).__name__}: {error})."
        ) from error
    return model


def read_projections(files: Sequence[Path]) -> dict[str, dict[str, Tensor]]:
    """Read the linear maps from both towers into their common space.

    Parameters
    ----------
    files : sequence of Path
        The checkpoint.

    Returns
    -------
    dict of str to dict of Tensor
        ``image`` and ``text``, each with ``weight`` (width, width) and ``bias`` (width,); empty
        where the files hold none.
    """
    found = {name: _read(files, prefix) for name, prefix in _PROJECTIONS.items()}
    return found if all(set(maps) == {"weight", "bias"} for maps in found.values()) else {}


def _read(files: Sequence[Path], prefix: str) -> dict[str, Tensor]:
    from medfusion_sdk.backbones.checkpoints import read_checkpoint

    parts = [read_checkpoint(file, prefix=prefix) for file in files]
    # Copies: what lies in the file would change with it.
    return {name: tensor.float().clone() for part in parts for name, tensor in part.items()}
