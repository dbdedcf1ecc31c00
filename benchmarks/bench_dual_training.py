"""The dual adapter's training, prediction and size at the published configuration.

A GPT-2-small-sized language model and a ClinicalBERT-sized text encoder with random weights, PTB-XL
records of 12 channels and 1,000 samples, five classes, batches of 32. The reference is the public
implementation's schedule: float32, texts padded to the batch's longest, the secondary text encoder
run in every step, both paths at full depth. Both start from equal weights, see equal batches, clip
and step alike, and so their losses must agree.
"""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from benchmarks.common import paired_seconds, report
from medfusion_sdk import DualAdapterClassifier, TextEncoder, save_estimator
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.nn.dual_adapter import TEXT, TS
from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask
from medfusion_sdk.nn.temporal import revin
from medfusion_sdk.training.randomness import spawn_seeds

N_ROWS, BATCH, EPOCHS = 320, 32, 2  # twenty steps
PUBLISHED_EPOCHS = 40
# Chosen so that a report has as many tokens as under GPT-2's own vocabulary, which German reports
# break into pieces of about three characters.
VOCABULARY = 500
LEAST_SPEED, LARGEST_LOSS_DIFFERENCE = 3.0, 1e-4
MOST_PREDICTION, MOST_MEGABYTES = 1.3, 4.5


class Rows(NamedTuple):
    """Records as the reference takes them."""

    signals: Tensor
    texts: list[list[int]]
    target: Tensor


class Example(NamedTuple):
    """One record, as the model takes it and as the reference does."""

    X: pd.DataFrame
    signal: Tensor
    ids: Tensor
    mask: Tensor


def write_model(folder: Path, model: transformers.PreTrainedModel, texts: list[str]) -> Path:
    """Save a model of random weights and a tokenizer trained on `texts`."""
    model.save_pretrained(folder)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        texts, vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"], show_progress=False
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer,
        eos_token="<|endoftext|>",
        bos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    ).save_pretrained(folder)
    return folder


def models(home: Path, texts: list[str]) -> tuple[Path, Path]:
    """Folders of a GPT-2 small and a ClinicalBERT, in the hub's layout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gpt2 = transformers.GPT2Model(transformers.GPT2Config())
        clinical = transformers.DistilBertModel(transformers.DistilBertConfig(vocab_size=119_547))
    return write_model(home / "gpt2", gpt2, texts), write_model(home / "bert", clinical, texts)


class PublicSchedule(nn.Module):
    """The same weights under the schedule of the public implementation."""

    def __init__(self, task: SupervisedTask, gpt2: Path, bert: Path) -> None:
        super().__init__()
        self.task = copy.deepcopy(task)
        self.gpt2 = transformers.GPT2Model.from_pretrained(gpt2).eval().requires_grad_(False)
        self.bert = transformers.DistilBertModel.from_pretrained(bert).eval().requires_grad_(False)

    def forward(self, signal: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Class scores."""
        network = self.task.network
        with torch.no_grad():
            text = self.bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state[:, 0]
        series = network.norm_series(network.series_vector(signal))
        patches = network.patches(revin(signal))
        states = self._run(patches, None, TS, text)
        z_ts = network.norms[TS](states[:, -1])
        states = self._run(self.gpt2.wte(ids), mask, TEXT, series)
        last = states[torch.arange(len(ids)), mask.sum(dim=1) - 1]
        return self.task.head((z_ts + network.norms[TEXT](last)) / 2)

    def _run(self, states: Tensor, mask: Tensor | None, path: int, secondary: Tensor) -> Tensor:
        length = states.shape[1]
        states = states + self.gpt2.wpe(torch.arange(length))
        seen = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
        if mask is not None:
            seen = seen & mask[:, None, None, :]
        queries, gates = self.task.network.queries[path], self.task.network.gates[0]
        first = len(self.gpt2.h) - len(queries)
        for i, block in enumerate(self.gpt2.h):
            q, k, v = _heads(block.attn.c_attn(block.ln_1(states)))
            out = scaled_dot_product_attention(q, k, v, attn_mask=seen)
            if i >= first:
                tokens = queries[i - first] + secondary[:, None]
                _, k, v = _heads(block.attn.c_attn(tokens))
                weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
                out = out + torch.tanh(gates[i - first])[:, None, None] * (weights @ v)
            states = states + block.attn.c_proj(out.transpose(1, 2).flatten(2))
            states = states + block.mlp(block.ln_2(states))
        return states


def _heads(projected: Tensor) -> tuple[Tensor, ...]:
    return tuple(
        part.unflatten(-1, (12, -1)).transpose(1, 2) for part in projected.chunk(3, dim=-1)
    )


