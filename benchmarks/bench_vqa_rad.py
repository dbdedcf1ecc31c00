"""VQA-RAD, image to caption and back, and the organ: how far one comes without an image model.

232 radiology images; a caption is an image's questions and answers joined. Five folds over images;
the gallery of a query is its test fold, some 46 images, and the right answer its own image.
Captions are encoded by MiniLM. **No pretrained image model is at hand**: every row
says what stands in its place, a vision transformer with random weights, or raw features (pixels
averaged to 16 x 16, histograms of gradients). So the figures test the way from files to a common
space, and the search; they say nothing about what the methods reach with a real encoder.

A caption often names its organ: "the organ alone" knows it and nothing else. Brain-Adapter learns
from organs too, being a classifier, and so does the row of TGMMRetriever that says so.

The second table is the organ (head, chest or abdomen) by five-fold cross-validation, a smoke test.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import data_folder
from benchmarks.retrieval import SIMPLE, Part, Search, Searched, search_all, tgmm
from medfusion_sdk import BrainAdapterClassifier, ImageEncoder, TextEncoder
from medfusion_sdk.datasets import load_vqa_rad
from medfusion_sdk.metrics import recall_at_k, score_table
from medfusion_sdk.readers.image import read_image

PARTITIONS = 1
SIDE = 64  # of images as Brain-Adapter and the raw features get them
CELLS, DIRECTIONS = 8, 8
STANDIN, MOST_TYPICAL = "random stand-in", "most typical first"
WAYS = ("image to caption", "caption to image")


def grey_images(paths: pd.Series) -> np.ndarray:
    """Grey images of one size, (n, SIDE, SIDE), from 0 to 1."""
    grey = [Image.fromarray(read_image(path)).convert("L") for path in paths]
    return np.stack([np.asarray(x.resize((SIDE, SIDE), Image.Resampling.BOX)) for x in grey]) / 255


def pooled(images: np.ndarray, parts: int = 16) -> np.ndarray:
    """Means of squares, (n, parts * parts)."""
    step = SIDE // parts
    return (
        images.reshape(len(images), parts, step, parts, step)
        .mean(axis=(2, 4))
        .reshape(len(images), -1)
    )


def gradient_histograms(images: np.ndarray) -> np.ndarray:
    """Strengths of gradients by cell and direction, each cell of length one."""
    down, right = np.gradient(images, axis=(1, 2))
    strength = np.hypot(down, right)
    direction = (np.arctan2(down, right) % np.pi / np.pi * DIRECTIONS).astype(int) % DIRECTIONS
    cells = [pooled(strength * (direction == i), CELLS) for i in range(DIRECTIONS)]
    found = np.stack(cells, axis=-1)
    found /= np.linalg.norm(found, axis=-1, keepdims=True) + 1e-3
    return found.reshape(len(images), -1)


def image_blocks(X: pd.DataFrame) -> dict[str, np.ndarray]:
    """What stands for a pretrained image model."""
    images = grey_images(X["image"])
    return {
        "pixels": pooled(images),
        STANDIN: ImageEncoder("standin-image").transform(X["image"]),
        "gradients": gradient_histograms(images),
    }


def same_organ(_: Part, test: Part) -> Searched:
    """Know the organ, and nothing else."""
    same = (test.labels[:, None] == test.labels).astype(float)
    return same, same


def brain_adapter(cells: pd.DataFrame) -> Search:
    """Brain-Adapter's common space: images as volumes of one slice, before the random stand-in."""

    def search(train: Part, test: Part) -> Searched:
        model = BrainAdapterClassifier(
            ImageEncoder("standin-image", slices=1),
            image_pool="mean",
            contrastive_weight=1.0,
            batch_size=32,
            random_state=0,
        )
        model.fit(cells.loc[train.blocks.index], train.labels)
        found = model.similarity(cells.loc[test.blocks.index], query="image", target="text")
        return found, found.T

    return search


