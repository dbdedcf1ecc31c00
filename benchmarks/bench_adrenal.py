"""AdrenalMNIST3D at 64 voxels a side: Brain-Adapter's image side against simple baselines.

Trained on the published 1,188 training volumes, scored on the 98 validation volumes (this copy has
no test part), one seed, default parameters but for four epochs in place of ten. There are no
reports, so `inputs` is the image alone, and no pretrained network whose licence lets it be here:
**every row named "stand-in" starts from an encoder with random weights**, so nothing is learnt
about the published method's accuracy. What the rows tell is what the trained parts make of it, at
which cost, and which bottleneck matters: 64 x 64 x 64 voxels are brought to 8, 16 or 32 slices of
32 x 32, a ratio of 32, 16 or 8 to 1.

AUROC with its 95 % bootstrap interval, the paired difference to logistic regression on 8 x 8 x 8
pooled voxels, processor seconds of the fit on one thread, and trained weights.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.common import data_folder
from medfusion_sdk import BrainAdapterClassifier, VolumeEncoder
from medfusion_sdk.datasets import load_adrenal
from medfusion_sdk.metrics import score_table
from medfusion_sdk.readers.volume import read_volume
from medfusion_sdk.training import TrainingConfig, predict_batches, train

REFERENCE = "8^3 pooled, logistic regression"
EPOCHS = 4  # of Brain-Adapter, some 600 steps
Fit = Callable[[pd.DataFrame, np.ndarray, pd.DataFrame], tuple[np.ndarray, int]]


def resampled(table: pd.DataFrame, size: int) -> np.ndarray:
    """All volumes at a size, (n, size, size, size)."""
    return np.stack([read_volume(cell, size=(size,) * 3) for cell in table["volume"]])


def pooled_logistic(train_X, y, test_X) -> tuple[np.ndarray, int]:
    """Means of 8 x 8 x 8 voxels."""
    rows, tests = (resampled(table, 8).reshape(len(table), -1) for table in (train_X, test_X))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(rows, y)
    return model.predict_proba(tests)[:, 1], rows.shape[1] + 1


class SmallCNN(nn.Module):
    """Four strided convolutions, mean, head: what one would train first."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 8, 16, 32, 64)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Conv3d(n_in, n_out, 3, stride=2, padding=1), nn.GroupNorm(4, n_out)]
            layers += [nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 2)

    def forward(self, batch: dict) -> torch.Tensor:
        """Class scores."""
        return self.head(self.body(batch["x"][:, None].float()).mean(dim=(2, 3, 4)))

    def loss(self, batch: dict, sample_weight: torch.Tensor | None) -> torch.Tensor:
        """Cross-entropy."""
        return cross_entropy(self(batch), batch["y"])


def small_cnn(train_X, y, test_X) -> tuple[np.ndarray, int]:
    """A 3-D CNN on 32 x 32 x 32 voxels, trained from nothing."""
    rows, tests = (torch.from_numpy(resampled(table, 32)) for table in (train_X, test_X))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SmallCNN()
    config = TrainingConfig(max_epochs=20, batch_size=32, lr=2e-3, weight_decay=0.01)
    train(network, {"x": rows, "y": torch.from_numpy(np.asarray(y))}, config=config, seed=0)
    scores = predict_batches(network, {"x": tests}, batch_size=32)
    return scores[:, 1] - scores[:, 0], sum(p.numel() for p in network.parameters())


def frozen_features(train_X, y, test_X) -> tuple[np.ndarray, int]:
    """The stand-in's vectors alone, nothing trained before it."""
    encoder = VolumeEncoder("standin-vit3d")
    rows, tests = (encoder.transform(table["volume"]) for table in (train_X, test_X))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(rows, y)
    return model.predict_proba(tests)[:, 1], rows.shape[1] + 1


def brain_adapter(**parameters) -> Fit:
    """Brain-Adapter in front of the stand-in."""

    def fit(train_X, y, test_X) -> tuple[np.ndarray, int]:
        model = BrainAdapterClassifier(
            "standin-vit3d", max_epochs=EPOCHS, random_state=0, **parameters
        )
        scores = model.fit(train_X, y).decision_function(test_X)
        network = model._network()
        return scores, sum(p.numel() for p in network.parameters() if p.requires_grad)

    return fit


def models() -> dict[str, Fit]:
    """Name -> what is fitted."""
    return {
        REFERENCE: pooled_logistic,
        "3-D CNN from nothing, 32^3": small_cnn,
        "random stand-in alone, logistic regression": frozen_features,
        "random stand-in, conv3d, 16 : 1, tlp (default)": brain_adapter(),
        "random stand-in, slice2d, 16 : 1, tlp": brain_adapter(adapter="slice2d"),
        "random stand-in, pooling, 16 : 1, tlp": brain_adapter(adapter="none"),
        "random stand-in, conv3d, 32 : 1, tlp": brain_adapter(target_size=(8, 32, 32)),
        "random stand-in, conv3d, 8 : 1, tlp": brain_adapter(target_size=(32, 32, 32)),
        "random stand-in, conv3d, 16 : 1, fpm": brain_adapter(train_mode="fpm"),
        "stand-in trained too, conv3d, 16 : 1, full": brain_adapter(train_mode="full"),
    }


def main() -> int:
    """Print the table."""
    home = data_folder("adrenalmnist3d_64")
    train_X, y = load_adrenal(home, subset="train", return_X_y=True)
    test_X, truth = load_adrenal(home, subset="val", return_X_y=True)
    torch.set_num_threads(1)
    scores, cost = {}, {}
    for name, fit in models().items():
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores[name], n_trained = fit(train_X, y.to_numpy(), test_X)
        cost[name] = {"seconds": round(time.process_time() - start), "trained": n_trained}
        table = score_table(truth, scores, reference=REFERENCE, random_state=0)
        table = table.join(pd.DataFrame(cost).T).round(3).fillna("")
        row = table.iloc[[-1]].to_string(header=len(table) == 1, index_names=False)
        print(row, flush=True)
    print(f"AUROC on {len(truth)} volumes, {int(truth.sum())} of them ill")
    print(table.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
