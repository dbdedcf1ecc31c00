from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb


@pytest.fixture
def gappy_record(tmp_path: Path) -> Path:
    """A record of two leads at 100 Hz; V2 is marked invalid from sample 40 to 44."""
    samples = np.random.default_rng(0).normal(size=(200, 2))
    samples[40:45, 1] = np.nan
    wfdb.wrsamp(
        "gappy",
        fs=100,
        units=["mV", "mV"],
        sig_name=["V1", "V2"],
        p_signal=samples,
        fmt=["16", "16"],
        write_dir=str(tmp_path),
    )
    return tmp_path / "gappy"
