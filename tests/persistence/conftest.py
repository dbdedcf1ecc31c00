"""One small cohort and the models on it, fitted once."""

from __future__ import annotations

import pytest

from medfusion_sdk import AdaCoMedClassifier, SmallMultimodalClassifier
from medfusion_sdk.datasets import make_multimodal_cohort


@pytest.fixture(scope="session")
def cohort():
    return make_multimodal_cohort(60, missing=0.2, random_state=0)


@pytest.fixture(scope="session")
def small(cohort):
    model = SmallMultimodalClassifier(embed_size=8, max_epochs=2, random_state=0)
    return model.fit(cohort.data, cohort.target)


@pytest.fixture(scope="session")
def adacomed(cohort):
    model = AdaCoMedClassifier(max_epochs=2, random_state=0)
    return model.fit(cohort.data, cohort.target)


@pytest.fixture(params=["small", "adacomed"])
def classifier(request):
    return request.getfixturevalue(request.param)
