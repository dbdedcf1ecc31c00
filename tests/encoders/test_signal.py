from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from medfusion_sdk import exceptions, make_modality_transformer
from medfusion_sdk.backbones import signal_networks
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.embedding_cache import EmbeddingCache
from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.exceptions import (
    CellFileNotFoundError,
    ParameterError,
    SignalError,
)
from medfusion_sdk.readers.beats import RHYTHM

WFDB = Path(__file__).parents[1] / "data" / "wfdb"
SMALL = {"n_features": 252}


@parametrize_with_checks([SignalEncoder(n_features=84, duration=0.2)])
def test_common_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def ecgs():
    return load_ptbxl().data["ecg"].iloc[:8]


@pytest.fixture
def embedded(monkeypatch):
    """Numbers of signals that went through a network, one per batch."""
    sizes = []
    embed = signal_networks.embed

    def counting(network, signals, device):
        sizes.append(len(signals))
        return embed(network, signals, device)

    monkeypatch.setattr(signal_networks, "embed", counting)
    return sizes


# -- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["full", "beats"])
@pytest.mark.parametrize(("backbone", "width"), [("minirocket", 252), ("standin-conv", 64)])
def test_block_is_float32_with_a_name_per_feature(ecgs, view, backbone, width):
    encoder = SignalEncoder(backbone, view=view, **SMALL).set_output(transform="pandas")
    block = encoder.fit_transform(ecgs)
    width += len(RHYTHM) if view == "beats" else 0
    assert block.shape == (8, width)
    assert (block.dtypes == np.float32).all()
    assert block.index.equals(ecgs.index)
    assert list(block.columns) == [f"{i:04d}" for i in range(width)]
    assert not block.isna().any(axis=None)


def test_transformer_of_the_cohort_table_names_the_modality(ecgs):
    encode = make_modality_transformer(ecg=(SignalEncoder(**SMALL), "ecg"))
    assert encode.fit_transform(ecgs.to_frame()).columns[0] == "ecg__0000"


@pytest.mark.parametrize("view", ["full", "beats"])
def test_record_array_file_and_list_of_one_ecg_are_embedded_alike(ecgs, view, tmp_path):
    np.save(tmp_path / "ecg.npy", ecgs.loc[1])
    cells = [WFDB / "00001_lr", str(tmp_path / "ecg.npy"), ecgs.loc[1], ecgs.loc[1].tolist()]
    block = SignalEncoder(view=view, **SMALL).fit_transform(pd.Series(cells, dtype=object))
    np.testing.assert_array_equal(block, np.repeat(block[:1], 4, axis=0))


@pytest.mark.parametrize("backbone", ["minirocket", "standin-conv"])
@pytest.mark.parametrize("view", ["full", "beats"])
def test_embedding_depends_on_no_other_row_nor_on_the_batch(ecgs, view, backbone):
    encoder = SignalEncoder(backbone, view=view, **SMALL)
    block = encoder.fit_transform(ecgs)
    single = np.vstack([clone(encoder).transform(ecgs.iloc[[i]]) for i in range(len(ecgs))])
    other = clone(encoder).set_params(batch_size=5).fit(ecgs.iloc[3:]).transform(ecgs.iloc[::-1])
    np.testing.assert_array_equal(block, single)
    np.testing.assert_array_equal(block, other[::-1])


def test_embedding_depends_on_the_seed(ecgs):
    for backbone in ("minirocket", "standin-conv"):
        one, two = (
            SignalEncoder(backbone, random_state=seed, **SMALL).transform(ecgs) for seed in (0, 1)
        )
        assert (one != two).mean() > 0.5


def test_beats_hardly_depend_on_where_the_recording_begins(ecgs):
    later = pd.Series([ecg[:, 45:] for ecg in ecgs], index=ecgs.index)
    blocks = {}
    for view in ("full", "beats"):
        begun, begun_later = (
            SignalEncoder(view=view, duration=9.5, **SMALL).fit_transform(column)[:, :252]
            for column in (ecgs, later)
        )
        between_patients = np.abs(begun - np.roll(begun, 1, axis=0)).mean()
        blocks[view] = np.abs(begun - begun_later).mean() / between_patients
    assert blocks["beats"] < 0.25
    assert blocks["beats"] < blocks["full"] / 2


