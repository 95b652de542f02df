"""Exact top-k of score blocks, with ties broken by chance, so that no order of ids can flatter a model.

Shapes: B requests, I items, k places.
"""

import math

import torch
from torch import Tensor

from bowerbird.core import ScoreError
from bowerbird.features import Ragged

BLOCK_NUMBERS, BLOCK_REQUESTS = 24_000_000, 512  # scores held at once: 96 MB; and requests, whose histories count too


def block_size(n_items: int) -> int:
    """Return how many requests to score at once so that a block stays small beside the model."""
    return max(1, min(BLOCK_REQUESTS, BLOCK_NUMBERS // max(n_items, 1)))


def top_k(scores: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the k best scores and their columns, best first, (B, k) each; column −1 where none is left.

    Equal scores come in random order, and a tie at the last place is drawn among all that tie there: a constant
    scorer finds each item with probability k/I. Items of minus infinity never fill a short list. Raises
    `ScoreError` when a score is not a number.
    """
    n_items = scores.shape[1]
    wanted = min(k, n_items)
    values, columns = scores.topk(min(wanted + 1, n_items), dim=1)
    if bool(values[:, 0].isnan().any()):  # topk puts NaN first
        row = int(values[:, 0].isnan().nonzero()[0])
        raise ScoreError(f"the score of item row {int(columns[row, 0])} is not a number. Train the model again.")
    if wanted < n_items:
        tied = (values[:, wanted - 1] == values[:, wanted]) & (values[:, wanted] > -math.inf)
        values, columns = values[:, :wanted], columns[:, :wanted]
        if bool(tied.any()):
            rows = tied.nonzero()[:, 0]
            columns[rows] = _drawn(scores[rows], values[rows], columns[rows], generator)
    if bool((values[:, 1:] == values[:, :-1]).any()):
        order = torch.rand(values.shape, generator=generator, device=scores.device).argsort(dim=1)
        by_value = values.gather(1, order).argsort(dim=1, descending=True, stable=True)
        columns = columns.gather(1, order.gather(1, by_value))  # values are sorted already
    columns = torch.where(values > -math.inf, columns, -1)
    if wanted < k:
        rest = (len(scores), k - wanted)
        values = torch.cat([values, values.new_full(rest, -math.inf)], dim=1)
        columns = torch.cat([columns, columns.new_full(rest, -1)], dim=1)
    return values, columns


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


def hide_seen(scores: Tensor, history: Ragged, hides: Tensor) -> None:
    """Set the scores (B, I) of each request's past items to minus infinity, in place.

    `hides` (number of event types,) says which events hide their item; a history without events hides all of its
    items.
    """
    request, item = history.request, history.item
    if history.event is not None:
        keep = hides[history.event.long()]
        request, item = request[keep], item[keep]
    scores[request, item] = -math.inf
