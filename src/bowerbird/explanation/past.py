"""What each past item adds to a score, and what scores are without some of them: the same model asked again.

Where a score is a sum over past items it is taken apart exactly: in `ease`, `itemknn` and `spectral` by asking with one
past item at a time, and in LightGCN and what is built on it by what each item sends along its edge (see `paths`). Else
the score is asked again without each past item in turn. Whoever has a vector of their own is answered from the history
then, as a stranger with that past would be: what follows from an event is not stored apart from all others.

Shapes: B requests, P distinct past items that count, N variants of one request, n items, D vector size, H past events.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bowerbird.features import Context, Ragged, Retriever
from bowerbird.models.baselines.ease import EASE
from bowerbird.models.baselines.ials import IALS
from bowerbird.models.baselines.itemknn import ItemKNN
from bowerbird.models.graph.lightgcn import LightGCN
from bowerbird.models.graph.spectral import Spectral
from bowerbird.models.multimodal.crossmodal import Crossmodal
from bowerbird.nn.sequences import SequenceModel

MOST = 200  # past items that count, the latest
ASKED = 100  # of these, without which the score is asked again one by one, the latest


@dataclass(frozen=True)
class Past:
    """The past items of one request (B = 1) that count, oldest first, and variants of it that lack some of them."""

    context: Context

    @cached_property
    def entries(self) -> Tensor:
        """Where the last word on each past item stands in the history, int64 (P,)."""
        return self.context.history.spoken[-MOST:]

    @cached_property
    def items(self) -> Tensor:
        """The past items' rows, int64 (P,)."""
        return self.context.history.item[self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def without(self, removed: Tensor) -> Context:
        """Return the request again for each row of `removed`, bool (N, P): nothing is known of those items there."""
        history, n = self.context.history, len(removed)
        place = torch.full((int(history.item.max()) + 1,), -1, device=history.item.device)
        place[self.items] = torch.arange(len(self), device=place.device)
        group = place[history.item]  # (H,): −1 is no past item that counts, and stays
        keep = ~(removed[:, group.clamp(min=0)] & (group >= 0))
        flat, length = keep.nonzero()[:, 1], keep.sum(dim=1)
        parts = (None if one is None else one[flat] for one in (history.event, history.weight, history.time))
        left = Ragged(torch.cat([length.new_zeros(1), length.cumsum(0)]), history.item[flat], *parts)
        again = self.context.take(torch.zeros(n, dtype=torch.int64, device=flat.device))
        user = torch.where(left.speaks, again.user, -1)
        return replace(again, user=user, history=left, news=torch.ones_like(again.user, dtype=torch.bool))

    def rescored(self, model: Retriever, removed: Tensor, items: Tensor | None = None) -> Tensor:
        """Return the scores of `items` (n,), or of all, for each row of `removed` (N, P) as (N, n).

        What `model` cannot answer at all has scores of minus infinity.
        """
        if isinstance(model, LightGCN):
            vectors = model.item_vectors() if items is None else model.item_vectors()[items]
            alone, parts = self._sent(model)
            left = (~removed).to(parts.dtype)
            query = alone + left @ parts / left.sum(dim=1, keepdim=True).clamp(min=1).sqrt()
            shaped = model.shaped_item if items is None else model.shaped_item[items]
            found: Tensor = (model.config.scaled(query) @ vectors.T).masked_fill(~shaped, -torch.inf)
            return found
        context = self.without(removed)
        scores = model.scores(context, items)
        return scores.masked_fill(~model.can(context)[:, None], -torch.inf)

    def _sent(self, model: LightGCN) -> tuple[Tensor, Tensor]:
        """Return what stays when nobody sends anything (D,), and what each past item sends (P, D)."""
        parts = model.outgoing[self.items]
        if bool(model.own(self.context)[0]):
            whole = model.users[self.context.user[0]]
            return whole - parts.sum(dim=0) / max(len(parts), 1) ** 0.5, parts
        return (model.average if model.first == 0 else torch.zeros_like(model.average)), parts

    @torch.no_grad()
    def said(self, model: Retriever, items: Tensor) -> Tensor:
        """Return what each past item adds to the score of each item (P, n), below 0 where it speaks against it.

        Raises nothing where the model cannot answer without a past item: then that one is all there is.
        """
        p = len(self)
        one = torch.eye(p, dtype=torch.bool, device=items.device)
        if isinstance(model, LightGCN):
            alone, parts = self._sent(model)
            query = alone + parts.sum(dim=0) / p**0.5
            scale = model.config.scaled(query[None])[0].norm() / query.norm().clamp(min=1e-12)
            added: Tensor = parts @ model.item_vectors()[items].T * (scale / p**0.5)
            return added
        if isinstance(model, EASE | ItemKNN | Spectral):
            return self.rescored(model, ~one, items)
        if isinstance(model, IALS | Crossmodal) and len(self.context.history.spoken) > 1:  # asked again, in one go
            without = model.queries_without_each(self.context)[-p:]
            return (model.query(self.context) - without) @ model.item_vectors()[items].T
        asked_for = model.config.history_len if isinstance(model, SequenceModel) else ASKED  # it sees no further back
        one = one[max(0, p - asked_for) :]
        asked = self.rescored(model, torch.cat([one.new_zeros(1, p), one]), items)
        difference = asked[0] - asked[1:]
        found = difference.new_zeros(p, len(items))
        found[p - len(one) :] = torch.where(difference.isnan() | difference.isinf(), 1.0, difference)
        return found


def method_of(model: Retriever) -> str:
    """Return how `Past.said` finds what past items add."""
    return "sum" if isinstance(model, LightGCN | EASE | ItemKNN | Spectral) else "leave-one-out"
