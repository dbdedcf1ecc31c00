"""A small dual adapter that trains in seconds."""

from __future__ import annotations

from medfusion_sdk import DualAdapterClassifier


def dual(**parameters):
    quick = {"backbone": "standin-text", "max_epochs": 2, "random_state": 0}
    return DualAdapterClassifier(**quick | parameters)
