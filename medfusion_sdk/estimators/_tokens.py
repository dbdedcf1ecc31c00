"""Modalities that are sequences of tokens: what their blocks mean, and which tokens there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medfusion_sdk.exceptions import ParameterError

__all__ = ["check_token_shapes", "token_mask"]

Shapes = Mapping[str, tuple[int, int]]


def check_token_shapes(
    token_shapes: Mapping[str, Sequence[int]] | None, blocks: Mapping[str, np.ndarray]
) -> dict[str, tuple[int, int]]:
    """Check that declared shapes are those of the table's blocks.

    Parameters
    ----------
    token_shapes : mapping of str to (int, int) or None
        Number of tokens and width of each.
    blocks : mapping of str to ndarray of int
        Columns of each modality.

    Returns
    -------
    dict of str to (int, int)
        The same as plain numbers.

    Raises
    ------
    ParameterError
        For a modality that isn't there, or a block of another width.
    """
    shapes = {name: (int(n), int(d)) for name, (n, d) in (token_shapes or {}).items()}
    for name, (n_tokens, width) in shapes.items():
        if name not in blocks:
            raise ParameterError(
                f"token_shapes names {name!r}; the table has the modalities {list(blocks)}."
            )
        if len(blocks[name]) != n_tokens * width:
            raise ParameterError(
                f"token_shapes says that {name!r} has {n_tokens} tokens of {width} values, "
                f"which are {n_tokens * width} columns; the table has {len(blocks[name])}."
            )
    return shapes


def token_mask(
    X: np.ndarray, blocks: Mapping[str, np.ndarray], present: np.ndarray, shapes: Shapes
) -> np.ndarray:
    """Tell which tokens each row has: those that aren't all NaN.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
        A block table's values.
    blocks : mapping of str to ndarray of int
        Columns of each modality.
    present : ndarray of shape (n, M), bool
        Which modalities each row has.
    shapes : mapping of str to (int, int)
        Of the modalities that are sequences; any other is one token.

    Returns
    -------
    ndarray of shape (n, sum of tokens), bool
        Modality after modality.
    """
    parts = []
    for m, (name, columns) in enumerate(blocks.items()):
        if name in shapes:
            missing = np.isnan(X[:, columns]).reshape(len(X), *shapes[name])
            parts.append(~missing.all(axis=2))
        else:
            parts.append(present[:, [m]])
    return np.hstack(parts)
