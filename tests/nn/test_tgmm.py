"""MedFlexFusion, Textual Guidance and the network: what must hold whatever the weights are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medfusion_sdk.nn.tgmm import FUSIONS, GATES, FlexFusion, TextualGuidance
from medfusion_sdk.nn.tgmm_network import GUIDANCES, GUIDED_AT, TGMMNetwork, TGMMShape
from medfusion_sdk.nn.tgmm_tasks import DiagnosisHead, PrognosisHead, TGMMTasks

WIDTH, HEADS = 8, 2
DIMS, TOKENS = (3, 4, 5), (1, 3, 1)
PROMPT = (6, 10)


def shaken(module):
    """The same module with weights as training leaves them: nowhere zero."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.double().eval()


def network(tasks=("diagnosis",), **changed):
    torch.manual_seed(0)
    shape = TGMMShape(DIMS, TOKENS, tasks, d_model=WIDTH, n_heads=HEADS, n_learned_tokens=2)
    shape = shape._replace(**changed)
    if shape.guidance in ("both", "fixed"):
        shape = shape._replace(prompt_shapes=(PROMPT,) * len(tasks))
    made = shaken(TGMMNetwork(shape))
    if shape.prompt_shapes:
        made.set_prompts({task: torch.randn(PROMPT).double() for task in tasks})
    return made


@pytest.fixture
def rows():
    torch.manual_seed(1)
    x = torch.randn(6, 3 + 3 * 4 + 5, dtype=torch.float64)
    present = torch.tensor([[True] * 3, [True, False, True], [False, True, False]] * 2)
    there = torch.ones(6, 5, dtype=torch.bool)
    there[0, 3] = there[5, 1] = False  # a token of the second modality
    return {"x": x, "tokens": there}, present


def read(made, batch, present):
    """The only task's fusion and vector."""
    found = made(batch, present)
    (task,) = found.vectors
    return found.fused[task], found.vectors[task]


# -- MedFlexFusion ----------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_gates_sum_to_one_over_the_modalities_that_are_there(rows, fusion, gate):
    batch, present = rows
    fused, _ = read(network(fusion=fusion, gate=gate), batch, present)
    torch.testing.assert_close(fused.gate.sum(1), torch.ones(6).double())
    assert (fused.gate[present] > 0).all()
    assert (fused.gate[~present] == 0).all()


def test_attention_goes_to_the_other_modalities_alone(rows):
    batch, present = rows
    fused, _ = read(network(), batch, present)
    assert (fused.attention.diagonal(dim1=2, dim2=3) == 0).all()
    others = (present.sum(1, keepdim=True) > 1) & present
    torch.testing.assert_close(
        fused.attention.sum(-1), others[:, None].double().expand(-1, HEADS, -1)
    )
    assert (fused.attention.movedim(-1, 1)[~present] == 0).all()


def test_lone_modality_has_the_whole_gate_and_nothing_to_take(rows):
    batch, present = rows
    lone = present.sum(1) == 1
    fused, _ = read(network(), batch, present)
    assert (fused.gate[lone].amax(1) == 1).all()
    assert (fused.complement[lone] == 0).all()
    assert (fused.complement[~lone][present[~lone]] != 0).all()


@pytest.mark.parametrize("content", [1e6, float("nan"), float("inf")])
@pytest.mark.parametrize("guided_at", GUIDED_AT)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_content_of_what_is_missing_changes_nothing_and_gets_no_gradient(
    rows, fusion, guided_at, content
):
    batch, present = rows
    made = network(fusion=fusion, guidance_at=guided_at)
    widths = torch.tensor([3, 4, 4, 4, 5])
    owners = torch.tensor([0, 1, 1, 1, 2])
    cells = (present[:, owners] & batch["tokens"]).repeat_interleave(widths, dim=1)
    other = torch.where(cells, batch["x"], content).requires_grad_()
    first, second = (made(batch | {"x": x}, present) for x in (batch["x"], other))
    for one, two in zip(read_all(first), read_all(second), strict=True):
        torch.testing.assert_close(two, one, rtol=0, atol=0)
    second.vectors["diagnosis"].square().sum().backward()
    assert (other.grad[~cells] == 0).all()
    assert (other.grad[cells] != 0).any()


