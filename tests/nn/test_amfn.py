"""The adaptive fusion: what must hold whatever its weights are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from medfusion_sdk.nn.amfn import (
    ADJACENCIES,
    AdaptiveFusion,
    FusionShape,
    PresenceNorm,
    alignment_loss,
    similarity_graph,
)

N_ROWS, N_MODALITIES, WIDTH = 6, 4, 8


def fusion(**changed):
    torch.manual_seed(0)
    shape = FusionShape(N_MODALITIES, d_model=WIDTH, n_heads=2)._replace(**changed)
    made = AdaptiveFusion(shape).double().eval()
    with torch.no_grad():  # trained weights are nowhere zero
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


@pytest.fixture
def rows():
    torch.manual_seed(1)
    h = torch.randn(N_ROWS, N_MODALITIES, WIDTH, dtype=torch.float64)
    present = torch.tensor([[True] * 4, [True, False, True, True], [False, True, False, False]] * 2)
    return h, present


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_weights_sum_to_one_over_the_modalities_that_are_there(rows, adjacency):
    h, present = rows
    found = fusion(adjacency=adjacency)(h, present)
    there = present.double()
    torch.testing.assert_close(found.fusion.sum(-1), torch.ones(N_ROWS).double())
    torch.testing.assert_close(found.graph.sum(-1), there)
    torch.testing.assert_close(found.attention.sum(-1), there[:, None].expand(-1, 2, -1))
    for weights in (found.fusion, found.graph.transpose(1, 2), found.attention.movedim(-1, 1)):
        gone = ~present.view(N_ROWS, N_MODALITIES, *[1] * (weights.ndim - 2))
        assert (weights.masked_select(gone.expand_as(weights)) == 0).all()


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_graph_is_nonnegative_with_every_present_node_its_own_neighbour(rows, adjacency):
    graph = similarity_graph(*rows, adjacency)
    assert (graph >= 0).all()
    assert (graph.diagonal(dim1=1, dim2=2)[rows[1]] > 0).all()


def test_gates_lie_between_zero_and_one(rows):
    h, present = rows
    gate = fusion()(h, present).gate
    assert ((gate[present] > 0) & (gate[present] < 1)).all()
    assert (gate[~present] == 0).all()


def test_query_of_zeros_weighs_present_modalities_alike(rows):
    h, present = rows
    made = fusion()
    nn.init.zeros_(made.query)
    share = present.double() / present.sum(1, keepdim=True)
    torch.testing.assert_close(made(h, present).fusion, share)


def test_permuted_modalities_permute_weights_and_leave_the_vector(rows):
    h, present = rows
    order = torch.tensor([2, 0, 3, 1])
    made, permuted = fusion(), fusion()
    with torch.no_grad():
        permuted.gate.copy_(made.gate[order])
        permuted.gate_bias.copy_(made.gate_bias[order])
    one, other = made(h, present), permuted(h[:, order], present[:, order])
    torch.testing.assert_close(other.vector, one.vector)
    torch.testing.assert_close(other.graph, one.graph[:, order][:, :, order])
    torch.testing.assert_close(other.attention, one.attention[:, :, order][..., order])
    torch.testing.assert_close(other.fusion, one.fusion[:, order])


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_graph_ignores_the_length_of_a_modality(rows, adjacency):
    h, present = rows
    longer = h * torch.tensor([0.1, 1.0, 7.0, 300.0])[:, None]
    torch.testing.assert_close(
        similarity_graph(longer, present, adjacency), similarity_graph(h, present, adjacency)
    )


def test_relu_graph_is_the_printed_equation_where_cosines_are_positive(rows):
    h = rows[0].abs()
    unit = h.numpy() / np.linalg.norm(h.numpy(), axis=-1, keepdims=True)
    cosine = unit @ unit.transpose(0, 2, 1)
    printed = cosine / cosine.sum(-1, keepdims=True)
    everything = torch.ones(N_ROWS, N_MODALITIES, dtype=torch.bool)
    np.testing.assert_allclose(similarity_graph(h, everything).numpy(), printed, atol=1e-12)


def test_shifted_and_softmax_graphs_are_what_they_say(rows):
    h = rows[0]
    unit = h / h.norm(dim=-1, keepdim=True)
    cosine = unit @ unit.transpose(1, 2)
    everything = torch.ones(N_ROWS, N_MODALITIES, dtype=torch.bool)
    shifted = (1 + cosine) / 2
    torch.testing.assert_close(
        similarity_graph(h, everything, "shifted"), shifted / shifted.sum(-1, keepdim=True)
    )
    torch.testing.assert_close(
        similarity_graph(h, everything, "softmax"), (cosine / 0.5).softmax(-1)
    )


def test_alike_modalities_are_alike_to_the_graph():
    h = torch.randn(3, 1, WIDTH).expand(-1, N_MODALITIES, -1)
    present = torch.ones(3, N_MODALITIES, dtype=torch.bool)
    torch.testing.assert_close(similarity_graph(h, present), torch.full((3, 4, 4), 0.25))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_opposed_and_zero_vectors_leave_the_graph_finite(dtype):
    h = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]], dtype=dtype, requires_grad=True)
    graph = similarity_graph(h, torch.ones(1, 3, dtype=torch.bool))
    graph.sum().backward()
    torch.testing.assert_close(graph.detach(), torch.eye(3, dtype=dtype)[None])
    assert torch.isfinite(h.grad).all()


def test_content_of_a_missing_modality_changes_nothing_and_gets_no_gradient(rows):
    h, present = rows
    made = fusion()
    other = torch.where(present[..., None], h, 1e6 * torch.randn_like(h)).requires_grad_()
    one, two = made(h, present), made(other, present)
    for name in one._fields:
        torch.testing.assert_close(getattr(two, name), getattr(one, name))
    two.vector.square().sum().backward()
    assert (other.grad[~present] == 0).all()
    assert (other.grad[present] != 0).any()


def test_without_attention_and_edges_modalities_meet_in_the_fusion_alone(rows):
    h, present = rows
    made = fusion(use_attention=False, adjacency="identity")
    h.requires_grad_()
    for node, other in itertools.permutations(range(N_MODALITIES), 2):
        (gradient,) = torch.autograd.grad(made(h, present).nodes[:, node].sum(), h)
        assert (gradient[:, other] == 0).all()


def test_single_modality_has_weights_of_one():
    made = fusion(n_modalities=1)
    h, present = torch.randn(3, 1, WIDTH).double(), torch.ones(3, 1, dtype=torch.bool)
    found = made(h, present)
    for weights in (found.fusion, found.graph, found.attention):
        assert (weights == 1).all()
    assert alignment_loss(found.gated, present, torch.ones(3), "cosine") == 0


@pytest.mark.parametrize("switch", ["use_gate", "use_attention", "use_gcn"])
def test_switch_takes_its_part_and_its_weights_away(rows, switch):
    h, present = rows
    without, complete = fusion(**{switch: False}), fusion()
    assert len(list(without.parameters())) < len(list(complete.parameters()))
    found = without(h, present)
    if switch == "use_gate":
        assert (found.gate[present] == 1).all()
    assert torch.isfinite(found.vector).all()


def test_gated_scores_are_the_bilinear_form_of_each_heads_slice(rows):
    h, _ = rows
    everything = torch.ones(N_ROWS, N_MODALITIES, dtype=torch.bool)
    made = fusion()
    found = made(h, everything)
    for head in range(2):
        part = found.gated[..., 4 * head : 4 * head + 4]
        scores = torch.einsum("bid,de,bje->bij", part, made.bilinear[head], part) / 2.0
        torch.testing.assert_close(found.attention[:, head], scores.softmax(-1))


# -- the norm ---------------------------------------------------------------------------------


def test_norm_is_batch_normalisation_where_nothing_is_missing():
    ours, theirs = PresenceNorm(3, 5), nn.BatchNorm1d(15, affine=False)
    h = 3 + 2 * torch.randn(32, 3, 5)
    present = torch.ones(32, 3, dtype=torch.bool)
    torch.testing.assert_close(ours(h, present).flatten(1), theirs(h.flatten(1)))
    torch.testing.assert_close(ours.mean.flatten(), theirs.running_mean)
    ours.eval()
    spread = (h - ours.mean) / torch.sqrt(ours.variance + 1e-5)
    torch.testing.assert_close(ours(h, present), spread)


def test_norm_learns_from_the_rows_that_have_a_modality():
    norm, alone = PresenceNorm(2, 4), PresenceNorm(2, 4)
    h = torch.randn(20, 2, 4)
    present = torch.ones(20, 2, dtype=torch.bool)
    present[5:, 1] = False
    norm(h, present)
    alone(h[:5], present[:5])
    torch.testing.assert_close(norm.mean[1], alone.mean[1])
    torch.testing.assert_close(norm.variance[1], alone.variance[1])


def test_norm_counts_a_row_as_often_as_its_weight():
    h, present = torch.randn(4, 2, 3), torch.ones(4, 2, dtype=torch.bool)
    weighted, repeated = PresenceNorm(2, 3), PresenceNorm(2, 3)
    rows = torch.tensor([0, 0, 1, 2, 3])
    out = weighted(h, present, torch.tensor([2.0, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(repeated(h[rows], present[rows]), out[rows])
    torch.testing.assert_close(weighted.mean, repeated.mean)


@pytest.mark.parametrize("present", [[[True, False]], [[True, False]] * 3])
def test_modality_without_a_spread_keeps_its_running_statistics(present):
    norm = PresenceNorm(2, 3)
    h = torch.ones(len(present), 2, 3)
    out = norm(h, torch.tensor(present))
    torch.testing.assert_close(out, h / (1 + 1e-5) ** 0.5)
    assert (norm.mean == 0).all()
    assert (norm.variance == 1).all()


# -- alignment --------------------------------------------------------------------------------


def test_cosine_alignment_is_zero_for_parallel_vectors_and_four_for_opposed():
    one = torch.randn(5, 1, WIDTH)
    present, weight = torch.ones(5, 2, dtype=torch.bool), torch.ones(5)
    parallel, opposed = torch.cat([one, 3 * one], 1), torch.cat([one, -2 * one], 1)
    assert alignment_loss(parallel, present, weight, "cosine") < 1e-10
    torch.testing.assert_close(
        alignment_loss(opposed, present, weight, "cosine"), torch.tensor(4.0)
    )


@pytest.mark.parametrize("kind", ["cosine", "mse", "infonce"])
def test_alignment_compares_only_what_is_there(rows, kind):
    h, present = rows
    weight = torch.ones(N_ROWS).double()
    other = torch.where(present[..., None], h, 100 * torch.randn_like(h)).requires_grad_()
    loss = alignment_loss(other, present, weight, kind)
    torch.testing.assert_close(loss, alignment_loss(h, present, weight, kind))
    loss.backward()
    assert torch.isfinite(other.grad).all()
    assert (other.grad[~present] == 0).all()


def test_cosine_alignment_is_the_mean_over_present_pairs(rows):
    h, present = rows
    found = []
    for row, there in zip(h, present, strict=True):
        unit = row / row.norm(dim=-1, keepdim=True)
        for i, j in itertools.combinations(there.nonzero()[:, 0].tolist(), 2):
            found.append(2 - 2 * unit[i] @ unit[j])
    loss = alignment_loss(h, present, torch.ones(N_ROWS).double(), "cosine")
    torch.testing.assert_close(loss, torch.stack(found).mean())


def test_contrastive_alignment_is_the_cross_entropy_among_the_rows(rows):
    h = rows[0][:, :2]
    unit = h / h.norm(dim=-1, keepdim=True)
    scores = unit[:, 0] @ unit[:, 1].T / 0.1
    present, weight = torch.ones(N_ROWS, 2, dtype=torch.bool), torch.ones(N_ROWS).double()
    torch.testing.assert_close(
        alignment_loss(h, present, weight, "infonce"),
        cross_entropy(scores, torch.arange(N_ROWS)),
    )


@pytest.mark.parametrize("kind", ["cosine", "mse", "infonce"])
def test_row_of_weight_two_aligns_as_two_rows(rows, kind):
    h, present = rows
    twice = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    weight = torch.tensor([2.0, 1, 1, 1, 1, 1]).double()
    torch.testing.assert_close(
        alignment_loss(h, present, weight, kind),
        alignment_loss(h[twice], present[twice], torch.ones(7).double(), kind),
    )
