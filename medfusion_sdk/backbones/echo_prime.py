"""EchoPrime's video encoder: torchvision's MViT-v2-S with a head of 512.

Vukadinovic et al.: "EchoPrime: A Multi-Video View-Informed Vision-Language Model for Comprehensive
Echocardiography Interpretation", 2024. The network is torchvision's, the weights are the user's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medfusion_sdk.backbones.checkpoints import fill, read_checkpoint
from medfusion_sdk.backbones.pool import FrozenModule
from medfusion_sdk.exceptions import MissingDependencyError

__all__ = ["ORIGIN", "WIDTHS", "EchoPrime", "load_echo_prime"]

ORIGIN = (
    "Its authors publish the file (echo_prime_encoder.pt, in model_data.zip) at "
    "github.com/echonet/EchoPrime, for academic use."
)
# Of the class token, and after the head that the authors trained beside a text encoder.
WIDTHS = {"trunk": 768, "head": 512}


class EchoPrime(FrozenModule):
    """Trunk and head.

    Parameters
    ----------
    network : Module
        Of torchvision, with the published weights; its head is taken off.
    """

    trunk: nn.Module
    head: nn.Linear

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.trunk = network
        # In front of it is a dropout, which a frozen network has no use for.
        self.head = network.head[-1]
        network.head = nn.Identity()
        self.freeze()

    def forward(self, clips: Tensor, feature: str) -> Tensor:
        """Embed clips.

        Parameters
        ----------
        clips : Tensor of shape (n, 3, 16, 224, 224)
            Prepared clips.
        feature : {"trunk", "head"}
            Which vector.

        Returns
        -------
        Tensor of shape (n, 768) or (n, 512)
            One vector per clip.
        """
        vectors = self.trunk(clips)
        return self.head(vectors) if feature == "head" else vectors


def load_echo_prime(path: Path) -> EchoPrime:
    """Load the published checkpoint.

    Parameters
    ----------
    path : Path
        A state dict in the layout of ``echo_prime_encoder.pt``.

    Returns
    -------
    EchoPrime
        On the CPU, in float32.

    Raises
    ------
    MissingDependencyError
        If torchvision isn't installed.
    WeightsError
        If a tensor is missing, left over or of another shape.
    """
    try:
        from torchvision.models.video import mvit_v2_s
    except ImportError as error:
        raise MissingDependencyError(
            "backbone='echo-prime' needs torchvision, in the release that goes with torch "
            f"{torch.__version__}: pip install 'medfusion-sdk[echo]'."
        ) from error
    with torch.device("meta"):  # no random weights first
        network = mvit_v2_s()
        network.head[-1] = nn.Linear(WIDTHS["trunk"], WIDTHS["head"])
    fill(network, read_checkpoint(path), path)
    return EchoPrime(network)
