"""What each stretch of a signal is worth to a score, where no gradient reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from medfusion_sdk.encoders.signal import SignalEncoder
    from medfusion_sdk.estimators._scaling import BlockScaling
    from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask

__all__ = ["occlude", "occlusion", "stretches"]

# Of a median beat of one second: about a P wave, a QRS complex.
_PARTS_OF_A_BEAT = 10


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


def occlude(
    signal: np.ndarray, bounds: np.ndarray, by_channel: bool
) -> tuple[np.ndarray, list[tuple[int | None, int]]]:
    """Replace each stretch in turn by the straight line between its ends.

    Parameters
    ----------
    signal : ndarray of shape (channels, samples)
        What the encoder sees.
    bounds : ndarray of int
        From :func:`stretches`.
    by_channel : bool
        One channel at a time, instead of all together.

    Returns
    -------
    variants : ndarray of shape (n, channels, samples)
        The occluded signals.
    places : list of tuple
        Channel (None: all) and number of the stretch of each.

    Examples
    --------
    >>> variants, places = occlude(np.array([[0.0, 5.0, 2.0, 3.0]]), np.array([0, 2, 4]), True)
    >>> variants[:, 0].tolist(), places
    ([[0.0, 1.0, 2.0, 3.0], [0.0, 5.0, 5.0, 5.0]], [(0, 0), (0, 1)])
    """
    n_channels, n_samples = signal.shape
    groups = [(i, [i]) for i in range(n_channels)] if by_channel else [(None, range(n_channels))]
    variants, places = [], []
    for channel, touched in groups:
        for i, (start, stop) in enumerate(pairwise(bounds)):
            kept = np.r_[0:start, stop:n_samples]
            variant = signal.copy()
            for one in touched:
                # Level where the stretch begins or ends the signal.
                line = (
                    np.interp(np.arange(start, stop), kept, signal[one, kept]) if len(kept) else 0
                )
                variant[one, start:stop] = line
            variants.append(variant)
            places.append((channel, i))
    return np.stack(variants), places


def occlusion(
    encoder: SignalEncoder,
    scaling: BlockScaling,
    task: SupervisedTask,
    batch: dict[str, Any],
    cell: Any,
    *,
    label: int,
    patch_len: int,
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

    views, beside = encoder.view_signals(cell)
    bounds = stretches(encoder, views.shape[-1], patch_len)
    variants, places = occlude(views[0], bounds, by_channel=encoder.view == "beats")
    signals = np.concatenate([views, variants])
    embedded = encoder.embed_views(signals, np.repeat(beside, len(signals), axis=0))
    same = torch.zeros(len(signals), dtype=torch.long, device=batch["signal"].device)
    with torch.no_grad():
        rows = {name: part.index_select(0, same) for name, part in batch.items()}
        rows["signal"] = torch.from_numpy(scaling.apply(embedded)[0]).to(batch["signal"])
        scores = task(rows)["logits"][:, label].cpu().double().numpy()
    for (channel, stretch), value in zip(places, scores[0] - scores[1:], strict=True):
        yield channel, stretch, float(value)
