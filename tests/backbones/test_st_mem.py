"""ST-MEM: its network, what it sees, and what a checkpoint must hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medfusion_sdk.backbones.st_mem import borrow_st_mem, find_st_mem
from medfusion_sdk.backbones.st_mem_signals import prepare
from medfusion_sdk.exceptions import WeightsError, WeightsNotFoundError
from tests.st_mem_checkpoints import DEPTH, WIDTH, draw_weights, reference_embedding, write_st_mem

CPU = torch.device("cpu")


class User:
    """Whoever borrows."""


def load(path):
    return borrow_st_mem(User(), find_st_mem(path), CPU)


@pytest.fixture
def crops():
    return np.random.default_rng(1).standard_normal((3, 12, 2250)).astype(np.float32)


# -- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("leads", [list(range(12)), [1], [0, 1, 6, 10]])
def test_embedding_equals_a_plain_computation_from_the_published_names(tmp_path, crops, leads):
    weights = draw_weights()
    network = load(write_st_mem(tmp_path / "encoder.pth", weights))
    seen = crops[:, leads]
    with torch.inference_mode():
        embedded = network(torch.from_numpy(seen), leads).numpy()
    expected = np.stack([reference_embedding(weights, crop, leads) for crop in seen])
    np.testing.assert_allclose(embedded, expected, rtol=1e-4, atol=1e-5)


def test_embedding_does_not_depend_on_the_order_of_the_leads_but_on_which_they_are(tmp_path, crops):
    network = load(write_st_mem(tmp_path / "encoder.pth"))
    two = torch.from_numpy(crops[:, [2, 7]])
    with torch.inference_mode():
        embedded, turned = network(two, [2, 7]), network(two.flip(1), [7, 2])
        mistaken = network(two, [7, 2])
    torch.testing.assert_close(embedded, turned, rtol=1e-4, atol=1e-5)
    assert (embedded - mistaken).abs().max() > 0.01


def test_tokens_are_those_of_the_patches(tmp_path, crops):
    network = load(write_st_mem(tmp_path / "encoder.pth"))
    seen = torch.from_numpy(crops)
    with torch.inference_mode():
        tokens = network.tokens(seen, range(12))
        assert tokens.shape == (3, 12, 30, WIDTH)
        pooled = network.norm(tokens.mean(dim=(1, 2)))
        torch.testing.assert_close(pooled, network(seen, range(12)))


def test_network_is_frozen_and_one_copy_serves_two_names(tmp_path):
    first, copy = write_st_mem(tmp_path / "a.pth"), tmp_path / "b.pth"
    copy.write_bytes(first.read_bytes())
    users = [User(), User()]
    one, two = (
        borrow_st_mem(user, find_st_mem(path), CPU)
        for user, path in zip(users, (first, copy), strict=True)
    )
    assert one is two
    assert not one.train().training
    assert not any(weight.requires_grad for weight in one.parameters())


def test_loading_leaves_the_global_random_state_alone(tmp_path):
    path = write_st_mem(tmp_path / "encoder.pth")
    before = torch.get_rng_state()
    load(path)
    assert torch.equal(torch.get_rng_state(), before)


# -- what it sees --------------------------------------------------------------------------------


def test_pieces_are_three_at_equal_steps():
    ramp = np.zeros((1, 2, 2500))
    ramp[0, 0, [100, 1000]] = [5.0, 1.0]  # inside the first piece alone, and inside all
    pieces = prepare(ramp)
    assert pieces.shape == (1, 3, 2, 2250)
    assert pieces[0, :, 0].argmax(axis=1).tolist() == [100, 875, 750]


@pytest.mark.parametrize(("samples", "n_pieces"), [(2250, 1), (2251, 1), (2252, 3)])
def test_recording_of_no_more_than_a_piece_is_one_piece(samples, n_pieces):
    signal = np.random.default_rng(0).standard_normal((1, 12, samples))
    assert prepare(signal).shape[1] == n_pieces


@pytest.mark.parametrize("frequency", [1.0, 10.0, 40.0, 60.0])
def test_filters_have_the_gain_of_butterworths_of_order_five_run_twice(frequency):
    # Standardisation would hide a gain: a second lead of 10 Hz, which passes, is the measure.
    time = np.arange(2250) / 250
    phases = 2 * np.pi * np.outer([frequency, 10.0], time)
    seen = prepare(np.sin(phases)[None])[0, 0].astype(np.float64)
    middle = slice(500, -500)  # away from the ends
    amplitude = []
    for wave, phase in zip(seen[:, middle], phases[:, middle], strict=True):
        parts = np.column_stack([np.sin(phase), np.cos(phase)])
        amplitude.append(np.linalg.lstsq(parts, wave, rcond=None)[0])

    def squared(low, high):  # |H|^2 of a digital Butterworth, by the bilinear transform
        return 1 / (1 + (np.tan(np.pi * low / 250) / np.tan(np.pi * high / 250)) ** 10)

    gain = squared(0.67, frequency) * squared(frequency, 40)
    in_phase, shifted = amplitude[0] / amplitude[1][0]
    assert in_phase == pytest.approx(gain, abs=0.01)
    assert shifted == pytest.approx(0, abs=0.01)  # zero phase


def test_leads_are_standardised_together():
    lead = np.random.default_rng(0).standard_normal(2250)
    piece = prepare(np.outer([1.0, -2.0, 4.0], lead)[None])[0, 0]
    assert piece.mean() == pytest.approx(0, abs=1e-6)
    assert piece.std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(piece[1:].std(axis=1) / piece[0].std(), [2, 4], rtol=1e-4)


@pytest.mark.parametrize("level", [0.0, 1.3])
def test_flat_recording_becomes_zeros(level):
    assert not prepare(np.full((1, 12, 2500), level)).any()


# -- what a checkpoint must hold ------------------------------------------------------------------


def test_sizes_are_read_from_the_file_and_a_classifier_is_passed_over(tmp_path):
    weights = draw_weights()
    head = {"head.weight": np.ones((3, WIDTH), "f4"), "head.bias": np.ones(3, "f4")}
    source = find_st_mem(write_st_mem(tmp_path / "tuned.pth", weights | head))
    assert (source.width, source.depth) == (WIDTH, DEPTH)
    network = load(source.path)
    assert not hasattr(network, "head")


def test_state_dict_alone_is_read_as_well(tmp_path):
    weights = {name: torch.from_numpy(values) for name, values in draw_weights().items()}
    torch.save(weights, tmp_path / "bare.pth")
    assert len(load(tmp_path / "bare.pth").blocks) == DEPTH


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block1.ff.fn.net.0.bias": None}, r"1 missing \(block1\.ff\.fn\.net\.0\.bias\)"),
        ({"lead_embeddings.11": None}, r"1 missing \(lead_embeddings\.11\)"),
        ({"cls_embedding": (WIDTH,)}, r"1 unexpected \(cls_embedding\)"),
        ({"to_patch_embedding.2.weight": (WIDTH, 50)}, r"to_patch.*\(24, 50\) instead of \(24, 75"),
        ({"pos_embedding": (1, 22, WIDTH)}, r"pos_embedding \(1, 22, 24\) instead of \(1, 32, 24"),
        ({"pos_embedding": None}, r"isn't an encoder of ST-MEM: no usable tensor 'pos_embedding'"),
    ],
    ids=str,
)
def test_tensor_missing_left_over_or_of_another_shape_is_refused(tmp_path, change, message):
    weights = draw_weights()
    for name, shape in change.items():
        if shape is None:
            del weights[name]
        else:
            weights[name] = np.zeros(shape, "f4")
    with pytest.raises(WeightsError, match=message):
        load(write_st_mem(tmp_path / "encoder.pth", weights))


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("content", ["code", "text", "empty", "list", "numbers", "truncated"])
def test_file_of_anything_but_tensors_is_refused_and_no_code_is_run(tmp_path, content):
    path = write_st_mem(tmp_path / "encoder.pth")
    whole = path.read_bytes()
    if content == "code":
        torch.save({"model": Trap(tmp_path / "sprung")}, path)
    elif content == "list":
        torch.save([torch.zeros(2)], path)
    elif content == "numbers":
        torch.save({"model": {"pos_embedding": 1.0}}, path)
    else:
        path.write_bytes({"text": b"not found", "empty": b"", "truncated": whole[:-200]}[content])
    with pytest.raises(WeightsError, match=r"encoder\.pth"):
        find_st_mem(path)
    assert not (tmp_path / "sprung").exists()


def test_weights_that_are_not_there_are_named_with_where_to_get_them(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"needs weights=.*github\.com/bakqui/ST-MEM"):
        find_st_mem(None)
    with pytest.raises(WeightsNotFoundError, match=r"no file .*nowhere\.pth.*encoder\.pth"):
        find_st_mem(tmp_path / "nowhere.pth")
