"""Finding and loading volume networks: layout, prefixes, sizes, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from medfusion_sdk.backbones import standin_vit3d
from medfusion_sdk.backbones.m3d_clip import read_projections
from medfusion_sdk.backbones.text_source import find_text_source
from medfusion_sdk.backbones.volume import borrow_volume_backbone, load_vit3d
from medfusion_sdk.backbones.volume_source import find_volume_source
from medfusion_sdk.exceptions import ParameterError, WeightsError, WeightsNotFoundError
from medfusion_sdk.nn.vit3d_shape import ViT3DShape
from tests.text_checkpoints import edit_json
from tests.volume_checkpoints import SHAPE, language_tower, vision_tensors, write_m3d_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_m3d_clip(tmp_path_factory.mktemp("m3d") / "M3D-CLIP")


def same(network, tensors):
    return all(torch.equal(value, tensors[name]) for name, value in network.state_dict().items())


def test_m3d_clip_folder_tells_its_shape_and_loads_strictly(folder):
    source = find_volume_source(folder)
    assert source.shape == SHAPE
    assert source.prefix == "vision_encoder."
    assert same(load_vit3d(source), vision_tensors())


def test_image_tower_is_found_as_file_with_or_without_prefix(tmp_path):
    tensors = vision_tensors()
    config = {"img_size": SHAPE.image_size, "patch_size": SHAPE.patch_size, "num_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(tensors, tmp_path / "pretrained_ViT.bin")
    save_file(
        {f"a.vision_tower.{k}": v for k, v in tensors.items()}, tmp_path / "lamed.safetensors"
    )
    for path in (tmp_path / "pretrained_ViT.bin", tmp_path, str(tmp_path / "lamed.safetensors")):
        source = find_volume_source(path)
        assert source.shape == SHAPE
        assert same(load_vit3d(source), tensors)


def test_published_sizes_are_taken_where_no_configuration_lies_beside(tmp_path):
    shape = ViT3DShape((32, 256, 256), (4, 16, 16), 24, n_layers=1, n_heads=12, mlp_width=8)
    torch.save(vision_tensors(shape), tmp_path / "pretrained_ViT.bin")
    assert find_volume_source(tmp_path / "pretrained_ViT.bin").shape == shape
    torch.save(vision_tensors(SHAPE), tmp_path / "small.bin")
    with pytest.raises(WeightsError, match=r"8 positions.*config\.json beside it"):
        find_volume_source(tmp_path / "small.bin")


def test_sharded_checkpoint_is_one(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, own in shards.items():
        save_file({name: tensors[name] for name in own}, tmp_path / shard)
    where = {name: shard for shard, own in shards.items() for name in own}
    edit_json(tmp_path / "model.safetensors.index.json", weight_map=where)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    assert same(load_vit3d(find_volume_source(tmp_path)), vision_tensors())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.1.norm1.bias": None}, "doesn't fit"),
        ({"blocks.1.cross_attn.q.weight": torch.zeros(2)}, "doesn't fit"),
        ({"norm.bias": torch.zeros(7)}, "doesn't fit"),
        ({"patch_embedding.position_embeddings": None}, "0 tensors"),
        ({"x.patch_embedding.position_embeddings": torch.zeros(1, 8, 64)}, "2 tensors"),
        ({"patch_embedding.patch_embeddings.1.weight": None}, "layout"),
        ({"patch_embedding.position_embeddings": torch.zeros(1, 9, 64)}, "9 positions"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_checkpoint_of_another_network_is_refused(tmp_path, change, message):
    tensors = {k: v for k, v in (vision_tensors() | change).items() if v is not None}
    config = {"img_size": SHAPE.image_size, "patch_size": SHAPE.patch_size, "num_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=message):
        load_vit3d(find_volume_source(tmp_path))


def test_broken_files_and_pickles_are_refused(tmp_path):
    for name in ("model.safetensors", "pretrained_ViT.bin"):
        (tmp_path / name).write_bytes(b"no checkpoint at all")
        with pytest.raises(WeightsError, match=f"{name} can't be read as"):
            find_volume_source(tmp_path / name)
    torch.save({"code": print}, tmp_path / "evil.bin")
    with pytest.raises(WeightsError, match="nothing else is ever unpickled"):
        find_volume_source(tmp_path / "evil.bin")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsNotFoundError, match=r"model\.safetensors"):
        find_volume_source(tmp_path / "empty")


def test_model_that_is_not_here_says_where_it_was_looked_for(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsNotFoundError, match=r"GoodBaiBai88/M3D-CLIP.*allow_download"):
        find_volume_source("m3d-clip")
    with pytest.raises(WeightsNotFoundError, match=r"GoodBaiBai88/M3D-CLIP.*allow_download"):
        find_text_source("m3d-clip")


def test_target_size_must_be_whole_patches(folder):
    source = find_volume_source(folder)
    assert source.input_size((16, 16, 24)) == (16, 16, 24)
    with pytest.raises(ParameterError, match=r"multiple of the patch size \(4, 8, 8\)"):
        source.input_size((16, 20, 24))


def test_fingerprint_is_that_of_weights_and_configuration(folder, tmp_path, monkeypatch):
    source = find_volume_source(folder)
    for path in ("model.safetensors", "config.json"):
        (tmp_path / path).write_bytes((folder / path).read_bytes())
    assert find_volume_source(tmp_path).fingerprint == source.fingerprint
    edit_json(tmp_path / "config.json", num_heads=2)
    assert find_volume_source(tmp_path).fingerprint != source.fingerprint
    standin = find_volume_source("standin-vit3d").fingerprint
    monkeypatch.setattr(standin_vit3d, "_SEED", 1)
    assert find_volume_source("standin-vit3d").fingerprint != standin


def test_borrowed_network_is_shared_frozen_and_stays_where_it_is(folder):
    class User:
        pass

    source, users = find_volume_source(folder), (User(), User())
    one, two = (
        borrow_volume_backbone(user, source, torch.device("cpu"), torch.float32) for user in users
    )
    assert one is two
    owner = torch.nn.Sequential(one).double().train()
    assert one.dtype == torch.float32
    assert not one.training
    assert not any(weight.requires_grad for weight in owner.parameters())
    x = torch.rand(1, 1, *SHAPE.image_size, requires_grad=True)
    one.read_out(x, "cls").square().sum().backward()
    assert x.grad.abs().max() > 0  # gradients flow through


def test_standin_is_the_same_everywhere_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    network = standin_vit3d.build_standin()
    assert torch.equal(torch.random.get_rng_state(), before)
    first = network.blocks[0].attn.out_proj.weight.detach().numpy()
    drawn = np.random.default_rng(0).standard_normal((48, 48)) / 48**0.5
    np.testing.assert_allclose(first, drawn, rtol=1e-6)
    positions = network.patch_embedding.position_embeddings
    assert positions.std().item() == pytest.approx(48**-0.5, rel=0.1)
    assert network(torch.rand(1, 1, 16, 32, 32)).isfinite().all()


def test_language_tower_of_m3d_clip_is_a_text_model(folder):
    from medfusion_sdk.encoders.text import TextEncoder

    source = find_text_source(folder)
    assert (source.width, source.pooling, source.normalize) == (64, "cls", False)
    reference = language_tower()
    tensors = load_file(folder / "model.safetensors")
    prefix = "language_encoder."
    reference.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    vector = TextEncoder(folder, dtype="float32").transform(["sinus rhythm"])[0]
    ids = torch.tensor([[2, 4, 5, 3]])  # start, "sinus", "rhythm", end
    expected = reference(input_ids=ids).last_hidden_state[0, 0].detach().numpy()
    np.testing.assert_allclose(vector, expected, atol=1e-5)
    save_file(
        {k: v for k, v in tensors.items() if "layer.1.output" not in k},
        folder.parent / "model.safetensors",
    )
    for path in ("config.json", "vocab.txt", "tokenizer_config.json"):
        (folder.parent / path).write_bytes((folder / path).read_bytes())
    with pytest.raises(WeightsError, match="language_encoder"):
        TextEncoder(folder.parent).transform(["sinus"])


def test_projections_of_m3d_clip_are_read_where_there_are_any(folder, tmp_path):
    maps = read_projections(find_volume_source(folder).files)
    assert {name: {k: tuple(v.shape) for k, v in m.items()} for name, m in maps.items()} == {
        name: {"weight": (64, 64), "bias": (64,)} for name in ("image", "text")
    }
    torch.save(vision_tensors(), tmp_path / "tower.bin")
    assert read_projections([tmp_path / "tower.bin"]) == {}
