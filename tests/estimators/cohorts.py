"""Small cohorts and quick estimators for the tests of this folder."""

from __future__ import annotations

import numpy as np

from medfusion_sdk import AdaCoMedClassifier, SmallMultimodalClassifier, TGMMClassifier
from medfusion_sdk.datasets import make_multimodal_cohort

MODALITIES = ("ecg", "note", "labs")


def cohort(n_samples=60, **options):
    """Block table and targets; a third of the rows lacks the note."""
    settings = {"n_features": 4, "missing": {"ecg": 0.0, "note": 0.3, "labs": 0.1}} | options
    names = settings.pop("modalities", MODALITIES)
    made = make_multimodal_cohort(n_samples, modalities=names, random_state=0, **settings)
    return made.data.astype(np.float64), made.target.to_numpy()


def small(**parameters):
    quick = {"max_epochs": 5, "embed_size": 8, "calibrate": False, "random_state": 0}
    return SmallMultimodalClassifier(**quick | parameters)


def adacomed(**parameters):
    quick = {"max_epochs": 5, "hidden_dim": 8, "n_heads": 2, "calibrate": False, "random_state": 0}
    first_stage = {"small": small(max_epochs=max(5, parameters.get("max_epochs", 5)))}
    return AdaCoMedClassifier(**first_stage | quick | parameters)


def tgmm(**parameters):
    quick = {"max_epochs": 5, "d_model": 8, "n_heads": 2, "calibrate": False, "random_state": 0}
    return TGMMClassifier(**quick | parameters)


def quantity(table, name):
    """One quantity of an explanation as an array (rows, entries)."""
    lines = table[table["quantity"] == name]
    return lines["value"].to_numpy().reshape(table["row"].nunique(), -1)
