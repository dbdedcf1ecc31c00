"""The collaboration of both paths: weights, losses, similarity at prediction."""

from __future__ import annotations

import math

import pytest
import torch

from medfusion_sdk.nn.adacomed import AdaCoMedNetwork, Collaboration
from medfusion_sdk.nn.experts import ModalityExperts
from medfusion_sdk.nn.small import SmallNetwork
from medfusion_sdk.nn.weighting import STRATEGIES

DIMS = (3, 4)
SMALL_WIDTH = 6


def network(bank_size=0, share_head=True, small_encoder=None, settings=None, **collaboration):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        experts = ModalityExperts(DIMS, 4, n_heads=2, dropout=0.0)
        module = AdaCoMedNetwork(
            experts,
            SMALL_WIDTH,
            3,
            Collaboration(**collaboration),
            bank_size=bank_size,
            share_head=share_head,
            small_encoder=small_encoder,
            **(settings or {}),
        )
    return module.double()


def batch(n_rows=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    present = torch.ones(n_rows, 2, dtype=torch.bool)
    present[::3, 1] = False
    return {
        "x": torch.randn(n_rows, sum(DIMS), generator=generator, dtype=torch.float64),
        "present": present,
        "e_small": torch.randn(n_rows, SMALL_WIDTH, generator=generator, dtype=torch.float64),
        "has_large": torch.ones(n_rows, dtype=torch.bool),
        "has_small": torch.ones(n_rows, dtype=torch.bool),
        "target": torch.arange(n_rows) % 3,
    }


def losses(module, data=None):
    return module.train().loss(batch() if data is None else data, None)


@torch.no_grad()
def predicted(module, data=None):
    return module.eval().predict(batch() if data is None else data)


def contrast_by_hand(module, data, tau):
    """Eq. 5, row by row."""
    paths = module.paths(data, data["present"])
    total = 0.0
    for i, large in enumerate(paths["z_large"]):
        cosines = [torch.cosine_similarity(large, small, dim=0) / tau for small in paths["z_small"]]
        total += torch.stack(cosines).logsumexp(dim=0) - cosines[i]
    return total / len(data["x"])


# -- losses -------------------------------------------------------------------------------------


def test_contrastive_part_is_equation_five():
    module, data = network(temperature=0.3), batch()
    expected = contrast_by_hand(module, data, 0.3)
    torch.testing.assert_close(losses(module, data)["contrast"], expected)


@pytest.mark.parametrize("lambda_contrast", [0.0, 0.5, 2.0])
def test_loss_is_task_and_weighted_contrast(lambda_contrast):
    parts = losses(network(lambda_contrast=lambda_contrast))
    torch.testing.assert_close(parts["loss"], parts["task"] + lambda_contrast * parts["contrast"])
    assert parts["contrast"] > 0.1


def test_contrastive_loss_alone_trains_the_large_path():
    # "small_only" keeps the task loss from reaching the experts: what arrives is the contrast's.
    for lambda_contrast, arrives in ((0.0, False), (0.5, True)):
        module = network(strategy="small_only", lambda_contrast=lambda_contrast)
        losses(module)["loss"].backward()
        gradient = module.project_large.weight.grad
        assert (gradient is not None and bool((gradient != 0).any())) is arrives


def test_single_row_has_no_contrast_and_full_similarity():
    parts = losses(network(), batch(1))
    assert parts["contrast"] == 0.0
    assert parts["similarity"] == 1.0


def test_task_part_is_cross_entropy_of_the_combined_logits():
    module, data = network(strategy="ensemble"), batch()
    paths = module.paths(data, data["present"])
    logits = (paths["logits_large"] + paths["logits_small"]) / 2
    expected = torch.nn.functional.cross_entropy(logits, data["target"])
    torch.testing.assert_close(losses(module, data)["task"], expected)


def test_row_weights_are_counts_of_rows():
    module, data = network(), batch()
    counts = torch.tensor([1, 2, 1, 1, 3, 1, 1, 2])
    weighted = module.loss(data, counts.double())
    repeated = module.loss({k: v.repeat_interleave(counts, 0) for k, v in data.items()}, None)
    for part, value in weighted.items():
        torch.testing.assert_close(value, repeated[part], rtol=1e-10, atol=0, msg=part)


def test_rows_without_a_path_neither_agree_nor_disagree():
    module, data = network(), batch()
    data["has_small"][:3] = False
    kept = {name: part[3:] for name, part in data.items()}
    torch.testing.assert_close(losses(module, data)["contrast"], losses(module, kept)["contrast"])


def test_router_entropy_lowers_the_loss_by_its_bonus():
    data = batch()
    plain, bonus = network(), network(settings={"router_entropy": 0.1})
    router = plain.paths(data, data["present"])["router"]
    entropy = torch.special.entr(router).sum(dim=1).mean()
    torch.testing.assert_close(
        losses(bonus, data)["loss"], losses(plain, data)["loss"] - 0.1 * entropy
    )


def test_penalty_is_half_alpha_times_squared_weights():
    plain, penalised = network(), network(settings={"alpha": 0.2})
    squares = sum(p.square().sum() for p in plain.parameters() if p.ndim > 1)
    torch.testing.assert_close(losses(penalised)["loss"], losses(plain)["loss"] + 0.1 * squares)


def test_detached_similarity_leaves_the_weights_without_gradient():
    attached = losses(network(similarity="softmax_mean"))["w_large"]
    detached = losses(network(similarity="softmax_mean", detach_similarity=True))["w_large"]
    assert attached.requires_grad
    assert not detached.requires_grad
    assert attached == detached


def test_learnable_scores_are_trained_by_the_loss():
    module = network(strategy="learnable")
    losses(module)["loss"].backward()
    assert (module.theta.grad != 0).all()
    assert network(strategy="inverse").theta is None


# -- weights of the paths -----------------------------------------------------------------------


def test_ensemble_is_the_mean_of_both_paths():
    out = predicted(network(strategy="ensemble"))
    torch.testing.assert_close(out["logits"], (out["logits_large"] + out["logits_small"]) / 2)


@pytest.mark.parametrize(("strategy", "ignored"), [("large_only", "e_small"), ("small_only", "x")])
def test_single_path_ignores_the_other(strategy, ignored):
    module, data = network(strategy=strategy), batch()
    other = data | {ignored: data[ignored] + 100.0}
    torch.testing.assert_close(
        predicted(module, other)["logits"], predicted(module, data)["logits"]
    )
    changed = data | {name: data[name] + 1.0 for name in {"x", "e_small"} - {ignored}}
    assert not torch.allclose(predicted(module, changed)["logits"], predicted(module)["logits"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_row_without_a_path_is_predicted_by_the_other(strategy):
    module, data = network(strategy=strategy), batch()
    data["has_large"][0] = False
    data["present"][0] = False
    data["has_small"][1] = False
    out = predicted(module, data)
    assert out["w_large"][0] == 0.0
    assert out["w_small"][0] == 1.0
    assert out["w_large"][1] == 1.0
    torch.testing.assert_close(out["logits"][0], out["logits_small"][0])
    torch.testing.assert_close(out["logits"][1], out["logits_large"][1])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_head_of_embedding_is_the_prediction(strategy):
    module = network(strategy=strategy)
    out = predicted(module)
    torch.testing.assert_close(module.head(out["embedding"]), out["logits"])


def test_own_heads_differ_and_a_shared_one_is_one():
    shared, own = network(), network(share_head=False)
    assert shared.large_head is shared.head
    assert own.large_head is not own.head


# -- similarity at prediction -------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("kind", ["softmax", "softmax_mean"])
def test_running_similarity_is_the_mean_of_training_steps(kind, scope):
    module = network(similarity=kind, scope=scope)
    steps = [losses(module, batch(seed=s))["similarity"].item() for s in range(5)]
    weights = [0.01 * 0.99 ** (4 - i) / (1 - 0.99**5) for i in range(5)]
    expected = sum(w * s for w, s in zip(weights, steps, strict=True))
    assert module.running_similarity.item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(
        predicted(module)["similarity"], torch.full((8,), expected).double(), rtol=1e-6, atol=0
    )


def test_evaluation_leaves_the_running_similarity():
    module = network()
    losses(module)
    before = module.running_similarity.clone()
    module.eval().loss(batch(seed=3), None)
    assert torch.equal(module.running_similarity, before)


@pytest.mark.parametrize(("scope", "n_weights"), [("batch", 1), ("sample", 8)])
def test_scope_gives_the_batch_one_weight_or_each_row_its_own(scope, n_weights, monkeypatch):
    module = network(scope=scope, temperature=1.0)
    combined = []
    combine = module.combine

    def spy(*arguments):
        combined.append(combine(*arguments))
        return combined[-1]

    monkeypatch.setattr(module, "combine", spy)
    losses(module)
    assert len(combined[0]["w_large"].unique()) == n_weights


@pytest.mark.parametrize("kind", ["softmax", "softmax_mean"])
def test_bank_similarity_is_against_the_stored_rows(kind):
    module, data = network(bank_size=5, similarity=kind, temperature=0.5), batch()
    bank = torch.randn(
        5, SMALL_WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )
    module.fill_bank(bank)
    out = predicted(module, data)
    for i in range(8):
        own = math.exp(torch.cosine_similarity(out["z_large"][i], out["z_small"][i], dim=0) / 0.5)
        others = torch.cosine_similarity(out["z_large"][[i]], bank).div(0.5).exp().sum().item()
        share = others if kind == "softmax" else others / 6
        assert out["similarity"][i].item() == pytest.approx(own / (own + share), rel=1e-9)


@pytest.mark.parametrize("bank_size", [0, 5])
def test_prediction_of_a_row_is_its_own(bank_size):
    module, data = network(bank_size=bank_size), batch()
    if bank_size:
        module.fill_bank(batch(seed=2)["e_small"][:bank_size])
    together = predicted(module, data)
    for i in range(8):
        alone = predicted(module, {name: part[[i]] for name, part in data.items()})
        torch.testing.assert_close(alone["proba"][0], together["proba"][i], rtol=0, atol=1e-12)


# -- precision, norm, small encoder -------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_half_precision_loss_and_prediction_are_finite(strategy, dtype):
    module = network(strategy=strategy).to(dtype)
    data = {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch().items()}
    assert torch.isfinite(losses(module, data)["loss"])
    assert torch.isfinite(predicted(module, data)["proba"]).all()


def test_matched_norm_gives_both_paths_one_scale():
    module, data = network(), batch()
    weight = torch.arange(8, dtype=torch.float64)
    module.measure_norm(data, weight)
    expected = (data["e_small"].norm(dim=1) * weight).sum() / weight.sum()
    norms = predicted(module, data)["z_large"].norm(dim=1)
    torch.testing.assert_close(norms, expected.expand(8))
    plain = predicted(network(settings={"match_norm": False}), data)
    assert plain["z_large"].norm(dim=1).std() > 1e-3


def test_trained_small_encoder_gets_gradient_and_reads_its_own_columns():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = SmallNetwork((2, 2), 3, embed_size=3)
    data = batch()
    data["small_x"] = data["x"][:, :4]
    data["small_present"] = torch.ones(8, 2, dtype=torch.bool)
    e_small = encoder.double().embed(data["small_x"], data["small_present"])
    module = network(small_encoder=encoder)
    torch.testing.assert_close(predicted(module, data)["z_small"], e_small)
    losses(module, data)["loss"].backward()
    assert all((layer.weight.grad != 0).any() for layer in encoder.encoders)