def test_beats_of_a_steady_rhythm_do_not_depend_on_where_the_recording_begins():
    time = np.arange(1600)
    steady = np.stack([np.exp(-0.5 * ((time % 80 - 30) / width) ** 2) for width in (1.5, 2.5, 8)])
    encoder = SignalEncoder(view="beats", duration=10, **SMALL)
    block = encoder.fit_transform([steady[:, start:] for start in range(0, 80, 7)])
    np.testing.assert_allclose(block[:, :252], np.repeat(block[:1, :252], len(block), 0), atol=0.02)


def test_embedding_is_blind_to_unit_and_baseline(ecgs):
    moved = pd.Series([1000 * ecg + 5 for ecg in ecgs], index=ecgs.index)
    encoder = SignalEncoder(**SMALL).fit(ecgs)
    np.testing.assert_allclose(encoder.transform(ecgs), encoder.transform(moved), atol=0.01)


def test_records_of_another_rate_are_resampled_to_the_same_embedding(ecgs):
    from scipy.signal import resample_poly

    fine = pd.Series([resample_poly(ecg, 5, 1, axis=1) for ecg in ecgs], index=ecgs.index)
    coarse = SignalEncoder(view="beats", **SMALL).fit_transform(ecgs)
    resampled = SignalEncoder(view="beats", source_fs=500, **SMALL).fit_transform(fine)
    assert np.corrcoef(coarse[:, :252].ravel(), resampled[:, :252].ravel())[0, 1] > 0.98


# -- ways of handing over signals ----------------------------------------------------------------


def test_matrix_of_numbers_is_one_signal_a_row():
    X = np.random.default_rng(0).normal(size=(5, 60))
    encoder = SignalEncoder(**SMALL)
    block = encoder.fit_transform(X)
    assert encoder.n_features_in_ == 60
    np.testing.assert_array_equal(block, encoder.transform(X[:, np.newaxis]))
    np.testing.assert_array_equal(block, encoder.transform(list(X)))
    frame = pd.DataFrame(X, columns=[f"t{i}" for i in range(60)])
    np.testing.assert_array_equal(block, clone(encoder).fit(frame).transform(frame))


def test_matrix_row_of_nan_alone_is_a_missing_signal():
    X = np.random.default_rng(0).normal(size=(3, 60))
    X[1] = np.nan
    block = SignalEncoder(**SMALL).fit_transform(X)
    assert np.isnan(block).all(axis=1).tolist() == [False, True, False]


def test_matrix_with_another_number_of_columns_is_refused():
    encoder = SignalEncoder(**SMALL).fit(np.ones((3, 60)))
    with pytest.raises(ValueError, match="60 features"):
        encoder.transform(np.ones((3, 50)))


def test_read_only_signals_are_accepted_and_kept(ecgs):
    before = ecgs.loc[1].copy()
    ecgs.loc[1].flags.writeable = False
    SignalEncoder(view="beats", **SMALL).fit_transform(ecgs.iloc[:2])
    np.testing.assert_array_equal(ecgs.loc[1], before)


# -- missing and bad cells -----------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["nan", "zero", "mean"])
def test_missing_cell_becomes_what_was_asked_for(ecgs, missing):
    column = ecgs.iloc[:4].copy()
    column.iloc[1] = None
    column.iloc[2] = np.nan
    encoder = SignalEncoder(view="beats", missing=missing, **SMALL)
    block = encoder.fit_transform(column)
    known = block[[0, 3]]
    expected = {"nan": np.nan, "zero": 0.0, "mean": known.mean(axis=0)}[missing]
    np.testing.assert_allclose(block[[1, 2]], np.broadcast_to(expected, (2, block.shape[1])))
    assert encoder.unaligned_ == []


def test_column_without_any_signal_is_missing_rows_alone():
    block = SignalEncoder(**SMALL).fit_transform(pd.Series([None, np.nan], dtype=object))
    assert block.shape == (2, 252)
    assert np.isnan(block).all()


def test_bad_cell_raises_with_its_row_and_column(ecgs):
    column = ecgs.iloc[:2].astype(object).copy()
    column.iloc[1] = "nowhere/00042_lr"
    with pytest.raises(
        CellFileNotFoundError, match=r"row .*2.*, column 'ecg': no signal file at now"
    ):
        SignalEncoder(**SMALL).fit(column).transform(column)


