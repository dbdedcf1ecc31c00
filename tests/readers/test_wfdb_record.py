from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medfusion_sdk.exceptions import (
    CellError,
    CellFileNotFoundError,
    SignalError,
)
from medfusion_sdk.readers.signal import read_signal
from medfusion_sdk.readers.wfdb_signals import MAX_SAMPLES

LINE = "ecg.dat 16 1000(0)/mV 16 0 0 {sum} 0 {lead}"


def write(folder: Path, header: str, samples: np.ndarray | None = None) -> Path:
    """Write header and format-16 samples (time, channels) and return the record's path."""
    (folder / "ecg.hea").write_text(header, encoding="utf-8")
    if samples is not None:
        (folder / "ecg.dat").write_bytes(samples.astype("<i2").tobytes())
    return folder / "ecg"


def signal_lines(samples: np.ndarray, **changes: str) -> str:
    lines = [
        LINE.format(sum=int(column.sum()) % 65536, lead=f"V{number}")
        for number, column in enumerate(samples.T, start=1)
    ]
    text = "\n".join(lines)
    for old, new in changes.values():
        text = text.replace(old, new)
    return text


@pytest.fixture
def samples():
    return np.random.default_rng(0).integers(-2000, 2000, (300, 2))


def test_well_formed_record_is_read_in_millivolts(tmp_path, samples):
    record = write(tmp_path, "ecg 2 100 300\n" + signal_lines(samples), samples)
    np.testing.assert_array_equal(read_signal(record), (samples.T / 1000).astype(np.float32))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("uV", 1e-3), ("V", 1e3), ("mV", 1), ("nV", 1e-6), ("µV", 1e-3), ("MV", 1), ("UV", 1e-3)],
)
def test_units_are_converted_to_millivolts(tmp_path, samples, unit, factor):
    header = "ecg 2 100 300\n" + signal_lines(samples).replace("/mV", f"/{unit}")
    np.testing.assert_allclose(
        read_signal(write(tmp_path, header, samples)), samples.T / 1000 * factor, rtol=1e-6
    )


@pytest.mark.parametrize("fmt", ["80", "16", "24", "32", "212"])
def test_every_format_of_wfdb_itself_is_read(tmp_path, fmt):
    written = np.round(np.random.default_rng(0).uniform(-1, 1, (251, 3)), 2)
    wfdb.wrsamp(
        "ecg", fs=250, units=["mV"] * 3, sig_name=["I", "II", "III"], p_signal=written,
        fmt=[fmt] * 3, adc_gain=[100.0] * 3, baseline=[0] * 3, write_dir=str(tmp_path),
    )  # fmt: skip
    np.testing.assert_allclose(read_signal(tmp_path / "ecg"), written.T, atol=1e-6)


def test_record_of_several_files_reads_each(tmp_path, samples):
    lines = signal_lines(samples).splitlines()
    header = "\n".join(["ecg 2 100 300", lines[0], lines[1].replace("ecg.dat", "two.dat")])
    (tmp_path / "two.dat").write_bytes(samples[:, 1].astype("<i2").tobytes())
    np.testing.assert_allclose(
        read_signal(write(tmp_path, header, samples[:, :1])), samples.T / 1000, rtol=1e-6
    )


def test_only_what_the_duration_needs_is_read_and_checked(tmp_path, samples):
    flipped = samples.copy()
    flipped[250, 0] ^= 1
    record = write(tmp_path, "ecg 2 100 300\n" + signal_lines(samples), flipped)
    assert read_signal(record, duration=2).shape == (2, 200)
    with pytest.raises(SignalError, match="samples of V1 sum to"):
        read_signal(record)


