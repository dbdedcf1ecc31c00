"""Finding files, fingerprints, and what the errors say."""

from __future__ import annotations

import json
import sys

import pytest

from medfusion_sdk.backbones.weights import (
    check_sha256,
    find_folder,
    fingerprint_files,
    installed_folder,
    read_json,
    weight_files,
)
from medfusion_sdk.exceptions import WeightsError, WeightsNotFoundError


@pytest.fixture
def connections(monkeypatch):
    """Attempts to reach the network, all of which fail."""
    attempts = []

    def refuse(*args, **kwargs):
        attempts.append(args)
        raise OSError("no way out")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    return attempts


@pytest.fixture
def hub_cache(tmp_path, monkeypatch, connections):
    """An empty hub cache of our own."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


def put_in_hub_cache(hub_cache, name, commit, branch):
    """Lay a model out as the hub's client stores it."""
    model = hub_cache / f"models--{name.replace('/', '--')}"
    snapshot = model / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (model / "refs").mkdir(exist_ok=True)
    (model / "refs" / branch).write_text(commit)
    return snapshot


def test_installed_folder_finds_a_package_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "some_weights"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs something else')")
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_folder("some_weights", "model") == package / "model"
    assert installed_folder("some_weights", "elsewhere") is None
    assert "some_weights" not in sys.modules


def test_find_folder_takes_an_existing_path(tmp_path):
    assert find_folder(tmp_path, revision=None, allow_download=False) == tmp_path
    assert find_folder(str(tmp_path), revision=None, allow_download=False) == tmp_path


def test_find_folder_missing_path_names_it(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"there is no folder .*nowhere"):
        find_folder(tmp_path / "nowhere", revision=None, allow_download=False)


def test_find_folder_absent_hub_model_says_where_it_looked_and_what_to_do(hub_cache, connections):
    with pytest.raises(WeightsNotFoundError) as caught:
        find_folder("some/model", revision="v2", allow_download=False)
    message = str(caught.value)
    assert str(hub_cache) in message
    assert "'v2'" in message
    assert "allow_download=True" in message
    assert connections == []


def test_find_folder_finds_revisions_of_a_cached_hub_model(hub_cache):
    main = put_in_hub_cache(hub_cache, "some/model", "a" * 40, "main")
    tagged = put_in_hub_cache(hub_cache, "some/model", "b" * 40, "v2")
    assert find_folder("some/model", revision=None, allow_download=False).samefile(main)
    assert find_folder("some/model", revision="v2", allow_download=False).samefile(tagged)
    assert find_folder("some/model", revision="b" * 40, allow_download=False).samefile(tagged)


@pytest.fixture
def hub(hub_cache, monkeypatch, tmp_path):
    """A hub with one model in the older weight format; notes what is asked of it."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    model, asked = tmp_path / "snapshot", []

    def snapshot_download(name, *, revision, local_files_only, allow_patterns, **options):
        asked.append((name, revision, "local" if local_files_only else allow_patterns[-1]))
        if local_files_only and not model.is_dir():
            raise LocalEntryNotFoundError("not here")
        if not local_files_only:
            model.mkdir(exist_ok=True)
            if "pytorch_model*.bin" in allow_patterns:
                (model / "pytorch_model.bin").touch()
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def test_find_folder_asks_the_hub_only_where_downloads_are_allowed(hub):
    with pytest.raises(WeightsNotFoundError):
        find_folder("some/model", revision="v2", allow_download=False)
    assert hub == [("some/model", "v2", "local")]
    find_folder("some/model", revision="v2", allow_download=True)
    assert [kind for _, _, kind in hub[2:]] == ["*.safetensors", "pytorch_model*.bin"]


def test_find_folder_does_not_ask_again_for_what_was_fetched(hub):
    for _ in range(2):
        find_folder("some/model", revision=None, allow_download=True)
    assert [kind for _, _, kind in hub].count("*.safetensors") == 1


def test_find_folder_failed_download_is_a_weights_error(hub_cache, connections):
    with pytest.raises(WeightsNotFoundError, match="fetching it failed"):
        find_folder("some/model", revision=None, allow_download=True)
    assert connections


def test_weight_files_prefer_safetensors(tmp_path):
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).touch()
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]


def test_weight_files_none_lists_what_was_looked_for(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"model\.safetensors.*pytorch_model\.bin"):
        weight_files(tmp_path)


def test_weight_files_missing_shard_is_named(tmp_path):
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "one.safetensors").touch()
    with pytest.raises(WeightsNotFoundError, match=r"two\.safetensors"):
        weight_files(tmp_path)
    (tmp_path / "two.safetensors").touch()
    assert [path.name for path in weight_files(tmp_path)] == [
        "model.safetensors.index.json",
        "one.safetensors",
        "two.safetensors",
    ]


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_read_json_unusable_file_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=r"config\.json"):
        read_json(tmp_path / "config.json")


def test_check_sha256_another_file_is_named_with_both_digests(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_sha256(path, digest)
    with pytest.raises(WeightsError, match=rf"model\.safetensors: expected sha256 0+.*{digest}"):
        check_sha256(path, "0" * 64)


def test_fingerprint_follows_contents_and_not_the_place(tmp_path):
    for place, content in (("one", b"abc"), ("two", b"abc"), ("three", b"abd")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "model.safetensors").write_bytes(content)
    one, two, three = (
        fingerprint_files([tmp_path / place / "model.safetensors"])
        for place in ("one", "two", "three")
    )
    assert one == two != three
