"""Volumes as an adapter gets them: surveyed once, then read row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medfusion_sdk import EmbeddingCache
from medfusion_sdk.encoders import _volume_inputs
from medfusion_sdk.encoders._volume_inputs import VolumeInputs
from medfusion_sdk.exceptions import CellFileNotFoundError, EncoderWarning, VolumeError
from medfusion_sdk.readers.cells import Column
from medfusion_sdk.readers.volume import read_volume

VOLUMES = [np.random.default_rng(i).random((8, 10, 12)) for i in range(20)]
SIZE = (4, 5, 6)


def column(cells, name="mri"):
    return Column(list(cells), [f"p{i}" for i in range(len(cells))], name)


def test_survey_keeps_volumes_where_they_fit(monkeypatch):
    cells = column([VOLUMES[0], None, *VOLUMES[1:]])
    present, kept = VolumeInputs(SIZE).survey(cells)
    assert present.tolist() == [True, False, *[True] * 19]
    assert kept.dtype == np.float16
    assert (kept[1] == 0).all()
    np.testing.assert_array_equal(kept[2], read_volume(VOLUMES[1], size=SIZE).astype(np.float16))
    monkeypatch.setattr(_volume_inputs, "KEPT_BYTES", kept.nbytes)
    assert VolumeInputs(SIZE).survey(cells)[1] is not None
    monkeypatch.setattr(_volume_inputs, "KEPT_BYTES", kept.nbytes - 1)
    present, kept_not = VolumeInputs(SIZE).survey(cells)
    assert kept_not is None
    assert present.sum() == 20
    read = VolumeInputs(SIZE).read(cells, [5, 1, 0, 5])
    np.testing.assert_array_equal(read, kept[[5, 1, 0, 5]])


def test_bad_cells_are_surveyed_with_their_rows_over_all_chunks():
    bad = [*VOLUMES[:12], np.zeros((2, 2)), *VOLUMES[12:], "gone.nii"]
    with pytest.raises(VolumeError, match="row 'p12', column 'mri'"):
        VolumeInputs(SIZE).survey(column(bad))
    inputs = VolumeInputs(SIZE, on_error="missing")
    with pytest.warns(EncoderWarning, match="2 of 22 cells"):
        present, kept = inputs.survey(column(bad))
    assert np.flatnonzero(~present).tolist() == [12, 21]
    assert inputs.errors_.index.tolist() == ["p12", "p21"]
    assert (kept[12] == 0).all()


def test_file_that_vanished_after_the_survey_is_an_error(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, VOLUMES[0])
    inputs, cells = VolumeInputs(SIZE, on_error="missing"), column([str(path)])
    assert inputs.survey(cells)[0].all()
    path.unlink()
    with pytest.raises(CellFileNotFoundError, match="row 'p0'"):
        inputs.read(cells, [0])


def test_cached_volumes_are_the_read_ones_and_equal_files_are_one(tmp_path):
    paths = []
    for i in (0, 1, 0):
        paths.append(str(tmp_path / f"{len(paths)}.npy"))
        np.save(paths[-1], VOLUMES[i])
    cache = EmbeddingCache(tmp_path / "cache")
    plain, cached = VolumeInputs(SIZE), VolumeInputs(SIZE, cache=cache)
    for _ in range(2):
        np.testing.assert_array_equal(
            cached.survey(column(paths))[1], plain.survey(column(paths))[1]
        )
    assert cache.stats().items == 2
    assert cache.stats().bytes == 2 * 2 * np.prod(SIZE)
    changes = [{"size": (4, 5, 7)}, {"own_size": (8, 10, 12)}, {"spacing": 1.0},
               {"orientation": "RAS"}, {"max_nan": 0.1}]  # fmt: skip
    prints = {VolumeInputs(**{"size": SIZE} | change).fingerprint() for change in changes}
    assert len(prints | {plain.fingerprint()}) == len(changes) + 1


def test_first_size_is_that_of_the_first_volume_that_can_be_read(tmp_path):
    cells = column([None, "gone.nii", VOLUMES[0]])
    assert VolumeInputs(on_error="missing").first_size(cells) == (8, 10, 12)
    with pytest.raises(CellFileNotFoundError, match="row 'p1'"):
        VolumeInputs().first_size(cells)
    assert VolumeInputs().first_size(column([None])) is None
    assert not Path("gone.nii").exists()
