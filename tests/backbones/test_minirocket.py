from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medfusion_sdk.backbones.minirocket import GRID, Layout, MiniRocket, make_layout, standardise
from medfusion_sdk.backbones.minirocket_biases import (
    fit_biases,
    frozen_minirocket,
    reference_ensemble,
)

ORACLE = Path(__file__).parents[1] / "data" / "minirocket_oracle.npz"
CASES = ("twelve", "three", "one")


@pytest.fixture(scope="module")
def oracle():
    """aeon's parameters and features; made by tests/oracles/minirocket_oracle.py."""
    with np.load(ORACLE) as stored:
        return dict(stored)


def aeon_layout(oracle, case):
    n_channels, length = oracle[f"{case}_X"].shape[1:]
    dilations, counts = oracle[f"{case}_dilations"], oracle[f"{case}_counts"]
    channels = np.zeros((len(dilations) * 84, n_channels), dtype=bool)
    combination = np.repeat(np.arange(len(channels)), oracle[f"{case}_per_combination"])
    channels[combination, oracle[f"{case}_indices"]] = True
    shape = (len(dilations), 84, n_channels)
    return Layout(length, tuple(dilations), tuple(counts), channels.reshape(shape))


@pytest.mark.parametrize("case", CASES)
def test_features_equal_aeons_given_its_dilations_channels_and_biases(oracle, case):
    rocket = MiniRocket(aeon_layout(oracle, case), oracle[f"{case}_biases"])
    ours = rocket(torch.from_numpy(oracle[f"{case}_X"]))
    np.testing.assert_allclose(ours, oracle[f"{case}_features"], atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_biases_equal_aeons_of_the_same_signal_to_the_grid(oracle, case):
    biases = fit_biases(oracle[f"{case}_X"][:1], aeon_layout(oracle, case), seed=0)
    np.testing.assert_allclose(biases, oracle[f"{case}_biases"], atol=0.6 * GRID)


def test_layouts_dilations_and_counts_equal_aeons(oracle):
    names = [name for name in oracle if name.startswith("layout_")]
    assert len(names) == 7
    for name in names:
        length, n_features = map(int, name.split("_")[1:])
        layout = make_layout(1, length, n_features, seed=0)
        np.testing.assert_array_equal([layout.dilations, layout.counts], oracle[name])


def test_layouts_channel_combinations_have_one_to_nine_channels_small_ones_most_often():
    sizes = make_layout(12, 1000, 10_000, seed=0).channels.sum(axis=2).ravel()
    expected = np.diff(np.log(np.arange(1, 11))) / np.log(10)
    np.testing.assert_allclose(np.bincount(sizes)[1:] / len(sizes), expected, atol=0.03)
    used = make_layout(12, 1000, 10_000, seed=0).channels.mean(axis=(0, 1))
    assert used.max() / used.min() < 1.2


def test_layouts_of_two_seeds_differ_in_channels_alone():
    one, two = (make_layout(12, 200, 840, seed=seed) for seed in (0, 1))
    assert one.dilations == two.dilations
    assert not np.array_equal(one.channels, two.channels)


def test_convolution_of_an_impulse_by_hand():
    # Kernel 0 weighs its first three taps 2; at dilation 1 the impulse at 20 is met by tap i at
    # 24 - i, so the convolution is 2 at 22 to 24, -1 at 16 to 21, and 0 elsewhere.
    layout = Layout(40, (1,), (1,), np.ones((1, 84, 1), dtype=bool))
    impulse = torch.zeros(1, 1, 40)
    impulse[0, 0, 20] = 1
    for bias, share in ((1.5, 3 / 40), (-0.5, 34 / 40), (2.5, 0), (-1.5, 1)):
        rocket = MiniRocket(layout, np.full(84, bias))
        assert rocket(impulse)[0, 0].item() == pytest.approx(share)


@pytest.fixture(scope="module")
def rocket():
    return MiniRocket(*frozen_minirocket(12, 300, 840, 0))


@pytest.fixture(scope="module")
def signals():
    return torch.from_numpy(reference_ensemble(12, 300, seed=9)[:12])


def test_features_are_the_same_to_the_bit_for_any_batch_and_thread_count(rocket, signals):
    whole = rocket(signals)
    single = torch.cat([rocket(row[None]) for row in signals])
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        other = rocket(signals)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(whole, single)
    assert torch.equal(whole, other)


def test_convolutions_are_exact_in_float32(rocket, signals):
    # Double precision leaves no doubt about the sums; biases lie between grid points.
    exact = MiniRocket(rocket.layout, rocket.biases.numpy()).double()
    torch.testing.assert_close(rocket(signals), exact(signals.double()).float(), atol=1e-7, rtol=0)


def test_largest_values_on_the_grid_still_sum_exactly():
    layout = make_layout(9, 50, 84, seed=3)
    layout = Layout(50, layout.dilations, layout.counts, np.ones((1, 84, 9), dtype=bool))
    rng = np.random.default_rng(0)
    extreme = torch.from_numpy(128 - rng.integers(0, 2, (4, 9, 50)) / 1024).float()
    biases = fit_biases(extreme.numpy(), layout, seed=0)
    rocket = MiniRocket(layout, biases)
    exact = MiniRocket(layout, biases).double()
    torch.testing.assert_close(rocket(extreme), exact(extreme.double()).float(), atol=1e-7, rtol=0)


def test_frozen_biases_are_worked_out_once_and_cannot_be_changed():
    _, biases = frozen_minirocket(2, 50, 84, 3)
    assert frozen_minirocket(2, 50, 84, 3)[1] is biases
    with pytest.raises(ValueError, match="read-only"):
        biases[0] = 0


def test_rocket_has_nothing_to_train(rocket):
    assert not list(rocket.parameters())


def test_features_do_not_depend_on_how_products_may_be_rounded(rocket, signals):
    expected = rocket(signals)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(rocket(signals), expected)
    finally:
        torch.set_float32_matmul_precision(before)


def test_frozen_rocket_leaves_global_random_state_and_threads_alone(rocket, signals):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads = torch.get_num_threads()
    frozen_minirocket.__wrapped__(2, 50, 84, 3)
    rocket(signals)
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert torch.get_num_threads() == threads


def test_frozen_biases_spread_the_features_of_signals_from_elsewhere(oracle):
    X = standardise(oracle["three_X"])
    features = MiniRocket(*frozen_minirocket(3, 1000, 840, 0))(torch.from_numpy(X)).numpy()
    # Biases off the signals' scale would leave features at 0 or 1.
    assert ((features > 0.02) & (features < 0.98)).mean() > 0.8


def test_frozen_biases_of_two_seeds_differ():
    one, two = (frozen_minirocket(1, 100, 840, seed)[1] for seed in (0, 1))
    assert (one != two).mean() > 0.9


def test_standardise_is_blind_to_unit_and_baseline_and_lands_on_the_grid():
    signal = np.random.default_rng(0).normal(size=(3, 200))
    ours = standardise(signal)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours / GRID, np.rint(ours / GRID))
    np.testing.assert_allclose(ours, standardise(1000 * signal + 50), atol=GRID)
    np.testing.assert_allclose(ours.std(axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 7.1, -1e9, 1e-30])
def test_standardise_makes_a_flat_channel_zero(value):
    assert not standardise(np.full((1, 999), value)).any()


def test_standardise_cuts_what_lies_far_out():
    spike = np.zeros((1, 100_000))
    spike[0, 5] = 1.0
    assert standardise(spike).max() == 128.0


def test_reference_ensemble_is_the_same_every_time_and_coloured():
    ensemble = reference_ensemble(4, 256, seed=0)
    np.testing.assert_array_equal(ensemble, reference_ensemble(4, 256, seed=0))
    power = np.abs(np.fft.rfft(ensemble)) ** 2
    slope = np.polyfit(np.log(np.arange(2, 100)), np.log(power[..., 2:100].mean((0, 1))), 1)[0]
    assert -2.5 < slope < -0.5


@pytest.mark.parametrize("length", [9, 10, 17])
def test_shortest_signals_have_features(length):
    features = MiniRocket(*frozen_minirocket(2, length, 84, 0))(torch.zeros(2, 2, length))
    assert features.shape == (2, 84)
    assert torch.isfinite(features).all()
