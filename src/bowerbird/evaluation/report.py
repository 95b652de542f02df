"""Evaluation of a scorer on a holdout: full ranking in blocks, a report with intervals and its protocol line."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bowerbird.core import ConfigError, check, closest, numpy_stream, torch_stream
from bowerbird.core.ids import Ids
from bowerbird.data import Holdout, Interactions
from bowerbird.evaluation.metrics import METRICS, beyond_accuracy, parse
from bowerbird.evaluation.statistics import Difference, holm, interval, paired
from bowerbird.features import Context
from bowerbird.retrieval import block_size, hide_seen, top_k

WHO = ("all", "warm", "strangers")


class Scorer(Protocol):
    """What can be evaluated: something that scores its items for a context."""

    @property
    def user_ids(self) -> Ids:
        """The users it knows."""
        ...

    @property
    def item_ids(self) -> Ids:
        """The items it scores, in the order of its columns."""
        ...

    @property
    def device(self) -> str:
        """Where it computes."""
        ...

    def scores(self, context: Context) -> Tensor:
        """Return scores (B, I), the caller's to overwrite."""
        ...


@dataclass(frozen=True, eq=False)
class Report:
    """What was measured, on whom, and how."""

    metrics: dict[str, float]  # means over users, and "coverage@10" and the like over all lists
    intervals: dict[str, tuple[float, float]]  # 95 %, for the metrics that are means over users
    per_user: pl.DataFrame  # user_id and one column for each metric
    protocol: str
    n_users: int
    n_items: int
    ms_per_user: float

    def __str__(self) -> str:
        lines = [self.protocol]
        for name, value in self.metrics.items():
            low, high = self.intervals.get(name, (math.nan, math.nan))
            spread = f"  [{low:.4f}, {high:.4f}]" if name in self.intervals else ""
            lines.append(f"{name:>20}  {value:.4f}{spread}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return metrics, intervals and protocol as JSON needs them."""
        return {
            "protocol": self.protocol,
            "metrics": self.metrics,
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            "users": self.n_users,
            "items": self.n_items,
            "ms_per_user": self.ms_per_user,
        }


def evaluate(
    scorer: Scorer,
    holdout: Holdout,
    *,
    k: int | Sequence[int] = 10,
    metrics: Sequence[str] | None = None,
    who: str = "all",
    sampled: int | None = None,
    intervals: bool = True,
    seed: int = 0,
) -> Report:
    """Rank all items known before the cut for every user with later choices, and report how well that went.

    Items of the history are left out of the lists. Later choices of items that did not exist before the cut are not
    asked for; `holdout` and its audit count them. `who` is "all", "warm" (users who existed before the cut) or
    "strangers". `sampled=n` ranks the targets among n random unseen items only, and the protocol line says so:
    such figures compare with nothing else. `intervals=False` saves the bootstrap. Raises `ConfigError` when nobody
    is left to ask.
    """
    check(who in WHO, "who", who, f"must be one of {', '.join(WHO)}", try_instead=closest(str(who), WHO) or "all")
    depths = [k] if isinstance(k, int) else list(k)
    check(bool(depths) and min(depths) >= 1, "k", k, "must be 1 or more", try_instead=10)
    check(sampled is None or sampled >= 1, "sampled", sampled, "must be 1 or more", try_instead=99)
    names = list(metrics or (f"{name}@{depth}" for depth in depths for name in METRICS))
    parsed = {name: parse(name) for name in names}
    deepest = max([depth for _, depth in parsed.values()] + depths)
    users, targets = _targets(holdout, who)
    if not len(users):
        raise ConfigError(f'no user of the {holdout.name} part is left to ask with who="{who}". Take larger shares.')
    asked = _Asked.of(scorer, holdout, users, targets)
    draw = torch_stream(seed, "ties", device=scorer.device)
    started = time.perf_counter()
    top = torch.cat(list(_lists(scorer, asked, deepest, draw, sampled))).cpu()
    seconds = time.perf_counter() - started
    hits, relevant = asked.hits(top)
    values = {name: METRICS[metric](hits, relevant, depth).double().numpy() for name, (metric, depth) in parsed.items()}
    rng = numpy_stream(seed, "bootstrap")
    means = {name: float(column.mean()) for name, column in values.items()}
    if sampled is None:
        people = np.bincount(holdout.known.positives.item, minlength=holdout.known.n_items)
        rows = np.append(asked.known_row, -1)[top[:, : depths[0]].numpy()]  # −1 stays −1
        means |= {f"{name}@{depths[0]}": value for name, value in beyond_accuracy(rows, people).items()}
    n_items = holdout.known.n_items
    ranking = "full" if sampled is None else f"uniform-{sampled}"
    return Report(
        metrics=means,
        intervals={name: interval(column, rng) for name, column in values.items()} if intervals else {},
        per_user=pl.DataFrame({"user_id": holdout.targets.user_ids.names(users), **values}),
        protocol=f"{holdout.protocol} part={holdout.name} ranking={ranking} masked=history k={deepest} "
        f"users={len(users)} ({who}) items={n_items} seed={seed}",
        n_users=len(users),
        n_items=n_items,
        ms_per_user=1000 * seconds / len(users),
    )


def compare(a: Report, b: Report, *, metrics: Sequence[str] | None = None, seed: int = 0) -> list[Difference]:
    """Return paired tests of a − b over the same users, Holm-corrected over the metrics.

    Raises `ConfigError` unless both reports follow the same protocol.
    """
    if a.protocol != b.protocol or not a.per_user["user_id"].equals(b.per_user["user_id"]):
        raise ConfigError(f"these reports cannot be compared: {a.protocol!r} is not {b.protocol!r}.")
    rng = numpy_stream(seed, "compare")
    names = metrics or [name for name in a.per_user.columns if name != "user_id"]
    for name in names:
        both = [one for one in a.per_user.columns if one in b.per_user.columns and one != "user_id"]
        rule = f"must be in both reports, which share {', '.join(both) or 'none'}"
        check(name in both, "metrics", name, rule, try_instead=closest(str(name), both))
    return holm([paired(name, a.per_user[name].to_numpy(), b.per_user[name].to_numpy(), rng) for name in names])


def _targets(holdout: Holdout, who: str) -> tuple[np.ndarray, Interactions]:
    """Return the users to ask, sorted, and their later choices: positive, of known items, not hidden by the history."""
    pairs, width = holdout.targets.positives, holdout.targets.n_items
    past, hides = holdout.history, holdout.history.hides
    chosen = pl.Series(pairs.user.astype(np.int64) * width + pairs.item)
    seen = pl.Series(past.user[hides].astype(np.int64) * width + past.item[hides])
    keep = (pairs.item < holdout.known.n_items) & ~chosen.is_in(seen.implode()).to_numpy()
    warm = pairs.user < holdout.known.n_users
    keep &= {"all": np.ones_like(warm), "warm": warm, "strangers": ~warm}[who]
    n = int(keep.sum())
    targets = replace(
        holdout.targets, user=pairs.user[keep], item=pairs.item[keep], weight=pairs.weight[keep],
        event=np.zeros(n, np.uint8), time=None, extra=None,
    )  # fmt: skip
    return np.flatnonzero(np.bincount(targets.user)), targets


@dataclass(frozen=True, eq=False)
class _Asked:
    """The questions, in the scorer's own rows."""

    context: Context
    hides: Tensor | None  # bool (event types,); None where all hide
    candidate: Tensor  # bool (I,): the scorer's items that were known before the cut
    known_row: np.ndarray  # int (I,): their row in the holdout, for counting
    target_keys: Tensor  # int64, sorted: place of the user times (I + 1) plus item
    relevant: Tensor  # int64 (B,)
    n_items: int

    @classmethod
    def of(cls, scorer: Scorer, holdout: Holdout, users: np.ndarray, targets: Interactions) -> "_Asked":
        hides = [kind.hides for kind in holdout.history.events]
        user_row = scorer.user_ids.rows(holdout.targets.user_ids.values)
        item_row = scorer.item_ids.rows(holdout.targets.item_ids.values)
        n_items = len(scorer.item_ids)
        known = item_row[holdout.history.item] >= 0
        past = holdout.history if known.all() else holdout.history.rows(known)
        context = Context.of_users(users, past)
        history = replace(context.history, item=torch.from_numpy(item_row.astype(np.int64))[context.history.item])
        known_row = np.full(n_items, -1)
        rows = item_row[: holdout.known.n_items]
        known_row[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
        place = np.searchsorted(users, targets.user)
        item = np.where(item_row[targets.item] >= 0, item_row[targets.item], n_items)  # never found, still asked
        return cls(
            Context(torch.from_numpy(user_row[users].astype(np.int64)), history),
            None if all(hides) else torch.tensor(hides),
            torch.from_numpy(known_row >= 0),
            known_row,
            torch.from_numpy(np.sort(place * (n_items + 1) + item)),
            torch.from_numpy(np.bincount(place, minlength=len(users))),
            n_items,
        )

    def hits(self, top: Tensor) -> tuple[Tensor, Tensor]:
        """Return which places of the lists (B, K) are targets, and how many targets each user has (B,)."""
        keys = torch.arange(len(top))[:, None] * (self.n_items + 1) + top
        place = torch.searchsorted(self.target_keys, keys).clamp(max=len(self.target_keys) - 1)
        return (self.target_keys[place] == keys) & (top >= 0), self.relevant


def _lists(scorer: Scorer, asked: _Asked, k: int, draw: torch.Generator, sampled: int | None) -> Iterator[Tensor]:
    """Yield the best k item rows of blocks of users (b, k)."""
    size = block_size(asked.n_items)
    device = scorer.device
    out = (~asked.candidate).nonzero()[:, 0].to(device)
    with torch.no_grad():
        for start in range(0, len(asked.context), size):
            rows = torch.arange(start, min(start + size, len(asked.context)))
            context = asked.context.take(rows).to(device)
            scores = scorer.scores(context)
            scores.index_fill_(1, out, -math.inf)
            hide_seen(scores, context.history, asked.hides)
            if sampled is not None:
                scores = _among(scores, asked, start, sampled, draw)
            yield top_k(scores, k, lambda: draw)[1]


def _among(scores: Tensor, asked: _Asked, start: int, sampled: int, draw: torch.Generator) -> Tensor:
    """Return scores in which only each user's targets and `sampled` random other unseen items are left."""
    width = asked.n_items + 1
    low, high = torch.searchsorted(asked.target_keys, torch.tensor([start, start + len(scores)]) * width)
    keys = (asked.target_keys[low:high] - start * width).to(scores.device)
    target = torch.zeros((len(scores), width), dtype=torch.bool, device=scores.device)
    target.view(-1)[keys] = True
    target = target[:, :-1]
    lottery = torch.rand(scores.shape, generator=draw, device=scores.device)
    lottery[target | (scores == -math.inf)] = -1.0
    chosen = lottery.topk(min(sampled, asked.n_items), dim=1)
    keep = target.scatter(1, chosen.indices, chosen.values >= 0)
    keep |= target
    return scores.masked_fill(~keep, -math.inf)
