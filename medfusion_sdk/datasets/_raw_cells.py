"""Raw cells that tell latents: ECG-like signals and notes."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

FS = 100.0
_N_SAMPLES = 1000
_N_LEADS = 12
# Seconds after the R peak, width in seconds, mV: P, Q, R, S, then ST segment and T wave.
_WAVES = np.array(
    [
        [-0.16, 0.025, 0.12],
        [-0.03, 0.010, -0.10],
        [0.00, 0.012, 1.20],
        [0.03, 0.010, -0.25],
        [0.12, 0.035, 0.02],
        [0.27, 0.050, 0.30],
    ]
)
# The waves that move with the latents. R stays tall, so that beats can be found.
_TELLING = [0, 4, 5]
_MILLIVOLT_PER_SD = 0.3

_FINDINGS = (
    "st depression",
    "t wave inversion",
    "left ventricular hypertrophy",
    "conduction delay",
    "q wave loss of r progression",
    "atrial enlargement",
    "shortness of breath",
    "ankle oedema",
    "chest pain on exertion",
    "mitral regurgitation",
    "wall motion abnormality",
    "pulmonary congestion",
    "palpitations",
    "exercise intolerance",
    "aortic calcification",
    "pericardial effusion",
)
_GRADES = ("no", "minimal", "mild", "moderate", "marked", "severe")
_ASIDES = (
    "compared with the previous study",
    "patient comfortable at rest",
    "technically adequate recording",
    "reviewed by the physician on duty",
    "history as known",
    "medication unchanged",
)

MOST_COORDINATES = min(len(_FINDINGS), len(_TELLING) * _N_LEADS)


def render_signals(told: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn standardised coordinates (rows, k) into signals in mV, (rows, 12, 1000).

    The amplitudes of P wave, ST segment and T wave over the leads are linear in the coordinates;
    heart rate, its variability, baseline wander and noise tell nothing.
    """
    n_rows, n_coordinates = told.shape
    places = len(_TELLING) * _N_LEADS
    directions = np.linalg.qr(rng.standard_normal((places, n_coordinates)))[0].T
    lead_gain = rng.uniform(0.6, 1.2, size=_N_LEADS)
    amplitude = np.empty((n_rows, _N_LEADS, len(_WAVES)))
    amplitude[:] = lead_gain[:, None] * _WAVES[:, 2]
    moved = (told @ directions).reshape(n_rows, _N_LEADS, len(_TELLING))
    amplitude[:, :, _TELLING] += _MILLIVOLT_PER_SD * moved
    time = np.arange(_N_SAMPLES) / FS
    signals = np.empty((n_rows, _N_LEADS, _N_SAMPLES), dtype=np.float32)
    for row in range(n_rows):
        wander = 0.05 * np.sin(2 * np.pi * (rng.uniform(0.1, 0.4) * time + rng.random()))
        noise = 0.02 * rng.standard_normal((_N_LEADS, _N_SAMPLES))
        signals[row] = amplitude[row] @ _wave_train(rng) + wander + noise
    signals.flags.writeable = False
    return signals


def _wave_train(rng: np.random.Generator) -> np.ndarray:
    """Return each wave with unit amplitude at every beat, (waves, samples)."""
    interval = 60 / rng.uniform(55, 95)
    beats = np.cumsum(interval * rng.normal(1, 0.03, size=int(_N_SAMPLES / FS / interval) + 3))
    beats -= interval * (1 + rng.random())
    beats = beats[beats < _N_SAMPLES / FS + 0.5]
    # Waves are computed near their beat only; two seconds at either end take what sticks out.
    near = np.arange(int(-0.4 * FS), int(0.6 * FS))
    first = np.round(beats * FS).astype(int)
    distance = (first[:, None] + near) / FS - beats[:, None] - _WAVES[:, 0, None, None]
    waves = np.exp(-0.5 * (distance / _WAVES[:, 1, None, None]) ** 2)
    margin = int(2 * FS)
    train = np.zeros((len(_WAVES), _N_SAMPLES + 2 * margin))
    for beat, start in enumerate(first + near[0] + margin):
        train[:, start : start + len(near)] += waves[:, beat]
    return train[:, margin:-margin]


def render_notes(told: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Turn standardised coordinates (rows, k) into notes: one graded finding per coordinate.

    Sentences come in random order, with some that tell nothing. Grades are six equally frequent
    steps, so a note tells a little less than the coordinates do.
    """
    cuts = norm.ppf(np.arange(1, len(_GRADES)) / len(_GRADES))
    notes = []
    for steps in np.searchsorted(cuts, told):
        sentences = [f"{_GRADES[step]} {_FINDINGS[i]}" for i, step in enumerate(steps)]
        sentences += list(rng.choice(_ASIDES, size=2, replace=False))
        notes.append(". ".join(rng.permutation(sentences)) + ".")
    return notes
