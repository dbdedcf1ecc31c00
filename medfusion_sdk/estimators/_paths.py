"""Which blocks a path of AdaCoMed reads, and the rows that have any of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medfusion_sdk.exceptions import ModalityError

__all__ = ["has_any", "select_blocks"]


def select_blocks(
    blocks: dict[str, np.ndarray], names: Sequence[str] | None, parameter: str
) -> dict[str, np.ndarray]:
    """Blocks that a path reads.

    Parameters
    ----------
    blocks : dict of str to ndarray of int
        All blocks.
    names : sequence of str or None
        Modalities to keep; None keeps all.
    parameter : str
        For the message.

    Returns
    -------
    dict of str to ndarray of int
        Those blocks, in the table's order.

    Raises
    ------
    ModalityError
        For a name that the table lacks.
    """
    if names is None:
        return dict(blocks)
    unknown = [name for name in names if name not in blocks]
    if unknown or not len(names):
        raise ModalityError(
            f"{parameter}={list(names)}: {'unknown ' + str(unknown) if unknown else 'names none'}; "
            f"the table has the modalities {list(blocks)}."
        )
    return {name: columns for name, columns in blocks.items() if name in names}


def has_any(X: np.ndarray, blocks: dict[str, np.ndarray]) -> np.ndarray:
    """Rows that have one of the modalities.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
        Values, NaN where missing.
    blocks : dict of str to ndarray of int
        The modalities.

    Returns
    -------
    ndarray of shape (n,), bool
        True where a value is there.
    """
    return ~np.isnan(X[:, np.concatenate(list(blocks.values()))]).all(axis=1)
