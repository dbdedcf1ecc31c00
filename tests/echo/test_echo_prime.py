"""EchoPrime on torchvision's network: `make test-echo` runs this in an environment of its own."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from torchvision.models.video import mvit_v2_s

from medfusion_sdk.backbones.pool import shared_backbones
from medfusion_sdk.backbones.video import borrow_video_backbone, find_video_source
from medfusion_sdk.encoders.video import VideoEncoder
from medfusion_sdk.exceptions import WeightsError
from tests.echo_frames import draw_frame

MEAN = np.array([29.110628, 28.076836, 29.096405])[:, None, None, None]
STD = np.array([47.989223, 46.456997, 47.20083])[:, None, None, None]


class User:
    """Whoever borrows."""


@pytest.fixture(scope="module")
def published():
    """A random network put together as the authors' code does it."""
    torch.manual_seed(0)
    network = mvit_v2_s()
    network.head[-1] = torch.nn.Linear(network.head[-1].in_features, 512)
    for weight in network.parameters():  # norms and biases, too, unlike a fresh network's
        weight.data += 0.02 * torch.randn_like(weight)
    return network.eval()


@pytest.fixture
def weights(published, tmp_path):
    path = tmp_path / "echo_prime_encoder.pt"
    torch.save(published.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def videos():
    """One of 40 frames of 224 x 224 in the cut, one that is too short."""
    frame = draw_frame(280, 280)
    long = np.stack([np.roll(frame, 3 * i, axis=1) for i in range(40)])
    return [long, long[5:14, ..., 0]]


def plain_clip(video):
    """The authors' steps where nothing has to be resized: a cut of 280 by a tenth is 224."""
    frames = video if video.ndim == 4 else np.repeat(video[..., None], 3, axis=-1)
    pixels = frames[:, 28:252, 28:252].astype(float).transpose(3, 0, 1, 2)
    clip = np.zeros((3, 32, 224, 224))
    n = min(32, len(frames))
    clip[:, :n] = ((pixels - MEAN) / STD)[:, :n]
    return torch.from_numpy(clip[:, ::2].copy()).float()[None]


@torch.inference_mode()
def plain_features(network, video):
    """What goes into the network's last layer, and what comes out of it."""
    caught = []
    handle = network.head[-1].register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    out = network(plain_clip(video))
    handle.remove()
    return {"trunk": caught[0][0].numpy(), "head": out[0].numpy()}


@pytest.mark.parametrize(("feature", "width"), [("trunk", 768), ("head", 512)])
def test_study_is_the_mean_of_what_torchvisions_network_makes_of_its_videos(
    published, weights, videos, feature, width
):
    encoder = VideoEncoder(weights=weights, feature=feature, dtype="float32")
    block = encoder.fit_transform([videos[0], videos])
    assert block.shape == (2, width)
    expected = np.stack([plain_features(published, video)[feature] for video in videos])
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    np.testing.assert_allclose(block[0], expected[0], atol=2e-5)
    np.testing.assert_allclose(block[1], expected.mean(axis=0), atol=2e-5)


def test_layout_has_the_names_of_the_published_file(published):
    # As its authors load it: torchvision's names, and a head of 512 under the same name.
    shapes = {name: tuple(weight.shape) for name, weight in published.state_dict().items()}
    assert shapes["conv_proj.weight"] == (96, 3, 3, 7, 7)
    assert shapes["pos_encoding.class_token"] == (96,)
    assert shapes["blocks.15.attn.rel_pos_t"][0] == 15
    assert shapes["head.1.weight"] == (512, 768)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.1.bias": None}, r"1 missing \(head\.1\.bias\)"),
        ({"blocks.3.norm1.weight": None}, r"1 missing \(blocks\.3\.norm1\.weight\)"),
        ({"module.extra": (2,)}, r"1 unexpected \(module\.extra\)"),
        ({"head.1.weight": (400, 768)}, r"head\.1\.weight \(400, 768\) instead of \(512, 768\)"),
    ],
    ids=str,
)
def test_tensor_missing_left_over_or_of_another_shape_is_refused(
    published, tmp_path, change, message
):
    state = dict(published.state_dict())
    for name, shape in change.items():
        if shape is None:
            del state[name]
        else:
            state[name] = torch.zeros(shape)
    torch.save(state, tmp_path / "echo.pt")
    source = find_video_source("echo-prime", tmp_path / "echo.pt")
    with pytest.raises(WeightsError, match=message):
        borrow_video_backbone(User(), source, torch.device("cpu"), torch.float32)


def test_network_is_frozen_shared_and_drawn_from_no_random_state(weights, videos):
    gc.collect()
    before, state = len(shared_backbones), torch.get_rng_state()
    users = [User(), User()]
    source = find_video_source("echo-prime", weights)
    one, two = (
        borrow_video_backbone(user, source, torch.device("cpu"), torch.float32) for user in users
    )
    assert one is two
    assert len(shared_backbones) == before + 1
    assert not one.train().training
    assert not any(weight.requires_grad for weight in one.parameters())
    assert torch.equal(torch.get_rng_state(), state)
