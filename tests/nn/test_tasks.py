"""Losses and probabilities against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from medfusion_sdk.nn.tasks import classification_loss, l2_penalty, probabilities, weighted_mean


def logits(n_classes):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(20, n_classes, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_class_loss_is_scikit_learns_log_loss(n_classes):
    scores, target = logits(n_classes), torch.arange(20) % n_classes
    weight = torch.arange(1.0, 21.0, dtype=torch.float64)
    actual = weighted_mean(classification_loss(scores, target), weight)
    proba = probabilities(scores, multilabel=False).numpy()
    assert actual.item() == pytest.approx(log_loss(target, proba, sample_weight=weight))


def test_label_loss_is_the_mean_of_binary_log_losses():
    scores = logits(3)
    target = (torch.arange(60).view(20, 3) % 2).double()
    proba = probabilities(scores, multilabel=True).numpy()
    expected = np.mean([log_loss(target[:, k], proba[:, k]) for k in range(3)])
    assert classification_loss(scores, target).mean().item() == pytest.approx(expected)


def test_probabilities_of_half_precision_scores_are_computed_wide():
    assert probabilities(torch.zeros(1, 2, dtype=torch.float16), False).dtype is torch.float32


def test_penalty_of_nothing_costs_nothing():
    assert l2_penalty(torch.nn.Linear(2, 2), 0.0) == 0.0
