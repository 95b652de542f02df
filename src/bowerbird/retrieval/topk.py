"""Exact top-k of score blocks, with ties broken by chance, so that no order of ids can flatter a model.

Shapes: B requests, I items, k places.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bowerbird.core import ScoreError
from bowerbird.features import Ragged

BLOCK_NUMBERS, BLOCK_REQUESTS = 2_700_000, 512  # scores held at once, 11 MB: they stay in the processor's cache
EVEN = 64  # requests of which blocks hold a multiple: an odd one doubles the time of a matrix product
GROUP = 64  # neighbouring scores of which only the largest is looked at first


def block_size(n_items: int) -> int:
    """Return how many requests to score at once so that a block stays small beside the model."""
    size = max(1, min(BLOCK_REQUESTS, BLOCK_NUMBERS // max(n_items, 1)))
    return size - size % EVEN if size > EVEN else size


def top_k(scores: Tensor, k: int, draw: Callable[[], torch.Generator]) -> tuple[Tensor, Tensor]:
    """Return the k best scores and their columns, best first, (B, k) each; column −1 where none is left.

    Equal scores come in random order, and a tie at the last place is drawn among all that tie there: a constant
    scorer finds each item with probability k/I. Items of minus infinity never fill a short list. `draw` gives
    the stream of chance where there is a tie. Raises `ScoreError` when a score is not a number.
    """
    n_items = scores.shape[1]
    wanted = min(k, n_items)
    values, columns = _best(scores, min(wanted + 1, n_items))
    if wanted < n_items and bool((values[:, :-1] > values[:, 1:]).all()):
        return values[:, :wanted], columns[:, :wanted]  # the usual case: no tie, no end of the list, and no NaN
    if bool(values[:, 0].isnan().any()):  # topk puts NaN first
        row = int(values[:, 0].isnan().nonzero()[0])
        raise ScoreError(f"the score of item row {int(columns[row, 0])} is not a number. Train the model again.")
    values, columns = _ties(scores, values, columns, wanted, draw())
    columns = torch.where(values > -math.inf, columns, -1)
    if wanted < k:
        rest = (len(scores), k - wanted)
        values = torch.cat([values, values.new_full(rest, -math.inf)], dim=1)
        columns = torch.cat([columns, columns.new_full(rest, -1)], dim=1)
    return values, columns


def _ties(
    scores: Tensor, values: Tensor, columns: Tensor, wanted: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the `wanted` best of one more, or of all there are, with equal scores in random order."""
    if wanted < scores.shape[1]:
        tied = (values[:, wanted - 1] == values[:, wanted]) & (values[:, wanted] > -math.inf)
        values, columns = values[:, :wanted], columns[:, :wanted]
        if bool(tied.any()):
            rows = tied.nonzero()[:, 0]
            columns[rows] = _drawn(scores[rows], values[rows], columns[rows], generator)
    order = torch.rand(values.shape, generator=generator, device=scores.device).argsort(dim=1)
    by_value = values.gather(1, order).argsort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order.gather(1, by_value))  # values are sorted already


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return `scores.topk(k)`, for long rows in half the time: the k best lie in the k groups of largest maxima."""
    n_groups, rest = divmod(scores.shape[1], GROUP)
    if n_groups <= (16 if scores.is_contiguous() else 2) * k:  # short rows are sorted as fast as they are grouped
        return scores.topk(k, dim=1)
    head = scores[:, : n_groups * GROUP]
    groups = head.view(-1, n_groups, GROUP)
    row_major = scores.is_contiguous()  # else scores lie item after item, and the other axis is the fast one
    maxima = groups.amax(dim=2) if row_major else head.T.reshape(n_groups, GROUP, -1).amax(dim=1).T
    chosen = maxima.topk(k, dim=1, sorted=False).indices  # (B, k)
    near = groups.gather(1, chosen[:, :, None].expand(-1, -1, GROUP)).flatten(1)
    if rest:
        near = torch.cat([near, scores[:, -rest:]], dim=1)
    values, place = near.topk(k, dim=1)
    group = chosen.gather(1, (place // GROUP).clamp_(max=k - 1))
    return values, torch.where(place < k * GROUP, group * GROUP + place % GROUP, place + (n_groups - k) * GROUP)


def _drawn(scores: Tensor, values: Tensor, columns: Tensor, generator: torch.Generator) -> Tensor:
    """Return columns whose places at the last value are drawn among all items of that value."""
    last = values[:, -1:]
    lottery = torch.rand(scores.shape, generator=generator, device=scores.device)
    lottery.masked_fill_(scores != last, -1.0)
    drawn = lottery.topk(values.shape[1], dim=1).indices
    above = (values > last).sum(dim=1, keepdim=True)  # these places are certain
    place = torch.arange(values.shape[1], device=scores.device)[None, :]
    shifted = drawn.gather(1, (place - above).clamp(min=0))
    return torch.where(place < above, columns, shifted)


def hide_seen(scores: Tensor, history: Ragged, hides: Tensor | None) -> None:
    """Set the scores (B, I) of each request's past items to minus infinity, in place.

    `hides` (number of event types,) says which events hide their item, None that all do; a history without events
    hides all of its items.
    """
    keep = None if history.event is None or hides is None else hides.to(scores.device)[history.event.long()]
    item = history.item if keep is None else history.item[keep]
    if len(scores) == 1:
        scores[0].index_fill_(0, item, -math.inf)
    else:
        scores[history.request if keep is None else history.request[keep], item] = -math.inf
