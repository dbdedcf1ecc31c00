"""What every task of TGMM has: predictions from its vector, and their loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

__all__ = ["Batch", "Head", "Reread", "labelled_mean"]

Batch = Mapping[str, Tensor]
# Gives a task's vectors (B, d) of the batch with other modalities hidden, for a mask (B, M).
Reread = Callable[[Tensor], Tensor]


class Head(nn.Module, ABC):
    """Response module of one task: its vector to predictions, and their loss."""

    @abstractmethod
    def loss(
        self, vector: Tensor, batch: Batch, present: Tensor, weight: Tensor, reread: Reread
    ) -> Tensor:
        """Loss of a batch.

        Parameters
        ----------
        vector : Tensor of shape (B, d)
            Of each row, r_t.
        batch : mapping of str to Tensor
            With what this task's labels are.
        present : Tensor of shape (B, M), bool
            Modalities that `vector` was read from.
        weight : Tensor of shape (B,)
            Of the rows.
        reread : callable
            Gives r_t of the batch for another mask.

        Returns
        -------
        Tensor
            Mean over the rows with a label; zero, with a gradient of zeros, where there is none.
        """

    @abstractmethod
    def predict(self, vector: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Predict each row from its vector alone, and what the network read of it.

        Parameters
        ----------
        vector : Tensor of shape (B, d)
            Of each row, r_t.
        batch : mapping of str to Tensor
            What the network read.

        Returns
        -------
        dict of Tensor
            Tensors of B rows.
        """


def labelled_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean with row weights; zero where no row counts.

    Parameters
    ----------
    values, weight : Tensor of shape (B,)
        One value and one weight per row.

    Returns
    -------
    Tensor
        Scalar.
    """
    return (values * weight).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
