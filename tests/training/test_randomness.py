from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from medfusion_sdk.nn.layers import SharedDropout
from medfusion_sdk.training import TrainingConfig, seed_generators, train
from medfusion_sdk.training.randomness import lent_generator, seeded_initialisation, spawn_seeds
from tests.training.toys import Regression, regression_data, same, state_of


def test_seeds_are_distinct_and_follow_from_the_first():
    assert spawn_seeds(1, 3) == spawn_seeds(1, 3)
    assert len({*spawn_seeds(1, 3), *spawn_seeds(2, 3)}) == 6


def test_random_parts_share_one_generator_that_starts_at_the_seed():
    module = nn.Sequential(SharedDropout(0.5), nn.Linear(2, 2), SharedDropout(0.5))
    seed_generators(module, 7)
    assert module[0].generator is module[2].generator
    assert module[0].generator.initial_seed() == 7


@pytest.mark.parametrize(
    "part",
    [
        nn.Dropout(0.1),
        nn.AlphaDropout(0.1),
        nn.RReLU(),
        nn.MultiheadAttention(4, 2, dropout=0.1),
        nn.LSTM(3, 3, num_layers=2, dropout=0.1),
    ],
)
def test_global_generator_is_lent_to_parts_that_know_no_other(part):
    def first_draw():
        with lent_generator(nn.Sequential(part), 3, torch.device("cpu")):
            return torch.rand(1).item()

    before = torch.get_rng_state()
    assert first_draw() == first_draw()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("part", [nn.Dropout(0.0), SharedDropout(0.5), nn.Linear(2, 2)])
def test_global_generator_is_left_alone_by_all_others(part):
    before = torch.get_rng_state()
    with lent_generator(nn.Sequential(part), 3, torch.device("cpu")):
        assert torch.equal(torch.get_rng_state(), before)


def test_layers_initialise_from_the_seed_and_leave_no_trace():
    def weight(seed):
        with seeded_initialisation(seed):
            return nn.Linear(3, 2).weight.tolist()

    before = torch.get_rng_state()
    assert weight(1) == weight(1) != weight(2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dropout", [nn.Dropout, SharedDropout])
def test_trainings_in_parallel_threads_do_not_disturb_each_other(dropout):
    def fit(seed):
        module = modules[seed]
        train(module, data, config=TrainingConfig(max_epochs=4, batch_size=10), seed=seed)
        return state_of(module)

    data = regression_data()
    modules = [Regression(dropout=dropout(0.3)) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(fit, range(3)))
    modules = [Regression(dropout=dropout(0.3)) for _ in range(3)]
    assert all(same(*pair) for pair in zip(together, map(fit, range(3)), strict=True))
