from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.exceptions import CellFileNotFoundError, SignalError
from medfusion_sdk.readers.signal import read_signal, signal_digest

WFDB = Path(__file__).parents[1] / "data" / "wfdb"
SINE = np.sin(np.arange(1000) * 2 * np.pi * 5 / 100)  # 5 Hz at 100 Hz


@pytest.mark.parametrize("ecg_id", [1, 5, 13])
def test_wfdb_record_equals_the_bundled_array_of_the_same_record(ecg_id):
    bundled = load_ptbxl().data["ecg"].loc[ecg_id]
    read = read_signal(WFDB / f"{ecg_id:05d}_lr")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, bundled)


def test_wfdb_record_is_found_by_stem_header_or_data_file():
    cells = [WFDB / "00001_lr", str(WFDB / "00001_lr.hea"), str(WFDB / "00001_lr.dat")]
    first, *others = [read_signal(cell) for cell in cells]
    assert all(np.array_equal(first, other) for other in others)


def test_leads_by_name_whatever_their_case_come_in_the_order_asked_for():
    whole = read_signal(WFDB / "00001_lr")
    np.testing.assert_array_equal(
        read_signal(WFDB / "00001_lr", leads=("v6", "aVR", 0)), whole[[11, 3, 0]]
    )


def test_leads_of_a_wrong_name_are_refused_with_the_names_there_are():
    with pytest.raises(SignalError, match=r"no leads named 'V7'.*I, II, III, AVR.*V6"):
        read_signal(WFDB / "00001_lr", leads=("I", "V7"))


def test_leads_by_name_of_an_array_are_refused():
    with pytest.raises(SignalError, match=r"no lead names.*positions from 0 to 1"):
        read_signal(np.zeros((2, 50)), leads=("II",))


@pytest.mark.parametrize("position", [2, -1])
def test_leads_by_position_outside_the_array_are_refused(position):
    with pytest.raises(SignalError, match="channels 0 to 1, not"):
        read_signal(np.zeros((2, 50)), leads=(position,))


@pytest.mark.parametrize(("source_fs", "length"), [(500, 5000), (128, 1280), (360, 3600)])
def test_resampling_keeps_a_sine_and_the_duration(source_fs, length):
    fine = np.sin(np.arange(length) * 2 * np.pi * 5 / source_fs) + 3.0
    coarse = read_signal(fine, source_fs=source_fs, fs=100)
    assert coarse.shape == (1, 1000)
    np.testing.assert_allclose(coarse[0, 50:-50], SINE[50:-50] + 3.0, atol=2e-3)
    # A constant part must not ring at the ends.
    np.testing.assert_allclose(coarse[0], SINE + 3.0, atol=0.2)


def test_resampling_removes_what_the_new_rate_cannot_carry():
    hum = np.sin(np.arange(5000) * 2 * np.pi * 80 / 500)
    assert np.abs(read_signal(hum, source_fs=500, fs=100)[0, 20:-20]).max() < 0.01


@pytest.mark.parametrize(("seconds", "expected"), [(4, 400), (12.5, 1250)])
def test_duration_keeps_the_beginning_or_adds_zeros_behind(seconds, expected):
    read = read_signal(SINE, fs=100, duration=seconds)
    assert read.shape == (1, expected)
    np.testing.assert_allclose(read[0, :1000], SINE[:expected], atol=1e-6)
    assert not read[0, 1000:].any()


def test_duration_without_any_rate_is_refused():
    with pytest.raises(SignalError, match="needs a sampling rate"):
        read_signal(SINE, duration=1)


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        (np.zeros((1000, 12)), r"shape \(1000, 12\): more channels than samples.*array.T"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\), expected \(channels, time\)"),
        (np.zeros((2, 0)), r"shape \(2, 0\), expected"),
        (np.zeros((1, 9), dtype=complex), "complex128, expected real numbers"),
        ([[1.0, 2.0], [3.0]], "isn't rectangular"),
        (["a", "b"], "<U1, expected real numbers"),
        (3.5, "found float '3.5'"),
        (b"bytes", "found bytes"),
        (np.full((1, 9), 1e300), "beyond float32"),
    ],
)
def test_cell_that_is_no_signal_is_refused_saying_what_was_found(cell, found):
    with pytest.raises(SignalError, match=found):
        read_signal(cell)


def test_flat_signal_and_integers_are_legal():
    read = read_signal(np.full((2, 30), 7, dtype=np.int16))
    assert (read == 7).all()
    assert read.dtype == np.float32


def test_list_and_one_dimension_are_one_channel():
    assert read_signal([1, 2, 3]).shape == (1, 3)
    assert read_signal([[1, 2, 3], [4, 5, 6]]).shape == (2, 3)


def test_nan_run_is_refused_naming_lead_and_samples(gappy_record):
    with pytest.raises(SignalError, match="lead V2 is NaN from sample 40 to 44"):
        read_signal(gappy_record)


def test_nan_run_within_the_allowed_gap_is_a_straight_line():
    ramp = np.arange(100.0)
    holed = ramp.copy()
    holed[40:45] = np.nan
    np.testing.assert_allclose(read_signal(holed, fs=100, max_gap=0.05)[0], ramp, atol=1e-5)
    with pytest.raises(SignalError, match="channel 0 is NaN from sample 40 to 44; runs of up to 4"):
        read_signal(holed, fs=100, max_gap=0.049)


