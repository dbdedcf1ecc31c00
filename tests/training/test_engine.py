from __future__ import annotations

import gc
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from medfusion_sdk.exceptions import ParameterError, TrainingError, TrainingWarning
from medfusion_sdk.nn.layers import SharedDropout
from medfusion_sdk.training import TrainingConfig, train
from medfusion_sdk.training.randomness import spawn_seeds
from tests.training.toys import Level, Regression, column, regression_data, same, state_of


def hand_written(module, data, config, seed, n_steps_per_epoch, weight=None):
    """The loop that anybody would write with torch alone; returns the mean loss of each epoch."""
    kinds = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=config.lr, weight_decay=config.weight_decay),
        "adam": lambda p: torch.optim.Adam(p, lr=config.lr, weight_decay=config.weight_decay),
        "sgd": lambda p: torch.optim.SGD(
            p, lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
        ),
    }
    optimizer = kinds[config.optimizer](module.parameters())
    total = config.max_epochs * n_steps_per_epoch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    generator = torch.Generator().manual_seed(spawn_seeds(seed, 2)[0])
    n_rows, means = len(data["x"]), []
    for _ in range(config.max_epochs):
        order = torch.arange(n_rows)
        if n_steps_per_epoch > 1:
            order = torch.randperm(n_rows, generator=generator)
        weighted = counted = 0.0
        for rows in order.tensor_split(n_steps_per_epoch):
            optimizer.zero_grad()
            part = None if weight is None else weight[rows]
            loss = module.loss({name: tensor[rows] for name, tensor in data.items()}, part)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
            optimizer.step()
            schedule.step()
            count = len(rows) if part is None else part.sum().item()
            weighted, counted = weighted + loss.item() * count, counted + count
        means.append(weighted / counted)
    return means


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize(("batch_size", "n_steps"), [("auto", 1), (10, 5)])
def test_train_equals_hand_written_loop(optimizer, batch_size, n_steps):
    data = regression_data()
    # Mini-batches have rows by their weights instead; see the tests of Batches.
    weight = torch.linspace(0.5, 2.0, 48, dtype=torch.float64) if n_steps == 1 else None
    config = TrainingConfig(
        max_epochs=20,
        batch_size=batch_size,
        lr=0.03,
        weight_decay=0.1,
        optimizer=optimizer,
        clip_norm=0.2,
    )
    ours, theirs = Regression(), Regression()
    expected = hand_written(theirs, data, config, 3, n_steps, weight)
    history = train(ours, data, config=config, seed=3, sample_weight=weight, device="cpu").history
    np.testing.assert_allclose(history["train_loss"], expected, rtol=1e-9)
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-9, atol=1e-12)


def test_constant_schedule_without_clipping_keeps_rate_and_gradient():
    config = TrainingConfig(max_epochs=3, lr=0.05, schedule=None, clip_norm=None, optimizer="sgd")
    module, by_hand = Level(), torch.zeros(1, dtype=torch.float64, requires_grad=True)
    history = train(module, column(50.0, 4), config=config, seed=0).history
    optimizer = torch.optim.SGD([by_hand], lr=0.05, momentum=0.9, nesterov=True)
    for _ in range(3):
        optimizer.zero_grad()
        ((50.0 - by_hand) ** 2).mean().backward()
        optimizer.step()
    assert history["lr"].tolist() == [0.05] * 3
    assert module.value.item() == pytest.approx(by_hand.item(), rel=1e-12)


def test_cosine_rate_falls_from_start_to_nearly_zero():
    config = TrainingConfig(max_epochs=10, lr=0.5, batch_size=12)
    lr = train(Regression(), regression_data(), config=config, seed=0).history["lr"]
    assert lr.iloc[0] == pytest.approx(0.25 * (1 + math.cos(math.pi * 3 / 40)))
    assert lr.iloc[-1] == pytest.approx(0.25 * (1 + math.cos(math.pi * 39 / 40)))
    assert lr.is_monotonic_decreasing


