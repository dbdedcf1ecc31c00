from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk.estimators._small_cells import read_signals
from medfusion_sdk.exceptions import SignalError
from medfusion_sdk.readers.signal import stated_rate
from tests.readers.wfdb_writer import Lead, write


def records(folder, *rates):
    samples = np.arange(40).tolist()
    return pd.Series(
        [
            str(write(folder, [Lead("II", samples)], name=f"r{i}", fs=fs))
            for i, fs in enumerate(rates)
        ],
        index=[f"p{i}" for i in range(len(rates))],
        name="ecg",
    )


def test_records_of_several_rates_are_refused_with_rates_and_row(tmp_path):
    with pytest.raises(SignalError, match=r"row 'p2', column 'ecg'.*250 Hz \(row 'p0'\), 500 Hz"):
        read_signals(records(tmp_path, 250, 250, 500), None)


def test_records_of_one_rate_and_arrays_are_read(tmp_path):
    column = records(tmp_path, 250, 250)
    column["p9"] = np.zeros((1, 40))
    assert len(read_signals(column, None).present) == 3
    assert stated_rate(column["p0"]) == 250
    assert stated_rate(column["p9"]) is None
