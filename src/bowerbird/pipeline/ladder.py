"""The ladder: who answers whom. Each request is answered by the first rung that can.

Usually model → popularity; what knows items by their content may stand between. No model writes a fallback of its own.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from bowerbird.features import Context, Retriever
from bowerbird.nn.vectors import listed


class Ladder:
    """Rungs by name, best first; the last must be able to answer everyone it may be asked for."""

    def __init__(self, rungs: Mapping[str, Retriever]) -> None:
        self.names = tuple(rungs)
        self.rungs = tuple(rungs.values())

    def scores(self, context: Context, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return scores (B, I) or (B, n) and the rung that gave each request's, int64 (B,).

        A request that no rung can answer gets −1 and scores of minus infinity.
        """
        rung = torch.zeros_like(context.user)
        can = self.rungs[0].can(context)
        if bool(can.all()):  # the usual case: nothing to take apart
            return self.rungs[0].scores(context, items), rung
        rung[~can] = -1
        for number, retriever in enumerate(self.rungs[1:], 1):
            rung[(rung < 0) & retriever.can(context)] = number
        whole: Tensor | None = None
        for number, retriever in enumerate(self.rungs):
            rows = (rung == number).nonzero()[:, 0]
            if len(rows):
                mine = items if items is None or items.dim() == 1 else items[rows]
                part = retriever.scores(context.take(rows), mine)
                if whole is None:
                    whole = part.new_full((len(context), part.shape[1]), -torch.inf)
                whole[rows] = part
        if whole is None:  # nobody can answer anyone
            everyone = self.rungs[-1].scores(context)
            whole = listed(torch.full_like(everyone, -torch.inf), items)
        return whole, rung