def test_bad_cells_become_missing_and_are_listed_when_asked_for(ecgs):
    column = ecgs.iloc[:4].astype(object).copy()
    column.iloc[0] = "nowhere/00042_lr"
    column.iloc[2] = ecgs.loc[1][:3]
    encoder = SignalEncoder(on_error="missing", **SMALL)
    with pytest.warns(exceptions.EncoderWarning, match="2 of 4 cells"):
        block = encoder.fit_transform(column)
    assert np.isnan(block).all(axis=1).tolist() == [True, False, True, False]
    assert encoder.errors_.index.tolist() == [column.index[0], column.index[2]]
    assert encoder.errors_["error"].tolist() == ["CellFileNotFoundError", "SignalError"]


def test_column_of_bad_cells_alone_is_missing_when_asked_for():
    column = pd.Series([np.full((2, 50), np.nan), "nowhere/1"], index=["a", "b"], dtype=object)
    encoder = SignalEncoder(on_error="missing", **SMALL)
    with pytest.warns(exceptions.EncoderWarning, match="2 of 2 cells"):
        block = encoder.fit_transform(column)
    assert np.isnan(block).all()
    assert encoder.errors_.index.tolist() == ["a", "b"]


@pytest.mark.parametrize("fitted", [True, False])
def test_signals_of_several_shapes_are_refused(ecgs, fitted):
    column = [ecgs.loc[1], ecgs.loc[2][:3]]
    encoder = SignalEncoder(**SMALL)
    if fitted:
        encoder.fit(column)
        assert encoder.signal_shape_ == (12, 1000)
    with pytest.raises(SignalError, match=r"row 1.*\(12, 1000\); found \(3, 1000\).*leads="):
        encoder.transform(column)


def test_signals_of_several_lengths_agree_once_a_duration_is_given(ecgs):
    column = [ecgs.loc[1], ecgs.loc[2][:, :990]]
    with pytest.raises(SignalError, match=r"found \(12, 990\).*duration="):
        SignalEncoder(**SMALL).fit_transform(column)
    assert SignalEncoder(duration=9.9, **SMALL).fit_transform(column).shape == (2, 252)


def test_signal_too_short_for_the_kernels_is_refused():
    with pytest.raises(SignalError, match=r"expected 9 samples or more.*found \(1, 8\)"):
        SignalEncoder(**SMALL).fit_transform([np.ones(8)])


def test_ecg_without_beats_is_listed_and_has_no_rhythm(ecgs, tmp_path):
    column = ecgs.iloc[:3].copy()
    column.loc[2] = np.zeros((12, 1000))
    encoder = SignalEncoder(view="beats", cache=tmp_path, **SMALL)
    for _ in range(2):  # the second time from the cache
        block = encoder.fit_transform(column)
        assert encoder.unaligned_ == [2]
        assert (block[:, -len(RHYTHM)] > 0).tolist() == [True, False, True]
        assert not block[1, -len(RHYTHM) :].any()


# -- frozen and fitted biases --------------------------------------------------------------------


def test_fitted_biases_depend_on_the_training_column_and_join_the_fingerprint(ecgs):
    encoders = [SignalEncoder(fit_biases=True, **SMALL) for _ in range(3)]
    for encoder, column in zip(encoders, (ecgs, ecgs, ecgs.iloc[4:]), strict=True):
        encoder.fit(column)
    first, again, other = encoders
    np.testing.assert_array_equal(first.biases_, again.biases_)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert not np.array_equal(first.transform(ecgs), other.transform(ecgs))


def test_fitted_biases_are_needed_before_transform(ecgs):
    with pytest.raises(NotFittedError):
        SignalEncoder(fit_biases=True, **SMALL).transform(ecgs)
    with pytest.raises(SignalError, match="at least one signal"):
        SignalEncoder(fit_biases=True, **SMALL).fit([None])


def test_fingerprint_follows_every_parameter_that_decides_a_vector():
    changes = [
        {}, {"backbone": "standin-conv"}, {"view": "beats"}, {"fs": 200}, {"duration": 5},
        {"leads": ("II",)}, {"source_fs": 50}, {"max_gap": 0.1}, {"n_features": 336},
        {"random_state": 1},
    ]  # fmt: skip
    fingerprints = [SignalEncoder(**change).fingerprint() for change in changes]
    assert len(set(fingerprints)) == len(changes)
    for change in ({"batch_size": 3}, {"missing": "zero"}, {"device": "cpu"}):
        assert SignalEncoder(**change).fingerprint() == fingerprints[0]


def test_encoding_leaves_global_random_state_alone(ecgs):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for backbone in ("minirocket", "standin-conv"):
        SignalEncoder(backbone, view="beats", random_state=5, **SMALL).fit_transform(ecgs.iloc[:2])
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


