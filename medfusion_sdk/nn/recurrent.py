"""Recurrent encoders of series and of token numbers: LSTM, and the largest value over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from medfusion_sdk.nn.ragged import Ragged

__all__ = ["SeriesLSTM", "TokenLSTM"]


class SeriesLSTM(nn.Module):
    """Bidirectional LSTM over the steps of a series, and each unit's largest value over time.

    Parameters
    ----------
    n_channels : int
        Values of each step.
    width : int
        Width of what it returns, half of it from either direction; even.
    """

    def __init__(self, n_channels: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_channels, width // 2, batch_first=True, bidirectional=True)

    def forward(self, series: Ragged) -> Tensor:
        """Encode.

        Parameters
        ----------
        series : Ragged of (steps, n_channels)
            Rows of at least one step.

        Returns
        -------
        Tensor of shape (B, width)
            One vector per row; from -1 to 1.
        """
        return _largest(self.lstm, series.padded()[0], series.lengths)


class TokenLSTM(nn.Module):
    """A vector for each token number, an LSTM over them, and the largest value over time.

    Parameters
    ----------
    n_tokens : int
        Numbers that a token may have.
    width : int
        Width of what it returns, and of twice a token's vector.
    """

    def __init__(self, n_tokens: int, width: int) -> None:
        super().__init__()
        half = max(1, width // 2)
        self.embedding = nn.Embedding(n_tokens, half)
        nn.init.normal_(self.embedding.weight, std=half**-0.5)
        self.lstm = nn.LSTM(half, width, batch_first=True)

    def forward(self, tokens: Ragged) -> Tensor:
        """Encode.

        Parameters
        ----------
        tokens : Ragged of (length,), int64
            Rows of at least one token.

        Returns
        -------
        Tensor of shape (B, width)
            One vector per row; from -1 to 1.
        """
        return _largest(self.lstm, self.embedding(tokens.padded()[0]), tokens.lengths)


def _largest(lstm: nn.LSTM, padded: Tensor, lengths: Tensor) -> Tensor:
    """Run an LSTM over the real steps alone; the largest value of each unit over them."""
    # Packed, a backward pass starts at a row's own last step, whatever the longest row's length.
    packed = pack_padded_sequence(padded, lengths.cpu(), batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True, padding_value=-torch.inf)
    return states.amax(dim=1)