def test_frozen_parameters_stay_bit_for_bit():
    module = Regression()
    module.inner.requires_grad_(False)
    before = state_of(module.inner)
    config = TrainingConfig(max_epochs=5, weight_decay=0.5)
    train(module, regression_data(), config=config, seed=0)
    assert same(before, state_of(module.inner))
    assert module.inner.weight.grad is None


@pytest.mark.parametrize("batch_size", ["auto", 7])
def test_rows_of_weight_zero_equal_removed_rows(batch_size):
    data = regression_data()
    weight = torch.ones(48, dtype=torch.float64)
    weight[::5] = 0
    kept = weight > 0
    config = TrainingConfig(max_epochs=6, batch_size=batch_size, lr=0.02)
    whole, removed = Regression(), Regression()
    train(whole, data, config=config, seed=4, sample_weight=weight)
    rest = {name: tensor[kept] for name, tensor in data.items()}
    train(removed, rest, config=config, seed=4, sample_weight=weight[kept])
    assert same(state_of(whole), state_of(removed))


@pytest.mark.parametrize("dropout", [nn.Dropout(0.3), SharedDropout(0.3)])
def test_equal_seeds_give_equal_bits_whatever_the_global_state(dropout):
    config = TrainingConfig(max_epochs=4, batch_size=10)
    states = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        random.seed(global_seed)
        module = Regression(dropout=dropout)
        train(module, regression_data(), config=config, seed=5)
        states.append(state_of(module))
    assert same(*states)
    other = Regression(dropout=dropout)
    train(other, regression_data(), config=config, seed=6)
    assert not same(states[0], state_of(other))


@pytest.mark.parametrize("dropout", [nn.Dropout(0.3), SharedDropout(0.3)])
def test_global_random_state_and_threads_stay_untouched(dropout):
    def outside():
        return (
            torch.get_rng_state().tolist(),
            repr(np.random.get_state()),  # noqa: NPY002
            random.getstate(),
            torch.get_num_threads(),
        )

    module, data = Regression(dropout=dropout), regression_data()
    before = outside()
    train(module, data, config=TrainingConfig(max_epochs=2, batch_size=10), seed=0)
    assert outside() == before


def test_number_of_threads_leaves_small_fit_unchanged():
    threads = torch.get_num_threads()
    states = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            module = Regression()
            train(module, regression_data(), config=TrainingConfig(max_epochs=5), seed=0)
            states.append(state_of(module))
    finally:
        torch.set_num_threads(threads)
    assert same(*states)


def test_early_stopping_restores_weights_of_lowest_validation_loss():
    # The training rows pull towards 10, the validation rows lie at 2: their loss falls, then rises.
    config = TrainingConfig(
        max_epochs=200, lr=0.1, schedule=None, early_stopping=True, n_iter_no_change=7
    )
    validation = column(2.0, 3)
    module = Level()
    result = train(module, column(10.0, 5), config=config, seed=0, validation=validation)
    losses = result.history["valid_loss"]
    assert result.best_epoch == losses.argmin() + 1 < result.n_epochs
    assert result.n_epochs == result.best_epoch + 7 == len(losses)
    assert module.loss(validation, None).item() == losses.min()


def test_early_stopping_takes_gains_up_to_tol_for_none():
    config = TrainingConfig(
        max_epochs=50, lr=1e-4, schedule=None, early_stopping=True, n_iter_no_change=4, tol=10.0
    )
    data = column(10.0, 5)
    result = train(Level(), data, config=config, seed=0, validation=data)
    assert (result.best_epoch, result.n_epochs) == (1, 5)


def test_validation_without_early_stopping_keeps_last_weights():
    data = regression_data()
    config = TrainingConfig(max_epochs=6)
    alone, watched = Regression(), Regression()
    train(alone, data, config=config, seed=0)
    result = train(watched, data, config=config, seed=0, validation=regression_data(seed=9))
    assert same(state_of(alone), state_of(watched))
    assert result.best_epoch == result.n_epochs == 6


