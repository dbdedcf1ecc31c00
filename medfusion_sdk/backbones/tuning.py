"""A frozen network's copy of which a part learns; the rest stays the shared, frozen one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

from torch import nn

from medfusion_sdk.exceptions import MissingDependencyError, ParameterError

__all__ = ["LORA_RANK", "transformer_blocks", "tunable_copy"]

# Our decision: rank 8, scaled by 16 / 8, on every linear layer of every block.
LORA_RANK, _LORA_ALPHA = 8, 16


def transformer_blocks(network: nn.Module) -> Sequence[nn.Module]:
    """Find a transformer's blocks.

    Parameters
    ----------
    network : Module
        With a list ``blocks``, or with its blocks in a ModuleList: the one of most parameters.

    Returns
    -------
    sequence of Module
        In order; empty for a network that has none.

    Examples
    --------
    >>> from torch import nn
    >>> layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    >>> transformer_blocks(nn.ModuleDict({"embed": nn.Linear(2, 2), "layers": layers})) == [*layers]
    True
    """
    for part in network.modules():
        if isinstance(blocks := getattr(part, "blocks", None), list):
            return blocks
    stacks = [part for part in network.modules() if isinstance(part, nn.ModuleList)]
    sizes = [sum(weight.numel() for weight in stack.parameters()) for stack in stacks]
    return list(stacks[sizes.index(max(sizes))]) if stacks else []


def tunable_copy(network: nn.Module, tuning: int | str, name: str) -> nn.Module:
    """Copy a network so that a part of it can learn.

    Parameters
    ----------
    network : Module
        Frozen and shared; it stays as it is.
    tuning : int or "lora"
        The last blocks that learn, by number; or low-rank adapters (LoRA) in all of them, drawn
        from torch's global generator.
    name : str
        Whose network it is, for messages.

    Returns
    -------
    Module
        Whatever doesn't learn is the network's own tensors, so that there is one copy of them.
        Without dropout, as the frozen one.

    Raises
    ------
    ParameterError
        If the network has fewer blocks, or none.
    MissingDependencyError
        If peft isn't installed and "lora" is asked for.
    """
    blocks = transformer_blocks(network)
    if not blocks or (not isinstance(tuning, str) and tuning > len(blocks)):
        raise ParameterError(
            f"encoder_tuning={tuning!r}: the network of {name!r} has {len(blocks)} transformer "
            "blocks."
        )
    learns = set() if isinstance(tuning, str) else _tensors(*blocks[len(blocks) - tuning :])
    shared = {key: value for key, value in _all_tensors(network) if key not in learns}
    for part in network.modules():  # tokenizers and the like
        shared |= {id(v): v for k, v in vars(part).items() if not k.startswith("_")}
    tuned = copy.deepcopy(network, shared)
    if isinstance(tuning, str):
        _add_lora(tuned)
    else:
        for block in transformer_blocks(tuned)[len(blocks) - tuning :]:
            block.requires_grad_(True)
    return tuned


def _add_lora(network: nn.Module) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingDependencyError(
            "encoder_tuning='lora' needs peft: pip install 'medfusion-sdk[lora]'."
        ) from error
    blocks = {id(block) for block in transformer_blocks(network)}
    inside = [place for place, part in network.named_modules() if id(part) in blocks]
    linear = [
        place
        for place, part in network.named_modules()
        if isinstance(part, nn.Linear) and any(place.startswith(f"{b}.") for b in inside)
    ]
    if not linear:
        raise ParameterError("encoder_tuning='lora': the network's blocks have no linear layers.")
    config = LoraConfig(r=LORA_RANK, lora_alpha=_LORA_ALPHA, target_modules=linear)
    inject_adapter_in_model(config, network)


def _all_tensors(network: nn.Module) -> Iterator[tuple[int, object]]:
    for tensor in (*network.parameters(), *network.buffers()):
        yield id(tensor), tensor


def _tensors(*parts: nn.Module) -> set[int]:
    return {key for part in parts for key, _ in _all_tensors(part)}