def read_all(found):
    return [*found.vectors.values(), *found.fused["diagnosis"], *found.prompt_attention.values()]


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != "concat"])
def test_modalities_in_another_order_with_their_weights_give_the_same_vector(rows, fusion):
    batch, present = rows
    order = [2, 0, 1]
    made = network(fusion=fusion)
    moved = network(
        fusion=fusion, dims=tuple(DIMS[m] for m in order), n_tokens=tuple(TOKENS[m] for m in order)
    )
    state = made.state_dict()
    for place, m in enumerate(order):
        for part in ("projections", "norms"):
            for kind in ("weight", "bias"):
                state[f"{part}.{place}.{kind}"] = made.state_dict()[f"{part}.{m}.{kind}"]
    moved.load_state_dict(state)
    parts = batch["x"].split([3, 12, 5], dim=1)
    masks = batch["tokens"].split(TOKENS, dim=1)
    permuted = {
        "x": torch.cat([parts[m] for m in order], dim=1),
        "tokens": torch.cat([masks[m] for m in order], dim=1),
    }
    one, vector = read(made, batch, present)
    other, same = read(moved, permuted, present[:, order])
    torch.testing.assert_close(same, vector)
    torch.testing.assert_close(other.gate, one.gate[:, order])
    torch.testing.assert_close(other.attention, one.attention[:, :, order][..., order])


