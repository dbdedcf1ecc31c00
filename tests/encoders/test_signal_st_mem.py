"""SignalEncoder with ST-MEM, from records and arrays to embeddings."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import signal as scipy_signal
from sklearn.base import clone

from medfusion_sdk.backbones.pool import shared_backbones
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.exceptions import ParameterError, SignalError, WeightsNotFoundError
from tests.st_mem_checkpoints import WIDTH, draw_weights, reference_embedding, write_st_mem

WFDB = Path(__file__).parents[1] / "data" / "wfdb"


@pytest.fixture
def weights(tmp_path):
    return write_st_mem(tmp_path / "encoder.pth")


@pytest.fixture(scope="module")
def ecgs():
    return load_ptbxl().data["ecg"].iloc[:4]


def published_chain(ecg, leads, fs):
    """Embed one recording by the authors' evaluation steps, one after the other."""
    x = scipy_signal.resample(ecg[leads].astype(np.float64), int(ecg.shape[1] * 250 / fs), axis=1)
    step = (x.shape[1] - 2250) // 2
    vectors = []
    for start in (0, step, 2 * step):
        crop = x[:, start : start + 2250]
        for band, kind in ((0.67, "highpass"), (40, "lowpass")):
            crop = scipy_signal.sosfiltfilt(
                scipy_signal.butter(5, band, btype=kind, fs=250, output="sos"), crop
            )
        crop = (crop - crop.mean()) / crop.std()
        vectors.append(reference_embedding(draw_weights(), crop, leads))
    return np.mean(vectors, axis=0)


def test_embedding_equals_the_published_steps_done_by_hand(weights, ecgs):
    block = SignalEncoder("st-mem", weights=weights, source_fs=100).fit_transform(ecgs)
    assert block.shape == (4, WIDTH)
    assert block.dtype == np.float32
    expected = [published_chain(ecg, list(range(12)), 100) for ecg in ecgs]
    np.testing.assert_allclose(block, expected, atol=2e-4)


def test_records_are_read_by_the_names_of_their_leads(weights, tmp_path):
    whole = SignalEncoder("st-mem", weights=weights).fit_transform([WFDB / "00001_lr"])
    # The same record with two leads swapped in header and data, as MIMIC-IV-ECG's order is.
    samples = np.fromfile(WFDB / "00001_lr.dat", "<i2").reshape(-1, 12)
    order = [0, 1, 2, 3, 5, 4, *range(6, 12)]
    samples[:, order].tofile(tmp_path / "swapped.dat")
    first, *lines = (WFDB / "00001_lr.hea").read_text().replace("00001_lr", "swapped").splitlines()
    lines[:12] = [lines[lead] for lead in order]
    (tmp_path / "swapped.hea").write_text("\n".join([first, *lines]) + "\n")
    swapped = SignalEncoder("st-mem", weights=weights).fit_transform([tmp_path / "swapped"])
    np.testing.assert_allclose(swapped, whole, atol=1e-6)


@pytest.mark.parametrize("leads", [("II", "v5"), (1, 10)])
def test_fewer_leads_are_the_same_from_records_whole_arrays_and_arrays_of_them(weights, leads):
    ecg = load_ptbxl().data["ecg"].loc[1]
    encoder = SignalEncoder("st-mem", weights=weights, leads=leads, source_fs=100)
    cells = [WFDB / "00001_lr", ecg, ecg[[1, 10]]]
    block = encoder.fit_transform(pd.Series(cells, dtype=object))
    np.testing.assert_allclose(block, np.repeat(block[:1], 3, axis=0), atol=1e-6)
    np.testing.assert_allclose(block[0], published_chain(ecg, [1, 10], 100), atol=2e-4)


def test_embedding_depends_on_no_other_row_nor_on_the_batch(weights, ecgs):
    encoder = SignalEncoder("st-mem", weights=weights, source_fs=100)
    block = encoder.fit_transform(ecgs)
    single = np.vstack([clone(encoder).transform(ecgs.iloc[[i]]) for i in range(len(ecgs))])
    together = clone(encoder).set_params(batch_size=4).fit_transform(ecgs.iloc[::-1])
    np.testing.assert_allclose(single, block, atol=1e-6)
    np.testing.assert_allclose(together[::-1], block, atol=1e-6)


