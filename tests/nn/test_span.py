"""Training in the span of the rows is training on the rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medfusion_sdk.nn.span import row_span, widen


def rows(n_rows=6, width=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_rows, width, generator=generator, dtype=torch.float64)


def test_basis_is_orthonormal_and_spans_the_rows():
    x = rows()
    basis = row_span(x)
    assert basis.shape == (20, 6)
    torch.testing.assert_close(basis.T @ basis, torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(x @ basis @ basis.T, x)


def test_dependent_rows_take_as_many_directions_as_their_rank():
    x = rows(3)
    assert row_span(torch.cat([x, x[:1] + x[1:2]])).shape == (20, 3)


def test_rows_as_many_as_columns_are_left_alone():
    assert row_span(rows(20)) is None


def test_zero_rows_still_leave_one_direction():
    assert row_span(torch.zeros(2, 5)).shape == (5, 1)


def test_basis_ignores_order_and_repetition_of_rows():
    x = rows()
    again = torch.cat([x.flip(0), x, x[:4], x[:4]])
    torch.testing.assert_close(row_span(again), row_span(x), rtol=0, atol=1e-12)


def test_widened_layer_is_the_layer_on_projected_rows():
    x = rows()
    basis = row_span(x)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Linear(6, 3).double()
    narrow = layer(x @ basis)
    wide = widen(layer, basis)
    assert wide.in_features == 20
    torch.testing.assert_close(wide(x), narrow)


def test_widened_layer_ignores_directions_that_no_row_has():
    x = rows()
    basis = row_span(x)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = widen(nn.Linear(6, 3).double(), basis)
    other = rows(1, seed=9)
    outside = other - other @ basis @ basis.T
    torch.testing.assert_close(layer(x[:1] + outside), layer(x[:1]))


def test_layer_without_a_basis_stays_itself():
    layer = nn.Linear(2, 2)
    assert widen(layer, None) is layer


@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_descent_in_the_span_is_descent_on_the_rows(penalty):
    # From a start within the span, gradient descent takes the same path in both coordinates.
    x = rows()
    basis = row_span(x)
    target = torch.arange(6.0, dtype=torch.float64)
    full, narrow = torch.zeros(20, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    for _ in range(50):
        full = full - 0.02 * (x.T @ (x @ full - target) + penalty * full)
        inside = x @ basis
        narrow = narrow - 0.02 * (inside.T @ (inside @ narrow - target) + penalty * narrow)
    torch.testing.assert_close(basis @ narrow, full, rtol=0, atol=1e-10)
