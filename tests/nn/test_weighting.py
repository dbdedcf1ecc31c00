"""Path weights against the published formulas, evaluated by hand."""

from __future__ import annotations

import math

import pytest
import torch

from medfusion_sdk.nn.weighting import STRATEGIES, path_weights

# w_large at s = 0, 0.5 and 1, worked out from the formulas of Table 1.
TABLE = {
    "learnable": (0.5, 0.5, 0.5),
    "inverse": (0.333, 0.483, 0.594),
    "inverse_paper": (0.0, 0.237, 0.422),
    "gaussian": (0.0, 0.118, 0.393),
    "threshold": (0.0, 0.5, 1.0),
    "ensemble": (0.5, 0.5, 0.5),
    "large_only": (1.0, 1.0, 1.0),
    "small_only": (0.0, 0.0, 0.0),
}
HALVES = (torch.float16, torch.bfloat16)


def weights(strategy, s, **constants):
    return path_weights(strategy, s, theta=torch.ones(2, dtype=s.dtype), **constants)


def test_table_names_every_strategy():
    assert set(TABLE) == set(STRATEGIES)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weight_of_large_path_is_the_tables(strategy):
    w_large, _ = weights(strategy, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(w_large, torch.tensor(TABLE[strategy]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
def test_weights_of_any_similarity_are_finite_shares(strategy, dtype):
    s = torch.linspace(0, 1, 101).to(dtype)
    w_large, w_small = weights(strategy, s)
    assert torch.isfinite(w_large).all()
    assert ((w_large >= 0) & (w_large <= 1)).all()
    torch.testing.assert_close(w_large + w_small, torch.ones_like(w_large))
    if strategy != "learnable":  # its type is that of its trained scores
        assert w_large.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)


@pytest.mark.parametrize("strategy", ["inverse", "inverse_paper", "gaussian", "threshold"])
def test_weight_of_large_path_never_falls_with_similarity(strategy):
    w_large, _ = weights(strategy, torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert (w_large.diff() >= 0).all()
    assert w_large[-1] > w_large[0]


def test_gradient_of_printed_inverse_at_zero_is_finite():
    s = torch.zeros(1, requires_grad=True)
    weights("inverse_paper", s)[0].sum().backward()
    assert torch.isfinite(s.grad).all()


def test_strategy_constants_enter_where_the_paper_has_them():
    s = torch.tensor([0.8], dtype=torch.float64)
    large = 1 / (1 + math.exp(-0.8))
    small = 1 / (1 + 2.0 * 0.8 / 4.0 + 1e-6)
    expected = {
        "inverse": (large / (large + small), {"alpha": 2.0, "temperature": 4.0}),
        "gaussian": (1 - math.exp(-(0.8**2) / (2 * 0.5**2)), {"sigma": 0.5}),
        "threshold": (0.5 + 0.5 * math.tanh(3 * (0.8 - 0.7)), {"threshold": 0.7, "slope": 3.0}),
    }
    for strategy, (w_large, constants) in expected.items():
        assert weights(strategy, s, **constants)[0].item() == pytest.approx(w_large, abs=1e-12)


def test_learnable_scores_receive_a_gradient():
    theta = torch.ones(2, requires_grad=True)
    path_weights("learnable", torch.tensor([0.3]), theta=theta)[0].sum().backward()
    torch.testing.assert_close(theta.grad, torch.tensor([0.25, -0.25]))


def test_unknown_strategy_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="large_only"):
        path_weights("loudest", torch.tensor([0.5]))
