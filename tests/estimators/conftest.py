"""Records and fitted dual adapters; a module with fixtures of these names has its own."""

from __future__ import annotations

import pytest

from medfusion_sdk.datasets import load_ptbxl
from tests.estimators.dual_models import dual


@pytest.fixture(scope="module")
def records():
    X, y = load_ptbxl(return_X_y=True)
    return X[["ecg", "report"]].head(30), y["NORM"].head(30).to_numpy()


@pytest.fixture(scope="module")
def fitted(records):
    return dual().fit(*records)


@pytest.fixture(scope="module")
def published(records):
    """The paper's own reading of signals, on short ones."""
    X, y = records
    X = X.assign(ecg=[signal[:, :200] for signal in X["ecg"]])
    model = dual(signal_encoder="cnn", adapter_layers=1, path_weight=0.0, alpha=0.0, probe=False)
    return model.fit(X, y), X
