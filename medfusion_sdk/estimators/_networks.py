"""From arrays to modules: seeded construction, training in the span of the rows, tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["RowSpans", "probabilities_of", "resume", "seeded_module", "to_tensors"]


def seeded_module(build: Callable[[], Any], seed: int, dtype: Any) -> Any:
    """Build a module whose initial weights follow from `seed` alone.

    Parameters
    ----------
    build : callable
        Returns the module.
    seed : int
        Seed of its initialisation.
    dtype : torch.dtype
        Type of its parameters.

    Returns
    -------
    torch.nn.Module
        The module.
    """
    from medfusion_sdk.training.randomness import seeded_initialisation

    with seeded_initialisation(seed):
        module = build()
    return module.to(dtype)


def resume(network: nn.Module, state: Mapping[str, np.ndarray] | None) -> bool:
    """Start a network from the last fit's weights, where names and shapes agree.

    Parameters
    ----------
    network : torch.nn.Module
        Untrained.
    state : mapping of str to ndarray, or None
        The last fit's ``state_``; None if there was no fit to go on from.

    Returns
    -------
    bool
        True if the weights were taken over.
    """
    from medfusion_sdk.training import load_state, module_to_state

    if state is None:
        return False
    own = module_to_state(network)
    if own.keys() != state.keys():
        return False
    if any(own[name].shape != state[name].shape for name in own):
        return False
    # A larger table may be computed in another type than the last one.
    load_state(network, {name: state[name].astype(own[name].dtype) for name in own})
    return True


def to_tensors(x: np.ndarray, present: np.ndarray, dtype: Any) -> dict[str, Tensor]:
    """Tensors of a scaled table.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        Scaled values.
    present : ndarray of shape (n, M), bool
        Presence mask.
    dtype : torch.dtype
        Floating type of the computation.

    Returns
    -------
    dict of Tensor
        ``x`` and ``present``.
    """
    import torch

    return {"x": torch.from_numpy(x).to(dtype), "present": torch.from_numpy(present)}


def probabilities_of(logits: np.ndarray, multilabel: bool) -> np.ndarray:
    """Probabilities (n, C) of class scores (n, C), or of each label."""
    import torch

    from medfusion_sdk.nn.tasks import probabilities

    return probabilities(torch.from_numpy(logits), multilabel).numpy()


class RowSpans:
    """Bases of the training rows' span, one per modality that is wider than there are rows.

    Parameters
    ----------
    x : ndarray of shape (n, sum(dims))
        Scaled training rows.
    present : ndarray of shape (n, M), bool
        Presence mask.
    dims : sequence of int
        Width of each modality.
    whole : collection of int, default=()
        Modalities to leave as they are, whatever their width.
    """

    def __init__(
        self,
        x: np.ndarray,
        present: np.ndarray,
        dims: Sequence[int],
        whole: Collection[int] = (),
    ) -> None:
        import torch

        from medfusion_sdk.nn.span import row_span

        self._bounds = np.cumsum([0, *dims])
        self.bases = [
            None if m in whole else row_span(torch.from_numpy(x[present[:, m], start:stop]))
            for m, (start, stop) in enumerate(zip(self._bounds, self._bounds[1:], strict=False))
        ]

    @property
    def dims(self) -> list[int]:
        """Widths to train with."""
        widths = np.diff(self._bounds)
        return [
            int(width) if basis is None else basis.shape[1]
            for width, basis in zip(widths, self.bases, strict=True)
        ]

    def project(self, x: np.ndarray) -> np.ndarray:
        """Coordinates of rows within the spans.

        Parameters
        ----------
        x : ndarray of shape (n, sum(dims))
            Scaled rows.

        Returns
        -------
        ndarray of shape (n, sum(self.dims))
            What to train on.
        """
        parts = [
            x[:, start:stop] if basis is None else x[:, start:stop] @ basis.numpy()
            for start, stop, basis in zip(self._bounds, self._bounds[1:], self.bases, strict=False)
        ]
        return np.concatenate(parts, axis=1)

    def widen(self, layers: nn.ModuleList) -> list[int]:
        """Give trained input layers their full width back.

        Parameters
        ----------
        layers : torch.nn.ModuleList of torch.nn.Linear
            One per modality.

        Returns
        -------
        list of int
            The modalities' widths.
        """
        from medfusion_sdk.nn.span import widen

        return [
            widen(layer, basis).in_features  # type: ignore[arg-type]
            for layer, basis in zip(layers, self.bases, strict=True)
        ]
