from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medfusion_sdk.training import predict_batches
from tests.training.toys import Regression, regression_data


@pytest.mark.parametrize("batch_size", ["auto", 1, 7, 48])
def test_prediction_does_not_depend_on_batch_size(batch_size):
    module, data = Regression(), regression_data()
    expected = module(data).detach().numpy()
    found = predict_batches(module, data, batch_size=batch_size, device="cpu")
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_method_may_return_several_arrays():
    class Both(Regression):
        def explain(self, batch):
            return {"value": self(batch), "rows": batch["x"][:, :2]}

    found = Both().explain
    parts = predict_batches(found, regression_data(), batch_size=20)
    assert {name: array.shape for name, array in parts.items()} == {"value": (48,), "rows": (48, 2)}
    assert all(isinstance(array, np.ndarray) for array in parts.values())


def test_module_runs_in_evaluation_and_inference_mode_and_every_mode_comes_back():
    class Watched(Regression):
        def forward(self, batch):
            seen.append((self.training, self.dropout.training, torch.is_inference_mode_enabled()))
            return super().forward(batch)

    seen = []
    module = Watched(dropout=nn.Dropout(0.5)).train()
    module.inner.eval()
    predict_batches(module, regression_data())
    assert seen == [(False, False, True)]
    assert (module.training, module.inner.training, module.dropout.training) == (True, False, True)


def test_modes_come_back_after_an_error():
    class Broken(Regression):
        def forward(self, batch):
            raise RuntimeError("no")

    module = Broken().train()
    with pytest.raises(RuntimeError, match="no"):
        predict_batches(module, regression_data())
    assert module.training


def test_exhausted_memory_halves_the_batch_with_the_same_result():
    class Greedy(Regression):
        def forward(self, batch):
            sizes.append(len(batch["x"]))
            if sizes[-1] > 20:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(batch)

    sizes = []
    found = predict_batches(Greedy(), regression_data())
    np.testing.assert_allclose(found, predict_batches(Regression(), regression_data()), rtol=1e-12)
    assert sizes == [48, 24, 12, 12, 12, 12]


def test_exhausted_memory_for_a_single_row_is_an_error():
    class Hopeless(Regression):
        def forward(self, batch):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        predict_batches(Hopeless(), regression_data())


def test_function_without_a_module_is_refused():
    with pytest.raises(TypeError, match="torch module or a bound method"):
        predict_batches(lambda batch: batch["x"], regression_data())
