"""The smallest part of a past without which an item would leave the list: found by asking again, not by guessing.

Shapes: P past items that count, N variants of one request, I items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

Rescore = Callable[[Tensor], Tensor]  # past items removed, bool (N, P) → scores of all items (N, I)
PAIRED = 16  # past items, the strongest, of which all pairs are tried
AT_ONCE = 64  # variants scored at once


@dataclass(frozen=True)
class Counterfactual:
    """Past items, as places among those that count, without which the item leaves the list.

    `smallest` tells that nothing smaller would do, of what was tried: every single one, and pairs of the strongest.
    """

    removed: tuple[int, ...]
    smallest: bool


def counterfactual(
    rescore: Rescore, said: np.ndarray, item: int, k: int, allowed: Tensor, *, confirm: Rescore | None = None
) -> Counterfactual | None:
    """Return what must leave a past for `item` to leave the first k of the items `allowed`, bool (I,).

    `said` (P,) is what each past item adds to its score: the order in which they are tried. Where `rescore` only comes
    near, and `confirm` is the dear truth, what was found is enlarged until that agrees. None where the item is not in
    the list, or stays as long as anything is left: without any past nobody is recommended anything of their own.
    """
    found = _found(rescore, said, item, k, allowed)
    if found is None or confirm is None or _leaves(confirm, [found.removed], len(said), item, k, allowed)[0]:
        return found
    others = [int(one) for one in np.argsort(-said, kind="stable") if one not in found.removed][:-1]
    low, high = 0, len(others)  # of others, how many are too few, and enough
    if not _leaves(confirm, [(*found.removed, *others)], len(said), item, k, allowed)[0]:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = _leaves(confirm, [(*found.removed, *others[:middle])], len(said), item, k, allowed)[0]
        low, high = (low, middle) if enough else (middle, high)
    return Counterfactual((*found.removed, *others[:high]), smallest=False)


def _leaves(
    rescore: Rescore, sets: Sequence[tuple[int, ...]], p: int, item: int, k: int, allowed: Tensor
) -> list[bool]:
    """Return whether an item leaves the first k without each of some sets of the p past items."""
    found: list[bool] = []
    for start in range(0, len(sets), AT_ONCE):
        part = sets[start : start + AT_ONCE]
        removed = torch.zeros(len(part), p, dtype=torch.bool, device=allowed.device)
        for row, one in enumerate(part):
            removed[row, list(one)] = True
        found += [place > k for place in ranks(rescore(removed), item, allowed)]
    return found


def _found(rescore: Rescore, said: np.ndarray, item: int, k: int, allowed: Tensor) -> Counterfactual | None:
    p = len(said)

    def leaves(sets: Sequence[tuple[int, ...]]) -> list[bool]:
        return _leaves(rescore, sets, p, item, k, allowed)

    if leaves([()])[0]:
        return None
    order = [int(one) for one in np.argsort(-said, kind="stable")]
    singles = [(one,) for one in order if p > 1]
    alone = leaves(singles)
    if any(alone):
        return Counterfactual(singles[alone.index(True)], smallest=True)
    pairs = [(one, other) for one, other in combinations(order[:PAIRED], 2) if p > 2]
    together = leaves(pairs)
    if any(together):
        return Counterfactual(pairs[together.index(True)], smallest=True)
    prefixes = [tuple(order[:n]) for n in range(3, p)]
    enough = leaves(prefixes)
    if not any(enough):
        return None
    needed = prefixes[enough.index(True)]
    for one in reversed(needed):
        fewer = tuple(other for other in needed if other != one)
        if leaves([fewer])[0]:
            needed = fewer
    return Counterfactual(needed, smallest=False)


def ranks(scores: Tensor, item: int, allowed: Tensor) -> list[int]:
    """Return the place, from 1, of an item among those allowed in each row of scores (N, I); equal ones come before."""
    scores = scores.masked_fill(~allowed, -torch.inf)
    mine = scores[:, item]
    ahead = (scores >= mine[:, None]).sum(dim=1)
    return [int(n) if bool(finite) else scores.shape[1] + 1 for n, finite in zip(ahead, mine.isfinite(), strict=True)]
