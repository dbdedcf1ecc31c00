"""Survival losses: pairwise definitions, hand values, invariants, and other Cox models."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lifelines import CoxPHFitter
from sksurv.linear_model import CoxPHSurvivalAnalysis

from medfusion_sdk.datasets import load_heart_failure
from medfusion_sdk.nn.survival import cox_loss, margin_loss, prognosis_loss

LOSSES = [
    cox_loss,
    lambda *rows: cox_loss(*rows, ties="efron"),
    margin_loss,
    lambda *rows: prognosis_loss(*rows, kind="both"),
]


def patients(n_rows=60, *, tied=True, seed=0):
    """Log-risks that ask for a gradient, times, events and weights."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(4, n_rows, generator=generator, dtype=torch.float64)
    time = (draws[0] * 8).ceil() if tied else draws[0]
    return (6 * draws[1] - 3).requires_grad_(), time, draws[2] < 0.5, 0.2 + draws[3]


def gradient(loss, risk):
    return torch.autograd.grad(loss, risk)[0]


def pairwise_cox(risk, time, event, weight):
    at_risk = time[None, :] >= time[:, None]
    total = (at_risk * (weight * risk.exp())[None, :]).sum(1)
    return (weight * event * (total.log() - risk)).sum() / (weight * event).sum()


def looped_efron(risk, time, event):
    loss = 0.0
    for moment in time[event].unique():
        tied, at_risk = event & (time == moment), time >= moment
        d = int(tied.sum())
        for done in range(d):
            total = risk[at_risk].exp().sum() - done / d * risk[tied].exp().sum()
            loss = loss + total.log()
        loss = loss - risk[tied].sum()
    return loss / event.sum()


def pairwise_margin(risk, time, event, weight, margin):
    pairs = (event[:, None] & (time[:, None] < time[None, :])) * weight[:, None] * weight[None, :]
    return (pairs * (margin - (risk[:, None] - risk[None, :])).clamp_min(0)).sum() / pairs.sum()


def assert_equal_with_gradients(ours, expected, risk):
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradient(ours, risk), gradient(expected, risk), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("tied", [True, False])
def test_cox_loss_equals_pairwise_definition(tied):
    risk, time, event, weight = patients(tied=tied)
    ours = cox_loss(risk, time, event, weight)
    assert_equal_with_gradients(ours, pairwise_cox(risk, time, event, weight), risk)


def test_efron_loss_equals_definition_event_by_event():
    risk, time, event, _ = patients()
    ours = cox_loss(risk, time, event, ties="efron")
    assert_equal_with_gradients(ours, looped_efron(risk, time, event), risk)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("margin", [0.3, 1.0, 20.0])
def test_margin_loss_equals_pairwise_definition(tied, margin):
    risk, time, event, weight = patients(tied=tied)
    ours = margin_loss(risk, time, event, weight, margin=margin)
    assert_equal_with_gradients(ours, pairwise_margin(risk, time, event, weight, margin), risk)


def test_cox_loss_of_three_rows_equals_value_by_hand():
    risk = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    # The first dies among all three, the second is censored, the third dies alone.
    loss = cox_loss(risk, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 0, 1]))
    expected = (math.log(math.exp(0.5) + math.exp(-1) + math.exp(2)) - 0.5 + 0.0) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_equal_risks_without_ties_give_mean_log_size_of_risk_set(ties):
    time, event = torch.arange(1.0, 8.0), torch.tensor([1, 0, 1, 1, 0, 0, 1])
    loss = cox_loss(torch.full((7,), 3.0, dtype=torch.float64), time, event, ties=ties)
    assert loss.item() == pytest.approx(np.mean(np.log([7, 5, 4, 1])), abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_ignores_a_constant_and_the_unit_of_time(loss):
    risk, time, event, _ = patients()
    expected = loss(risk, time, event)
    torch.testing.assert_close(loss(risk + 7.5, time, event), expected)
    torch.testing.assert_close(loss(risk, time.square().exp(), event), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_ignores_the_order_of_rows(loss):
    risk, time, event, weight = patients()
    order = torch.randperm(len(risk), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        loss(risk[order], time[order], event[order], weight[order]),
        loss(risk, time, event, weight),
    )


@pytest.mark.parametrize("loss", [cox_loss, margin_loss])
def test_row_of_weight_two_is_two_rows_and_of_weight_zero_none(loss):
    risk, time, event, _ = patients(30)
    weight = torch.arange(30) % 3
    copies = torch.arange(30).repeat_interleave(weight)
    weighted = loss(risk, time, event, weight.double())
    repeated = loss(risk[copies], time[copies], event[copies])
    assert_equal_with_gradients(weighted, repeated, risk)


def test_margin_loss_is_zero_where_every_pair_is_separated():
    time, event = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1, 1, 0, 1])
    risk = torch.tensor([4.0, 3.0, -9.0, 2.0])
    assert margin_loss(risk, time, event, margin=1.0).item() == 0.0
    assert margin_loss(risk, time, event, margin=1.5).item() > 0.0


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_without_events_is_zero_with_a_gradient_of_zeros(loss):
    risk, time, _, _ = patients(5)
    value = loss(risk, time, torch.zeros(5))
    assert value.item() == 0.0
    assert not gradient(value, risk).any()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_rows", [1, 6])
def test_loss_of_rows_at_one_time_is_finite(loss, n_rows):
    risk, _, _, _ = patients(n_rows)
    value = loss(risk, torch.ones(n_rows), torch.ones(n_rows))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient(value, risk)).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_of_extreme_risks_in_float32_is_finite(loss):
    _, time, event, _ = patients(40)
    risk = torch.linspace(-3e4, 3e4, 40).requires_grad_()
    value = loss(risk, time, event)
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(gradient(value, risk)).all()


def test_cox_loss_in_float32_keeps_six_digits_over_many_rows():
    risk, time, event, weight = patients(100_000, tied=False)
    single = cox_loss(risk.float(), time, event, weight.float())
    double = cox_loss(risk.float().double(), time, event, weight.float().double())
    assert single.item() == pytest.approx(double.item(), rel=1e-6)


def test_both_is_the_sum_of_cox_and_margin():
    risk, time, event, weight = patients()
    both = prognosis_loss(risk, time, event, weight, kind="both", ties="efron", margin=0.5)
    cox = prognosis_loss(risk, time, event, weight, kind="cox", ties="efron")
    hinge = prognosis_loss(risk, time, event, weight, kind="margin", margin=0.5)
    torch.testing.assert_close(both, cox + hinge)


def converged_coefficients(X, time, event, ties):
    """Train a linear risk network without penalty until nothing moves."""
    network = torch.nn.Linear(X.shape[1], 1, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(network.weight)
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def step():
        optimizer.zero_grad()
        loss = cox_loss(network(X)[:, 0], time, event, ties=ties)
        loss.backward()
        return loss

    optimizer.step(step)
    return network.weight.detach().numpy()[0]


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_linear_risk_network_equals_cox_models_of_other_packages(ties):
    X, y = load_heart_failure(return_X_y=True)
    X = (X - X.mean()) / X.std()
    ours = converged_coefficients(
        torch.tensor(X.to_numpy()), torch.tensor(y["time"]), torch.tensor(y["event"]), ties
    )
    structured = y[["event", "time"]].to_records(index=False)
    theirs = CoxPHSurvivalAnalysis(ties=ties, tol=1e-12).fit(X, np.asarray(structured)).coef_
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    if ties == "efron":
        fitter = CoxPHFitter().fit(X.join(y), "time", "event")
        np.testing.assert_allclose(ours, fitter.params_, atol=1e-3)
