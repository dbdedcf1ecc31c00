from __future__ import annotations

import sys

import numpy as np
import pytest

from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.exceptions import MissingDependencyError, SignalError
from medfusion_sdk.readers.beats import RHYTHM, find_r_peaks, median_beat, rhythm


@pytest.fixture(scope="module")
def ecgs():
    return load_ptbxl().data["ecg"]


def synthetic_ecg(peaks, fs=100, seconds=10, noise=0.03, seed=0):
    """Three leads of P, QRS and T bumps at known R peaks, one lead upside down."""
    time = np.arange(int(seconds * fs)) / fs
    wave = np.zeros_like(time)
    for peak in np.asarray(peaks) / fs:
        for shift, width, height in ((-0.16, 0.025, 0.15), (0, 0.012, 1.2), (0.25, 0.05, 0.3)):
            wave += height * np.exp(-0.5 * ((time - peak - shift) / width) ** 2)
    drift = 0.5 * np.sin(2 * np.pi * 0.3 * time)
    rng = np.random.default_rng(seed)
    return (
        np.stack([wave, -0.7 * wave, 0.2 * wave]) + drift + noise * rng.normal(size=(3, len(time)))
    )


@pytest.mark.parametrize(("fs", "rate"), [(100, 60), (100, 140), (250, 75), (500, 45)])
def test_r_peaks_of_known_beats_are_found_within_20_ms(fs, rate):
    known = np.arange(0.7 * fs, 9.5 * fs, 60 / rate * fs).round().astype(int)
    found = find_r_peaks(synthetic_ecg(known, fs), fs)
    assert len(found) == len(known)
    assert np.abs(found - known).max() <= 0.02 * fs


def test_r_peaks_of_an_irregular_rhythm_are_found():
    known = 60 + np.cumsum([0, 60, 95, 70, 110, 64, 88, 75, 120, 66])
    found = find_r_peaks(synthetic_ecg(known), 100)
    np.testing.assert_allclose(found, known, atol=2)


def test_r_peaks_of_real_ecgs_make_plausible_heart_rates(ecgs):
    intervals = [np.diff(find_r_peaks(ecg, 100)) / 100 for ecg in ecgs.iloc[:40]]
    assert min(map(len, intervals)) >= 3
    rates = np.array([60 / np.median(each) for each in intervals])
    assert ((rates > 35) & (rates < 150)).all()
    irregularity = np.array([each.std() / each.mean() for each in intervals])
    # A detector that takes T waves for beats, or misses beats, alternates long and short.
    assert np.median(irregularity) < 0.08
    assert (irregularity > 0.3).mean() < 0.1


RATES = (100, 128, 200, 257, 360, 500, 1000, 2000, 5000)


