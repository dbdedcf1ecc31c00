"""Every format and layout against samples that were written byte by byte, and against wfdb."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medfusion_sdk.exceptions import CellFileNotFoundError, SignalError
from medfusion_sdk.readers import wfdb_samples
from medfusion_sdk.readers.signal import read_signal, signal_digest
from medfusion_sdk.readers.wfdb_record import read_record
from tests.readers.wfdb_writer import BITS, Lead, encode, expected, write

EVERY = tuple(BITS)
same_folder = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
numbers = itertools.count()


def read(record: Path, **options):
    return read_record(record.with_suffix(".hea"), **options)


@st.composite
def records(draw, fmt):
    """Leads of a format: frames, samples a frame, skews, invalid samples, baselines, gains."""
    n_frames, n_leads = draw(st.integers(1, 15)), draw(st.integers(1, 4))
    limit = 2 ** (BITS[fmt] - 1) - 1
    values = st.integers(-60, 60) if fmt == "8" else st.none() | st.integers(-limit, limit)
    one_rate = draw(st.integers(1, 4))
    leads = []
    for i in range(n_leads):
        per_frame = one_rate if fmt.startswith("5") else draw(st.integers(1, 4))
        samples = draw(
            st.lists(values, min_size=n_frames * per_frame, max_size=n_frames * per_frame)
        )
        leads.append(
            Lead(
                f"L{i}", samples, per_frame, draw(st.integers(0, n_frames)),
                draw(st.sampled_from(["200", "1000.5", "2e1"])), draw(st.integers(-50, 50)),
            )
        )  # fmt: skip
    return leads


@pytest.mark.parametrize("fmt", EVERY)
@same_folder
@given(data=st.data())
def test_any_record_of_each_format_reads_as_it_was_written(tmp_path, fmt, data):
    leads = data.draw(records(fmt))
    prolog = 0 if fmt.startswith("5") else data.draw(st.sampled_from([0, 24]))
    name = f"r{next(numbers)}"
    found = read(write(tmp_path, leads, fmt, name=name, prolog=prolog))
    assert found.leads == tuple(lead.name for lead in leads)
    assert found.rates == tuple(250.0 * lead.per_frame for lead in leads)
    for lead, signal in zip(leads, found.signals, strict=True):
        np.testing.assert_allclose(signal, expected(lead), rtol=1e-12)


@pytest.mark.parametrize("fmt", [fmt for fmt in EVERY if fmt != "61"])  # wfdb 4.3.1 can't
@same_folder
@given(data=st.data())
def test_decoded_samples_are_those_of_wfdb(tmp_path, fmt, data):
    leads = data.draw(records(fmt))
    for lead in leads:
        lead.skew = 0  # of shifted signals wfdb fills the end with numbers
    record = write(tmp_path, leads, fmt, name=f"w{next(numbers)}")
    theirs = wfdb.rdrecord(str(record), physical=False, smooth_frames=False).e_d_signal
    for signal, ours, digital in zip(leads, read(record).signals, theirs, strict=True):
        # assert_allclose takes NaN for NaN.
        code = None if fmt == "8" else -(2 ** (BITS[fmt] - 1))
        values = np.where(digital == code, np.nan, digital.astype(float))
        np.testing.assert_allclose(
            ours, (values - signal.baseline) / float(signal.gain), rtol=1e-12
        )


@pytest.mark.parametrize("fmt", EVERY)
def test_parts_of_a_long_file_join_without_a_seam(tmp_path, fmt, monkeypatch):
    monkeypatch.setattr(wfdb_samples, "_SAMPLES_AT_ONCE", 40)
    rng = np.random.default_rng(0)
    leads = [Lead(f"L{i}", rng.integers(-60, 60, 3 * 131).tolist(), 3) for i in range(2)]
    record = write(tmp_path, leads, fmt)
    for lead, signal in zip(leads, read(record).signals, strict=True):
        np.testing.assert_allclose(signal, expected(lead))
    seconds = 77 / 250
    for lead, signal in zip(leads, read(record, seconds=seconds).signals, strict=True):
        np.testing.assert_allclose(signal, expected(lead)[: 3 * 77])


def plain_leads(n_frames=60, **changes):
    rng = np.random.default_rng(1)
    ii = Lead("II", rng.integers(-200, 200, 4 * n_frames).tolist(), 4)
    abp = Lead("ABP", rng.integers(-200, 200, n_frames).tolist(), unit="mmHg")
    v = Lead("V", rng.integers(-200, 200, n_frames).tolist())
    return [ii, abp, v]


@pytest.mark.parametrize("fmt", ["16", "212", "310", "80"])
def test_changed_sample_of_a_frame_of_several_is_seen_by_the_checksum(tmp_path, fmt):
    record = write(tmp_path, [Lead("A", [5, 6, 7, 8] * 3, 4, skew=1), Lead("B", [1, 2, 3])], fmt)
    read(record)
    content = bytearray(record.with_suffix(".dat").read_bytes())
    content[2] ^= 8
    record.with_suffix(".dat").write_bytes(bytes(content))
    with pytest.raises(SignalError, match=r"samples of [AB] sum to"):
        read(record)


def test_checksum_of_a_lead_that_was_not_asked_for_does_not_matter(tmp_path):
    record = write(tmp_path, plain_leads())
    header = record.with_suffix(".hea")
    header.write_text(header.read_text().replace(" 0 ABP", "7 0 ABP"))
    assert read_signal(record, leads=("V",)).shape == (1, 60)
    with pytest.raises(SignalError, match=r"ABP|mmHg"):
        read_signal(record, leads=("ABP",))


def test_checksum_may_count_invalid_samples_as_the_16_bit_code(tmp_path):
    leads = [Lead("II", [3, None, -5, None])]
    record = write(tmp_path, leads, "212", sums=False)
    header = record.with_suffix(".hea")
    header.write_text(header.read_text().replace("12 0 0 0 0", f"12 0 0 {-2 - 2 * 32768} 0"))
    np.testing.assert_array_equal(np.isnan(read(record).signals[0]), [False, True] * 2)


@pytest.mark.parametrize(
    "line",
    ["rec.dat 16 200(0)/mmHg 16 0 0 0 0 ABP", "rec.dat 16 0 16 0 0 0 0 ABP", "rec.dat 16",
     "rec.dat 16 x/°C 16 0 0 0 0 Température"],
)  # fmt: skip
def test_lead_without_gain_or_voltage_is_an_error_only_where_it_is_asked_for(tmp_path, line):
    samples = np.arange(60).reshape(30, 2)
    samples.astype("<i2").tofile(tmp_path / "rec.dat")
    (tmp_path / "rec.hea").write_text(
        f"rec 2 100 30\nrec.dat 16 100(0)/mV 16 0 0 {samples[:, 0].sum()} 0 II\n{line}\n", "utf-8"
    )
    np.testing.assert_allclose(
        read_signal(tmp_path / "rec", leads=("II",))[0], samples[:, 0] / 100, rtol=1e-6
    )
    with pytest.raises(SignalError, match=r"no positive gain|expected V, mV, uV or nV"):
        read_signal(tmp_path / "rec")


def test_missing_file_of_another_lead_is_no_error(tmp_path):
    record = write(tmp_path, [Lead("II", [1, 2, 3])])
    header = record.with_suffix(".hea")
    text = header.read_text().replace("rec 1", "rec 2") + "gone.dat 16 200/mV 16 0 0 0 0 V\n"
    header.write_text(text)
    assert read_signal(record, leads=("II",)).shape == (1, 3)
    assert len(signal_digest(record)) == 32
    with pytest.raises(CellFileNotFoundError, match=r"gone\.dat"):
        read_signal(record, leads=("V",))


def test_invalid_sample_of_a_frame_is_missing_and_alone(tmp_path):
    samples = [100] * 40
    samples[17] = None
    record = write(tmp_path, [Lead("II", samples, 4), Lead("V", [100] * 10)])
    with pytest.raises(SignalError, match="lead II is NaN from sample 17 to 17"):
        read_signal(record, leads=("II",))
    np.testing.assert_allclose(read_signal(record, leads=("II",), max_gap=0.001), 0.5)


def test_leads_of_several_rates_are_each_resampled_once(tmp_path):
    time = np.arange(2000) / 1000
    fast = np.round(1000 * np.sin(2 * np.pi * 70 * time)).astype(int)
    slow = np.round(1000 * np.sin(2 * np.pi * 5 * time[::8])).astype(int)
    leads = [Lead("II", fast.tolist(), 8, gain="1000"), Lead("RESP", slow.tolist(), gain="1000")]
    record = write(tmp_path, leads, fs=125)
    found = read_signal(record, fs=500)
    assert found.shape == (2, 1000)
    at = np.arange(1000) / 500
    np.testing.assert_allclose(found[0, :-8], np.sin(2 * np.pi * 70 * at)[:-8], atol=2e-3)
    np.testing.assert_allclose(found[1, 30:-30], np.sin(2 * np.pi * 5 * at)[30:-30], atol=2e-3)
    np.testing.assert_array_equal(
        read_signal(record, leads=("II",)), [(fast / 1000).astype(np.float32)]
    )
    with pytest.raises(SignalError, match=r"II at 1000 Hz, lead RESP at 125 Hz.*fs="):
        read_signal(record)


def test_length_that_is_not_stated_is_what_the_files_hold(tmp_path):
    leads = [Lead("II", list(range(30)), 2), Lead("V", list(range(15)))]
    for fmt in ("16", "212", "310", "516"):
        kind = leads if fmt != "516" else leads[:1]
        record = write(tmp_path, kind, fmt, name=f"n{fmt}", length=False, sums=False)
        zero = record.with_suffix(".hea")
        for text in (zero.read_text(), zero.read_text().replace(" 250\n", " 250 0\n", 1)):
            zero.write_text(text)
            np.testing.assert_allclose(read(record).signals[0], expected(leads[0]))


@pytest.mark.parametrize("fmt", ["16", "212", "516"])
def test_file_that_is_cut_off_is_refused(tmp_path, fmt):
    record = write(tmp_path, [Lead("II", list(range(200)))], fmt)
    data = record.with_suffix(".dat")
    data.write_bytes(data.read_bytes()[: -40 if fmt != "516" else 60])
    with pytest.raises(SignalError, match=r"cut off|can't be read"):
        read(record)


def test_baseline_that_is_not_stated_is_the_zero_of_the_converter(tmp_path):
    encoded = encode([1024, 1224], "16")
    (tmp_path / "rec.dat").write_bytes(encoded)
    (tmp_path / "rec.hea").write_text("rec 1 100 2\nrec.dat 16 200 11 1024 0 0 0 II\n")
    with pytest.raises(SignalError, match="checksum"):
        read_signal(tmp_path / "rec")
    (tmp_path / "rec.hea").write_text("rec 1 100 2\nrec.dat 16 200 11 1024 0 2248 0 II\n")
    np.testing.assert_allclose(read_signal(tmp_path / "rec"), [[0, 1]])


def master(folder: Path, lines: list[str], frames: int, n_signals: int) -> Path:
    text = [f"all/{len(lines)} {n_signals} 250 {frames}", *lines]
    (folder / "all.hea").write_text("\n".join(text) + "\n")
    return folder / "all"


def test_segments_of_one_layout_are_joined_in_time_with_their_gaps(tmp_path):
    first = [Lead("II", [1, 2, 3, 4], 2), Lead("V", [5, 6])]
    second = [Lead("II", [7, None], 2), Lead("V", [9])]
    write(tmp_path, first, name="one")
    write(tmp_path, second, "212", name="two")
    found = read(master(tmp_path, ["one 2", "~ 3", "two 1"], 6, 2))
    np.testing.assert_allclose(found.signals[0] * 200, [1, 2, 3, 4, *[np.nan] * 6, 7, np.nan])
    np.testing.assert_allclose(found.signals[1] * 200, [5, 6, np.nan, np.nan, np.nan, 9])
    assert found.rates == (500.0, 250.0)


def variable(folder: Path) -> Path:
    layout = "layout 3 250 0\n" + "".join(
        f"~ 0 200/mV 16 0 0 0 0 {name}\n" for name in ("II", "ABP", "V")
    )
    (folder / "layout.hea").write_text(layout)
    write(folder, [Lead("V", [5, 6])], name="one")
    write(folder, [Lead("II", [7, 8, 9], gain="100"), Lead("V", [1, 2, 3])], name="two")
    return master(folder, ["layout 0", "one 2", "~ 1", "two 3"], 6, 3)


def test_segments_of_several_layouts_are_joined_by_name(tmp_path):
    nan = np.nan
    found = read(variable(tmp_path))
    assert found.leads == ("II", "ABP", "V")
    np.testing.assert_allclose(found.signals[0], [nan, nan, nan, 0.07, 0.08, 0.09])
    assert np.isnan(found.signals[1]).all()
    np.testing.assert_allclose(found.signals[2] * 200, [5, 6, nan, 1, 2, 3])
    np.testing.assert_allclose(read(tmp_path / "all", seconds=2 / 250).signals[2] * 200, [5, 6])
    with pytest.raises(SignalError, match="lead ABP is NaN from sample 0 to 5"):
        read_signal(tmp_path / "all", leads=("ABP",))
    with pytest.raises(SignalError, match="lead V is NaN from sample 2 to 2"):
        read_signal(tmp_path / "all", leads=("V",))
    assert read_signal(tmp_path / "all", leads=("V",), max_gap=0.01).shape == (1, 6)


def test_digest_follows_every_file_of_every_segment(tmp_path):
    record = variable(tmp_path)
    digests = {signal_digest(record)}
    for name in ("one.dat", "two.dat", "two.hea", "layout.hea"):
        with (tmp_path / name).open("ab") as file:
            file.write(b"# ")
        digests.add(signal_digest(record))
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("lines", "frames", "message"),
    [
        (["one 2", "two 3"], 9, "promises 9 frames; its segments have 5"),
        (["one 3", "two 3"], 6, "promises 3 frames at 250 Hz in segment one"),
        (["one 2", "gone 3"], 5, r"no WFDB header .*gone\.hea"),
        (["two 3", "one 2"], 5, "other signals than the first segment"),
        (["one 2", "~ 99999999999"], 99999999999 + 2, "at most"),
    ],
)
def test_segments_that_contradict_their_record_are_refused(tmp_path, lines, frames, message):
    variable(tmp_path)
    with pytest.raises((SignalError, CellFileNotFoundError), match=message):
        read(master(tmp_path, lines, frames, 1))
