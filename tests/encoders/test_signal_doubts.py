from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.exceptions import EncoderWarning


def _at_500_hz(n=3):
    from scipy.signal import resample

    ecgs = load_ptbxl().data["ecg"].iloc[:n]
    return pd.Series([resample(ecg, 5000, axis=1) for ecg in ecgs], index=list("abcdef")[:n])


@pytest.mark.parametrize("kind", ["array", "npy"])
def test_beats_that_no_heart_has_are_told_with_their_rows(tmp_path, kind):
    fast = _at_500_hz()
    if kind == "npy":
        for row, ecg in fast.items():
            np.save(tmp_path / f"{row}.npy", ecg)
        fast = pd.Series([tmp_path / f"{row}.npy" for row in fast.index], index=fast.index)
    with pytest.warns(EncoderWarning, match=r"3 of 3 .*100 Hz.*source_fs.*row 'a': 13 beats a min"):
        SignalEncoder(view="beats", n_features=84).fit_transform(fast)
    # Told the rate, or where no heart is looked for, nothing is said.
    SignalEncoder(view="beats", n_features=84, source_fs=500).fit_transform(fast)
    SignalEncoder(n_features=84).fit_transform(fast)


def test_beats_of_real_ecgs_at_their_rate_are_silent():
    SignalEncoder(view="beats", n_features=84).fit_transform(load_ptbxl().data["ecg"].iloc[::12])
