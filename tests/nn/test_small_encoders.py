"""The small network's encoders of raw cells, against torch on single rows and plain arithmetic."""

from __future__ import annotations

import pytest
import torch

from medfusion_sdk.nn.ragged import Ragged
from medfusion_sdk.nn.recurrent import SeriesLSTM, TokenLSTM
from medfusion_sdk.nn.residual_cnn import ResidualCNN
from medfusion_sdk.nn.small import SmallNetwork
from medfusion_sdk.nn.small_encoders import raw_name

KINDS = ("block", "series", "text", "image", "volume")
DIMS = (3, 2, 11, 3, 1)
FUSIONS = ("joint", "early", "late")


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().double().eval()


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ragged(lengths, n_channels):
    return Ragged(draw(sum(lengths), n_channels), torch.tensor(lengths))


def batch(n_rows=4, seed=1):
    lengths = torch.arange(1, n_rows + 1)
    tokens = torch.arange(int(lengths.sum())) % 11
    present = torch.tensor([[True] * 5, [False, True, False, True, False]]).repeat(n_rows // 2, 1)
    return {
        "x": draw(n_rows, 3, seed=seed),
        "present": present,
        raw_name(1): Ragged(draw(int(lengths.sum()), 2, seed=seed), lengths),
        raw_name(2): Ragged(tokens, lengths),
        raw_name(3): (draw(n_rows, 3, 8, 8, seed=seed).abs() * 99).to(torch.uint8),
        raw_name(4): draw(n_rows, 1, 8, 8, 8, seed=seed).sigmoid(),
    }


def network(fusion="joint", kinds=KINDS, dims=DIMS, **options):
    def build():
        made = SmallNetwork(dims, 3, 4, fusion, kinds=kinds, **options)
        torch.nn.init.normal_(made.absent)
        return made

    return seeded(build)


def test_series_vector_is_the_largest_state_of_torchs_lstm_on_the_row_alone():
    encoder = seeded(lambda: SeriesLSTM(2, 6))
    series = ragged([3, 7, 1], 2)
    starts = [0, 3, 10]
    for row, (start, length) in enumerate(zip(starts, [3, 7, 1], strict=True)):
        states, _ = encoder.lstm(series.values[None, start : start + length])
        torch.testing.assert_close(encoder(series)[row], states[0].max(dim=0).values)


def test_lstm_of_one_step_is_its_gates_by_hand():
    encoder = seeded(lambda: SeriesLSTM(2, 2))
    step = draw(1, 2)
    expected = []
    for suffix in ("", "_reverse"):
        weight = getattr(encoder.lstm, f"weight_ih_l0{suffix}")
        bias = sum(getattr(encoder.lstm, f"bias_{kind}_l0{suffix}") for kind in ("ih", "hh"))
        enter, _, cell, leave = weight @ step[0] + bias
        expected.append(leave.sigmoid() * torch.tanh(enter.sigmoid() * cell.tanh()))
    found = encoder(Ragged(step, torch.tensor([1])))[0]
    torch.testing.assert_close(found, torch.stack(expected))


def test_token_vector_depends_on_order_but_not_on_the_rows_beside():
    encoder = seeded(lambda: TokenLSTM(9, 4))
    alone = encoder(Ragged(torch.tensor([1, 2, 3]), torch.tensor([3])))[0]
    both = encoder(Ragged(torch.tensor([1, 2, 3, 3, 2, 1, 5, 5]), torch.tensor([3, 5])))
    torch.testing.assert_close(both[0], alone)
    turned = encoder(Ragged(torch.tensor([3, 2, 1]), torch.tensor([3])))[0]
    assert not torch.allclose(turned, alone)


@pytest.mark.parametrize(("n_channels", "n_axes"), [(3, 2), (1, 3)])
def test_pixels_of_eight_bits_are_fractions_of_255(n_channels, n_axes):
    encoder = seeded(lambda: ResidualCNN(n_channels, n_axes, 5))
    pixels = (draw(2, n_channels, *[9] * n_axes).abs() * 60).to(torch.uint8)
    torch.testing.assert_close(encoder(pixels), encoder(pixels.double() / 255))
    torch.testing.assert_close(encoder(pixels)[:1], encoder(pixels[:1]))


def test_residual_network_without_its_convolutions_is_its_shortcuts():
    encoder = seeded(lambda: ResidualCNN(1, 2, 5))
    for block in encoder.blocks:
        torch.nn.init.zeros_(block.second.weight)
    x = draw(2, 1, 16, 16).sigmoid()
    h = (x - 0.5) * 4
    for block in encoder.blocks:
        h = torch.relu(block.norms[2](block.shortcut(h)))
    expected = torch.relu(encoder.linear(h.mean(dim=(2, 3))))
    torch.testing.assert_close(encoder(x), expected)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_scores_are_the_head_on_the_embedding_and_the_sum_of_contributions(fusion):
    module, rows = network(fusion), batch()
    out = module.predict(rows)
    torch.testing.assert_close(out["logits"], module.head(out["embedding"]))
    torch.testing.assert_close(out["logits"], out["contributions"].sum(dim=1))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_content_of_absent_cells_is_irrelevant_and_gets_no_gradient(fusion):
    module, rows, other = network(fusion), batch(), batch(seed=2)
    there = rows["present"]
    for m in range(1, 5):
        name = raw_name(m)
        if isinstance(rows[name], Ragged):
            keep = there[:, m].repeat_interleave(rows[name].lengths)
            mixed = rows[name].values.clone()
            mixed[~keep] = other[name].values[~keep] if m == 1 else 7
            other[name] = Ragged(mixed, rows[name].lengths)
        else:
            other[name][there[:, m]] = rows[name][there[:, m]]
    other["x"][there[:, 0]] = rows["x"][there[:, 0]]
    torch.testing.assert_close(module.predict(other)["logits"], module.predict(rows)["logits"])
    rows["present"] = there & torch.tensor([True, False, True, True, True])
    module.predict(rows)["logits"].sum().backward()
    assert all(part.grad is None for part in module.encoders[1].parameters())


@pytest.mark.parametrize("fusion", ["joint", "late"])
def test_modalities_in_another_order_with_their_weights_give_the_same_scores(fusion):
    module, rows = network(fusion), batch()
    order = [3, 0, 4, 2, 1]
    turned = network(fusion, [KINDS[m] for m in order], [DIMS[m] for m in order])
    with torch.no_grad():
        for to, m in enumerate(order):
            turned.encoders[to].load_state_dict(module.encoders[m].state_dict())
            turned.absent[to] = module.absent[m]
            turned.head.weight[:, 4 * to : 4 * to + 4] = module.head.weight[:, 4 * m : 4 * m + 4]
        turned.head.bias.copy_(module.head.bias)
    again = {raw_name(to): rows[raw_name(m)] for to, m in enumerate(order) if m}
    again |= {"x": rows["x"], "present": rows["present"][:, order]}
    torch.testing.assert_close(turned.predict(again)["logits"], module.predict(rows)["logits"])


def test_row_alone_gets_what_it_gets_among_others():
    module, rows = network(), batch()
    among = module.predict(rows)["logits"]
    for i in range(4):
        row = {name: part.index_select(0, torch.tensor([i])) for name, part in rows.items()}
        torch.testing.assert_close(module.predict(row)["logits"][0], among[i])


def test_raw_modality_without_its_cells_is_refused():
    module, rows = network(), batch()
    with pytest.raises(ValueError, match="modality 1 is read from raw cells"):
        module(rows["x"], rows["present"])
