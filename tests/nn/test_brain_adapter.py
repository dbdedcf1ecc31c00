"""Brain-Adapter's network and losses: the invariants, at values known in closed form."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool3d, cross_entropy, normalize

from medfusion_sdk.nn.brain_adapter import BrainAdapterNetwork, FixedLinear
from medfusion_sdk.nn.brain_adapter_shape import BrainAdapterShape
from medfusion_sdk.nn.brain_adapter_task import BrainAdapterTask, alignment_loss
from medfusion_sdk.nn.vit3d import ViT3D
from tests.volume_checkpoints import SHAPE, vision_tensors

SIZE, D, D_TEXT, C = (16, 16, 16), 10, 6, 3


def make_shape(**changed):
    built = {
        "modalities": ("image", "text"),
        "volume_size": SIZE,
        "target_size": SHAPE.image_size,
        "adapter": "conv3d",
        "adapter_channels": 8,
        "image_width": SHAPE.width,
        "text_width": D_TEXT,
        "proj_dim": D,
        "image_pool": "cls",
        "train_mode": "tlp",
        "absences": (),
        "temperature": 0.07,
        "learnable_temperature": True,
    }
    return BrainAdapterShape(**built | changed)


def make_vision(train_mode="tlp"):
    vision = ViT3D(SHAPE)
    vision.load_state_dict(vision_tensors())
    return vision.requires_grad_(train_mode == "full").eval()


def make_task(seed=0, checkpointing=False, **changed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = make_shape(**changed)
        vision = make_vision(shape.train_mode) if "image" in shape.modalities else None
        network = BrainAdapterNetwork(vision, shape, gradient_checkpointing=checkpointing)
        return BrainAdapterTask(network, C, multilabel=False)


def batch(n_rows=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.rand(n_rows, *SIZE, generator=generator),
        "text": torch.randn(n_rows, D_TEXT, generator=generator),
        "has_image": torch.ones(n_rows, dtype=torch.bool),
        "has_text": torch.ones(n_rows, dtype=torch.bool),
        "target": torch.randint(C, (n_rows,), generator=generator),
    }


def gradients(task, rows, weight=None):
    task.zero_grad()
    task.loss(rows, weight)["loss"].backward()
    return {
        name: weight.grad.clone()
        for name, weight in task.named_parameters()
        if weight.grad is not None
    }


def n_trained(task):
    return sum(weight.numel() for weight in task.parameters() if weight.requires_grad)


# -- where training starts ----------------------------------------------------------------------


@pytest.mark.parametrize("adapter", ["conv3d", "slice2d", "none"])
def test_untrained_adapter_is_pooling_and_the_frozen_encoder(adapter):
    rows = batch()
    task = make_task(adapter=adapter)
    pooled = task.network.adapter.shortcut(rows["image"][:, None])
    if adapter != "slice2d":
        assert torch.equal(pooled, adaptive_avg_pool3d(rows["image"][:, None], SHAPE.image_size))
    expected = make_vision()(pooled)[:, 0]
    assert torch.equal(task.network.encode(rows["image"]), expected)
    z = task.network(rows).z[:, 0]
    assert torch.equal(z, task.network.projections["image"](expected))


def test_volume_of_the_encoders_size_goes_in_as_it_is():
    task = make_task(volume_size=SHAPE.image_size)
    x = torch.rand(2, *SHAPE.image_size)
    assert torch.equal(task.network.encode(x), make_vision()(x[:, None])[:, 0])


@pytest.mark.parametrize("mode", ["tlp", "fpm", "full"])
def test_trained_weights_are_those_of_the_formula(mode):
    adapter = 2001  # with eight channels
    projections = (SHAPE.width + 1) * D + (D_TEXT + 1) * D
    head, temperature = (2 * D + 1) * C, 1
    encoder = sum(tensor.numel() for tensor in vision_tensors().values())
    expected = {
        "tlp": adapter + projections + head + temperature,
        "fpm": adapter + head + temperature,
        "full": adapter + projections + head + temperature + encoder,
    }
    assert n_trained(make_task(train_mode=mode)) == expected[mode]
    fixed = make_task(train_mode=mode, learnable_temperature=False)
    assert n_trained(fixed) == expected[mode] - 1


@pytest.mark.parametrize("mode", ["tlp", "fpm", "full"])
def test_gradients_reach_the_adapter_through_the_encoder(mode):
    task, rows = make_task(train_mode=mode), batch()
    last = "network.adapter.branch.6."
    first = gradients(task, rows)
    assert first[f"{last}weight"].abs().max() > 0
    inner = [name for name in first if ".adapter.branch." in name and not name.startswith(last)]
    # The branch's last layer is zero: what comes before it has no say in the first step.
    assert len(inner) == 8
    assert all((first[name] == 0).all() for name in inner)
    with torch.no_grad():
        for name, weight in task.named_parameters():
            if name in first:
                weight -= 0.1 * first[name]
    second = gradients(task, rows)
    assert all(second[name].abs().max() > 0 for name in inner)


@pytest.mark.parametrize("mode", ["tlp", "fpm"])
def test_training_leaves_the_frozen_parts_as_they_were(mode):
    task, rows = make_task(train_mode=mode), batch()
    before = copy.deepcopy(task.state_dict())
    trained = [weight for weight in task.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        task.loss(rows, None)["loss"].backward()
        optimizer.step()
    moved = {
        name for name, value in task.state_dict().items() if not torch.equal(value, before[name])
    }
    assert not any(name.startswith("network.vision.") for name in moved)
    assert any(".projections." in name for name in moved) == (mode == "tlp")
    assert any(".adapter." in name for name in moved)


def test_fixed_projections_are_drawn_as_trained_ones_are():
    trained, fixed = make_task(train_mode="tlp"), make_task(train_mode="fpm")
    for name in ("image", "text"):
        own, other = (task.network.projections[name] for task in (trained, fixed))
        assert isinstance(other, FixedLinear)
        assert torch.equal(own.weight, other.weight)
        x = torch.randn(3, own.in_features)
        assert torch.equal(own(x), other(x))


def test_checkpointing_changes_memory_alone():
    rows = batch()
    plain, checkpointed = (gradients(make_task(checkpointing=flag), rows) for flag in (False, True))
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


# -- what a row is ------------------------------------------------------------------------------


def test_logits_are_the_sum_of_both_modalities_and_the_bias():
    task, rows = make_task(), batch()
    out, aligned = task(rows), task.network(rows)
    weight, bias = task.head.weight, task.head.bias
    torch.testing.assert_close(out["contributions"][:, 0], aligned.z[:, 0] @ weight[:, :D].T)
    torch.testing.assert_close(out["contributions"][:, 1], aligned.z[:, 1] @ weight[:, D:].T)
    expected = aligned.z.flatten(1) @ weight.T + bias
    torch.testing.assert_close(out["logits"], expected, atol=1e-6, rtol=1e-5)
    unit = normalize(aligned.z, dim=-1)
    torch.testing.assert_close(out["embedding"], normalize(unit.sum(1), dim=-1))


def test_absent_modality_has_no_say_and_its_learnt_vector_stands_for_it():
    task, rows = make_task(absences=("image", "text")), batch()
    with torch.no_grad():
        for vector in task.network.absences.values():
            vector.normal_()
    rows["has_image"][1], rows["has_text"][2] = False, False
    out = task(rows)
    wild = {**rows, "image": rows["image"].clone(), "text": rows["text"].clone()}
    wild["image"][1], wild["text"][2] = torch.nan, torch.nan
    changed = task(wild)
    for name in out:
        assert torch.equal(out[name], changed[name]), name
    z = task.network(rows).z
    assert torch.equal(z[1, 0], task.network.absences["image"])
    assert torch.equal(z[2, 1], task.network.absences["text"])
    assert (out["unit"][1, 0] == 0).all()
    torch.testing.assert_close(out["embedding"][1], out["unit"][1, 1])
    assert all(g.isfinite().all() for g in gradients(task, wild).values())
    assert "network.absences.image" not in gradients(task, batch())


def test_rows_do_not_see_each_other():
    task, rows = make_task(), batch()
    order = torch.tensor([2, 0, 3, 1])
    whole = task.predict(rows)
    permuted = task.predict({name: tensor[order] for name, tensor in rows.items()})
    alone = task.predict({name: tensor[1:2] for name, tensor in rows.items()})
    for name, value in whole.items():
        torch.testing.assert_close(permuted[name], value[order], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone[name], value[1:2], atol=1e-5, rtol=0)


def test_image_alone_ignores_reports_and_text_alone_volumes():
    for kept, other in (("image", "text"), ("text", "image")):
        task, rows = make_task(modalities=(kept,)), batch()
        without = {name: value for name, value in rows.items() if other not in name}
        assert torch.equal(task(rows)["logits"], task(without)["logits"])
        parts = task.loss(without, None)
        assert set(parts) == {"loss", "classification"}
        assert not hasattr(task.network, "log_scale")
        assert task.head.in_features == D


# -- the losses ---------------------------------------------------------------------------------


def test_loss_is_cross_entropy_and_symmetric_infonce():
    task, rows = make_task(), batch()
    parts = task.loss(rows, None)
    out = task(rows)
    expected = cross_entropy(out["logits"], rows["target"])
    torch.testing.assert_close(parts["classification"], expected)
    logits = out["unit"][:, 0] @ out["unit"][:, 1].T / 0.07
    own = torch.arange(4)
    con = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(parts["contrastive"], con)
    torch.testing.assert_close(parts["loss"], expected + con)


def vectors(n_rows=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n_rows, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["clip", "decoupled"])
def test_contrastive_loss_is_symmetric_and_blind_to_lengths(kind):
    image, text = vectors()
    ones = torch.ones(5, dtype=torch.float64)
    loss = alignment_loss(image, text, 9.0, ones, kind=kind)
    swapped = alignment_loss(text, image, 9.0, ones, kind=kind)
    stretched = alignment_loss(
        image * torch.arange(1.0, 6.0)[:, None], text * 7, 9.0, ones, kind=kind
    )
    torch.testing.assert_close(swapped, loss)
    torch.testing.assert_close(stretched, loss)
    assert kind == "decoupled" or loss >= 0


def test_contrastive_loss_at_chance_and_at_its_end():
    same, ones = torch.ones(6, 4), torch.ones(6)
    assert alignment_loss(same, same, 10.0, ones).item() == pytest.approx(math.log(6), abs=1e-5)
    assert alignment_loss(torch.eye(6), torch.eye(6), 100.0, ones).item() < 1e-5
    assert alignment_loss(same[:1], same[:1], 10.0, ones[:1]).item() == 0


def test_decoupled_loss_leaves_the_pair_out_of_the_denominator():
    image, text = vectors()
    logits = 9 * (normalize(image, dim=1) @ normalize(text, dim=1).T).numpy()
    off = ~np.eye(5, dtype=bool)
    ways = [
        np.log(np.exp(way[off].reshape(5, 4)).sum(axis=1)) - np.diag(way)
        for way in (logits, logits.T)
    ]
    found = alignment_loss(image, text, 9.0, torch.ones(5, dtype=torch.float64), kind="decoupled")
    assert found.item() == pytest.approx(np.mean(ways), rel=1e-10)


@pytest.mark.parametrize("kind", ["clip", "decoupled"])
def test_rows_without_a_negative_have_no_loss_and_finite_gradients(kind):
    image, text = (part.requires_grad_() for part in vectors(3).unbind())
    ones, person = torch.ones(3, dtype=torch.float64), torch.tensor([4, 4, 4])
    loss = alignment_loss(image, text, 9.0, ones, subject=person, kind=kind)
    loss.backward()
    assert loss.item() == 0
    assert image.grad.isfinite().all()
    assert alignment_loss(image[:0], text[:0], 9.0, ones[:0], kind=kind).item() == 0


def test_rows_of_one_person_are_no_negatives_of_each_other():
    image, text = vectors(4)
    ones = torch.ones(4, dtype=torch.float64)
    person = torch.tensor([0, 0, 1, 2])
    logits = 9 * (normalize(image, dim=1) @ normalize(text, dim=1).T).numpy()
    allowed = np.ones((4, 4), dtype=bool)
    allowed[0, 1] = allowed[1, 0] = False
    ways = [
        np.log((np.exp(way) * allowed).sum(axis=1)) - np.diag(way) for way in (logits, logits.T)
    ]
    found = alignment_loss(image, text, 9.0, ones, subject=person)
    assert found.item() == pytest.approx(np.mean(ways), rel=1e-10)


def test_row_of_weight_two_is_two_rows():
    image, text = vectors(3)
    weight = torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)
    twice = torch.tensor([0, 0, 1, 2])
    for kind in ("clip", "decoupled"):
        weighted = alignment_loss(image, text, 9.0, weight, kind=kind)
        repeated = alignment_loss(
            image[twice], text[twice], 9.0, torch.ones(4, dtype=torch.float64), kind=kind
        )
        torch.testing.assert_close(weighted, repeated)


def test_scale_is_the_inverse_temperature_and_bounded():
    task = make_task(temperature=0.5)
    assert task.network.scale.item() == pytest.approx(2.0)
    with torch.no_grad():
        task.network.log_scale.fill_(10.0)
    assert task.network.scale.item() == pytest.approx(100.0)
