"""One fitted estimator in many threads: equal answers, and torch's threads as they were."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import numpy as np
import pandas as pd
import pytest
import torch

import medfusion_sdk as mf
from medfusion_sdk.datasets import make_multimodal_cohort
from medfusion_sdk.nn.gated_attention import GatedAttention

N = 12
Y = np.arange(N) % 2


def raw_table():
    rng = np.random.default_rng(0)
    signals = [rng.normal(size=(2, 200)).astype(np.float32) + label for label in Y]
    notes = ["sinus rhythm" if label else "acute st elevation" for label in Y]
    return pd.DataFrame({"ecg": signals, "report": notes})


def fitted(name):
    block = make_multimodal_cohort(40, n_features=4, random_state=0)
    series = pd.DataFrame({"v": [x[:, :12] for x in raw_table()["ecg"]]})
    models = {
        "dual": (mf.DualAdapterClassifier("standin-text", max_epochs=1), raw_table(), Y),
        "small": (mf.SmallMultimodalClassifier(max_epochs=1), raw_table()[["ecg"]], Y),
        "adacomed": (mf.AdaCoMedClassifier(max_epochs=1), block.data, block.target),
        "amfn": (mf.AMFNClassifier(max_epochs=1, ensemble_size=2, mc_samples=2), series, Y),
        "tgmm": (mf.TGMMClassifier(max_epochs=1), block.data, block.target),
    }
    model, X, y = models[name]
    return model.set_params(random_state=0).fit(X, y), X


@pytest.mark.parametrize("name", ["dual", "small", "adacomed", "amfn", "tgmm"])
def test_eight_threads_of_one_estimator_get_what_one_gets(name):
    model, X = fitted(name)
    calls = ("predict_proba", "explain", "transform")
    expected = {call: np.asarray(getattr(model, call)(X)) for call in calls}
    # Without its module, as a worker loads it: all threads ask for that at once.
    model = pickle.loads(pickle.dumps(model))
    with ThreadPoolExecutor(8) as pool:
        asked = list(islice(cycle(calls), 24))
        found = list(pool.map(lambda call: np.asarray(getattr(model, call)(X)), asked))
    for call, answer in zip(asked, found, strict=True):
        for column, own in zip(answer.T, expected[call].T, strict=True):
            if any(isinstance(value, str) or value is None for value in own.tolist()):
                assert column.tolist() == own.tolist()
            else:
                np.testing.assert_allclose(
                    column.astype(float), own.astype(float), rtol=1e-4, atol=1e-6
                )


def test_explanation_hears_nothing_of_a_prediction_beside_it(monkeypatch):
    model, X = fitted("dual")
    with ThreadPoolExecutor(1) as other:
        beside = []
        attend = GatedAttention.__call__

        def interrupted(self, queries, output):
            if self.trace and not beside:
                beside.append(other.submit(model.predict_proba, X))
            return attend(self, queries, output)

        monkeypatch.setattr(GatedAttention, "__call__", interrupted)
        told = model.explain(X[:2], attribution=False)
        assert beside[0].result().shape == (N, 2)
    shares = told[told["quantity"] == "share"]
    paths, layers = shares["path"].nunique(), shares["layer"].nunique()
    assert len(shares) == 2 * paths * layers


def test_encoding_in_two_threads_leaves_later_threads_their_number():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        notes = [[f"note {i} of {part}" for i in range(40)] for part in range(2)]
        encoders = [mf.TextEncoder("standin-text", batch_size=2) for _ in notes]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda encoder, texts: encoder.transform(texts), encoders, notes))
            own = pool.submit(torch.get_num_threads).result()
        with ThreadPoolExecutor(1) as later:
            assert (own, later.submit(torch.get_num_threads).result()) == (4, 4)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
