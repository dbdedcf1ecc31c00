"""Figures that open no window, and models whose explanations are drawn."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from medfusion_sdk import (
    AdaCoMedClassifier,
    AMFNClassifier,
    SmallMultimodalClassifier,
    TGMMClassifier,
)
from medfusion_sdk.datasets import make_icu_cohort, make_multimodal_cohort


@pytest.fixture(autouse=True)
def no_window():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="package")
def stays():
    """Stays of which two thirds lack a modality, under labels that say nothing of their order."""
    cohort = make_icu_cohort(60, random_state=0)
    labels = [f"stay {(7 * i) % 60}" for i in range(60)]
    return cohort.data.set_axis(labels), cohort.target.set_axis(labels).rename("died")


@pytest.fixture(scope="package")
def amfn(stays):
    # A high learning rate, so that few epochs tell the modalities apart.
    model = AMFNClassifier(
        d_model=16, ensemble_size=2, max_epochs=8, learning_rate=0.02, random_state=0
    )
    return model.fit(*stays)


@pytest.fixture(scope="package")
def blocks():
    cohort = make_multimodal_cohort(
        60, modalities=("ecg", "note", "labs"), missing=0.2, random_state=0
    )
    return cohort.data, cohort.target


@pytest.fixture(scope="package")
def adacomed(blocks):
    small = SmallMultimodalClassifier(max_epochs=3, embed_size=8)
    return AdaCoMedClassifier(
        small=small, max_epochs=3, hidden_dim=8, n_heads=2, random_state=0
    ).fit(*blocks)


@pytest.fixture(scope="package")
def tgmm(blocks):
    model = TGMMClassifier(
        guidance="both",
        prompts="Is the heart of this patient the cause?",
        prompt_encoder="standin-text",
        max_epochs=15,
        d_model=16,
        random_state=0,
    )
    return model.fit(*blocks)