def test_missing_cell_is_a_nan_row_and_flat_ecg_is_not(weights, ecgs):
    column = [ecgs.iloc[0], None, np.zeros((12, 1000))]
    block = SignalEncoder("st-mem", weights=weights, source_fs=100).fit_transform(column)
    assert np.isnan(block).all(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.zeros((12, 2000)), r"expected 2250 samples or more.*found \(12, 2000\).*duration"),
        (np.zeros((3, 2500)), r"3 channels, expected 12 \(I, II, III.*leads"),
    ],
)
def test_recording_it_was_not_made_for_is_refused(weights, cell, message):
    with pytest.raises(SignalError, match=message):
        SignalEncoder("st-mem", weights=weights).fit_transform([cell])


def test_short_recording_is_padded_where_a_duration_is_given(weights):
    short = np.random.default_rng(0).standard_normal((12, 2000))
    padded = np.pad(short, ((0, 0), (0, 250)))
    encoder = SignalEncoder("st-mem", weights=weights)
    np.testing.assert_array_equal(
        clone(encoder).set_params(duration=9).fit_transform([short]), encoder.transform([padded])
    )


# -- weights -------------------------------------------------------------------------------------


def test_fingerprint_follows_weights_and_every_parameter_that_decides_a_vector(weights, tmp_path):
    other = write_st_mem(tmp_path / "other.pth", draw_weights(seed=1))
    changes = [
        {}, {"weights": other}, {"duration": 9}, {"leads": ("II",)}, {"source_fs": 500},
        {"max_gap": 0.1},
    ]  # fmt: skip
    options = {"backbone": "st-mem", "weights": weights}
    fingerprints = [SignalEncoder(**(options | change)).fingerprint() for change in changes]
    assert len(set(fingerprints)) == len(changes)
    copied = tmp_path / "renamed.pth"
    copied.write_bytes(weights.read_bytes())
    same = [{"weights": copied}, {"leads": range(12)}, {"fs": 250}, {"random_state": 5}]
    for change in same:
        assert SignalEncoder(**(options | change)).fingerprint() == fingerprints[0]


def test_network_stays_while_the_encoder_does_and_is_in_no_pickle(weights, ecgs):
    gc.collect()
    before = len(shared_backbones)
    encoder = SignalEncoder("st-mem", weights=weights, source_fs=100)
    encoder.transform(ecgs.iloc[:1])  # not fitted: works on a copy of itself
    assert len(shared_backbones) == before + 1
    assert len(pickle.dumps(encoder)) < 3000
    del encoder
    gc.collect()
    assert len(shared_backbones) == before


def test_cache_serves_without_loading_the_network(weights, ecgs, tmp_path):
    def make():
        return SignalEncoder("st-mem", weights=weights, source_fs=100, cache=tmp_path / "cache")

    block = make().fit_transform(ecgs)
    gc.collect()
    before = len(shared_backbones)
    again = make()
    np.testing.assert_array_equal(again.fit_transform(ecgs), block)
    assert len(shared_backbones) == before


def test_missing_weights_are_named():
    with pytest.raises(WeightsNotFoundError, match="needs weights="):
        SignalEncoder("st-mem").fit_transform([np.zeros((12, 2500))])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"view": "beats"}, "takes view='full'"),
        ({"fs": 100}, "fs='auto'.*source_fs"),
        ({"fit_biases": True}, "fit_biases=False"),
        ({"leads": ("MLII",)}, r"knows the leads I, II.*got leads=\('MLII',\)"),
        ({"leads": (12,)}, "0 to 11"),
        ({"leads": ("II", 1)}, "each once"),
        ({"leads": ()}, "knows the leads"),
        ({"weights": 3}, "weights must be"),
    ],
)
def test_parameters_that_do_not_go_with_it_are_refused(weights, parameters, message):
    with pytest.raises(ParameterError, match=message):
        SignalEncoder("st-mem", **({"weights": weights} | parameters)).fit([None])


def test_embedding_of_what_it_sees_is_the_transform(weights, ecgs):
    encoder = SignalEncoder("st-mem", weights=weights, source_fs=100).fit(ecgs)
    views, beside = encoder.view_signals(ecgs)
    assert views.shape == (4, 12, 2500)
    assert encoder.sampling_rate == 250
    np.testing.assert_allclose(
        encoder.embed_views(views, beside), encoder.transform(ecgs), atol=1e-6
    )
