"""What ST-MEM sees of a recording at 250 Hz: filtered pieces of 9 s on one scale."""

from __future__ import annotations

import numpy as np

__all__ = ["CROP", "FS", "N_CROPS", "PATCH", "STANDARD_LEADS", "prepare"]

FS = 250.0
CROP = 2250  # samples: 9 s
PATCH = 75  # samples: 0.3 s
N_CROPS = 3
# The order of its lead embeddings.
STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

_ORDER = 5
_HIGHPASS, _LOWPASS = 0.67, 40.0  # Hz


def prepare(signals: np.ndarray) -> np.ndarray:
    """Cut, filter and standardise as the authors do for evaluation.

    Parameters
    ----------
    signals : ndarray of shape (n, n_leads, samples)
        At 250 Hz, at least 9 s long.

    Returns
    -------
    ndarray of shape (n, n_crops, n_leads, 2250), float32
        Three pieces, the first at the beginning and the others at equal steps; one where the
        recording is no longer than a piece. Each is filtered forwards and backwards (Butterworth
        of order 5, high-pass 0.67 Hz, then low-pass 40 Hz) and brought to mean 0 and deviation 1
        over its leads together; zeros where it is flat.

    Examples
    --------
    >>> import numpy as np
    >>> prepare(np.zeros((1, 12, 2500))).shape
    (1, 3, 12, 2250)
    """
    from scipy.signal import butter, sosfiltfilt

    step = (signals.shape[-1] - CROP) // (N_CROPS - 1)
    starts = [i * step for i in range(N_CROPS)] if step else [0]
    crops = np.stack([signals[..., start : start + CROP] for start in starts], axis=1)
    crops = crops.astype(np.float64)
    # The high-pass takes a constant away, but for rounding that a flat lead would be scaled to.
    crops -= crops[..., :1]
    for cutoff, kind in ((_HIGHPASS, "highpass"), (_LOWPASS, "lowpass")):
        crops = sosfiltfilt(butter(_ORDER, cutoff, kind, fs=FS, output="sos"), crops)
    crops -= crops.mean(axis=(-1, -2), keepdims=True)
    scale = crops.std(axis=(-1, -2), keepdims=True)
    return np.divide(crops, scale, out=np.zeros_like(crops), where=scale != 0).astype(np.float32)