# -- cache and pickles ---------------------------------------------------------------------------


def test_cache_serves_folds_duplicates_and_single_rows(ecgs, embedded, tmp_path):
    encoder = SignalEncoder(view="beats", cache=EmbeddingCache(tmp_path), **SMALL)
    column = pd.concat([ecgs, ecgs.iloc[:3]])
    block = encoder.fit_transform(column)
    assert sum(embedded) == len(ecgs)
    np.testing.assert_array_equal(block[8:], block[:3])
    again = clone(encoder).fit(ecgs.iloc[5:]).transform(column.iloc[::-1])
    single = clone(encoder).transform(ecgs.iloc[[4]])
    assert sum(embedded) == len(ecgs)
    np.testing.assert_array_equal(again, block[::-1])
    np.testing.assert_array_equal(single, block[[4]])


def test_cache_of_records_follows_the_data_file(embedded, tmp_path):
    for suffix in ("hea", "dat"):
        (tmp_path / f"ecg.{suffix}").write_bytes((WFDB / f"00001_lr.{suffix}").read_bytes())
    header = tmp_path / "ecg.hea"
    header.write_text(header.read_text().replace("00001_lr", "ecg"))
    encoder = SignalEncoder(cache=tmp_path / "cache", **SMALL)
    first = encoder.fit_transform([tmp_path / "ecg"])
    encoder.transform([tmp_path / "ecg"])
    assert embedded == [1]
    header.write_text(header.read_text().replace("1000.0(0)/mV", "1000.0(0)/uV", 1))
    second = encoder.transform([tmp_path / "ecg"])
    assert embedded == [1, 1]
    np.testing.assert_allclose(first, second, atol=0.01)  # one lead's unit; shape of wave is kept


def test_cache_never_hands_over_a_vector_of_another_shape_of_signal(ecgs, tmp_path):
    encoder = SignalEncoder(cache=tmp_path, **SMALL)
    three_leads = ecgs.loc[2][:3]
    encoder.fit_transform([three_leads])
    with pytest.raises(SignalError, match=r"found \(3, 1000\)"):
        clone(encoder).fit_transform([ecgs.loc[1], three_leads])


def test_pickle_holds_no_network_and_works(ecgs):
    encoder = SignalEncoder(view="beats").fit(ecgs)
    encoder.transform(ecgs)
    stored = pickle.dumps(encoder)
    assert len(stored) < 3000
    np.testing.assert_array_equal(
        pickle.loads(stored).transform(ecgs), SignalEncoder(view="beats").transform(ecgs)
    )


def test_out_of_memory_halves_the_batch_with_the_same_results(ecgs, monkeypatch):
    expected = SignalEncoder(batch_size=8, **SMALL).transform(ecgs)
    forward = signal_networks.MiniRocket.forward
    sizes = []

    def small_memory(self, X):
        sizes.append(len(X))
        if len(X) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, X)

    monkeypatch.setattr(signal_networks.MiniRocket, "forward", small_memory)
    block = SignalEncoder(batch_size=8, **SMALL).transform(ecgs)
    np.testing.assert_array_equal(block, expected)
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": "rocket"}, "must be 'minirocket', 'st-mem' or 'standin-conv', got 'rocket'"),
        ({"view": "beat"}, "view must be 'full' or 'beats', got 'beat'"),
        ({"view": "beats", "fs": None}, "fs must be a number >= 50 for view='beats'"),
        ({"view": "beats", "fs": 40}, "fs must be a number >= 50"),
        ({"fs": 0}, "fs must be a number > 0, 'auto' or None, got 0"),
        ({"duration": -1}, "duration must be a number > 0 or None"),
        ({"source_fs": "100"}, "source_fs must be a number > 0 or None, got '100'"),
        ({"max_gap": float("nan")}, "max_gap must be a number >= 0, got nan"),
        ({"leads": "II"}, r"leads must be a list \(each a whole number or a str\) or None"),
        ({"n_features": 83}, "n_features must be a whole number >= 84"),
        ({"random_state": None}, "random_state must be a whole number >= 0, got None"),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1 or 'auto', got 0"),
    ],
)
def test_parameter_out_of_its_range_is_refused(ecgs, parameters, message):
    with pytest.raises(ParameterError, match=message):
        SignalEncoder(**parameters).fit(ecgs)