class Duel:
    """Takes a step of the reference before each of ours, so that a busy machine slows both alike.

    Stands in for the task's loss while a model is fitted.
    """

    def __init__(self, model: DualAdapterClassifier, gpt2: Path, bert: Path, rows: Rows) -> None:
        self.model = model
        self.folders = gpt2, bert
        self.rows = rows
        self.losses: list[tuple[float, float]] = []
        self.seconds = {"ours": 0.0, "reference": 0.0}
        self.last = 0.0
        self.own = SupervisedTask.loss

    def __call__(self, task: SupervisedTask, *batch: object) -> dict[str, Tensor]:
        """Compute our loss, and the reference's whole step before it."""
        start = time.perf_counter()
        if not self.losses:
            self._begin(task)
        else:
            self.seconds["ours"] += start - self.last
        expected = self._step()
        self.last = time.perf_counter()
        self.seconds["reference"] += self.last - start
        found = self.own(task, *batch)  # type: ignore[arg-type]
        self.losses.append((found["loss"].item(), expected))
        return found

    def _begin(self, task: SupervisedTask) -> None:
        self.reference = PublicSchedule(task, *self.folders)
        self.reference.task.train()
        self.weights = [p for p in self.reference.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-3, weight_decay=0.01)
        shuffle = torch.Generator().manual_seed(spawn_seeds(self.model._seed, 2)[0])
        self.batches = (
            rows
            for epoch in range(EPOCHS)
            for rows in torch.randperm(N_ROWS, generator=shuffle).split(BATCH)
        )

    def _step(self) -> float:
        rows, data = next(self.batches), self.rows
        ids, mask = padded([data.texts[row] for row in rows])
        loss = cross_entropy(self.reference(data.signals[rows], ids, mask), data.target[rows])
        self.optimizer.param_groups[0]["lr"] = 1e-3 * 0.5 ** (len(self.losses) * BATCH // N_ROWS)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        return loss.item()


def padded(texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids padded to the longest, and where they are."""
    longest = max(map(len, texts))
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    mask = torch.tensor([[i < len(text) for i in range(longest)] for text in texts])
    return ids, mask


def records(gpt2: Path) -> tuple[pd.DataFrame, pd.Series, Rows]:
    """PTB-XL as the model takes it, and as the reference does."""
    ptbxl = load_ptbxl()
    whole = ptbxl.data["report"].notna() & (ptbxl.target.sum(axis=1) > 0)
    X, y = ptbxl.data.loc[whole, ["ecg", "report"]], ptbxl.target[whole].idxmax(axis=1)
    X, y = X[:N_ROWS], y[:N_ROWS]
    tokenizer = transformers.AutoTokenizer.from_pretrained(gpt2)
    signals = torch.from_numpy(np.stack(X["ecg"].tolist()).astype(np.float32))
    target = torch.from_numpy(np.searchsorted(np.unique(y), y))
    return X, y, Rows(signals, tokenizer(X["report"].tolist())["input_ids"], target)


def report_training(duel: Duel, once: float) -> list[bool]:
    """Print throughput and the agreement of the losses."""
    ours, reference = duel.seconds["ours"], duel.seconds["reference"]
    # Our last step ends with the fit, unseen.
    n_steps = len(duel.losses)
    ours *= n_steps / (n_steps - 1)
    n_records = N_ROWS * EPOCHS
    losses, expected = np.transpose(duel.losses)
    return [
        report(
            "training, records per second",
            reference / ours,
            "the public schedule",
            at_least=LEAST_SPEED,
            detail=f"{n_records / ours:.1f} against {n_records / reference:.1f}",
        ),
        report(
            f"the same with what is computed once, over {PUBLISHED_EPOCHS} epochs",
            reference / (ours + once * EPOCHS / PUBLISHED_EPOCHS),
            "the public schedule",
            detail=f"{once:.0f} s once",
        ),
        report(
            f"largest difference of the losses over {n_steps} steps",
            float(np.abs(losses - expected).max()),
            "1",
            at_most=LARGEST_LOSS_DIFFERENCE,
            detail=f"from {expected[0]:.3f} to {expected[-1]:.3f}",
        ),
    ]


def report_prediction(
    model: DualAdapterClassifier, trained: PublicSchedule, example: Example
) -> list[bool]:
    """Print what one prediction costs over the bare networks, and that it is the same."""
    with torch.inference_mode():
        ours, bare = paired_seconds(
            lambda: model.predict_proba(example.X),
            lambda: trained(example.signal, example.ids, example.mask),
            repeats=15,
        )
        expected = trained(example.signal, example.ids, example.mask).softmax(dim=-1)
    difference = float(np.abs(model.predict_proba(example.X) - expected.numpy()).max())
    return [
        report(
            "prediction of one record",
            ours / bare,
            "the bare forward of both paths",
            at_most=MOST_PREDICTION,
            detail=f"{1e3 * ours:.0f} against {1e3 * bare:.0f} ms",
        ),
        report("largest difference of its probabilities", difference, "1", at_most=1e-4),
    ]


def report_size(model: DualAdapterClassifier, folder: Path) -> list[bool]:
    """Print what a saved model takes."""
    save_estimator(model, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    trained = sum(p.numel() for p in model._network().parameters() if p.requires_grad)
    detail = f"{trained:,} trained weights"
    return [report("saved model", size / 1e6, "1 MB", at_most=MOST_MEGABYTES, detail=detail)]


def main() -> int:
    """Print the ratios; the status is 1 where a bound is missed."""
    with TemporaryDirectory() as home:
        gpt2, bert = models(Path(home), load_ptbxl().data["report"].dropna().tolist())
        model = DualAdapterClassifier(
            gpt2,
            secondary_text_encoder=TextEncoder(bert, pooling="cls", normalize=False),
            signal_encoder="cnn",
            probe=False,
            path_weight=0.0,
            alpha=0.0,
            lr_gamma=0.5,
            batch_size=BATCH,
            max_epochs=EPOCHS,
            dtype="float32",
            random_state=0,
        )
        X, y, rows = records(gpt2)
        duel = Duel(model, gpt2, bert, rows)
        start = time.perf_counter()
        with patch.object(SupervisedTask, "loss", lambda task, *batch: duel(task, *batch)):
            model.fit(X, y)
        once = time.perf_counter() - start - model.history_["seconds"].sum()
        trained = PublicSchedule(model._network(), gpt2, bert).eval()
        example = Example(X.iloc[[0]], rows.signals[:1], *padded(rows.texts[:1]))
        held = [
            *report_training(duel, once),
            *report_prediction(model, trained, example),
            *report_size(model, Path(home) / "saved"),
        ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
