"""Losses of a log-risk on censored times: Cox's partial likelihood and a margin between pairs."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cox_loss", "margin_loss", "prognosis_loss"]


def prognosis_loss(
    risk: Tensor,
    time: Tensor,
    event: Tensor,
    weight: Tensor | None = None,
    *,
    kind: str = "cox",
    ties: str = "breslow",
    margin: float = 1.0,
) -> Tensor:
    """Loss of a log-risk, by name.

    Parameters
    ----------
    risk, time, event, weight : Tensor of shape (B,)
        As in :func:`cox_loss`.
    kind : {"cox", "margin", "both"}, default="cox"
        "both" is the sum.
    ties : {"breslow", "efron"}, default="breslow"
        Of the Cox loss.
    margin : float, default=1.0
        Of the margin loss.

    Returns
    -------
    Tensor
        Scalar.
    """
    parts = []
    if kind in ("cox", "both"):
        parts.append(cox_loss(risk, time, event, weight, ties=ties))
    if kind in ("margin", "both"):
        parts.append(margin_loss(risk, time, event, weight, margin=margin))
    return torch.stack(parts).sum()


def cox_loss(
    risk: Tensor,
    time: Tensor,
    event: Tensor,
    weight: Tensor | None = None,
    *,
    ties: str = "breslow",
) -> Tensor:
    """Negative log partial likelihood (Cox 1972) per event, in linearithmic time.

    Parameters
    ----------
    risk : Tensor of shape (B,)
        Log-risks; a constant added to all of them changes nothing.
    time : Tensor of shape (B,)
        Of the event or the end of follow-up, in any unit: only their order counts. Who is
        censored at the time of an event is at risk then.
    event : Tensor of shape (B,)
        True or 1 where the event was observed.
    weight : Tensor of shape (B,), optional
        Row weights. With Breslow's ties a row of weight two is two rows; Efron's takes the mean
        weight of tied events, as R's ``coxph`` does.
    ties : {"breslow", "efron"}, default="breslow"
        How events at one time share their risk set.

    Returns
    -------
    Tensor
        Scalar; zero, with a gradient of zeros, where no row has an event.
    """
    wide, weight = _prepare(risk, weight)
    event = event.to(torch.bool) & (weight > 0)
    if not event.any():
        return 0.0 * risk.sum()
    order = torch.argsort(time, descending=True, stable=True)
    order = order[weight[order] > 0]
    wide, weight, event = wide[order], weight[order], event[order]
    _, group, counts = torch.unique_consecutive(
        time[order], return_inverse=True, return_counts=True
    )
    share = wide + weight.log()
    at_risk = torch.logcumsumexp(share, 0)[counts.cumsum(0) - 1][group][event]
    died = weight * event
    if ties == "efron":
        at_risk = at_risk + _efron(share[event], at_risk, group[event])
        total = weight.new_zeros(len(counts)).index_add(0, group, died)
        n_tied = weight.new_zeros(len(counts)).index_add(0, group, event.to(weight))
        counted = (total / n_tied.clamp_min(1.0))[group][event]
    else:
        counted = weight[event]
    loss = (counted * at_risk).sum() - (died * wide).sum()
    return (loss / died.sum()).to(risk.dtype)


def _efron(share: Tensor, at_risk: Tensor, group: Tensor) -> Tensor:
    """What Efron adds to the log of each event's risk set: the l-th of d tied counts l/d less.

    All of shape (events,), sorted by group.
    """
    _, tie, d = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
    position = torch.arange(len(group), device=group.device) - (d.cumsum(0) - d)[tie]
    # Tied events' share of their risk set, at most one.
    ratio = (share - at_risk).exp()
    tied = ratio.new_zeros(len(d)).index_add(0, tie, ratio)[tie]
    return torch.log1p(-position.to(tied) / d[tie] * tied)


def margin_loss(
    risk: Tensor,
    time: Tensor,
    event: Tensor,
    weight: Tensor | None = None,
    *,
    margin: float = 1.0,
) -> Tensor:
    """Mean hinge between the log-risks of comparable pairs, without forming the pairs.

    A pair (i, j) is comparable where i had the event and j was followed longer; it costs
    ``max(0, margin - (risk_i - risk_j))``.

    Parameters
    ----------
    risk, time, event : Tensor of shape (B,)
        As in :func:`cox_loss`.
    weight : Tensor of shape (B,), optional
        Row weights; a pair weighs their product, so that a row of weight two is two rows.
    margin : float, default=1.0
        By how much the earlier event's log-risk has to be higher.

    Returns
    -------
    Tensor
        Scalar; zero, with a gradient of zeros, where no pair is comparable.
    """
    wide, weight = _prepare(risk, weight)
    # The later the lower, so that i is compared with all j of a lower rank; one rank per time.
    rank = torch.unique(-time, return_inverse=True)[1]
    died = weight * event.to(weight)
    mass = weight.new_zeros(int(rank.max()) + 1).index_add(0, rank, weight)
    pairs = (died * (mass.cumsum(0) - mass)[rank]).sum()
    if pairs <= 0:
        return 0.0 * risk.sum()
    # Sorted by risk, j costs i something from place `first` of i on.
    wide, order = torch.sort(wide, stable=True)
    weight, died, rank = weight[order], died[order], rank[order]
    first = torch.searchsorted(wide.detach(), wide.detach() - margin, right=True)
    loss = wide.new_zeros(())
    # Each two ranks differ first in one bit, which the lower lacks: bit by bit, all pairs once.
    for bit in range(int(rank.max()).bit_length()):
        above = (rank >> bit & 1 == 1) & (died > 0)
        below = rank >> bit & 1 == 0
        loss = loss + _hinges(wide, weight, died, first, rank >> bit + 1, above, below, margin)
    return (loss / pairs).to(risk.dtype)


def _hinges(
    risk: Tensor,
    weight: Tensor,
    died: Tensor,
    first: Tensor,
    block: Tensor,
    above: Tensor,
    below: Tensor,
    margin: float,
) -> Tensor:
    """Sum the hinges of the rows in `above` against those in `below`, block by block.

    Rows are sorted by risk. Within a block, what a row is compared with is a suffix, so that two
    running sums answer for all pairs.
    """
    n_rows = len(risk)
    place = block * (n_rows + 1)
    keys, order = torch.sort(place[below] + torch.arange(n_rows, device=risk.device)[below])
    weight, lower = weight[below][order], risk[below][order]
    mass = torch.nn.functional.pad(weight.cumsum(0), (1, 0))
    moment = torch.nn.functional.pad((weight * lower).cumsum(0), (1, 0))
    start = torch.searchsorted(keys, (place + first)[above])
    stop = torch.searchsorted(keys, (place + n_rows)[above])
    slack = (margin - risk[above]) * (mass[stop] - mass[start]) + moment[stop] - moment[start]
    return (died[above] * slack).sum()


def _prepare(risk: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Risks and weights in a type whose running sums over 10^5 rows keep six digits."""
    # Metal has no float64.
    wide = risk.to(torch.float32 if risk.device.type == "mps" else torch.float64)
    return wide, torch.ones_like(wide) if weight is None else weight.to(wide)
