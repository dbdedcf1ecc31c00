"""Row labels of many kinds, and the transformer of modalities, are saved and read again."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.preprocessing import OneHotEncoder

from medfusion_sdk import (
    TGMMRetriever,
    load_estimator,
    make_modality_transformer,
    save_estimator,
)
from medfusion_sdk.datasets import make_multimodal_cohort

INDEXES = {
    "levels": pd.MultiIndex.from_product([list("ab"), range(20)], names=["subject", None]),
    "categories": pd.CategoricalIndex([f"p{i % 7}" for i in range(40)], ordered=True, name="p"),
    "time zone": pd.date_range("2020-03-28", periods=40, tz="Europe/Berlin", name="at"),
    "stamps": pd.date_range("2020-03-28", periods=40),
    "text": pd.Index([f"p{i}" for i in range(40)]),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_labels_of_a_gallery_survive_saving(kind, tmp_path):
    table = make_multimodal_cohort(40, n_features=4, random_state=0).data.set_axis(INDEXES[kind])
    model = TGMMRetriever(max_epochs=1, random_state=0).fit(table)
    save_estimator(model, tmp_path / "model")
    rows = load_estimator(tmp_path / "model").gallery_.rows
    assert type(rows) is type(INDEXES[kind])
    assert rows.equals(INDEXES[kind])
    assert rows.names == INDEXES[kind].names
    assert rows.dtype == INDEXES[kind].dtype


def test_encoder_with_sparse_transformers_survives_saving(tmp_path):
    table = pd.DataFrame({"ward": ["icu", "er"] * 4, "age": range(8)})
    encode = make_modality_transformer(
        ward=(OneHotEncoder(), ["ward"]), labs=("passthrough", ["age"])
    ).fit(table)
    save_estimator(encode, tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.transform(table), encode.transform(table))
