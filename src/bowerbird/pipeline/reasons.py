"""Why each item of a slate is there, in a sentence and in data.

The causes offered are the past items most alike in the model's own eyes: each is asked, as a seed, how strongly it
speaks for the item. Models that know no likeness, and people without a past, are answered with popularity.

Shapes: B requests, k places, H history entries of all requests.
"""

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import Reason
from bowerbird.data import Interactions
from bowerbird.features import Context, Ragged, Retriever
from bowerbird.pipeline.pipeline import Slate
from bowerbird.retrieval import block_size

MOST = 3  # past items named in the data of a reason; the sentence names the first


@torch.no_grad()
def explain(
    model: Retriever, context: Context, slate: Slate, past: Interactions, people: np.ndarray
) -> list[list[Reason]]:
    """Return a reason for every filled place of every slate; `people` (I,) is how many chose each item."""
    history = context.history
    request, item = history.positive
    phrases = _phrases(history, past)
    said = _likeness(model, request, item, slate, block_size(past.n_items))
    offsets = np.searchsorted(request.cpu().numpy(), np.arange(len(context) + 1))
    past_items = item.cpu().numpy()
    answers = []
    for row in range(len(context)):
        mine = slice(offsets[row], offsets[row + 1])
        answers.append(
            [
                _reason(target, past_items[mine], said[mine, place], phrases[mine], past, people)
                for place, target in enumerate(slate.items[row].tolist())
                if target >= 0
            ]
        )
    return answers


def _likeness(model: Retriever, request: Tensor, item: Tensor, slate: Slate, block: int) -> np.ndarray:
    """Return how strongly each positive history entry speaks for each place of its request's slate, (P, k)."""
    said = np.zeros((len(item), slate.items.shape[1]), np.float32)
    one = torch.arange(block + 1, device=item.device)
    for start in range(0, len(item), block):
        part = item[start : start + block]
        seeds = Ragged(one[: len(part) + 1], part)
        nobody = Context.nobody(len(part)).to(item.device)
        asked = Context(nobody.user, nobody.history, seeds)
        if not bool(model.can(asked).all()):
            return said
        targets = slate.items[request[start : start + block]].clamp(min=0)
        said[start : start + block] = model.scores(asked, targets).cpu().numpy()
    return said


def _phrases(history: Ragged, past: Interactions) -> np.ndarray:
    """Return the past tense of each positive entry's event, (P,)."""
    if history.event is None:
        return np.full(len(history.spoken), "chose")
    words = np.array([kind.phrase for kind in past.events])
    said: np.ndarray = words[history.event[history.spoken].cpu().numpy()]
    return said


def _reason(
    target: int,
    items: np.ndarray,
    said: np.ndarray,
    phrases: np.ndarray,
    past: Interactions,
    people: np.ndarray,
) -> Reason:
    """Return the history items that speak most for `target`; popularity where none does."""
    speaks = np.flatnonzero(said > 0)
    if not len(speaks):
        return Reason("popularity", f"chosen by {int(people[target]):,} people")
    best = speaks[np.argsort(-said[speaks], kind="stable")][:MOST]
    total = float(said[speaks].sum())
    shares = tuple((past.item_ids[int(items[one])], float(said[one]) / total) for one in best)
    return Reason("history", f"because you {phrases[best[0]]} {past.title(int(items[best[0]]))}", shares)
