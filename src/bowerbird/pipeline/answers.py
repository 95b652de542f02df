"""What a live pipeline is given, and what it gives back.

Shapes: I items, K of them known to the model (the first rows), D vector size, n places that are filled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl
from torch import Tensor

from bowerbird.core import derive
from bowerbird.features import Context
from bowerbird.pipeline import filters
from bowerbird.pipeline.pipeline import Step
from bowerbird.pipeline.policy import Greedy
from bowerbird.pipeline.rerank import SeenRows

NONE = np.zeros(0, np.int64)


class Index(Protocol):
    """An approximate index over the known items' vectors."""

    def search(self, query: Tensor, n: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return scores and rows (B, n) of the nearest items to queries (B, D), best first, row −1 for none.

        `allowed`, bool (K,), limits what may be found.
        """
        ...


@dataclass(frozen=True)
class Shelf:
    """What requests share about items; immutable, one for each snapshot."""

    items: pl.DataFrame  # row r describes item row r, with its `item_id`
    n_known: int  # K: rows from there on are newer than the model
    available: np.ndarray  # bool (I,)
    popular: np.ndarray  # int64: item rows, best first, each once
    trending: np.ndarray  # int64, likewise
    latest: np.ndarray  # int64, newest first
    content: Callable[[np.ndarray], np.ndarray] | None = None  # past item rows → how like them all are, float32 (I,)


def nothing(_: filters.Seen) -> np.ndarray:
    """Return no rows: nobody has seen anything."""
    return NONE


@dataclass(frozen=True)
class Asked:
    """One request. Arrays of item rows are int64 and hold rows of the shelf only."""

    context: Context  # B = 1
    k: int
    liked: np.ndarray | None = None  # the items chosen last, new ones too; None: those of the context
    seen: np.ndarray = field(default_factory=NONE.copy)  # hidden by what the person did
    served: np.ndarray = field(default_factory=NONE.copy)  # hidden since shown lately
    exclude: np.ndarray = field(default_factory=NONE.copy)  # hidden by the request
    where: filters.Filter | None = None  # what the request limits the answer to
    seen_rows: SeenRows = nothing  # the item rows that a seen() of a filter means
    now: int = 0  # seconds since 1970 UTC
    deadline: float | None = None  # in the seconds of `World.monotonic`
    diversity: float | None = None  # instead of the scenario's
    explain: bool = False  # count what each filter removed
    seed: int = 0
    draw: str = ""  # what tells the chance of this request from that of others, where a policy draws
    context_hash: str = ""  # what the answer depends on, where that is logged

    @property
    def chance(self) -> int:
        """The seed of what a policy draws."""
        return derive(self.seed, "draw", self.draw)

    @property
    def past(self) -> np.ndarray:
        """What content is to be like, int64."""
        if self.liked is not None and self.context.seeds is None:
            return self.liked
        rows: np.ndarray = self.context.asked.positive[1].cpu().numpy()
        return rows


@dataclass(frozen=True)
class Answer:
    """A slate of n ≤ k places, and where it came from."""

    items: np.ndarray  # int64 (n,), best first
    scores: np.ndarray  # float32 (n,): of the last stage that scored; a pin has that of its place
    sources: list[list[str]]  # of each item, those that found it; "pin" for one that has its place by rule
    propensity: np.ndarray  # float32 (n,)
    rung: str  # of the ladder; "" when it was not asked, or could not answer
    fallback: list[str]  # what is less than was wished: see `LivePipeline`; empty when nothing is
    trace: tuple[Step, ...] = ()
    removed: Mapping[str, int] = field(default_factory=dict)  # what each filter removed, where that is explained
    policy: str = Greedy.version  # the version of the policy that chose
    candidates: np.ndarray | None = None  # int64 (C,): what it chose from, where it explores; pins are not among it
    candidate_propensity: np.ndarray | None = None  # float32 (C,): the chance of each to take the first free place
    found: Mapping[str, int] = field(default_factory=dict)  # how many candidates each source had, board or list

    @classmethod
    def plain(cls, items: np.ndarray, scores: np.ndarray, source: str) -> "Answer":
        """Return a list that went through no pipeline."""
        ones = np.ones(len(items), np.float32)
        return cls(items.astype(np.int64), scores.astype(np.float32), [[source] for _ in items], ones, source, [])


@dataclass(frozen=True)
class Stage:
    """What one stage did with one item."""

    stage: str
    kept: bool
    detail: str
