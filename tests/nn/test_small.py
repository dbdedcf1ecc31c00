"""The small network against plain arithmetic."""

from __future__ import annotations

import pytest
import torch

from medfusion_sdk.nn.small import SmallNetwork, drop_modalities

DIMS = (3, 2)
FUSIONS = ("joint", "early", "late")


def network(fusion="joint", seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = SmallNetwork(DIMS, 3, embed_size=4, fusion=fusion, **options).double()
        torch.nn.init.normal_(module.absent)
    return module.eval()


def rows(n_rows=6):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n_rows, 5, generator=generator, dtype=torch.float64)
    present = torch.tensor([[True, True], [True, False], [False, True]]).repeat(n_rows // 3, 1)
    return x, present


def embeddings(module, x, m):
    part = x[:, :3] if m == 0 else x[:, 3:]
    return (part @ module.encoders[m].weight.T + module.encoders[m].bias).clamp_min(0)


def head_parts(module):
    return module.head.weight[:, :4], module.head.weight[:, 4:]


def test_joint_scores_are_a_linear_map_of_both_embeddings():
    module, (x, present) = network(), rows()
    scores = module.head.bias.expand(6, 3)
    for m, weight in enumerate(head_parts(module)):
        there = present[:, [m]]
        scores = scores + torch.where(there, embeddings(module, x, m), module.absent[m]) @ weight.T
    torch.testing.assert_close(module(x, present), scores)


def test_late_scores_are_the_mean_of_the_modalities_that_are_there():
    module, (x, present) = network("late"), rows()
    alone = [
        embeddings(module, x, m) @ weight.T + module.head.bias
        for m, weight in enumerate(head_parts(module))
    ]
    expected = torch.where(present[:, [0]], alone[0], 0) + torch.where(present[:, [1]], alone[1], 0)
    torch.testing.assert_close(module(x, present), expected / present.sum(dim=1, keepdim=True))
    torch.testing.assert_close(
        module.modality_logits(x, present)[:, 0][present[:, 0]], alone[0][present[:, 0]]
    )


def test_late_loss_is_each_modalitys_own_loss_over_its_rows():
    module, (x, present) = network("late"), rows()
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    logits = module.modality_logits(x, present)
    expected = sum(
        torch.nn.functional.cross_entropy(logits[present[:, m], m], target[present[:, m]])
        for m in range(2)
    )
    actual = module.loss({"x": x, "present": present, "target": target}, None)
    torch.testing.assert_close(actual["loss"], expected)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_contributions_and_bias_sum_to_the_scores(fusion):
    module, (x, present) = network(fusion), rows()
    out = module.predict({"x": x, "present": present})
    torch.testing.assert_close(out["contributions"].sum(dim=1), out["logits"])
    torch.testing.assert_close(module.head(out["embedding"]), out["logits"])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_content_of_absent_modality_changes_nothing(fusion):
    module, (x, present) = network(fusion), rows()
    known = torch.repeat_interleave(present, torch.tensor(DIMS), dim=1)
    garbage = torch.where(known, x, torch.full_like(x, 1e6))
    assert torch.equal(module(garbage, present), module(x, present))


def test_late_fusion_gives_absent_modality_no_say():
    module, (x, present) = network("late"), rows()
    out = module.predict({"x": x, "present": present})
    assert (out["contributions"][:, :2][~present] == 0).all()


def test_multilabel_probabilities_are_independent_sigmoids():
    module, (x, present) = network(multilabel=True), rows()
    out = module.predict({"x": x, "present": present})
    torch.testing.assert_close(out["proba"], out["logits"].sigmoid())


def test_penalty_counts_trainable_matrices_only():
    module, (x, present) = network(alpha=0.5), rows()
    data = {"x": x, "present": present, "target": torch.zeros(6, dtype=torch.int64)}
    module.encoders.requires_grad_(False)
    parts = module.loss(data, None)
    matrices = (module.head.weight, module.absent)
    squares = sum(p.square().sum() for p in matrices)
    torch.testing.assert_close(parts["loss"] - parts["task"], 0.25 * squares)


def test_modality_that_training_never_lacked_counts_as_its_mean_embedding_if_missing():
    module, (x, present) = network(), rows()
    present = present.clone()
    present[:, 0] = True  # never missing; the second one is
    learnt = module.absent.detach().clone()
    weight = torch.arange(1.0, 7.0, dtype=torch.float64)
    module.fill_absent({"x": x, "present": present}, weight)
    mean = (embeddings(module, x, 0) * weight[:, None]).sum(dim=0) / weight.sum()
    torch.testing.assert_close(module.absent[0], mean)
    torch.testing.assert_close(module.absent[1], learnt[1])


@pytest.mark.parametrize("options", [{"modality_dropout": 0.3}, {"fusion": "late"}])
def test_absence_that_was_trained_for_is_left_as_it_is(options):
    module, (x, present) = network(**options), rows()
    learnt = module.absent.detach().clone()
    module.fill_absent({"x": x, "present": present | True}, torch.ones(6, dtype=torch.float64))
    assert torch.equal(module.absent, learnt)


def test_hidden_modalities_never_leave_a_row_empty():
    present = torch.tensor([[True, True], [True, False], [False, True]])
    generator = torch.Generator().manual_seed(0)
    hidden = 0
    for _ in range(50):
        kept = drop_modalities(present, 0.5, True, generator)
        assert kept.any(dim=1).all()
        assert not (kept & ~present).any()
        hidden += int((kept != present).any())
    assert 10 < hidden < 50


def test_nothing_is_hidden_outside_training_or_at_zero():
    present = torch.ones(2, 2, dtype=torch.bool)
    assert drop_modalities(present, 0.9, False, None) is present
    assert drop_modalities(present, 0.0, True, None) is present
