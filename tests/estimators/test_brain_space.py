"""BrainAdapterClassifier's common space, and what it tells of a prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone

from medfusion_sdk.datasets import make_volume_cohort
from medfusion_sdk.exceptions import DataError, ModalityError, ParameterError
from tests.estimators.brain_models import brain, volumes_and_reports


@pytest.fixture(scope="module")
def cohort():
    return volumes_and_reports()


@pytest.fixture(scope="module")
def fitted(cohort):
    return brain().fit(*cohort)


# -- the common space ---------------------------------------------------------------------------


def test_vectors_have_length_one_and_rows_are_their_mean_direction(cohort, fitted):
    X = cohort[0].copy()
    X.at[2, "mri"] = None
    found, joint = fitted.transform_modalities(X), fitted.transform(X)
    assert np.isnan(found["image"][2]).all()
    there = np.arange(len(X)) != 2
    for name in ("image", "text"):
        np.testing.assert_allclose(np.linalg.norm(found[name][there], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(joint[2], found["text"][2], atol=1e-6)
    mean = found["image"][there] + found["text"][there]
    np.testing.assert_allclose(
        joint[there], mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5
    )


def test_neighbours_are_found_across_modalities(cohort, fitted):
    X = cohort[0].copy()
    X.at[2, "mri"] = None
    X.loc[3, "report"] = None
    found = fitted.transform_modalities(X)
    cosine = fitted.similarity(X)
    np.testing.assert_allclose(cosine, found["text"] @ found["image"].T, atol=1e-6)
    assert np.isnan(cosine[3]).all()
    assert np.isnan(cosine[:, 2]).all()
    asked = X.drop(3)
    distances, indices = fitted.kneighbors(asked, X, 3)
    for row, own in enumerate(np.delete(np.nan_to_num(cosine, nan=-9), 3, axis=0)):
        order = np.argsort(-own, kind="stable")[:3]
        np.testing.assert_array_equal(indices[row], order)
        np.testing.assert_allclose(distances[row], 1 - own[order], atol=1e-6)
    assert 2 not in indices
    same = fitted.kneighbors(X.iloc[[5]], X, 1, query="image", target="image")
    assert same[1][0, 0] == 5
    person = np.arange(12)
    others = fitted.kneighbors(
        X.iloc[[5]], X, 1, query="image", target="image", groups=[5], gallery_groups=person,
        return_distance=False,
    )  # fmt: skip
    assert others[0, 0] != 5
    with pytest.raises(DataError, match="11 of the gallery's 12"):
        fitted.kneighbors(asked, X, 12)
    with pytest.raises(DataError, match="lack what is searched with: 3"):
        fitted.kneighbors(X, X)
    with pytest.raises(ModalityError, match="the model reads"):
        fitted.kneighbors(X, X, query="sound")


def test_training_brings_matching_pairs_together():
    made = make_volume_cohort(24, size=(16, 32, 32), signal=4.0, random_state=1)
    X = made.data[["mri", "report"]]
    model = brain(contrastive_weight=1.0, max_epochs=15, batch_size=12, learning_rate=3e-3)
    before = clone(model).set_params(max_epochs=1, learning_rate=1e-12).fit(X, made.target)
    after = model.fit(X, made.target)
    own = []
    for fit in (before, after):
        found = fit.transform_modalities(X)
        cosine = found["image"] @ found["text"].T
        own.append(np.diag(cosine).mean() - cosine[~np.eye(24, dtype=bool)].mean())
    assert own[1] > own[0] + 0.2
    assert after.history_["train_contrastive"].iloc[-1] < after.history_["train_contrastive"][0]


# -- explanations -------------------------------------------------------------------------------


def test_contributions_sum_to_the_scores(cohort, fitted):
    X = cohort[0].copy()
    X.at[2, "mri"] = None
    told = fitted.explain(X)
    parts = told[told["quantity"] == "contribution"]
    assert set(parts["modality"]) == {"image", "text", "bias"}
    scores = parts.pivot_table(index="row", columns="label", values="value", aggfunc="sum")
    np.testing.assert_allclose(scores[1] - scores[0], fitted.decision_function(X), atol=1e-5)
    proba = told[told["quantity"] == "probability"].pivot(
        index="row", columns="label", values="value"
    )
    np.testing.assert_allclose(proba, fitted.predict_proba(X), atol=1e-6)
    cosine = told[told["quantity"] == "similarity"].set_index("row")["value"]
    found = fitted.transform_modalities(X)
    np.testing.assert_allclose(
        cosine.drop(2), (found["image"] * found["text"]).sum(1)[cosine.index != 2], atol=1e-5
    )
    assert np.isnan(cosine[2])


def test_maps_lie_on_the_volume_at_its_full_size(cohort):
    made = make_volume_cohort(6, size=(20, 36, 40), random_state=0)
    X = made.data[["mri", "report"]]
    X.at[2, "mri"] = None
    model = brain(adapter="conv3d", batch_size=3, learning_rate=1e-2).fit(X, made.target)
    rows = X.iloc[:3]
    maps = {kind: model.volume_maps(rows, kind=kind)
            for kind in ("gradient", "occlusion", "attention", "adapter")}  # fmt: skip
    for kind, drawn in maps.items():
        assert drawn.shape == (3, 20, 36, 40), kind
        assert np.isnan(drawn[2]).all()
        assert np.isfinite(drawn[:2]).all()
        assert np.abs(drawn[:2]).max() > 0, kind
    # Sixty-four blocks, each with one value.
    assert len(np.unique(maps["occlusion"][0])) <= 65
    assert (maps["attention"][:2] >= 0).all()
    with pytest.raises(ParameterError, match="kind='heat'"):
        model.volume_maps(rows, kind="heat")
    with pytest.raises(ModalityError, match="no volumes"):
        brain(inputs="text").fit(X, made.target).volume_maps(rows)


def test_gradient_map_agrees_with_a_finite_difference(cohort):
    X, y = cohort
    model = brain(dtype="float64", adapter="slice2d", learning_rate=1e-2).fit(X, y)
    one = X.iloc[[0]]
    scores = model._predict(one)["logits"][0]
    top = int(scores.argmax())
    drawn = model.volume_maps(one)[0].astype(float)
    volume = model.volume_inputs_.read(model._volumes(one), [0])[0].astype(float)
    task = model._network()
    batch = model._inputs(one, one.index)
    place = np.unravel_index(np.abs(drawn).argmax(), drawn.shape)
    step = 1e-6
    moved = volume.copy()
    moved[place] += step
    with torch.no_grad():
        after = task({**batch, "image": torch.from_numpy(moved)[None]})["logits"][0, top]
    slope = (float(after) - float(scores[top])) / step
    assert drawn[place] == pytest.approx(slope * volume[place], rel=1e-3)
