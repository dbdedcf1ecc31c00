"""What each stretch of a signal is worth to a score, where no gradient reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from medfusion_sdk.estimators._calibration import Calibration, believed

if TYPE_CHECKING:
    from medfusion_sdk.encoders.signal import SignalEncoder
    from medfusion_sdk.estimators._scaling import BlockScaling
    from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask

__all__ = ["occlude", "occlusion", "stretches"]

# Of a median beat of one second: about a P wave, a QRS complex.
_PARTS_OF_A_BEAT = 10
# Occluded signals in memory.
_AT_ONCE = 64


def stretches(encoder: SignalEncoder, n_samples: int, patch_len: int) -> np.ndarray:
    """Choose where a signal is cut for occlusion.

    Parameters
    ----------
    encoder : SignalEncoder
        What reads it.
    n_samples : int
        Length of what the encoder sees.
    patch_len : int
        Samples of a stretch; a median beat has ten stretches.

    Returns
    -------
    ndarray of int
        Bounds, from 0 to `n_samples`.
    """
    beats = encoder.view == "beats"
    n_parts = _PARTS_OF_A_BEAT if beats else max(2, n_samples // patch_len)
    return np.linspace(0, n_samples, n_parts + 1).round().astype(int)


def occlude(signal: np.ndarray, bounds: np.ndarray, place: tuple[int | None, int]) -> np.ndarray:
    """Replace a stretch by the straight line between its ends.

    Parameters
    ----------
    signal : ndarray of shape (channels, samples)
        What the encoder sees.
    bounds : ndarray of int
        From :func:`stretches`.
    place : tuple
        Channel (None: all) and number of the stretch.

    Returns
    -------
    ndarray of shape (channels, samples)
        The signal without it.

    Examples
    --------
    >>> occlude(np.array([[0.0, 5.0, 2.0, 3.0]]), np.array([0, 2, 4]), (0, 1)).tolist()
    [[0.0, 5.0, 5.0, 5.0]]
    """
    channel, number = place
    start, stop = bounds[number : number + 2]
    kept = np.r_[0:start, stop : signal.shape[1]]
    changed = signal.copy()
    for one in range(len(signal)) if channel is None else [channel]:
        # Level where the stretch begins or ends the signal.
        changed[one, start:stop] = np.interp(np.arange(start, stop), kept, signal[one, kept])
    return changed


def occlusion(
    encoder: SignalEncoder,
    scaling: BlockScaling,
    task: SupervisedTask,
    batch: dict[str, Any],
    cell: Any,
    *,
    label: int,
    patch_len: int,
    calibration: Calibration | None = None,
) -> Iterator[tuple[int | None, int, float]]:
    """Tell by how much a score falls when a stretch of the signal is made a straight line.

    Parameters
    ----------
    encoder : SignalEncoder
        Frozen; from signal to embedding.
    scaling : BlockScaling
        From embedding to what the network reads.
    task : SupervisedTask
        Fitted, in evaluation mode.
    batch : dict of Tensor
        The row.
    cell : Series
        Its signal, the only row.
    label : int
        Whose score.
    patch_len : int
        Samples of a stretch.
    calibration : Calibration or None
        Of the task's scores.

    Yields
    ------
    channel : int or None
        None where all channels were occluded together.
    stretch : int
        Its number.
    value : float
        Score as it is less score without the stretch.
    """
    import torch

    from medfusion_sdk.training.inference import alone_with

    views, beside = encoder.view_signals(cell)
    bounds = stretches(encoder, views.shape[-1], patch_len)
    channels = range(views.shape[1]) if encoder.view == "beats" else [None]
    places = list(product(channels, range(len(bounds) - 1)))

    def score(signals: np.ndarray) -> np.ndarray:
        embedded = encoder.embed_views(signals, np.repeat(beside, len(signals), axis=0))
        same = torch.zeros(len(signals), dtype=torch.long, device=batch["signal"].device)
        with alone_with(task), torch.no_grad():
            rows = {name: part.index_select(0, same) for name, part in batch.items()}
            rows["signal"] = torch.from_numpy(scaling.apply(embedded)[0]).to(batch["signal"])
            scores = believed(task(rows)["logits"], calibration)
            return scores[:, label].cpu().double().numpy()

    whole = score(views[:1])[0]
    for start in range(0, len(places), _AT_ONCE):
        some = places[start : start + _AT_ONCE]
        signals = np.stack([occlude(views[0], bounds, place) for place in some])
        # What is a straight line already is worth nothing; another batch might round otherwise.
        differs = (signals != views[0]).any(axis=(1, 2))
        worth = np.zeros(len(some))
        if differs.any():
            worth[differs] = whole - score(signals[differs])
        for (channel, stretch), value in zip(some, worth, strict=True):
            yield channel, stretch, float(value)
