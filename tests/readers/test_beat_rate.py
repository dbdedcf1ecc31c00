from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import resample

from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.readers.beat_rate import implausible_rate
from medfusion_sdk.readers.beats import find_r_peaks


@pytest.fixture(scope="module")
def ecgs():
    return [np.asarray(ecg, dtype=float) for ecg in load_ptbxl().data["ecg"].iloc[::24]]


def at(ecg, fs):
    """The record at another rate, with noise of one density at all frequencies."""
    noise = np.random.default_rng(0).normal(size=(12, 10 * fs))
    return resample(ecg, 10 * fs, axis=1) + 0.02 * np.sqrt(fs / 100) * noise


def rate(signal, fs):
    return implausible_rate(signal, fs, find_r_peaks(signal, fs))


@pytest.mark.parametrize("fs", [100, 250, 500, 1000])
def test_real_ecgs_at_their_right_rate_are_plausible(ecgs, fs):
    assert [rate(at(ecg, fs), fs) for ecg in ecgs] == [None] * len(ecgs)


@pytest.mark.parametrize(
    ("fs", "taken"), [(500, 100), (1000, 100), (1000, 125), (100, 500), (100, 1000), (128, 1000)]
)
def test_real_ecgs_at_a_wrong_rate_show_the_beats_they_would_have(ecgs, fs, taken):
    for ecg in ecgs:
        true = 60 * 100 / np.median(np.diff(find_r_peaks(ecg, 100)))
        shown = true * taken / fs
        found = rate(at(ecg, fs), taken)
        if shown < 18 or shown > 330:
            assert found is not None
            assert not 20 <= found <= 300
        elif 22 < shown < 270:
            assert found is None


@pytest.mark.parametrize("fs", [100, 500])
def test_signal_without_beats_shows_no_rate(fs):
    assert rate(np.zeros((2, 10 * fs)), fs) is None
    assert rate(np.ones((1, 20)), fs) is None


def test_short_strip_between_two_beats_is_plausible(ecgs):
    assert rate(ecgs[0][:, 50:190], 100) is None
