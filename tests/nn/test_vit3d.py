"""The volume transformer against MONAI's blocks and torch's own layers; positions; rollout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv3d, layer_norm

from medfusion_sdk.nn.vit3d import ViT3D, attention_rollout, interpolate_positions, pool_tokens
from medfusion_sdk.nn.vit3d_shape import ViT3DShape
from tests.volume_checkpoints import SHAPE, vision_tensors

ORACLE = Path(__file__).parents[1] / "data" / "vit3d_oracle.npz"


@pytest.fixture(scope="module")
def network():
    network = ViT3D(SHAPE)
    network.load_state_dict(vision_tensors())
    return network.eval()


def volumes(*size, seed=0):
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(seed))


def by_torchs_own_layers(shape, tensors, x):
    """The same network from torch's convolution and its transformer layer."""
    kernel = tensors["patch_embedding.patch_embeddings.1.weight"]
    kernel = kernel.reshape(shape.width, 1, *shape.patch_size)
    bias = tensors["patch_embedding.patch_embeddings.1.bias"]
    states = conv3d(x, kernel, bias, stride=shape.patch_size).flatten(2).mT
    states = states + tensors["patch_embedding.position_embeddings"]
    states = torch.cat([tensors["cls_token"].expand(len(x), -1, -1), states], dim=1)
    for layer in range(shape.n_layers):
        own = {k.split(".", 2)[2]: v for k, v in tensors.items() if k.startswith(f"blocks.{layer}")}
        block = torch.nn.TransformerEncoderLayer(
            shape.width,
            shape.n_heads,
            shape.mlp_width,
            activation="gelu",
            norm_first=True,
            batch_first=True,
            dropout=0.0,
        )
        names = {
            "self_attn.in_proj_weight": own["attn.qkv.weight"],
            "self_attn.in_proj_bias": torch.zeros(3 * shape.width),
            "self_attn.out_proj.weight": own["attn.out_proj.weight"],
            "self_attn.out_proj.bias": own["attn.out_proj.bias"],
        }
        for part in ("norm1", "norm2"):
            names |= {f"{part}.{kind}": own[f"{part}.{kind}"] for kind in ("weight", "bias")}
        for part in ("linear1", "linear2"):
            names |= {f"{part}.{kind}": own[f"mlp.{part}.{kind}"] for kind in ("weight", "bias")}
        block.load_state_dict(names)
        states = block.eval()(states)
    return layer_norm(states, (shape.width,), tensors["norm.weight"], tensors["norm.bias"])


def test_states_equal_monais_blocks_whose_tensors_load_strictly():
    with np.load(ORACLE) as oracle:
        tensors = {
            name.removeprefix("vision_encoder."): torch.from_numpy(oracle[name])
            for name in oracle.files
            if name.startswith("vision_encoder.")
        }
        x, expected = torch.from_numpy(oracle["volumes"]), oracle["states"]
    network = ViT3D(ViT3DShape((8, 12, 12), (4, 4, 6), 12, n_layers=2, n_heads=3, mlp_width=20))
    network.load_state_dict(tensors)
    np.testing.assert_allclose(network(x).detach().numpy(), expected, atol=1e-5)


def test_states_equal_torchs_own_layers(network):
    x = volumes(*SHAPE.image_size)
    expected = by_torchs_own_layers(SHAPE, vision_tensors(), x)
    torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=0)


def test_published_sizes_make_2048_tokens_and_4096_where_positions_are_interpolated():
    shape = ViT3DShape((32, 256, 256), (4, 16, 16), 4, n_layers=0, n_heads=1, mlp_width=4)
    network = ViT3D(shape)
    assert network.patch_embedding.position_embeddings.shape == (1, 2048, 4)
    assert network(torch.zeros(1, 1, 32, 256, 256)).shape == (1, 1 + 2048, 4)
    assert network(torch.zeros(1, 1, 64, 256, 256)).shape == (1, 1 + 4096, 4)


def test_interpolation_is_identity_on_the_same_grid_and_keeps_planes():
    positions = torch.randn(1, 2048, 3, generator=torch.Generator().manual_seed(0))
    assert interpolate_positions(positions, (8, 16, 16), (8, 16, 16)) is positions
    finer = interpolate_positions(positions, (8, 16, 16), (16, 16, 16)).reshape(16, 256, 3)
    coarse = positions.reshape(8, 256, 3)
    # Between two planes a quarter from one and three quarters from the other; level at the ends.
    torch.testing.assert_close(finer[0], coarse[0])
    torch.testing.assert_close(finer[1], 0.75 * coarse[0] + 0.25 * coarse[1])
    torch.testing.assert_close(finer[2], 0.25 * coarse[0] + 0.75 * coarse[1])


def test_patches_that_move_with_their_positions_give_the_same_class_state(network):
    # The class token has no position, and attention none of its own.
    x = volumes(*SHAPE.image_size)
    swapped = torch.cat([x[:, :, 4:], x[:, :, :4]], dim=2)
    moved = ViT3D(SHAPE)
    tensors = vision_tensors()
    positions = tensors["patch_embedding.position_embeddings"].reshape(1, 2, 4, -1)
    tensors["patch_embedding.position_embeddings"] = positions.flip(1).flatten(1, 2)
    moved.load_state_dict(tensors)
    torch.testing.assert_close(moved(swapped)[:, 0], network(x)[:, 0])
    assert (network(swapped)[:, 0] - network(x)[:, 0]).abs().max() > 1e-3


def test_checkpointed_gradients_are_the_same(network):
    gradients = []
    for flag in (False, True):
        x = volumes(*SHAPE.image_size).requires_grad_()
        pool_tokens(network(x, gradient_checkpointing=flag), "cls").square().sum().backward()
        gradients.append(x.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


def test_rollout_is_the_product_of_attention_matrices(network):
    x = volumes(*SHAPE.image_size)[:1]
    states, flow = network.embed(x), torch.eye(9)
    for block in network.blocks:
        q, k, _ = block.attn.qkv(block.norm1(states))[0].reshape(9, 3, 4, 16).permute(1, 2, 0, 3)
        attention = (q @ k.mT / 4).softmax(-1).mean(0)
        flow = (attention + torch.eye(9)) / 2 @ flow
        states = block(states)
    found = attention_rollout(network, x)
    torch.testing.assert_close(found.flatten(), flow[0, 1:].detach())
    assert found.shape == (1, *SHAPE.grid())
    read = attention_rollout(network, x, pool="mean")
    torch.testing.assert_close(read.flatten(), flow[1:].mean(0)[1:].detach())
    torch.testing.assert_close(flow.sum(dim=1), torch.ones(9))