LIES = {
    "more samples": ("ecg 2 100 301", {}, r"promises 301 frames of 2 samples, 1204 bytes.*cut off"),
    "fewer samples": ("ecg 2 100 200", {}, "1200.*longer than that"),
    "absurd length": ("ecg 2 100 99999999999999", {}, "cut off"),
    "more channels": ("ecg 3 100 300", {}, "promises 3 signals and describes 2"),
    "no channels": ("ecg 0 100 300", {}, "promises 0 signals"),
    "no rate": ("ecg 2 0 300", {}, "promises 0.0 samples per second|promises 0 samples"),
    "no gain": ("ecg 2 100 300\necg.dat 16\necg.dat 16", None, "no positive gain"),
    "gain of zero": ("ecg 2 100 300", {"g": ("1000(0)", "0(0)")}, "no positive gain"),
    "negative gain": ("ecg 2 100 300", {"g": ("1000(0)", "-200(0)")}, "no positive gain"),
    "other quantity": ("ecg 2 100 300", {"u": ("/mV", "/mmHg")}, "in 'mmHg'; expected V, mV"),
    "no voltage": ("ecg 2 100 300", {"u": ("/mV", "/°C")}, "in '°C'; expected V, mV"),
    "wrong checksum": ("ecg 2 100 300", {"c": (" 0 V1", "1 0 V1")}, "their checksum is"),
    "unknown format": ("ecg 2 100 300", {"f": (" 16 1000", " 17 1000")}, "format"),
    "huge frame": ("ecg 2 100 300", {"f": ("dat 16 ", "dat 16x99999999 ")}, "cut off"),
    "huge skew": ("ecg 2 100 300", {"f": (" 16 1000", " 16:999999999 1000")}, "by more than its"),
    "huge offset": ("ecg 2 100 300", {"f": (" 16 1000", " 16+99999999 1000")}, "cut off"),
    "segments": ("ecg/3 2 100 300\none 150\ntwo 150", None, "promises 3 segments and names 2"),
    "gaps alone": ("ecg/1 2 100 300\n~ 300", None, "consists of gaps"),
    "other folder": ("ecg/1 2 100 300\n../ecg 300", None, "names the segment"),
    "itself": ("ecg/1 2 100 300\necg 300", None, "which has segments itself"),
    "no record line": ("", {}, "promises|can't be read"),
    "nonsense": ("\x01\x02 what", {}, "can't be read as a WFDB record"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_header_that_lies_is_refused_saying_how(tmp_path, samples, lie):
    first, changes, message = LIES[lie]
    text = "" if changes is None else signal_lines(samples, **changes)
    with pytest.raises(SignalError, match=message) as caught:
        read_signal(write(tmp_path, f"{first}\n{text}", samples))
    assert "ecg.hea" in str(caught.value)


@pytest.mark.parametrize("name", ["../ecg.dat", "/etc/hostname", "sub/ecg.dat", ".."])
def test_signal_file_outside_the_folder_is_refused(tmp_path, samples, name):
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "ecg.dat").write_bytes(bytes(1200))
    header = "ecg 2 100 300\n" + signal_lines(samples).replace("ecg.dat", name)
    with pytest.raises(SignalError, match="expected a file name in the same folder"):
        read_signal(write(folder, header))


def test_missing_signal_file_is_named(tmp_path, samples):
    record = write(tmp_path, "ecg 2 100 300\n" + signal_lines(samples))
    with pytest.raises(CellFileNotFoundError, match=r"signal file 'ecg\.dat', which isn't there"):
        read_signal(record)


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", bytes(1 << 21)])
def test_file_that_is_no_header_is_refused(tmp_path, content):
    (tmp_path / "ecg.hea").write_bytes(content)
    with pytest.raises(SignalError, match=r"ecg\.hea (is empty|has 2097152 bytes)"):
        read_signal(tmp_path / "ecg")


def test_record_longer_than_the_limit_is_refused_unless_cut(tmp_path):
    length = MAX_SAMPLES + 2
    (tmp_path / "ecg.hea").write_text(f"ecg 1 100 {length}\necg.dat 16 1000(0)/mV 16 0 0 0 0 I\n")
    with (tmp_path / "ecg.dat").open("wb") as file:
        file.truncate(2 * length)  # a hole: takes no room on the disk
    with pytest.raises(SignalError, match=f"at most {MAX_SAMPLES} samples"):
        read_signal(tmp_path / "ecg")
    assert read_signal(tmp_path / "ecg", duration=1).shape == (1, 100)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_header_damaged_anywhere_reads_right_or_fails_as_a_cell_error(tmp_path, data):
    samples = np.random.default_rng(0).integers(-2000, 2000, (300, 2))
    header = bytearray(("ecg 2 100 300\n" + signal_lines(samples)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(header) - 1))
        header[place] = data.draw(st.sampled_from(b"0123456789 -+/.:xeE()\n#~Vm\xff\x00"))
    record = write(tmp_path, "", samples)
    record.with_suffix(".hea").write_bytes(bytes(header))
    try:
        read = read_signal(record)
    except CellError:
        return
    assert read.dtype == np.float32
    assert read.size <= 10 * samples.size
    assert np.isfinite(read).all()