def test_fusion_begins_as_the_mean_of_what_is_there():
    torch.manual_seed(0)
    fusion = FlexFusion((1, 1, 1), WIDTH, HEADS).double()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    fused = fusion(torch.randn(2, 3, WIDTH).double(), mask)
    torch.testing.assert_close(fused.gate, mask.double() / mask.sum(1, keepdim=True))
    torch.testing.assert_close(
        fused.vector, (fused.nodes * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    )


def test_mean_fusion_is_the_mean_of_projected_tokens(rows):
    batch, present = rows
    made = network(fusion="mean", guidance="none")
    tokens, mask = made.project(batch["x"], present, batch["tokens"])
    tokens, mask = tokens.detach().numpy(), mask.numpy()
    expected = []
    for row in range(6):
        own = [tokens[row, part][mask[row, part]] for part in ([0], [1, 2, 3], [4])]
        expected.append(np.mean([one.mean(axis=0) for one in own if len(one)], axis=0))
    _, vector = read(made, batch, present)
    np.testing.assert_allclose(vector.detach().numpy(), expected, atol=1e-12)


def test_fusion_is_its_written_equations():
    made = network(guidance="none").fusion
    torch.manual_seed(2)
    tokens, mask = torch.randn(1, 5, WIDTH).double(), torch.ones(1, 5, dtype=torch.bool)
    fused = made(tokens, mask)
    e = torch.stack([tokens[0, :1].mean(0), tokens[0, 1:4].mean(0), tokens[0, 4:].mean(0)])
    others = [[1, 2, 3, 4], [0, 4], [0, 1, 2, 3]]
    nodes, scores = [], []
    for m in range(3):
        key, value = made.attend.key_value(tokens[0, others[m]]).chunk(2, dim=-1)
        query = made.attend.query(e[m])
        heads = [
            (query[h] @ key[:, h].T / (WIDTH // HEADS) ** 0.5).softmax(-1) @ value[:, h]
            for h in torch.arange(WIDTH).view(HEADS, -1)
        ]
        c = made.attend.out(torch.cat(heads))
        z = made.norm(e[m] + c)
        nodes.append(made.norm_out(z + made.feed(z)))
        hidden = torch.tanh(made.gate_hidden(torch.cat([e[m], c])))
        scores.append(made.gate_score(hidden))
    gate = torch.cat(scores).softmax(0)
    torch.testing.assert_close(fused.gate[0], gate)
    torch.testing.assert_close(fused.vector[0], gate @ torch.stack(nodes))


@pytest.mark.parametrize("gate", GATES)
def test_extreme_gate_scores_stay_finite(gate):
    fusion = FlexFusion((1, 1), WIDTH, HEADS, gate=gate).float()
    with torch.no_grad():
        fusion.gate_score.weight.fill_(-1e4)
        fusion.gate_hidden.bias.fill_(5.0)
    fused = fusion(torch.randn(4, 2, WIDTH), torch.ones(4, 2, dtype=torch.bool))
    assert torch.isfinite(fused.vector).all()
    torch.testing.assert_close(fused.gate.sum(1), torch.ones(4))


# -- Textual Guidance -------------------------------------------------------------------------


@pytest.mark.parametrize("guided_at", GUIDED_AT)
def test_without_guidance_every_task_reads_the_fused_vector(rows, guided_at):
    batch, present = rows
    made = network(("diagnosis", "prognosis"), guidance="none", guidance_at=guided_at)
    found = made(batch, present)
    for task, vector in found.vectors.items():
        torch.testing.assert_close(vector, found.fused[task].vector, rtol=0, atol=0)
    assert not found.prompt_attention


@pytest.mark.parametrize("guided_at", GUIDED_AT)
@pytest.mark.parametrize("guidance", GUIDANCES)
def test_prompt_text_matters_where_fixed_tokens_are_asked(rows, guidance, guided_at):
    batch, present = rows
    made = network(guidance=guidance, guidance_at=guided_at)
    _, before = read(made, batch, present)
    if guidance in ("learned", "none"):
        assert not any(name.endswith("fixed") for name, _ in made.named_buffers())
        return
    made.set_prompts({"diagnosis": torch.randn(PROMPT).double()})
    _, after = read(made, batch, present)
    assert not torch.isclose(before, after).any()


def test_each_task_has_prompt_tokens_of_its_own(rows):
    batch, present = rows
    made = network(("diagnosis", "prognosis"), guidance="both")
    before = made(batch, present).vectors
    with torch.no_grad():
        made.guides["diagnosis"].learned.add_(1.0)
    after = made(batch, present).vectors
    assert not torch.equal(before["diagnosis"], after["diagnosis"])
    assert torch.equal(before["prognosis"], after["prognosis"])


def test_prompt_attention_covers_the_fused_vector_and_what_is_there(rows):
    batch, present = rows
    found = network(guidance="both")(batch, present)
    weights = found.prompt_attention["diagnosis"]
    assert weights.shape == (6, HEADS, PROMPT[0] + 2, 1 + 3)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert (weights[..., 1:].movedim(-1, 1)[~present] == 0).all()


def test_guidance_is_its_written_equations():
    torch.manual_seed(0)
    fusion = shaken(FlexFusion((1, 1), WIDTH, HEADS))
    guide = shaken(TextualGuidance(WIDTH, HEADS, 2, PROMPT))
    guide.fixed.copy_(torch.randn(PROMPT))
    fused = fusion(torch.randn(1, 2, WIDTH).double(), torch.ones(1, 2, dtype=torch.bool))
    prompt = torch.cat([guide.project(guide.fixed), guide.learned])
    read = torch.cat([fused.vector, fused.nodes[0]])
    key, value = guide.attend.key_value(read).chunk(2, dim=-1)
    query = guide.attend.query(prompt)
    heads = [
        (query[:, h] @ key[:, h].T / (WIDTH // HEADS) ** 0.5).softmax(-1) @ value[:, h]
        for h in torch.arange(WIDTH).view(HEADS, -1)
    ]
    r = guide.norm(prompt + guide.attend.out(torch.cat(heads, dim=1)))
    answer = guide.norm_out(r + guide.feed(r)).mean(0)
    torch.testing.assert_close(guide(fused)[0][0], fused.vector[0] + answer)


def test_task_begins_at_the_fused_vector(rows):
    batch, present = rows
    torch.manual_seed(0)
    shape = TGMMShape(DIMS, TOKENS, ("diagnosis",), d_model=WIDTH, n_heads=HEADS)
    fused, vector = read(TGMMNetwork(shape).double(), batch, present)
    torch.testing.assert_close(vector, fused.vector)


def test_guided_fusion_gives_a_lone_modality_the_prompt_to_look_at(rows):
    batch, present = rows
    fused, _ = read(network(guidance_at="fusion"), batch, present)
    assert (fused.complement[present] != 0).all()


# -- tasks ------------------------------------------------------------------------------------


def two_tasks(**regularisation):
    heads = {"diagnosis": DiagnosisHead(WIDTH, 2), "prognosis": PrognosisHead(WIDTH)}
    return shaken(TGMMTasks(network(("diagnosis", "prognosis")), heads, **regularisation))


def labels():
    return {
        "target": torch.tensor([0, 1, -1, 1, -1, 0]),
        "time": torch.tensor([3.0, float("nan"), 1.0, 2.0, 5.0, float("nan")]).double(),
        "event": torch.tensor([True, False, True, False, True, False]),
    }


def test_loss_is_the_sum_of_the_tasks_over_their_labelled_rows(rows):
    batch, present = rows
    tasks = two_tasks().train()
    batch = batch | {"present": present} | labels()
    found = tasks.loss(batch, None)
    torch.testing.assert_close(found["loss"], found["diagnosis"] + found["prognosis"])
    for task, kept in (("diagnosis", [0, 1, 3, 5]), ("prognosis", [0, 2, 3, 4])):
        alone = {name: values[kept] for name, values in batch.items()}
        torch.testing.assert_close(tasks.loss(alone, None)[task], found[task])


@pytest.mark.parametrize("task", ["diagnosis", "prognosis"])
def test_task_without_any_label_costs_nothing_and_the_gradient_is_finite(rows, task):
    batch, present = rows
    unknown = {
        "diagnosis": {"target": torch.full((6,), -1)},
        "prognosis": {"time": torch.full((6,), float("nan")).double()},
    }[task]
    tasks = two_tasks().train()
    found = tasks.loss(batch | {"present": present} | labels() | unknown, None)
    found["loss"].backward()
    assert found[task] == 0
    assert all(torch.isfinite(p.grad).all() for p in tasks.parameters() if p.grad is not None)
