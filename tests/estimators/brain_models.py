"""A small Brain-Adapter that trains in seconds, and a cohort for it."""

from __future__ import annotations

from medfusion_sdk import BrainAdapterClassifier
from medfusion_sdk.datasets import make_volume_cohort


def brain(**parameters):
    quick = {
        "text_encoder": "standin-text",
        "adapter": "slice2d",
        "max_epochs": 2,
        "proj_dim": 16,
        "random_state": 0,
    }
    return BrainAdapterClassifier(**quick | parameters)


def volumes_and_reports(n_samples=12, size=(16, 32, 32), **options):
    """Table with the columns mri and report, and targets."""
    made = make_volume_cohort(n_samples, size=size, random_state=0, **options)
    return made.data[["mri", "report"]], made.target.to_numpy()
