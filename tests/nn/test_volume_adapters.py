"""Adapters before the frozen encoder: what they start from, how many weights they have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool3d

from medfusion_sdk.nn.volume_adapters import make_adapter

CONV = {"kind": "conv3d", "channels": 8}
SLICE = {"kind": "slice2d", "channels": 0}
NONE = {"kind": "none", "channels": 0}


def volumes(*size):
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [CONV, SLICE, NONE], ids=lambda kind: kind["kind"])
@pytest.mark.parametrize(
    ("size", "target"),
    [((16, 12, 12), (4, 6, 6)), ((16, 12, 12), (16, 12, 12)), ((10, 9, 7), (4, 6, 6))],
)
def test_adapter_starts_as_its_pooling(kind, size, target):
    x = volumes(*size)
    adapter = make_adapter(volume_size=size, target_size=target, **kind)
    out = adapter(x)
    assert torch.equal(out, adapter.shortcut(x))
    torch.testing.assert_close(out, adaptive_avg_pool3d(x, target), atol=1e-6, rtol=0)
    if kind is not SLICE:  # whose pooling is a sum of products
        assert torch.equal(out, adaptive_avg_pool3d(x, target))
        assert size != target or torch.equal(out, x)


def test_published_sizes_have_the_stated_number_of_weights():
    conv = make_adapter("conv3d", (256, 256, 256), (32, 256, 256), 8)
    assert sum(weight.numel() for weight in conv.parameters()) == 2001
    slices = make_adapter("slice2d", (256, 256, 256), (64, 256, 256), 8)
    kernels = [weight.numel() for weight in slices.parameters() if weight.ndim > 1]
    assert sum(kernels) == 73_728
    assert not list(make_adapter("none", (256, 256, 256), (32, 256, 256), 8).parameters())


def test_first_convolution_strides_so_that_no_map_has_full_resolution():
    adapter = make_adapter("conv3d", (64, 20, 20), (8, 10, 10), 4)
    seen = []
    adapter.branch[0].register_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    adapter(volumes(64, 20, 20))
    assert seen == [(2, 4, 8, 10, 10)]


@pytest.mark.parametrize("kind", [CONV, SLICE], ids=lambda kind: kind["kind"])
def test_branch_adds_something_once_its_last_layer_is_not_zero(kind):
    x = volumes(16, 12, 12)
    adapter = make_adapter(volume_size=(16, 12, 12), target_size=(4, 6, 6), **kind)
    torch.nn.init.normal_(adapter.branch[-1].weight)
    one = adapter(x)
    assert (one - adapter.shortcut(x)).abs().max() > 1e-3
    # A row's output is its own: normalisation is within a volume.
    np.testing.assert_allclose(adapter(x[:1]).detach().numpy(), one[:1].detach().numpy(), atol=1e-5)
