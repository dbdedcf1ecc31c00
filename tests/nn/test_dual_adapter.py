"""The invariants of MedualTime's network, on a small random GPT-2."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2Model

from medfusion_sdk.backbones.language_model import LanguageModel
from medfusion_sdk.nn.dual_adapter import DualAdapterNetwork
from medfusion_sdk.nn.dual_adapter_shape import DualAdapterShape
from medfusion_sdk.nn.dual_adapter_tasks import ContrastiveTask, SupervisedTask, info_nce
from medfusion_sdk.nn.ragged import Ragged, length_buckets
from medfusion_sdk.nn.temporal import PatchEmbedding, TemporalEncoder, revin
from medfusion_sdk.training import module_to_state

SHAPE = {
    "n_channels": 3,
    "embedding_width": 0,
    "text_width": 16,
    "mode": "dual",
    "adapter_layers": 2,
    "adapter_len": 4,
    "patch_len": 5,
    "stride": 5,
    "combine": "mean",
    "share_gates": True,
    "gate_activation": "tanh",
    "revin": True,
    "secondary_revin": False,
    "norm_secondary": False,
    "readout": "last",
}


def language_model(n_layers=3, width=16, n_heads=2, n_positions=64):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=30,
        n_embd=width,
        n_layer=n_layers,
        n_head=n_heads,
        n_positions=n_positions,
        bos_token_id=1,
        eos_token_id=2,
        use_cache=False,
    )
    model = GPT2Model(config).eval().requires_grad_(False)
    return LanguageModel(SimpleNamespace(model=model, device=torch.device("cpu")))


@pytest.fixture
def lm():
    return language_model()


def network(lm, **changed):
    torch.manual_seed(1)
    return DualAdapterNetwork(lm, DualAdapterShape(**SHAPE | changed))


def task(lm, **changed):
    net = network(lm, **changed)
    return SupervisedTask(net, 3, multilabel=False)


def open_gates(net, value=0.7):
    torch.nn.init.constant_(net.gates, value)
    return net


def batch(lm, first=1, n_rows=4, seed=0, n_times=40):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([7, 3, 9, 5, 2, 6])[:n_rows]
    ids = [torch.randint(3, 30, (1, n), generator=generator) for n in lengths.tolist()]
    lower = lm.segment(0, first, embeds=True)
    return {
        "signal": torch.randn(n_rows, 3, n_times, generator=generator),
        "tokens": Ragged.of([lower(row)[0] for row in ids]),
        "text": torch.randn(n_rows, lm.width, generator=generator),
        "has_signal": torch.ones(n_rows, dtype=torch.bool),
        "has_text": torch.ones(n_rows, dtype=torch.bool),
    }


def test_paper_configuration_has_the_published_number_of_weights():
    # 907,145 by the formula of the parts: adaptation tokens, patches, norms, gates, CNN, head.
    # The language model is empty but for its sizes: it isn't trained, and isn't counted.
    gpt2_small = SimpleNamespace(
        n_layers=12,
        n_heads=12,
        width=768,
        causal=True,
        device=torch.device("cpu"),
        segment=lambda *_, **__: torch.nn.Identity(),
    )
    shape = SHAPE | {
        "n_channels": 12,
        "text_width": 768,
        "adapter_layers": 11,
        "adapter_len": 5,
        "patch_len": 25,
        "stride": 25,
    }
    net = DualAdapterNetwork(gpt2_small, DualAdapterShape(**shape))
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert net.queries.numel() == 2 * 11 * 5 * 768 == 84_480
    assert count["patches"] == (12 * 25 + 1) * 768 == 231_168
    assert count["norm_series"] + count["norms"] == 6 * 768
    assert net.gates.numel() == 11 * 12
    assert count["series_vector"] == 582_912
    whole = SupervisedTask(net, 5, multilabel=False)
    assert sum(p.numel() for p in whole.parameters() if p.requires_grad) == 907_145


def test_closed_gates_leave_the_language_models_own_states(lm):
    net, rows = network(lm), batch(lm)
    upper = lm.segment(1, 3)
    patches = net.temporal_states(rows["signal"])
    expected = net.norms[0](upper(patches)[:, -1])
    assert torch.equal(net.temporal(rows), expected)
    states, mask = rows["tokens"].padded()
    last = mask.sum(dim=1) - 1
    own = upper(states, mask)[torch.arange(4), last]
    np.testing.assert_allclose(net.textual(rows).detach(), net.norms[1](own).detach(), atol=1e-6)


def test_secondary_modality_counts_only_through_open_gates(lm):
    rows = batch(lm)
    other_text = {**rows, "text": rows["text"] + 1}
    other_signal = {**rows, "signal": rows["signal"].flip(-1)}
    closed, opened = network(lm).eval(), open_gates(network(lm)).eval()
    assert torch.equal(closed.temporal(rows), closed.temporal(other_text))
    assert torch.equal(closed.textual(rows), closed.textual(other_signal))
    assert (opened.temporal(rows) - opened.temporal(other_text)).abs().max() > 1e-4
    assert (opened.textual(rows) - opened.textual(other_signal)).abs().max() > 1e-4


def test_first_step_moves_the_gates_and_the_next_ones_what_is_behind_them(lm):
    whole = task(lm)
    rows = {**batch(lm), "target": torch.tensor([0, 1, 2, 0])}
    optimizer = torch.optim.AdamW(whole.parameters(), lr=1e-2)
    whole.loss(rows, None)["loss"].backward()
    net = whole.network
    behind = [net.queries, *net.series_vector.parameters()]
    assert all(not parameter.grad.any() for parameter in behind)
    assert net.gates.grad.abs().min() > 0
    optimizer.step()
    optimizer.zero_grad()
    whole.loss(rows, None)["loss"].backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in behind)


def test_training_leaves_frozen_weights_as_they_were(lm):
    before = {k: v.clone() for k, v in lm.backbone.model.state_dict().items()}
    whole = task(lm).train()
    rows = {**batch(lm), "target": torch.tensor([0, 1, 2, 0])}
    parameters = [p for p in whole.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        whole.loss(rows, None)["loss"].backward()
        optimizer.step()
    after = lm.backbone.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any("model." in name for name in module_to_state(whole))


def test_scores_are_the_mean_of_the_paths_scores(lm):
    for combine in ("mean", "concat"):
        whole = task(lm, combine=combine).eval()
        open_gates(whole.network)
        out = whole(batch(lm))
        np.testing.assert_allclose(
            out["logits"].detach(), out["path_logits"].mean(dim=1).detach(), atol=1e-6
        )


def test_single_modes_are_the_paths_of_the_dual_one(lm):
    whole = task(lm).eval()
    open_gates(whole.network)
    rows, out = batch(lm), task(lm).eval()
    state = {k: v for k, v in whole.state_dict().items() if "model." not in k}
    dual = whole(rows)
    for path, mode in enumerate(("ts_primary", "text_primary")):
        out = task(lm, mode=mode).eval()
        out.load_state_dict(state, strict=False)
        single = out(rows)["logits"]
        np.testing.assert_allclose(
            single.detach(), dual["path_logits"][:, path].detach(), atol=1e-6
        )


@pytest.mark.parametrize("combine", ["mean", "gate", "concat", "cross_attention", "symmetric"])
def test_rows_do_not_see_each_other(lm, combine):
    whole = task(lm, combine=combine).eval()
    open_gates(whole.network)
    for parameter in whole.network.combine.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    rows = batch(lm, n_rows=6)
    rows["has_signal"] = torch.tensor([True, False, True, True, True, True])
    rows["has_text"] = torch.tensor([True, True, False, True, True, True])
    lengths = rows["tokens"].lengths.clone()
    kept = rows["tokens"].padded()[0]
    lengths[2] = 0
    rows["tokens"] = Ragged.of([kept[i, :n] for i, n in enumerate(lengths.tolist())])
    together = whole(rows)["logits"]
    order = torch.tensor([3, 0, 5, 2, 1, 4])
    shuffled = {name: part.index_select(0, order) for name, part in rows.items()}
    np.testing.assert_allclose(
        whole(shuffled)["logits"].detach(), together[order].detach(), atol=2e-6
    )
    for i in range(6):
        alone = {n: part.index_select(0, torch.tensor([i])) for n, part in rows.items()}
        np.testing.assert_allclose(
            whole(alone)["logits"].detach(), together[i : i + 1].detach(), atol=2e-6
        )


@pytest.mark.parametrize("combine", ["mean", "gate", "concat", "cross_attention", "symmetric"])
def test_content_of_an_absent_modality_counts_for_nothing(lm, combine):
    whole = task(lm, combine=combine).eval()
    open_gates(whole.network)
    rows = batch(lm)
    rows["has_signal"] = torch.tensor([True, False, True, True])
    changed = {**rows, "signal": rows["signal"].clone()}
    changed["signal"][1] = 1e3
    assert torch.equal(whole(rows)["logits"], whole(changed)["logits"])
    rows = batch(lm)
    kept = torch.tensor([0, 2, 3])
    rows["tokens"] = Ragged(
        rows["tokens"].index_select(0, kept).values,
        rows["tokens"].lengths * torch.tensor([1, 0, 1, 1]),
    )
    rows["has_text"] = torch.tensor([True, False, True, True])
    changed = {**rows, "text": rows["text"].clone()}
    changed["text"][1] = 1e3
    assert torch.equal(whole(rows)["logits"], whole(changed)["logits"])


def test_first_samples_beyond_whole_patches_are_not_read(lm):
    assert network(lm).patches(torch.randn(2, 3, 1000)).shape[1] == 200
    assert PatchEmbedding(12, 25, 25, 8)(torch.randn(1, 12, 1010)).shape[1] == 40
    net = open_gates(network(lm, revin=False)).eval()
    rows = batch(lm, n_times=43)
    changed = {**rows, "signal": rows["signal"].clone()}
    changed["signal"][..., :3] += 5
    assert torch.equal(net.temporal(rows), net.temporal(changed))
    # With RevIN they still enter by the mean and the spread.
    net = open_gates(network(lm)).eval()
    assert not torch.equal(net.temporal(rows), net.temporal(changed))


def test_frozen_readouts_are_the_same_in_small_groups(lm):
    net, tokens = network(lm).eval(), batch(lm)["tokens"]
    whole = net.frozen_readouts(tokens)
    one_by_one = [net.frozen_readouts(tokens.index_select(0, torch.tensor([i]))) for i in range(4)]
    np.testing.assert_allclose(whole, torch.cat(one_by_one), atol=1e-5)
    groups = length_buckets(torch.tensor([9, 8, 8, 7, 30]), max_tokens=16)
    assert [group.tolist() for group in groups] == [[4], [0], [1, 2], [3]]


def test_scale_and_offset_of_a_channel_do_not_count(lm):
    net = open_gates(network(lm)).eval()
    rows = batch(lm)
    scaled = {**rows, "signal": 3 * rows["signal"] + torch.tensor([[[5.0], [-1.0], [0.0]]])}
    np.testing.assert_allclose(
        net.temporal(scaled).detach(), net.temporal(rows).detach(), atol=1e-4
    )
    assert torch.isfinite(revin(torch.ones(1, 2, 30))).all()


def test_recomputing_inner_states_changes_no_gradient(lm):
    rows = {**batch(lm), "target": torch.tensor([0, 1, 2, 0])}
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(1)
        shape = DualAdapterShape(**SHAPE)
        net = DualAdapterNetwork(lm, shape, gradient_checkpointing=recompute)
        whole = SupervisedTask(open_gates(net), 3, multilabel=False, path_weight=1.0)
        whole.head.weight.data = torch.linspace(-1, 1, 48).reshape(3, 16)
        whole.loss(rows, None)["loss"].backward()
        gradients.append({n: p.grad for n, p in whole.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], gradient, atol=1e-5, err_msg=name)


def test_weight_of_two_is_two_rows_also_in_the_batch_norms():
    torch.manual_seed(0)
    x, weight = torch.randn(3, 4, 20).double(), torch.tensor([1.0, 2.0, 0.0]).double()
    weighted, repeated = (TemporalEncoder(4, 8).double() for _ in range(2))
    repeated.load_state_dict(weighted.state_dict())
    found = weighted(x, weight)[:2]
    expected = repeated(x[[0, 1, 1]])[:2]
    np.testing.assert_allclose(found.detach(), expected.detach(), atol=1e-12)
    for own, other in zip(weighted.buffers(), repeated.buffers(), strict=True):
        np.testing.assert_allclose(own, other, atol=1e-12)


def test_info_nce_counts_a_row_of_weight_two_as_two_rows():
    z, positive = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    counts = torch.tensor([1, 2, 1, 3, 1])
    weighed = info_nce(z, positive, 0.1, counts.double())
    repeated = info_nce(z.repeat_interleave(counts, 0), positive.repeat_interleave(counts, 0), 0.1)
    torch.testing.assert_close(weighed, repeated)
    even = info_nce(z, positive, 0.1, torch.ones(5).double())
    torch.testing.assert_close(even, info_nce(z, positive, 0.1))


def test_info_nce_by_hand():
    z = torch.nn.functional.normalize(torch.randn(3, 4, dtype=torch.float64), dim=1)
    positive = torch.nn.functional.normalize(torch.randn(3, 4, dtype=torch.float64), dim=1)
    scores = torch.exp(z @ positive.T / 0.1)
    expected = -(torch.diagonal(scores) / scores.sum(dim=1)).log().mean()
    assert torch.isclose(info_nce(z, positive, 0.1), expected)
    assert info_nce(z[:1], positive[:1], 0.1) == 0


def test_contrastive_objective_is_finite_from_the_first_step(lm):
    # With closed gates noise doesn't reach the text path: its two views are one.
    learner = ContrastiveTask(network(lm)).train()
    learner.generator = torch.Generator().manual_seed(0)
    learner.set_epoch(1, 2)
    parts = learner.loss(batch(lm), None)
    assert all(torch.isfinite(value) for value in parts.values())
    parts["loss"].backward()
    assert learner.network.patches.linear.weight.grad.abs().max() > 0
    lengths = learner.predict(batch(lm))["paths"].norm(dim=-1)
    np.testing.assert_allclose(lengths.detach(), 1, atol=1e-6)