def test_nan_outside_the_leads_and_duration_in_use_does_not_matter(gappy_record):
    assert np.isfinite(read_signal(gappy_record, leads=("V1",))).all()
    assert np.isfinite(read_signal(gappy_record, duration=0.4)).all()


def test_channel_all_nan_is_refused_whatever_the_allowed_gap():
    with pytest.raises(SignalError, match="NaN from sample 0 to 29"):
        read_signal(np.full(30, np.nan), fs=1, max_gap=1e6)


def test_infinity_is_refused():
    with pytest.raises(SignalError, match="channel 1 is infinite at 2"):
        read_signal([[0, 0, 0], [0, 0, -np.inf]])


def test_npy_file_is_read_and_resampled(tmp_path):
    np.save(tmp_path / "ecg.npy", np.stack([SINE, -SINE]).astype(np.float32))
    read = read_signal(tmp_path / "ecg.npy", source_fs=100, fs=50, duration=2)
    assert read.shape == (2, 100)
    np.testing.assert_array_equal(
        read, read_signal(tmp_path / "ecg", source_fs=100, fs=50, duration=2)
    )


@pytest.mark.parametrize("content", ["objects", "short", "pickle", "empty", "archive", "text"])
def test_npy_file_that_is_not_a_plain_complete_array_is_refused(tmp_path, content):
    path = tmp_path / "ecg.npy"
    if content == "objects":
        np.save(path, np.array([{}, 1], dtype=object), allow_pickle=True)
    elif content == "short":
        np.save(path, np.zeros((2, 1000)))
        path.write_bytes(path.read_bytes()[:-8])
    elif content == "archive":
        with path.open("wb") as file:
            np.savez(file, a=np.zeros(9))
    else:
        path.write_bytes({"pickle": b"\x80\x04K*.", "empty": b"", "text": b"1 2 3"}[content])
    with pytest.raises(SignalError, match=r"ecg\.npy"):
        read_signal(path)


def test_npy_header_that_promises_terabytes_allocates_nothing(tmp_path):
    path = tmp_path / "ecg.npy"
    header = {"descr": "<f8", "fortran_order": False, "shape": (12, 1 << 40)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(800))
    with pytest.raises(SignalError, match=r"ecg\.npy"):
        read_signal(path)


def test_path_without_a_file_says_where_it_looked(tmp_path):
    with pytest.raises(CellFileNotFoundError, match=r"looked for .*x\.hea and .*x\.npy"):
        read_signal(tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        signal_digest(tmp_path / "x.npy")


def test_path_of_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "ecg.csv").write_text("1,2,3")
    with pytest.raises(SignalError, match=r"neither a WFDB record .* nor a \.npy file"):
        read_signal(tmp_path / "ecg.csv")


def test_digest_of_a_record_follows_header_and_data(tmp_path):
    for suffix in ("hea", "dat"):
        (tmp_path / f"00001_lr.{suffix}").write_bytes((WFDB / f"00001_lr.{suffix}").read_bytes())
    copy = tmp_path / "00001_lr"
    digests = [signal_digest(WFDB / "00001_lr"), signal_digest(copy)]
    data = bytearray(copy.with_suffix(".dat").read_bytes())
    data[100] ^= 1
    copy.with_suffix(".dat").write_bytes(data)
    digests.append(signal_digest(copy))
    copy.with_suffix(".hea").write_text(copy.with_suffix(".hea").read_text() + "# note\n")
    digests.append(signal_digest(copy))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_digest_of_an_array_follows_its_content():
    assert signal_digest(SINE) == signal_digest(SINE[np.newaxis].copy())
    assert signal_digest(SINE) != signal_digest(-SINE)


def test_resampling_by_fourier_is_exact_for_a_periodic_signal():
    time = np.arange(500) / 50
    coarse = np.sin(2 * np.pi * 3 * time) + 0.5 * np.cos(2 * np.pi * 11 * time) + 2
    fine = np.arange(1250) / 125
    expected = np.sin(2 * np.pi * 3 * fine) + 0.5 * np.cos(2 * np.pi * 11 * fine) + 2
    read = read_signal(coarse, source_fs=50, fs=125, resampling="fourier")
    np.testing.assert_allclose(read[0], expected, atol=1e-6)


def test_channels_of_an_array_take_the_names_of_the_source_or_of_the_leads():
    array = np.arange(30.0).reshape(3, 10)
    named = {"leads": ("V1", "I"), "source_leads": ("I", "II", "V1")}
    np.testing.assert_array_equal(read_signal(array, **named), array[[2, 0]])
    np.testing.assert_array_equal(read_signal(array[:2], **named), array[:2])
    with pytest.raises(SignalError, match=r"1 channels, expected 3 \(I, II, V1\) or 2 \(V1, I\)"):
        read_signal(array[:1], **named)


def test_names_of_a_record_come_before_those_of_the_source():
    whole = read_signal(WFDB / "00001_lr")
    names = [f"lead{i}" for i in range(12)]
    read = read_signal(WFDB / "00001_lr", leads=("V6",), source_leads=names)
    np.testing.assert_array_equal(read, whole[[11]])