def partitions(blocks: pd.DataFrame, organs: np.ndarray) -> Iterator[Iterator[tuple]]:
    """Folds of each partition; blocks need no fit."""
    everything = Part(blocks, organs, np.arange(len(blocks)))
    for seed in range(PARTITIONS):
        split = KFold(5, shuffle=True, random_state=seed).split(blocks)
        yield ((everything.take(train), everything.take(test), test) for train, test in split)


def named_blocks(image: np.ndarray, caption: np.ndarray, index: pd.Index) -> pd.DataFrame:
    """One table of both."""
    parts = [
        pd.DataFrame(block, index, [f"{name}__{i:04d}" for i in range(block.shape[1])])
        for name, block in (("image", image), ("caption", caption))
    ]
    return pd.concat(parts, axis=1)


def retrieval(X: pd.DataFrame, y: pd.Series, captions: np.ndarray) -> None:
    """Print Recall@5 both ways, for each image block."""
    cells = pd.DataFrame(
        {"image": list(grey_images(X["image"])[:, np.newaxis]), "caption": X["caption"]}, X.index
    )
    learning = {name: s for name, s in SIMPLE.items() if name not in ("chance", MOST_TYPICAL)}
    learning |= {
        "TGMMRetriever": partial(tgmm, labelled=False),
        "TGMMRetriever with organs": partial(tgmm, labelled=True),
    }
    own = np.tile(np.eye(len(X)), (PARTITIONS, 1))
    for kind, block in image_blocks(X).items():
        searches: dict[str, Search] = {"chance": SIMPLE["chance"], "the organ alone": same_organ}
        searches |= {f"{name}, {kind}": search for name, search in learning.items()}
        if kind == STANDIN:
            searches[f"Brain-Adapter with organs, {kind}"] = brain_adapter(cells)
        blocks = named_blocks(block, captions, X.index)
        found, sizes = search_all(searches, partitions(blocks, y.to_numpy()), len(X))
        print(f"Recall@5, {len(X)} images, galleries of {sizes.min()} to {sizes.max()}")
        for direction, way in enumerate(WAYS):
            table = score_table(
                own,
                {name: both[direction] for name, both in found.items()},
                metric=partial(recall_at_k, k=5),
                reference="chance",
                groups=np.tile(np.arange(len(X)), PARTITIONS),
                random_state=0,
            )
            print(f"{way}\n{table.round(3).to_string(na_rep='')}\n", flush=True)


def organs(X: pd.DataFrame, y: pd.Series, captions: np.ndarray) -> None:
    """Print the accuracy of telling head, chest and abdomen apart."""
    logistic = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    split = KFold(5, shuffle=True, random_state=0)
    blocks = {f"{name}, logistic regression": block for name, block in image_blocks(X).items()}
    blocks["caption (names it at times), logistic regression"] = captions
    found = {
        "most frequent": np.full(len(y), y.mode()[0]),
        **{name: cross_val_predict(logistic, block, y, cv=split) for name, block in blocks.items()},
    }
    cells = pd.DataFrame({"image": list(grey_images(X["image"])[:, np.newaxis])}, X.index)
    adapted = BrainAdapterClassifier(ImageEncoder("standin-image", slices=1), random_state=0)
    name = "Brain-Adapter before the random stand-in, image alone"
    found[name] = cross_val_predict(adapted, cells, y, cv=split)
    table = score_table(
        y.to_numpy(),
        found,
        metric=accuracy_score,
        reference="pixels, logistic regression",
        random_state=0,
    )
    print(f"accuracy of the organ, {len(y)} images\n{table.round(3).to_string(na_rep='')}")


def main() -> int:
    """Print both tables."""
    X, y = load_vqa_rad(data_folder("vqa_rad"), return_X_y=True)
    captions = TextEncoder().transform(X["caption"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        organs(X, y, captions)
        retrieval(X, y, captions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
