"""AMFN's network and tasks: read-outs, losses, uncertainty, ensembles."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from medfusion_sdk.nn.amfn import FusionShape
from medfusion_sdk.nn.amfn_network import AMFNNetwork, AMFNShape, ModalityShape
from medfusion_sdk.nn.amfn_tasks import AMFNTraining, ClassificationTask, RegressionTask
from medfusion_sdk.nn.images import ImageEncoder
from medfusion_sdk.nn.tasks import focal_loss

ROWS = 6
MODALITIES = (
    ModalityShape("gru", 3, 2),
    ModalityShape("mlp", 4),
    ModalityShape("cnn", 0, 1),
    ModalityShape("gru", 2, 1, reads_vector=False),
)


def shape(**changed):
    fusion = FusionShape(len(MODALITIES), d_model=8, n_heads=2)
    return AMFNShape(MODALITIES, fusion, 2, encoder_width=4)._replace(**changed)


def batch(**added):
    torch.manual_seed(0)
    present = torch.ones(ROWS, 4, dtype=torch.bool)
    present[1, 0] = present[2, 1:] = False
    return {
        "present": present,
        "vector": torch.randn(ROWS, 9),
        "gru": torch.randn(ROWS, 2, 5, 2),
        "gru_lengths": torch.randint(1, 6, (ROWS, 2)),
        "image_2": torch.randn(ROWS, 1, 8, 8),
        **added,
    }


def randomised(module):
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module.eval()


@pytest.mark.parametrize(("readout", "width"), [("fusion", 8), ("concat", 32), ("both", 40)])
def test_readout_is_what_the_head_reads(readout, width):
    network, rows = randomised(AMFNNetwork(shape(readout=readout))), batch()
    found = network(rows, rows["present"])
    assert network.embed_width == width
    torch.testing.assert_close(found.scores, network.head(found.embedding))
    if readout == "fusion":
        nodes = (found.fused.fusion[..., None] * found.fused.nodes).sum(1)
        torch.testing.assert_close(found.embedding, nodes)
    else:
        torch.testing.assert_close(found.embedding[:, -32:], found.fused.nodes.flatten(1))


@pytest.mark.parametrize("readout", ["fusion", "concat", "both"])
def test_contributions_and_bias_sum_to_the_scores(readout):
    network, rows = randomised(AMFNNetwork(shape(readout=readout))), batch()
    found = network(rows, rows["present"])
    added = network.contributions(found)
    torch.testing.assert_close(added.sum(1) + network.head.bias, found.scores)
    assert (added[~rows["present"]] == 0).all()


def test_untrained_network_has_no_preference():
    rows = batch()
    assert (AMFNNetwork(shape())(rows, rows["present"]).scores == 0).all()


def test_modality_that_only_reconstructs_its_vector_does_not_read_it():
    network, rows = randomised(AMFNNetwork(shape(reconstructs=True))), batch()
    other = rows | {"vector": rows["vector"].clone()}
    other["vector"][:, 7:] = 50.0
    torch.testing.assert_close(network.encode(other), network.encode(rows))
    h, present, weight = network.encode(rows), rows["present"], torch.ones(ROWS)
    losses = [network.reconstruction_loss(one, h, present, weight) for one in (rows, other)]
    assert losses[1] > losses[0] + 1


def test_reconstruction_is_the_mean_squared_error_of_what_is_there():
    network, rows = randomised(AMFNNetwork(shape(reconstructs=True))), batch()
    h, present = network.encode(rows), rows["present"]
    errors = [
        (network.decoders[str(m)](h[:, m]) - vector).square().mean(1)[present[:, m]]
        for m, vector in network.split_vectors(rows).items()
    ]
    found = network.reconstruction_loss(rows, h, present, torch.ones(ROWS))
    torch.testing.assert_close(found, torch.cat(errors).mean())


@pytest.mark.parametrize(("multiscale", "width"), [(False, 64), (True, 112)])
def test_multiscale_head_reads_every_scale(multiscale, width):
    encoder = ImageEncoder(3, multiscale)
    found = encoder(torch.randn(2, 3, 16, 16))
    assert found.shape == (2, width) == (2, encoder.out_width)
    first = encoder.blocks[0](torch.ones(1, 3, 16, 16)).mean((2, 3))
    if multiscale:
        torch.testing.assert_close(encoder(torch.ones(1, 3, 16, 16))[:, :16], first)


# -- losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
def test_focal_loss_without_focus_is_cross_entropy(n_classes):
    torch.manual_seed(0)
    logits, target = torch.randn(9, n_classes), torch.arange(9) % n_classes
    plain = cross_entropy(logits, target, reduction="none")
    factor = 0.5 if n_classes == 2 else 1.0
    torch.testing.assert_close(focal_loss(logits, target, gamma=0.0, alpha=0.5), factor * plain)


def test_focal_loss_is_the_published_formula():
    logits = torch.tensor([[0.3, -0.4], [1.0, 2.0]])
    p = logits.softmax(1)
    found = focal_loss(logits, torch.tensor([0, 1]))
    expected = [
        -0.75 * (1 - p[0, 0]) ** 2 * p[0, 0].log(),
        -0.25 * (1 - p[1, 1]) ** 2 * p[1, 1].log(),
    ]
    torch.testing.assert_close(found, torch.stack(expected))
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plain = binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0.0, alpha=0.5), plain / 2)


def test_loss_weighs_alignment_and_reconstruction_by_their_factors():
    how = AMFNTraining(2, lambda_align=0.5, lambda_rec=2.0)
    task = randomised(ClassificationTask(shape(reconstructs=True), how, multilabel=False))
    found = task.loss(batch(target=torch.arange(ROWS) % 2), None)
    total = found["task"] + 0.5 * found["alignment"] + 2.0 * found["reconstruction"]
    torch.testing.assert_close(found["loss"], total)


def test_likelihood_has_the_gradient_of_gauss_times_the_spread():
    task = RegressionTask(shape(), AMFNTraining())
    rows = batch(target=torch.randn(ROWS, 1))
    scored = task.members[0](rows, rows["present"])
    mean, log_variance = torch.randn(ROWS, 1), torch.randn(ROWS, 1)
    scores = torch.cat([mean, log_variance], 1).requires_grad_()
    task.member_loss(scored._replace(scores=scores), rows, torch.ones(ROWS)).backward()
    _, bounded = task._mean_and_variance(scored._replace(scores=scores), rows)
    variance = bounded.exp()
    expected = variance**0.5 * (mean - rows["target"]) / variance / ROWS
    torch.testing.assert_close(scores.grad[:, :1], expected.detach())


def test_variance_is_one_at_a_score_of_zero_and_bounded_beyond():
    task, rows = RegressionTask(shape(), AMFNTraining()), batch()
    scored = task.members[0](rows, rows["present"])
    for score, expected in ((0.0, 0.0), (-1e4, -8.0), (1e4, 4.0)):
        scores = torch.full((ROWS, 2), score)
        found = task._mean_and_variance(scored._replace(scores=scores), rows)[1]
        torch.testing.assert_close(found, torch.full((ROWS, 1), expected), atol=1e-5, rtol=0)


# -- predictions ------------------------------------------------------------------------------


@pytest.mark.parametrize("multilabel", [False, True])
def test_entropy_is_its_data_part_and_its_model_part(multilabel):
    task = randomised(ClassificationTask(shape(), AMFNTraining(5), multilabel=multilabel))
    found = task.predict(batch())
    p = found["proba"]
    entropy = -(p * p.log()).sum(1)
    if multilabel:
        entropy = entropy - ((1 - p) * (1 - p).log()).sum(1)
    torch.testing.assert_close(found["entropy"], entropy)
    torch.testing.assert_close(found["entropy"], found["entropy_data"] + found["entropy_model"])
    assert (found["entropy_model"] > 0).all()


def test_one_network_agrees_with_itself():
    task = randomised(ClassificationTask(shape(), AMFNTraining(1), multilabel=False))
    assert task.predict(batch())["entropy_model"].abs().max() < 1e-6


def test_ensemble_averages_the_probabilities_of_its_networks():
    task, rows = randomised(ClassificationTask(shape(), AMFNTraining(3), multilabel=False)), batch()
    each = [network(rows, rows["present"]).scores.softmax(1) for network in task.members]
    found = task.predict(rows)
    torch.testing.assert_close(found["proba"], torch.stack(each).mean(0))
    torch.testing.assert_close(found["logits"].softmax(1), found["proba"])
    assert found["embedding"].shape == (ROWS, 3 * 8)


def test_expert_is_added_to_each_networks_scores():
    task = randomised(ClassificationTask(shape(), AMFNTraining(2), multilabel=False))
    expert = torch.randn(ROWS, 2)
    rows = batch(expert=expert)
    each = [(network(rows, rows["present"]).scores + expert).softmax(1) for network in task.members]
    torch.testing.assert_close(task.predict(rows)["proba"], torch.stack(each).mean(0))


def test_dropped_passes_are_the_same_subnetworks_for_every_batch():
    task = randomised(RegressionTask(shape(), AMFNTraining(2, dropout=0.4)))
    rows = batch()
    plain = task.predict(rows)["mean"]
    task.mc_samples = 6
    whole = task.predict(rows)
    alone = task.predict({name: part[2:3] for name, part in rows.items()})
    assert not torch.allclose(whole["mean"], plain)
    for name in ("mean", "variance_data", "variance_model"):
        torch.testing.assert_close(alone[name], whole[name][2:3])
    task.mc_samples = 0
    torch.testing.assert_close(task.predict(rows)["mean"], plain)


def test_variance_of_the_model_is_the_networks_disagreement():
    task, rows = randomised(RegressionTask(shape(), AMFNTraining(4))), batch()
    means = torch.stack([network(rows, rows["present"]).scores[:, :1] for network in task.members])
    found = task.predict(rows)
    torch.testing.assert_close(found["mean"], means.mean(0))
    torch.testing.assert_close(found["variance_model"], means.var(0, correction=0))
    assert math.isfinite(found["variance_data"].sum().item())