def test_history_has_one_row_per_epoch_with_every_part_of_the_loss():
    class Parts(Regression):
        def loss(self, batch, sample_weight):
            task = super().loss(batch, sample_weight)
            return {"loss": task + 1.0, "task": task}

    data, weight = regression_data(), torch.rand(48, dtype=torch.float64) + 0.5
    config = TrainingConfig(max_epochs=3, batch_size=20)
    history = train(
        Parts(), data, config=config, seed=0, validation=data, validation_weight=weight
    ).history
    assert history.columns.tolist() == [
        "epoch",
        "train_loss",
        "valid_loss",
        "train_task",
        "valid_task",
        "lr",
        "seconds",
    ]
    assert history["epoch"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(history["train_loss"], history["train_task"] + 1)
    assert (history["seconds"] > 0).all()


def test_validation_loss_in_batches_is_the_weighted_mean_over_rows():
    data, weight = regression_data(), torch.linspace(0.1, 3, 48, dtype=torch.float64)
    module = Regression()
    config = TrainingConfig(max_epochs=1, batch_size=11)
    history = train(
        module, data, config=config, seed=0, validation=data, validation_weight=weight
    ).history
    assert history["valid_loss"].item() == pytest.approx(module.loss(data, weight).item())


@pytest.mark.parametrize("part", ["loss", "gradient norm"])
def test_loss_or_gradient_not_finite_raises_and_leaves_last_finite_weights(part):
    class Spoilt(Level):
        calls = 0

        def loss(self, batch, sample_weight):
            self.calls += 1
            loss = super().loss(batch, sample_weight)
            if self.calls < 3:
                return loss
            # The root's value is finite at zero, its gradient isn't.
            return loss * math.nan if part == "loss" else loss + (self.value * 0).sqrt()

    module, untouched = Spoilt(), Level()
    config = TrainingConfig(max_epochs=9, lr=0.1, schedule=None)
    data = column(4.0, 3)
    with pytest.raises(TrainingError, match=f"{part} became .* in epoch 3.*Lower lr"):
        train(module, data, config=config, seed=0)
    train(untouched, data, config=TrainingConfig(max_epochs=2, lr=0.1, schedule=None), seed=0)
    assert module.value.item() == untouched.value.item()


def test_module_without_trainable_parameters_is_refused():
    with pytest.raises(TrainingError, match="Regression has no parameter that needs a gradient"):
        train(
            Regression().requires_grad_(False), regression_data(), config=TrainingConfig(), seed=0
        )


def test_early_stopping_without_validation_rows_is_refused():
    with pytest.raises(ParameterError, match="early_stopping=True needs validation rows"):
        train(Level(), column(1.0, 2), config=TrainingConfig(early_stopping=True), seed=0)


class Greedy(Regression):
    """Runs out of memory on more than so many rows."""

    def __init__(self, most=12, kind=torch.OutOfMemoryError, from_call=0):
        super().__init__(dropout=SharedDropout(0.2))
        self.most, self.kind, self.from_call, self.calls = most, kind, from_call, 0
        self.register_buffer("running", torch.zeros((), dtype=torch.float64))

    def loss(self, batch, sample_weight):
        self.calls += 1
        loss = super().loss(batch, sample_weight)
        if self.training:
            self.running += loss.detach()
        if len(batch["x"]) > self.most and self.calls > self.from_call:
            raise self.kind("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_exhausted_memory_halves_auto_batches_and_equals_training_with_those(kind):
    module, small = Greedy(kind=kind), Greedy()
    with pytest.warns(TrainingWarning, match="batches have") as caught:
        train(module, regression_data(), config=TrainingConfig(max_epochs=3), seed=0)
    assert [str(w.message).split("batches have ")[1][:2] for w in caught] == ["24", "12"]
    train(small, regression_data(), config=TrainingConfig(max_epochs=3, batch_size=12), seed=0)
    assert same(state_of(module), state_of(small))


def test_exhausted_memory_in_validation_halves_its_batches_alone():
    class Picky(Greedy):
        def loss(self, batch, sample_weight):
            self.most = 48 if self.training else 12
            return super().loss(batch, sample_weight)

    data, config = regression_data(), TrainingConfig(max_epochs=3)
    module, alone = Picky(), Greedy(most=48)
    with pytest.warns(TrainingWarning, match="batches have"):
        train(module, data, config=config, seed=0, validation=data)
    train(alone, data, config=config, seed=0)
    assert same(state_of(module), state_of(alone))


@pytest.mark.parametrize(
    ("batch_size", "from_call", "epoch", "found"), [(24, 0, 1, 24), ("auto", 2, 3, 48)]
)
def test_exhausted_memory_with_no_way_out_says_so(batch_size, from_call, epoch, found):
    config = TrainingConfig(max_epochs=5, batch_size=batch_size)
    expected = f"epoch {epoch}, with batches of {found} rows. Set batch_size={found // 2} or less"
    with pytest.raises(TrainingError, match=expected):
        train(Greedy(from_call=from_call), regression_data(), config=config, seed=0)


def test_error_of_the_module_itself_passes_unchanged():
    class Broken(Level):
        def loss(self, batch, sample_weight):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(Broken(), column(1.0, 2), config=TrainingConfig(), seed=0)


def test_interrupt_by_the_user_is_not_swallowed():
    class Interrupted(Level):
        def loss(self, batch, sample_weight):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(), column(1.0, 2), config=TrainingConfig(), seed=0)


def test_module_learns_of_each_epoch():
    class Curious(Level):
        def set_epoch(self, epoch, max_epochs):
            told.append((epoch, max_epochs, self.training))

    told = []
    module = Curious()
    train(module, column(1.0, 4), config=TrainingConfig(max_epochs=3), seed=0)
    assert [row[:2] for row in told] == [(1, 3), (2, 3), (3, 3)]
    assert not module.training


def test_verbose_shows_a_bar_with_losses_and_silence_is_the_default(capsys):
    data = regression_data()
    train(Regression(), data, config=TrainingConfig(max_epochs=2), seed=0, validation=data)
    assert capsys.readouterr() == ("", "")
    config = TrainingConfig(max_epochs=2, verbose=1)
    train(Regression(), data, config=config, seed=0, validation=data, label="Fusion")
    shown = capsys.readouterr().err
    assert all(text in shown for text in ("Fusion", "2/2", "train_loss=", "valid_loss="))


def test_scikit_learn_metadata_routing_does_not_disturb():
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        result = train(Regression(), regression_data(), config=TrainingConfig(max_epochs=2), seed=0)
    assert result.n_epochs == 2


def test_finished_training_leaves_no_tensor_behind():
    def tensors_alive():
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    data, config = regression_data(), TrainingConfig(max_epochs=2, early_stopping=True)
    train(Regression(), data, config=config, seed=0, validation=data)
    gc.collect()
    gc.disable()
    try:
        before = tensors_alive()
        for _ in range(5):
            train(Regression(), data, config=config, seed=0, validation=data)
        # Without the collector: nothing may wait in a reference cycle.
        assert tensors_alive() == before
    finally:
        gc.enable()


def test_stratified_training_gives_each_step_and_validation_batch_its_share():
    class Counting(Regression):
        def loss(self, batch, sample_weight):
            counts.append((self.training, int(batch["event"].sum())))
            return super().loss(batch, sample_weight)

    counts = []
    data = regression_data() | {"event": torch.arange(48) % 8 == 0}
    config = TrainingConfig(max_epochs=2, batch_size=16)
    train(Counting(), data, config=config, seed=0, validation=data, stratify="event", device="cpu")
    assert counts == 2 * (3 * [(True, 2)] + 3 * [(False, 2)])
