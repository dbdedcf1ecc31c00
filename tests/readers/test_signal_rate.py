from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion_sdk.exceptions import SignalError
from medfusion_sdk.readers import signal_rate
from medfusion_sdk.readers.signal import read_signal
from medfusion_sdk.readers.signal_rate import resample_signal

RATIOS = [
    (500, 100), (1250, 1), (2000, 1), (5000, 4), (44100, 100), (360, 128), (1024.59, 128),
    (1024.5902, 128), (100, 500), (1, 1250), (128, 1024.59), (250, 249.999), (999, 1000),
    (1e4 / 3, 100), (64.0000001, 64),
]  # fmt: skip


def sine(frequency, rate, n, phase=0.7):
    return np.sin(2 * np.pi * frequency * np.arange(n) / rate + phase)


@pytest.mark.parametrize(("rate", "fs"), RATIOS)
@pytest.mark.parametrize("part", [0.02, 0.2, 0.4])
def test_any_ratio_keeps_what_the_lower_rate_can_carry(rate, fs, part):
    n, frequency = int(200 * rate / min(rate, fs)), part * min(rate, fs)
    found = resample_signal(sine(frequency, rate, n)[np.newaxis] + 3, rate, fs)[0]
    assert len(found) == round(n * fs / rate)
    edge = int(25 * fs / min(rate, fs))
    right = sine(frequency, fs, len(found)) + 3
    np.testing.assert_allclose(found[edge:-edge], right[edge:-edge], atol=5e-4)


@pytest.mark.parametrize(("rate", "fs"), [pair for pair in RATIOS if pair[1] < pair[0] / 2])
@pytest.mark.parametrize("part", [0.5, 0.52, 0.7, 0.99, 1.0])
def test_what_the_new_rate_cannot_carry_vanishes(rate, fs, part):
    n = int(200 * rate / fs)
    found = resample_signal(sine(part * fs, rate, n)[np.newaxis], rate, fs)[0]
    assert np.abs(found[25:-25]).max() < 2e-4


@given(
    rate=st.floats(1, 6000), fs=st.floats(1, 6000), part=st.floats(0.01, 0.4),
    phase=st.floats(0, 6.3), level=st.floats(-100, 100),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_sine_of_any_rates_keeps_frequency_phase_and_amplitude(rate, fs, part, phase, level):
    lower = min(rate, fs)
    n = int(120 * rate / lower)
    if n * max(1, fs / rate) > 1e6:
        return
    found = resample_signal(sine(part * lower, rate, n, phase)[np.newaxis] + level, rate, fs)[0]
    edge = int(30 * fs / lower)
    right = sine(part * lower, fs, len(found), phase) + level
    np.testing.assert_allclose(found[edge:-edge], right[edge:-edge], atol=1e-3)


@pytest.mark.parametrize(("rate", "fs"), RATIOS)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 3000])
def test_constant_stays_what_it_is_to_both_ends(rate, fs, n):
    found = resample_signal(np.full((2, n), -7.25), rate, fs)
    assert found.shape == (2, round(n * fs / rate))
    np.testing.assert_allclose(found, -7.25, rtol=1e-12)


def test_straight_line_stays_one_and_nothing_beyond_it_is_made_up():
    line = np.arange(200.0)[np.newaxis]
    np.testing.assert_allclose(resample_signal(line, 100, 40), [np.arange(0, 200, 2.5)], atol=1e-9)
    finer = resample_signal(line, 100, 250)[0]
    np.testing.assert_allclose(finer, np.minimum(np.arange(500) / 2.5, 199), atol=2e-3)


@pytest.mark.parametrize(("rate", "fs"), [(500, 100), (360, 128), (100, 250), (1000, 999)])
def test_compiled_filter_and_direct_sum_agree(rate, fs, monkeypatch):
    walk = np.random.default_rng(0).normal(size=(3, 1000)).cumsum(axis=1)
    compiled = resample_signal(walk, rate, fs)
    monkeypatch.setattr(signal_rate, "_LARGEST_TERM", 1)
    monkeypatch.setattr(signal_rate, "_WEIGHTS_AT_ONCE", 5000)
    np.testing.assert_allclose(resample_signal(walk, rate, fs), compiled, atol=1e-6)


def test_gap_is_filled_before_the_rate_changes():
    slow = sine(0.2, 500, 5000)
    holed = slow.copy()
    holed[2000:2050] = np.nan
    found = read_signal(holed, source_fs=500, fs=100, max_gap=0.1)[0]
    np.testing.assert_allclose(found[10:-10], slow[::5][10:-10], atol=0.01)


@pytest.mark.parametrize(("n", "rate", "fs"), [(10, 1250, 1), (200, 1, 1e7)])
def test_rates_that_leave_nothing_or_too_much_are_refused(n, rate, fs):
    with pytest.raises(SignalError, match=rf"{n} samples at {rate} Hz: \d+ samples at"):
        read_signal(np.ones(n), source_fs=rate, fs=fs)
