"""Small modules that compute their own loss, as the engine wants them."""

from __future__ import annotations

import torch
from torch import nn


class Regression(nn.Module):
    """Two layers and a weighted mean squared error, in float64."""

    def __init__(self, n_features=5, hidden=7, seed=0, dropout=None):
        super().__init__()
        self.inner = nn.Linear(n_features, hidden)
        self.dropout = dropout or nn.Identity()
        self.outer = nn.Linear(hidden, 1)
        self.double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0, 0.3, generator=generator)

    def forward(self, batch):
        return self.outer(self.dropout(torch.tanh(self.inner(batch["x"]))))[:, 0]

    def loss(self, batch, sample_weight):
        error = (self(batch) - batch["y"]) ** 2
        if sample_weight is None:
            return error.mean()
        return (error * sample_weight).sum() / sample_weight.sum()


class Level(nn.Module):
    """One number, pulled towards the mean of a column."""

    def __init__(self, start=0.0):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, batch):
        return self.value.expand(len(batch["x"]))

    def loss(self, batch, sample_weight):
        return ((batch["x"] - self.value) ** 2).mean()


def regression_data(n_rows=48, n_features=5, seed=1):
    """Rows with a target that the features explain but for some noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, n_features, generator=generator, dtype=torch.float64)
    noise = torch.randn(n_rows, generator=generator, dtype=torch.float64)
    return {"x": x, "y": x.sum(1).sin() + 0.1 * noise}


def column(value, n_rows):
    """The same number in each row, for :class:`Level`."""
    return {"x": torch.full((n_rows,), value, dtype=torch.float64)}


def state_of(module):
    """Copies of all parameters, frozen ones too."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def same(first, second):
    """Whether two states are equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
