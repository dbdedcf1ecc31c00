"""How much the large and the small path count (AdaCoMed, Table 1).

Each strategy maps a similarity s in (0, 1] to a pair (w_large, w_small) with sum one. Everything is
computed in float32 at least: the paper's inverse form reaches 1e6, which overflows half precision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["STRATEGIES", "path_weights"]

STRATEGIES = (
    "learnable",
    "inverse",
    "inverse_paper",
    "gaussian",
    "threshold",
    "ensemble",
    "large_only",
    "small_only",
)

# Below this the paper's inverse form has gradients of 1/s^2 > 1e6.
_MIN_SIMILARITY = 1e-3


def path_weights(
    strategy: str,
    similarity: Tensor,
    *,
    theta: Tensor | None = None,
    alpha: float = 1.0,
    temperature: float = 1.0,
    sigma: float = 1.0,
    threshold: float = 0.5,
    slope: float = 10.0,
) -> tuple[Tensor, Tensor]:
    """Weights of the two paths.

    Parameters
    ----------
    strategy : str
        One of :data:`STRATEGIES`.
    similarity : Tensor
        Values of s in (0, 1], any shape.
    theta : Tensor of shape (2,), optional
        Trainable scores of ``"learnable"``.
    alpha, temperature : float, default=1.0
        Of ``"inverse"`` and ``"inverse_paper"``: s enters as ``alpha * s / temperature``.
    sigma : float, default=1.0
        Of ``"gaussian"``.
    threshold, slope : float, default=0.5 and 10.0
        Of ``"threshold"``: centre and steepness.

    Returns
    -------
    w_large : Tensor
        Weight of the large path, in [0, 1]; shape of `similarity`.
    w_small : Tensor
        One minus the other.

    Raises
    ------
    ValueError
        For an unknown strategy.

    Examples
    --------
    >>> import torch
    >>> w_large, w_small = path_weights("inverse", torch.tensor(1.0))
    >>> round(float(w_large), 3), round(float(w_small), 3)
    (0.594, 0.406)
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {STRATEGIES}, got {strategy!r}.")
    s = similarity if similarity.dtype == torch.float64 else similarity.float()
    if strategy == "learnable":
        assert theta is not None
        w_large = theta.softmax(dim=0)[0].expand_as(s)
    elif strategy == "gaussian":
        w_large = -torch.expm1(-(s**2) / (2 * sigma**2))
    elif strategy == "threshold":
        w_large = 0.5 + 0.5 * torch.tanh(slope * (s - threshold))
    elif strategy in _CONSTANT:
        w_large = torch.full_like(s, _CONSTANT[strategy])
    else:
        large, small = torch.sigmoid(s), _SMALL_SCORE[strategy](s, alpha / temperature)
        w_large = large / (large + small)
    return w_large, 1.0 - w_large


_CONSTANT = {"ensemble": 0.5, "large_only": 1.0, "small_only": 0.0}
_SMALL_SCORE: dict[str, Callable[[Tensor, float], Tensor]] = {
    # As the authors' code has it: bounded, our default.
    "inverse": lambda s, a: 1.0 / (1.0 + a * s + 1e-6),
    # As Table 1 prints it.
    "inverse_paper": lambda s, a: 1.0 / (a * s.clamp_min(_MIN_SIMILARITY) + 1e-6),
}