def realistic_ecg(seed, fs):
    """Ten seconds of three leads with noise of one density, wander and irregular beats, (x, R)."""
    rng = np.random.default_rng(seed)
    rr = 60 / rng.uniform(45, 140) * rng.uniform(*((0.8, 1.2) if seed % 2 else (0.97, 1.03)), 60)
    known = 0.5 + np.cumsum(rr)
    known = known[known < 9.6]
    height = (0.2, 0.5, 1, 2, 4)[seed % 5]
    tall_t = (0.2, 0.5, 0.9)[seed // 2 % 3]
    time = np.arange(10 * fs) / fs
    waves = ((-0.17, 0.022, 0.12), (-0.028, 0.009, -0.12), (0, 0.011, 1.0), (0.03, 0.01, -0.25),
             (0.26, 0.045, tall_t))  # fmt: skip
    beat = np.zeros_like(time)
    for shift, width, size in waves:
        beat += size * np.exp(-0.5 * ((time[:, None] - known - shift) / width) ** 2).sum(axis=1)
    ecg = np.outer([1, 0.7, 0.35], beat) * height * (1 if seed % 3 else -1)
    ecg += 0.3 * np.sin(2 * np.pi * 0.25 * time + rng.uniform(0, 6))
    return ecg + 0.02 * min(1, height) * np.sqrt(fs / 100) * rng.normal(size=ecg.shape), known


@pytest.mark.parametrize("fs", RATES)
@pytest.mark.parametrize("seed", range(12))
def test_r_peaks_of_any_rate_polarity_and_height_are_the_true_ones(seed, fs):
    ecg, known = realistic_ecg(seed, fs)
    found = find_r_peaks(ecg, fs) / fs
    assert len(found) == len(known)
    np.testing.assert_allclose(found, known, atol=0.01)


@pytest.mark.parametrize("fs", RATES[1:])
def test_r_peaks_of_real_ecgs_are_the_same_at_every_rate(ecgs, fs):
    from scipy.signal import resample

    for ecg in ecgs.iloc[:12].to_list():
        coarse = find_r_peaks(ecg, 100) / 100
        fine = find_r_peaks(resample(ecg.astype(float), 10 * fs, axis=1), fs) / fs
        assert len(fine) == len(coarse)
        # The Fourier method bends the ends, where a beat may be cut.
        inside = (coarse > 0.5) & (coarse < 9.5)
        np.testing.assert_allclose(fine[inside], coarse[inside], atol=0.01)


def test_t_waves_as_tall_as_the_r_waves_are_no_beats():
    for seed in (11, 29, 34):
        ecg, known = realistic_ecg(seed, 200)
        assert len(find_r_peaks(ecg, 200)) == len(known)


@pytest.mark.parametrize("fs", [100, 500, 1000])
def test_leads_without_samples_do_not_disturb_the_others(fs):
    ecg, known = realistic_ecg(1, fs)
    ecg[1], ecg[2, : fs // 2], ecg[2, fs:] = np.nan, np.inf, 3.0
    np.testing.assert_allclose(find_r_peaks(ecg, fs) / fs, known, atol=0.01)
    assert find_r_peaks(np.full((2, 10 * fs), np.nan), fs).tolist() == []


@pytest.mark.parametrize("fs", [100, 500, 2000])
def test_r_peaks_of_a_strip_of_three_seconds_are_found(fs):
    for seed in (1, 2, 3):
        ecg, known = realistic_ecg(seed, fs)
        within = known[known < 2.8]
        found = find_r_peaks(ecg[:, : 3 * fs], fs) / fs
        for peak in within:
            assert np.abs(found - peak).min() < 0.01


def test_r_peaks_do_not_depend_on_the_unit(ecgs):
    ecg = ecgs.iloc[0].astype(float)
    np.testing.assert_array_equal(find_r_peaks(ecg, 100), find_r_peaks(ecg * 1000, 100))


@pytest.mark.parametrize(
    "signal",
    [np.zeros((12, 1000)), np.full((2, 1000), 3.7), np.ones((1, 40)), np.zeros((1, 1))],
    ids=["zero", "flat", "short", "one sample"],
)
def test_signal_without_beats_has_no_r_peaks(signal):
    assert find_r_peaks(signal, 100).tolist() == []


def test_flat_leads_do_not_disturb_the_others():
    known = np.arange(70, 950, 80)
    ecg = synthetic_ecg(known)
    ecg[1:] = 0.0
    np.testing.assert_allclose(find_r_peaks(ecg, 100), known, atol=2)


def test_r_peaks_at_too_low_a_rate_are_refused():
    with pytest.raises(SignalError, match="at 25 samples per second; expected at least 50"):
        find_r_peaks(np.zeros((1, 1000)), 25)


def test_r_peaks_without_wfdb_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "wfdb.processing", None)
    with pytest.raises(MissingDependencyError, match=r"medfusion-sdk\[signals\]"):
        find_r_peaks(synthetic_ecg([100, 200]), 100)


def test_median_beat_is_free_of_an_ectopic_beat_and_of_drift():
    known = np.arange(70, 950, 80)
    ecg = synthetic_ecg(known, noise=0)
    clean, _ = median_beat(synthetic_ecg(known, noise=0), known, 20, 30)
    ecg[:, known[4] - 5 : known[4] + 6] -= 3.0
    with_ectopic, n_beats = median_beat(ecg, known, 20, 30)
    assert n_beats == len(known)
    np.testing.assert_allclose(with_ectopic, clean, atol=0.05)
    assert clean[0].argmax() == 20


def test_median_beat_leaves_out_windows_that_reach_over_the_ends():
    signal = np.arange(100.0)[np.newaxis]
    beat, n_beats = median_beat(signal, np.array([5, 50, 95]), 10, 10)
    assert n_beats == 1
    np.testing.assert_array_equal(beat[0], np.arange(40.0, 60.0) - 49.5)


def test_median_beat_of_a_long_recording_takes_beats_from_all_of_it():
    peaks = np.arange(10, 60_000, 20)
    signal = np.where(np.arange(60_000) < 45_000, 0.0, 8.0)[np.newaxis]
    signal[0, peaks] += 1 + peaks / 60_000
    beat, n_beats = median_beat(signal, peaks, 5, 5)
    assert n_beats == 1000
    assert beat[0, 5] == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("length", [4, 9, 10, 31])
def test_median_beat_without_peaks_is_the_middle_of_the_signal(length):
    signal = np.zeros((2, length))
    signal[:, length // 2] = 1.0
    beat, n_beats = median_beat(signal, np.empty(0, dtype=int), 4, 6)
    assert n_beats == 0
    assert beat.shape == (2, 10)
    assert beat[0].argmax() in (4, 5)


def test_rhythm_of_known_intervals():
    peaks = np.array([0, 80, 180, 260])  # 0.8, 1.0, 0.8 s
    described = dict(zip(RHYTHM, rhythm(peaks, 4, 100), strict=True))
    assert described["n_beats"] == 4
    assert described["rr_median"] == pytest.approx(0.8)
    assert described["rr_sd"] == pytest.approx(np.std([0.8, 1.0, 0.8]))
    assert described["rr_rmssd"] == pytest.approx(0.2)


@pytest.mark.parametrize("peaks", [[], [50], [50, 130]])
def test_rhythm_of_few_beats_is_finite(peaks):
    assert np.isfinite(rhythm(np.array(peaks, dtype=int), len(peaks), 100)).all()
