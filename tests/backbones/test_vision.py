"""Vision models: pixels as their publishers prepare them, and which vector is taken."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from medfusion_sdk.backbones.pixel_settings import read_pixel_settings
from medfusion_sdk.backbones.vision import borrow_vision_backbone
from medfusion_sdk.backbones.vision_source import find_vision_source
from medfusion_sdk.exceptions import ParameterError, WeightsError, WeightsNotFoundError
from tests.text_checkpoints import drop_weights, edit_json
from tests.vision_checkpoints import SETTINGS, write_vision

CPU = torch.device("cpu")


class User:
    """Whoever borrows."""


def load(folder):
    return borrow_vision_backbone(User(), find_vision_source(folder), CPU, torch.float32)


def embed(folder, images, pooling):
    source = find_vision_source(folder)
    pixels = np.stack([source.pixels.prepare(image) for image in images])
    with torch.inference_mode():
        return load(folder)(torch.from_numpy(pixels), pooling).numpy()


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, size=(*size, 3), dtype=np.uint8)
        for size in ((40, 40), (57, 48), (33, 90), (200, 123))
    ]


# -- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SETTINGS)
def test_pixels_equal_those_of_transformers_own_processor(tmp_path, images, kind):
    from transformers import AutoImageProcessor

    folder = write_vision(tmp_path, kind)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    settings = find_vision_source(folder).pixels
    for image in images:
        expected = processor(images=image, return_tensors="np")["pixel_values"][0]
        pixels = settings.prepare(image)
        assert pixels.dtype == np.float32
        np.testing.assert_allclose(pixels, expected, atol=1e-5)


def write_settings(folder, **settings):
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return read_pixel_settings(folder)


def test_pixels_without_normalisation_or_resizing_are_the_image(tmp_path, images):
    settings = write_settings(tmp_path, do_resize=False, do_normalize=False)
    expected = images[1].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(settings.prepare(images[1]), expected, atol=1e-6)
    assert settings.shape is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_pad": True, "size": 4}, "do_pad, which isn't built"),
        ({"size": {"longest_edge": 40}}, "height and width or shortest_edge"),
        ({"size": {"shortest_edge": 9}, "do_center_crop": True, "crop_size": 10}, "cuts.*of 9"),
        ({}, "found None"),
    ],
)
def test_step_that_is_not_known_is_refused_by_name(tmp_path, settings, message):
    with pytest.raises(WeightsError, match=message):
        write_settings(tmp_path, **settings)


def test_folder_without_pixel_settings_is_refused(tmp_path):
    write_vision(tmp_path, "vit")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsNotFoundError, match=r"preprocessor_config\.json.*how images"):
        find_vision_source(tmp_path)


# -- vectors -------------------------------------------------------------------------------------


def reference(folder, images):
    """What transformers computes, one image at a time."""
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    model = getattr(model, "vision_model", model)
    with torch.inference_mode():
        return [model(**processor(images=image, return_tensors="pt")) for image in images]


@pytest.mark.parametrize(
    ("kind", "first_patch"),
    [("vit", 1), ("dinov2", 1), ("dinov2_with_registers", 4), ("clip", 1), ("swin", 0)],
)
def test_vectors_are_the_class_token_and_the_mean_of_the_patches(
    tmp_path, images, kind, first_patch
):
    folder = write_vision(tmp_path, kind)
    states = [output.last_hidden_state[0].numpy() for output in reference(folder, images)]
    mean = np.stack([state[first_patch:].mean(axis=0) for state in states])
    np.testing.assert_allclose(embed(folder, images, "mean"), mean, atol=1e-5)
    if first_patch:
        token = np.stack([state[0] for state in states])
        np.testing.assert_allclose(embed(folder, images, "cls"), token, atol=1e-5)
        np.testing.assert_array_equal(embed(folder, images, "auto"), embed(folder, images, "cls"))
    else:
        np.testing.assert_array_equal(embed(folder, images, "auto"), embed(folder, images, "mean"))
        with pytest.raises(ParameterError, match="no class token"):
            embed(folder, images, "cls")


def test_feature_map_is_averaged_over_its_places(tmp_path, images):
    folder = write_vision(tmp_path, "convnext")
    maps = [output.last_hidden_state[0].numpy() for output in reference(folder, images)]
    expected = np.stack([feature.mean(axis=(1, 2)) for feature in maps])
    np.testing.assert_allclose(embed(folder, images, "auto"), expected, atol=1e-5)
    assert find_vision_source(folder).width == 12


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_pooler_is_the_models_own(tmp_path, images, kind):
    folder = write_vision(tmp_path, kind)
    expected = np.stack([output.pooler_output[0].numpy() for output in reference(folder, images)])
    np.testing.assert_allclose(embed(folder, images, "pooler"), expected, atol=1e-5)
    assert find_vision_source(folder).pooling == ("pooler" if kind == "clip" else "auto")


def test_pooler_that_was_not_published_is_not_drawn_at_random(tmp_path, images):
    folder = write_vision(tmp_path, "vit")
    drop_weights(folder, "pooler.dense.weight", "pooler.dense.bias")
    embed(folder, images, "cls")
    with pytest.raises(ParameterError, match="no pooler"):
        embed(folder, images, "pooler")


# -- files ---------------------------------------------------------------------------------------


def test_fingerprint_follows_weights_configuration_and_pixel_settings(tmp_path):
    prints = [find_vision_source(write_vision(tmp_path / "a", "vit")).fingerprint]
    prints.append(find_vision_source(write_vision(tmp_path / "b", "vit", seed=1)).fingerprint)
    edit_json(tmp_path / "a" / "preprocessor_config.json", resample=3)
    prints.append(find_vision_source(tmp_path / "a").fingerprint)
    assert len(set(prints)) == 3


def test_missing_tensor_is_refused(tmp_path):
    folder = write_vision(tmp_path, "dinov2")
    drop_weights(folder, "embeddings.cls_token")
    with pytest.raises(WeightsError, match=r"1 tensors.*cls_token"):
        load(folder)


def test_text_model_is_not_taken_for_a_vision_model(tmp_path):
    from tests.text_checkpoints import write_checkpoint

    with pytest.raises(WeightsNotFoundError, match=r"preprocessor_config\.json"):
        find_vision_source(write_checkpoint(tmp_path, "bert"))


def test_standin_is_the_same_whatever_the_global_seed_and_as_its_fingerprint_says():
    # Other weights ask for another recipe number in describe_standin_image.
    torch.manual_seed(1)
    source = find_vision_source("standin-image")
    backbone = borrow_vision_backbone(User(), source, CPU, torch.float32)
    total = sum(float(weight.double().abs().sum()) for weight in backbone.parameters())
    assert source.fingerprint.startswith("408de29a9bb6")
    assert total == pytest.approx(7185.066, abs=0.001)
