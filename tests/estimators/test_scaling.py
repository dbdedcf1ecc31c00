"""Scaling, imputation and indicators against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.exceptions import ModalityError

BLOCKS = {"ecg": [0, 1], "labs": [2, 3, 4]}


def values(n_rows=50):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 5)) * [1.0, 5.0, 2.0, 0.1, 30.0] + [0, 3, -1, 100, 0]
    X[::4, :2] = np.nan
    X[1::5, 3] = np.nan
    return X


def scaled(X, scaling, weight=None):
    weight = np.ones(len(X)) if weight is None else weight
    fitted = BlockScaling.fit(X, weight, feature_names=None, modalities=BLOCKS, scaling=scaling)
    return fitted, *fitted.apply(X)


def test_feature_scaling_is_by_each_columns_spread_and_the_blocks_width():
    X = values()
    _, x, _ = scaled(X, "feature")
    known = ~np.isnan(X[:, 0])
    expected = (X[known, 0] - X[known, 0].mean()) / X[known, 0].std() / np.sqrt(2)
    np.testing.assert_allclose(x[known, 0], expected)


def test_block_scaling_keeps_relative_spreads():
    X = values()
    _, x, _ = scaled(X, "block")
    known = ~np.isnan(X[:, 0])
    before, after = X[known, :2].std(axis=0), x[known, :2].std(axis=0)
    np.testing.assert_allclose(after[1] / after[0], before[1] / before[0])


@pytest.mark.parametrize("scaling", ["feature", "block"])
def test_rows_of_a_block_have_root_mean_square_norm_one(scaling):
    X = values()
    X[:, 3] = np.nan_to_num(X[:, 3], nan=100.0)
    _, x, present = scaled(X, scaling)
    for m, block in enumerate((x[:, :2], x[:, 2:])):
        norms = (block[present[:, m]] ** 2).sum(axis=1)
        assert norms.mean() == pytest.approx(1.0)


def test_none_leaves_values_and_fills_holes_with_zero():
    X = values()
    _, x, _ = scaled(X, "none")
    np.testing.assert_array_equal(x[:, [0, 1, 2, 3, 4]], np.nan_to_num(X))


def test_hole_is_the_mean_with_a_flag_and_absent_block_is_zero():
    X = values()
    fitted, x, present = scaled(X, "feature")
    assert fitted.dims == [2, 4]
    hole = np.isnan(X[:, 3])
    assert (x[hole, 3] == 0).all()
    assert len(np.unique(x[hole, 5])) == len(np.unique(x[~hole, 5])) == 1
    assert x[hole, 5].max() > x[~hole, 5].max()
    assert (x[~present[:, 0], :2] == 0).all()


def test_weights_enter_mean_and_spread():
    X, weight = values(), np.arange(50) % 3 + 1.0
    repeated = np.repeat(X, weight.astype(int), axis=0)
    weighted, *_ = scaled(X, "feature", weight)
    plain, *_ = scaled(repeated, "feature")
    np.testing.assert_allclose(weighted.mean, plain.mean)
    np.testing.assert_allclose(weighted.scale, plain.scale)


def test_constant_column_stays_finite_and_silent():
    X = values()
    X[:, 4] = 7.3
    _, x, _ = scaled(X, "feature")
    np.testing.assert_allclose(x[:, 4], 0.0, atol=1e-12)


def test_auto_divides_narrow_blocks_by_column_and_wide_ones_as_a_whole():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 43)) * np.linspace(1, 9, 43)
    blocks = {"labs": np.arange(10), "note": np.arange(10, 43)}
    fitted = BlockScaling.fit(X, np.ones(20), feature_names=None, modalities=blocks, scaling="auto")
    assert len(np.unique(fitted.scale[:10])) == 10
    assert len(np.unique(fitted.scale[10:])) == 1


def test_modality_without_a_training_row_is_named():
    X = values()
    X[:, :2] = np.nan
    with pytest.raises(ModalityError, match="ecg"):
        scaled(X, "feature")


def clipped(X, clip, **options):
    weight = options.pop("weight", np.ones(len(X)))
    settings = {"feature_names": None, "modalities": "auto", "scaling": "feature"} | options
    return BlockScaling.fit(X, weight, clip=clip, **settings)


def test_clipping_is_at_robust_standard_deviations_from_the_median():
    X = np.random.default_rng(0).normal(size=(401, 2)) * [1.0, 50.0]
    X[0] = 1e6
    fitted = clipped(X, 2.0)
    first, median, third = np.quantile(X, [0.25, 0.5, 0.75], axis=0)
    reach = 2.0 * (third - first) / 1.349
    np.testing.assert_allclose(fitted.high, median + reach, rtol=0.02)
    np.testing.assert_allclose(fitted.low, median - reach, rtol=0.02, atol=0.5)
    inside = np.clip(X, fitted.low, fitted.high)
    expected = (inside - inside.mean(axis=0)) / inside.std(axis=0) / np.sqrt(2)
    np.testing.assert_allclose(fitted.apply(X)[0], expected)


def test_column_without_interquartile_range_is_clipped_by_its_spread():
    X = np.zeros((100, 1))
    X[:5] = 1.0
    fitted = clipped(X, 3.0)
    assert fitted.high[0] == pytest.approx(3 * X.std())


def test_automatic_clipping_is_of_wide_blocks():
    X = np.random.default_rng(0).normal(size=(50, 43))
    blocks = {"labs": list(range(10)), "rna": list(range(10, 43))}
    fitted = clipped(X, "auto", modalities=blocks)
    assert np.isinf(fitted.high[:10]).all()
    assert np.isfinite(fitted.high[10:]).all()


def test_clipping_counts_a_row_of_weight_two_twice_and_ignores_holes():
    X = values()[:, 2:]
    weight = np.arange(len(X)) % 3 + 1
    weighted = clipped(X, 2.0, weight=weight.astype(float))
    repeated = clipped(np.repeat(X, weight, axis=0), 2.0)
    for name in ("low", "high", "mean", "scale"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name))
    assert np.isfinite(weighted.high).all()
