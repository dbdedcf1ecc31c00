"""Random parts of a generated cohort: targets, presence, features."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medfusion_sdk.datasets._latent import LatentModel
from medfusion_sdk.exceptions import ParameterError

# Share of the uninformative variance that a patient's rows have in common.
_LIKENESS = 0.8


def draw_targets(
    n_samples: int, n_groups: int | None, model: LatentModel, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the patient of each row and its target, equal within a patient."""
    n_patients = n_samples if n_groups is None else n_groups
    if not 1 <= n_patients <= n_samples:
        raise ParameterError(f"n_groups={n_groups} for n_samples={n_samples}.")
    patient = np.arange(n_samples)
    if n_groups is not None:
        patient = rng.permutation(patient % n_patients)
    if model.multilabel or model.n_classes == 2:
        # Met exactly but for rounding, in each label; permuted apart, labels are independent.
        one = (np.arange(n_patients) < round(model.prevalence * n_patients)).astype(int)
        columns = [rng.permutation(one) for _ in range(model.n_classes if model.multilabel else 1)]
        y = np.column_stack(columns) if model.multilabel else columns[0]
    else:
        y = rng.permutation(np.arange(n_patients) % model.n_classes)
    return patient, y[patient]


def draw_presence(n_samples: int, missing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Say which modality each row has, (rows, modalities): exact shares, no row without any."""
    n_gone = np.round(missing * n_samples).astype(int)
    if (missing >= 1).any() or n_gone.sum() > (len(missing) - 1) * n_samples:
        raise ParameterError(
            f"missing={missing.tolist()} leaves rows without any modality; it must be below 1 "
            f"for each and sum to {len(missing) - 1} at most."
        )
    present = np.ones((n_samples, len(missing)), dtype=bool)
    for modality, count in enumerate(n_gone):
        present[rng.choice(n_samples, size=count, replace=False), modality] = False
    n_present = present.sum(axis=1)
    for row in np.flatnonzero(n_present == 0):
        # An empty row takes a modality from one that keeps another.
        donor = rng.choice(np.flatnonzero(n_present > 1))
        modality = rng.choice(np.flatnonzero(present[donor]))
        present[[row, donor], modality] = True, False
        n_present[[row, donor]] += 1, -1
    return present


def make_block(
    prefix: str, told: np.ndarray, width: int, patient: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """Rotate what a modality tells into features, together with noise."""
    n_free = width - told.shape[1]
    if n_free < 0:
        raise ParameterError(
            f"n_features={width} for {prefix.rstrip('_')!r}; {told.shape[1]} or more are needed."
        )
    own = rng.standard_normal((len(told), n_free))
    of_patient = rng.standard_normal((patient.max() + 1, n_free))[patient]
    noise = np.sqrt(1 - _LIKENESS) * own + np.sqrt(_LIKENESS) * of_patient
    rotation = np.linalg.qr(rng.standard_normal((width, width)))[0]
    features = np.hstack([told, noise]) @ rotation.T
    names = [f"{prefix}{number:04d}" for number in range(width)]
    return pd.DataFrame(features.astype(np.float32), columns=names)
