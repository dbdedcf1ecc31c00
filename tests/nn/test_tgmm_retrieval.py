"""The matching loss by hand and by invariants; views of a batch; the aligned start."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from medfusion_sdk.nn.tgmm_alignment import start_aligned
from medfusion_sdk.nn.tgmm_network import TGMMNetwork, TGMMShape
from medfusion_sdk.nn.tgmm_retrieval import RetrievalHead, common_labels, matching_loss
from medfusion_sdk.nn.tgmm_tasks import TGMMTasks

DIMS = (5, 7, 3)


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def batch_of(n_rows, dims=DIMS, **parts):
    return {
        "x": torch.randn(n_rows, sum(dims), dtype=torch.float64),
        "present": torch.ones(n_rows, len(dims), dtype=torch.bool),
        "row": torch.arange(n_rows),
        "patient": torch.arange(n_rows),
    } | parts


def tasks_of(dims=DIMS, head=None, **shape):
    network = TGMMNetwork(TGMMShape(dims, (1,) * len(dims), ("retrieval",), d_model=16, **shape))
    head = RetrievalHead(16, 12, **head or {})
    return TGMMTasks(network, {"retrieval": head}).double().eval()


def loss_of(tasks, batch, weight=None):
    return tasks.loss(batch, weight)["retrieval"]


# -- the loss of one direction


def test_matching_loss_without_repeats_is_cross_entropy():
    logits, everyone = torch.randn(6, 6), torch.ones(6, 6, dtype=torch.bool)
    expected = cross_entropy(logits, torch.arange(6), reduction="none")
    found = matching_loss(logits, torch.eye(6, dtype=torch.bool), everyone, torch.ones(6))
    torch.testing.assert_close(found, expected)


def test_matching_loss_by_hand():
    # Cosines 1, 0 and 0 at temperature 1; the first two answers are right.
    logits = torch.tensor([[1.0, 0.0, 0.0]])
    right = torch.tensor([[True, True, False]])
    total = math.log(math.e + 2)
    found = matching_loss(logits, right, torch.ones(1, 3, dtype=torch.bool), torch.ones(3))
    assert found.item() == pytest.approx((total - 1 + total) / 2)


def test_matching_loss_of_an_answer_of_weight_two_is_that_of_two_answers():
    logits = torch.randn(3, 4, dtype=torch.float64)
    right = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]], dtype=torch.bool)
    allowed = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 1, 1]], dtype=torch.bool)
    weight = torch.tensor([1.0, 2.0, 1.0, 3.0], dtype=torch.float64)
    copies = torch.repeat_interleave(torch.arange(4), weight.long())
    repeated = matching_loss(
        logits[:, copies], right[:, copies], allowed[:, copies], torch.ones(7).double()
    )
    torch.testing.assert_close(matching_loss(logits, right, allowed, weight), repeated)


def test_answer_that_is_not_allowed_changes_nothing():
    logits = torch.randn(4, 4)
    allowed = ~torch.eye(4, dtype=torch.bool).roll(1, dims=1)
    changed = logits.masked_fill(~allowed, 1e6)
    right, weight = torch.eye(4, dtype=torch.bool), torch.ones(4)
    torch.testing.assert_close(
        matching_loss(changed, right, allowed, weight),
        matching_loss(logits, right, allowed, weight),
        rtol=0,
        atol=0,
    )


def test_row_with_nothing_allowed_has_no_loss_and_a_finite_gradient():
    logits = torch.randn(2, 3, requires_grad=True)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    loss = matching_loss(logits, nothing, nothing, torch.ones(3)).sum()
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(2, 3))


def test_labels_in_common_are_jaccard_similarities():
    labels = torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    expected = torch.tensor([[1, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(common_labels(labels), expected)


# -- the loss of a batch


def test_loss_of_a_single_row_is_zero():
    assert loss_of(tasks_of(), batch_of(1)).item() == pytest.approx(0, abs=1e-12)


def test_loss_of_rows_that_all_lie_in_one_place_is_the_log_of_their_number():
    batch = batch_of(8)
    batch["x"] = batch["x"][:1].expand(8, -1)
    assert loss_of(tasks_of(), batch).item() == pytest.approx(math.log(8))


def test_loss_is_near_zero_where_modalities_agree_and_rows_are_orthogonal():
    tasks = tasks_of(dims=(8, 8), head={"temperature": 0.01})
    start_aligned(tasks, [torch.eye(8, dtype=torch.float64)] * 2)
    batch = batch_of(8, dims=(8, 8))
    batch["x"] = torch.eye(8, dtype=torch.float64).repeat(1, 2)
    assert loss_of(tasks, batch).item() < 1e-6


def test_loss_does_not_depend_on_the_order_of_rows_or_modalities():
    tasks, batch = tasks_of(dims=(4, 4)), batch_of(6, dims=(4, 4))
    expected = loss_of(tasks, batch).item()
    order = torch.randperm(6)
    shuffled = {name: tensor[order] for name, tensor in batch.items()}
    assert loss_of(tasks, shuffled).item() == pytest.approx(expected)
    batch["x"] = batch["x"].roll(4, dims=1)
    for layers in (tasks.network.projections, tasks.network.norms):
        layers[0], layers[1] = layers[1], layers[0]
    assert loss_of(tasks, batch).item() == pytest.approx(expected)


def test_content_of_a_missing_modality_changes_neither_loss_nor_gradient():
    tasks, batch = tasks_of(), batch_of(6)
    batch["present"] = torch.rand(6, 3) < 0.6
    batch["present"][:, 0] |= ~batch["present"].any(dim=1)
    gone = ~batch["present"].repeat_interleave(torch.tensor(DIMS), dim=1)
    results = []
    for filler in (0.0, 1e6, float("nan")):
        tasks.zero_grad()
        loss = loss_of(tasks, batch | {"x": batch["x"].masked_fill(gone, filler)})
        loss.backward()
        results.append([loss, *(p.grad.clone() for p in tasks.parameters() if p.grad is not None)])
    for result in results[1:]:
        for found, expected in zip(result, results[0], strict=True):
            assert torch.equal(found, expected)


def test_row_of_weight_two_is_two_rows():
    tasks, batch = tasks_of(), batch_of(5)
    weight = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0]).double()
    copies = torch.repeat_interleave(torch.arange(5), weight.long())
    repeated = {name: tensor[copies] for name, tensor in batch.items()}
    torch.testing.assert_close(loss_of(tasks, batch, weight), loss_of(tasks, repeated))


def test_rows_with_the_same_report_have_the_gradient_of_one_row_with_several_right_answers():
    head, x = RetrievalHead(16, 12).double(), torch.randn(4, 16).double().requires_grad_()
    report = torch.randn(3, 16).double()[[0, 0, 1, 2]]
    everyone = torch.ones(4, 4, dtype=torch.bool)

    def gradient(right):
        a, b = normalize(head.space(x), dim=1), normalize(head.space(report), dim=1)
        logits = a @ b.T / head.temperature
        one = torch.ones(4).double()
        losses = [matching_loss(m, right, everyone, one).sum() for m in (logits, logits.T)]
        return torch.autograd.grad(sum(losses), x)[0]

    own = torch.eye(4, dtype=torch.bool)
    either = own.clone()
    either[:2, :2] = True
    torch.testing.assert_close(gradient(own), gradient(either))


def test_other_rows_of_a_patient_are_left_out():
    tasks, batch = tasks_of(), batch_of(4)
    patient = torch.tensor([0, 0, 1, 2])
    changed = batch | {"x": batch["x"].clone(), "patient": patient}
    own = loss_of(tasks, changed)
    assert own.item() < loss_of(tasks, batch).item()
    # Two rows of one patient, alone: nothing is left to tell them from.
    pair = {name: tensor[:2] for name, tensor in changed.items()}
    assert loss_of(tasks, pair).item() == pytest.approx(0, abs=1e-12)


def test_labels_count_by_their_share():
    batch = batch_of(6, labels=torch.eye(2).double().repeat(3, 1))
    losses = []
    for share in (0.0, 0.5, 1.0):
        torch.manual_seed(1)
        losses.append(loss_of(tasks_of(head={"label_share": share}), batch).item())
    assert losses[1] == pytest.approx((losses[0] + losses[2]) / 2)
    assert losses[0] != pytest.approx(losses[2])


def test_training_brings_modalities_of_a_patient_together():
    tasks, batch = tasks_of(), batch_of(12)
    optimizer = torch.optim.Adam(tasks.parameters(), lr=1e-2)
    first = loss_of(tasks, batch).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss_of(tasks, batch).backward()
        optimizer.step()
    assert loss_of(tasks, batch).item() < 0.2 * first


def test_places_have_length_one():
    place = tasks_of().predict(batch_of(5))["place"]
    torch.testing.assert_close(place.norm(dim=1), torch.ones(5).double())


# -- the aligned start


@pytest.mark.parametrize(
    ("fusion", "guidance", "guidance_at"),
    [
        *product(
            ("mffm", "attention_only", "gate_only", "mean", "concat"),
            ("learned", "none"),
            ("readout",),
        ),
        ("mffm", "learned", "fusion"),
    ],
)
def test_aligned_network_has_the_cosines_of_the_linear_maps(fusion, guidance, guidance_at):
    tasks = tasks_of(fusion=fusion, guidance=guidance, guidance_at=guidance_at)
    maps = [torch.randn(10, d).double() for d in DIMS]
    start_aligned(tasks, maps)
    batch = batch_of(9)
    x = batch["x"].split(DIMS, dim=1)
    linear = [own @ matrix.T for own, matrix in zip(x, maps, strict=True)]
    places = []
    for m in range(3):
        alone = (torch.arange(3) == m).expand(9, -1)
        places.append(tasks.predict(batch | {"present": alone})["place"])
    for a, b in product(range(3), repeat=2):
        expected = cosine_similarity(linear[a], linear[b])
        found = cosine_similarity(places[a], places[b])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_narrow_space_keeps_the_first_directions():
    tasks = tasks_of(dims=(15, 15), guidance="none", head=None)
    tasks.heads["retrieval"] = RetrievalHead(16, 3).double()
    eye = torch.eye(15, dtype=torch.float64)
    start_aligned(tasks, [eye, eye])
    batch = batch_of(4, dims=(15, 15))
    place = tasks.predict(batch | {"present": torch.tensor([[True, False]] * 4)})["place"]
    torch.testing.assert_close(place, normalize(batch["x"][:, :3], dim=1), rtol=0, atol=1e-4)


def test_every_layer_can_leave_the_aligned_start():
    tasks = tasks_of()
    start_aligned(tasks, [torch.randn(10, d).double() for d in DIMS])
    before = {name: p.detach().clone() for name, p in tasks.named_parameters()}
    optimizer = torch.optim.Adam(tasks.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        loss_of(tasks, batch_of(8)).backward()
        optimizer.step()
    still = [n for n, p in tasks.named_parameters() if torch.equal(p.detach(), before[n])]
    # A bias of keys moves all scores alike.
    assert still == []
