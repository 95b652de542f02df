"""Paths through the graph that carry a score of LightGCN or a model built on it, exactly: what travels is summed.

With Â the normalised edges, eₖ the vectors after k hops and K hops in all, the score of user u and item i is

    s(u, i) = 1/(K+1) · [ e₀(u)·ē(i)                                what the user is alone
                        + Σ_j Â(u,j) e₀(j)·ē(i)                     what each item of the user's says itself
                        + Σ_j Σ_v Â(u,j) Â(j,v) Σ_{k≤K-2} eₖ(v)·ē(i) ]   and through each person v who chose it

where ē is the mean over layers (He et al., SIGIR 2020, equations 3-8, put into each other). The last sum over those v
who chose i as well is the path u → j → people → i. Cosines only divide all parts by the same lengths.
Where the mean leaves layer 0 out (simgcl, xsimgcl), the first term is not there and 1/(K+1) is 1/K.

Shapes: U users, I items, D vector size, H items of a user.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bowerbird.core import Cause, ConfigError, Reason, RequestError, UnknownItemError
from bowerbird.data import Interactions
from bowerbird.explanation import words
from bowerbird.models.graph.lightgcn import LightGCN
from bowerbird.nn.graph import Graph, mean, pair_matrix, travel


@dataclass(frozen=True)
class Parts:
    """What a score consists of: `alone` and the sums of the others are the score.

    One row for each item of the user's: what it says itself, what people say who chose it and the item in question,
    and what other people say who chose it. `people` are the rows of the former.
    """

    alone: float
    items: np.ndarray  # int (H,)
    itself: np.ndarray  # float (H,)
    both: np.ndarray  # float (H,)
    others: np.ndarray  # float (H,)
    people: tuple[np.ndarray, ...]  # H arrays of user rows

    @property
    def score(self) -> float:
        """The score that the parts add up to."""
        return self.alone + float((self.itself + self.both + self.others).sum())


class Paths:
    """Paths from users to items in a trained lightgcn, sgl, simgcl or xsimgcl; `train` is what it was trained on."""

    @torch.no_grad()
    def __init__(self, model: LightGCN, train: Interactions) -> None:
        if not isinstance(model, LightGCN):
            name = type(model).__name__
            raise ConfigError(f"{name} does not sum along a graph. Take lightgcn, sgl, simgcl or xsimgcl for paths.")
        if model.config.hops < 2:
            raise ConfigError(f"hops is {model.config.hops}; a path over other people takes 2 or more. Train with 3.")
        self.train, self.pairs = train, pair_matrix(train)
        self.choosers = self.pairs.T.tocsr()
        graph, hops, first = Graph.of_matrix(self.pairs).to(model.user.device), model.config.hops, model.first
        users, items = travel([graph] * hops, model.user, model.item)
        whole = mean(users[first:])
        length = model.config.scaled(whole).norm(dim=1) / whole.norm(dim=1)  # 1 where cosine is off
        self.scale = (length / (hops + 1 - first)).nan_to_num(0.0).cpu().numpy()  # (U,)
        self.end = model.config.served(mean(items[first:])).cpu().numpy()  # (I, D)
        self.user = (users[0] * (first == 0)).cpu().numpy()  # (U, D): what counts of the user alone
        self.item = items[0].cpu().numpy()  # (I, D)
        self.sent = sum(users[1 : hops - 1], users[0]).cpu().numpy()  # (U, D): what goes on behind a person
        self.root = [np.sqrt(np.maximum(side.cpu().numpy(), 1)) for side in (graph.user_degree, graph.item_degree)]

    def parts(self, user: int, item: int) -> Parts:
        """Return the parts of the score of a user's row and an item's."""
        end, scale = self.end[item], float(self.scale[user])
        mine = self.pairs.indices[self.pairs.indptr[user] : self.pairs.indptr[user + 1]]
        also = np.zeros(self.pairs.shape[0], bool)
        also[self._people(item)] = True
        also[user] = False
        itself, both, others = np.zeros((3, len(mine)))
        met = []
        for place, over in enumerate(mine):
            people = self._people(over)
            edge = scale / (self.root[0][user] * self.root[1][over])
            said = edge * (self.sent[people] @ end) / (self.root[0][people] * self.root[1][over])
            both[place], others[place] = said[also[people]].sum(), said[~also[people]].sum()
            itself[place] = edge * float(self.item[over] @ end)
            met.append(people[also[people]])
        return Parts(scale * float(self.user[user] @ end), mine, itself, both, others, tuple(met))

    def reasons(self, user_id: Any, item_id: Any, *, k: int = 3) -> list[Reason]:
        """Return up to `k` paths that speak for an item, the strongest first, with their share of the whole score.

        A path over fewer than `words.CROWD` people is not told.

        Raises `UnknownItemError` for an item, and `RequestError` for a user, that training did not know.
        """
        user, item = self.train.user_ids.row(user_id), self.train.item_ids.row(item_id)
        if item < 0:
            raise UnknownItemError(f"item {item_id!r} is unknown. Take one that training knew.")
        if user < 0 or self.pairs.indptr[user] == self.pairs.indptr[user + 1]:
            raise RequestError(f"user {user_id!r} chose nothing in training, so that no path begins there.")
        parts = self.parts(user, item)
        found = list[Reason]()
        for place in np.argsort(-parts.both, kind="stable"):
            over, n = int(parts.items[place]), len(parts.people[place])
            if parts.both[place] <= 0 or len(found) == k:
                break
            if n < words.CROWD:
                continue
            share = float(parts.both[place]) / parts.score
            cause = Cause(self.train.item_ids[over], self.train.title(over), share)
            found.append(words.path((cause,), "chose", "sum", n, self.train.title(item)))
        return found

    def _people(self, item: int) -> np.ndarray:
        found: np.ndarray = self.choosers.indices[self.choosers.indptr[item] : self.choosers.indptr[item + 1]]
        return found
