"""Which models are worth a try: by their tags and what the data hold; and what one would cost, before it is begun.

An estimate counts multiplications, as the head of each model's file gives them, and divides by how fast this machine
multiplies. It is coarse, by a factor of three or so; once a model was measured on a part of the data, its estimates
are scaled to that.

Shapes: E events, U users, I items, D vector size, L history length.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from bowerbird.core import ConfigError, Entry, ModelConfig, TrainedConfig, check, entries, lookup
from bowerbird.core.registry import Span
from bowerbird.data import RowSplit, Split
from bowerbird.features import Pairs, Windows
from bowerbird.models.baselines.ease import LARGEST
from bowerbird.selection.profile import RANKING, Profile

LEAST_LENGTH = 3.0  # median events of a user, below which there is hardly an order to learn
USUAL_EPOCHS = {Pairs: 20, Windows: 15}  # until early stopping ends a training; rankers: 5
ROW_EPOCHS = 5
BASE_MS = 0.3  # of a request, whatever the model
REACHED = {Pairs: 0.1, Windows: 0.6}  # share of the speed of a large matrix product that training comes to


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a cost depends on."""

    events: int
    users: int
    items: int
    asked: int
    squares: float  # sum over users of their number of items, squared: pairs of items that somebody shares
    columns: int = 0  # of rows


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a model takes: to train, for one request, and of memory."""

    seconds: float  # to train and to validate, with early stopping
    ms: float  # of one request for ten items; of a hundred rows, where rows are ranked
    mb: float  # of memory that it holds when it serves, beside the program
    peak_mb: float  # of memory while it trains

    def to_dict(self) -> dict[str, float]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Candidate:
    """A model that is worth a try, as it is shipped, and where better settings are looked for."""

    entry: Entry
    config: ModelConfig
    space: Mapping[str, Span] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.entry.name


@dataclass(frozen=True)
class Skipped:
    """A model, or a try of it, that was not begun, and why: by the estimate that said so, where one did."""

    model: str
    why: str

    def __str__(self) -> str:
        return f"{self.model}: {self.why}"


def sizes_of(split: Split | RowSplit) -> Sizes:
    """Return the sizes of the train part of a split."""
    train = split.train
    if isinstance(split, RowSplit):
        wide = len(split.train.table.columns)
        return Sizes(events=len(train), users=0, items=0, asked=len(split.valid), squares=0.0, columns=wide)
    lengths = np.bincount(split.train.user, minlength=1).astype(float)
    asked = len(np.unique(split.valid.targets.user))
    return Sizes(
        events=len(train), users=split.train.n_users, items=split.train.n_items, asked=asked,
        squares=float(lengths @ lengths),
    )  # fmt: skip


def candidates(
    one: Profile,
    *,
    models: Sequence[str] = (),
    space: Mapping[str, Mapping[str, Span]] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[list[Candidate], list[Skipped]]:
    """Return the models that suit data of this profile, and those that do not, with the reason.

    `models` restricts them; `space` says where to look for settings of a model, instead of its own space, and
    `settings` what its configuration is from the start. Raises `ConfigError` where none is left.
    """
    chosen = [lookup(name) for name in models] or entries()
    found, left = [], []
    for entry in chosen:
        why = _unsuited(entry, one)
        if why:
            left.append(Skipped(entry.name, why))
            continue
        config = entry.config(**(settings or {}).get(entry.name, {}))
        spans = entry.search if space is None or entry.name not in space else space[entry.name]
        names = {each.name for each in fields(config)}
        for key in spans:
            check(key in names, f"space of {entry.name}", key, f"must be one of {', '.join(sorted(names))}")
        found.append(Candidate(entry, config, dict(spans)))
    if not found:
        raise ConfigError(f"no model suits these data. {' '.join(f'{one}.' for one in left[:5])}")
    return found, left


def _unsuited(entry: Entry, one: Profile) -> str:
    """Return why a model makes no sense for such data, or ""."""
    tags = set(entry.tags)
    if one.task == RANKING:
        if "ranker" not in tags:
            return "it answers with lists, and these are rows with labels"
        if "multi-task" in tags and len(one.kinds) < 2:
            return "it shares what several labels have in common, and there is one"
        if entry.name == "din":
            return "it reads histories of interactions, and these are rows"
        return ""
    if "retriever" not in tags:
        return "it orders what another model found; train it behind the pick with a recipe's [ranking]"
    if "sequential" in tags:
        if not one.ordered:
            return "it reads histories in their order, and this split foresees no later events"
        if (one.length or 0) < LEAST_LENGTH:
            return f"it reads histories, and half of the people have fewer than {LEAST_LENGTH:.0f} events"
    people = entry.name == "twotower" and bool(one.user_columns)
    if "content" in tags and not one.content and not people:
        return "it reads what items are about, and nothing is known of them"
    if entry.name == "hetero" and not one.relations and len(one.kinds) < 2:
        return "it joins edges of several kinds, and there is one kind"
    if entry.name == "ease" and one.items > LARGEST:
        return f"it keeps a weight for each pair of items: {4e-9 * one.items**2:.0f} GB for {one.items:,}"
    return ""


# ── what it would cost ────────────────────────────────────────────────────────────────────────────────────────────


def speed() -> float:
    """Return how many multiplications a second a large matrix product makes here."""
    one = np.random.default_rng(0).random((768, 768), np.float32)
    laps = []
    for _ in range(4):
        started = time.perf_counter()
        one @ one
        laps.append(time.perf_counter() - started)
    return float(768**3 / sorted(laps)[1])


def estimate(one: Candidate, config: ModelConfig, sizes: Sizes, speed: float) -> Cost:
    """Return what a model would take with this configuration on data of these sizes."""
    n_users, n_items, events = sizes.users, sizes.items, sizes.events
    dim, name = getattr(config, "dim", 16), one.name
    scoring = 1e-6 * n_items  # ms to choose the best of all items
    if name == "ease":
        work = n_items**3 * 1.4 / speed + 2e-9 * sizes.squares
        return Cost(seconds=work, ms=BASE_MS + scoring, mb=4e-6 * n_items**2, peak_mb=14e-6 * n_items**2)
    if name == "popularity":
        return Cost(seconds=1e-7 * events, ms=BASE_MS, mb=4e-6 * n_items, peak_mb=5e-5 * events)
    if name in ("itemknn", "spectral"):
        kept = min(config.neighbours, n_items)  # type: ignore[attr-defined]
        rank = getattr(config, "rank", 0)
        work = 4e-9 * sizes.squares + 4e-9 * n_items**2 + 6e-8 * n_items * kept + 2e-8 * rank * (events + n_items)
        small = min(n_users, n_items, 1_000) if rank else 0
        mb = 8e-6 * n_items * kept + 4e-6 * n_items * rank
        ms = BASE_MS + scoring + 2e-5 * kept * min(events / max(n_users, 1), 200)
        return Cost(seconds=work + 12 * small**3 / speed, ms=ms, mb=mb, peak_mb=3 * mb + 64)
    if name == "ials":
        epochs = config.epochs  # type: ignore[attr-defined]
        work = epochs * (4 * events * dim**2 + (n_users + n_items) * dim**3)
        mb = 4e-6 * n_items * dim
        return Cost(seconds=3 * work / speed, ms=BASE_MS + scoring, mb=mb, peak_mb=4e-5 * events + 4e-6 * n_users * dim)
    return _trained(one, config, sizes, speed)


def _trained(one: Candidate, config: ModelConfig, sizes: Sizes, speed: float) -> Cost:
    """Return the cost of a model that the training loop fits."""
    n_users, n_items, events = sizes.users, sizes.items, sizes.events
    dim, batch = getattr(config, "dim", 16), max(getattr(config, "batch_size", 2048), 1)
    most = config.epochs if isinstance(config, TrainedConfig) else 1
    epochs = min(USUAL_EPOCHS.get(one.entry.batches or Pairs, ROW_EPOCHS), most)
    steps = max(events / batch, 1)
    if one.entry.batches is Windows:
        blocks, length = getattr(config, "blocks", 2), getattr(config, "history_len", 50)
        loss = min(n_items, 50_000)
        work = float(events) * (36 * blocks * dim**2 + 4 * blocks * length * dim + 3 * loss * dim)
        table = 2 * n_items * dim
    elif one.entry.batches is Pairs:
        hops = getattr(config, "hops", 0) * (3 if "contrastive" in one.entry.tags else 1)
        negatives = min(getattr(config, "draws", 1), n_items)
        work = float(events * dim * (negatives + 40)) + steps * dim * (hops * 1.5 * events + 20 * (n_users + n_items))
        work += events * dim * 16 * getattr(config, "hidden", 0)
        table = 2 * (n_users + n_items) * dim
    else:
        wide = sizes.columns * dim
        hidden = sum(getattr(config, "hidden", (128, 128, 128)) or ()) if hasattr(config, "hidden") else 128
        work = events * (20 * wide + 6 * wide * 128 + 6 * hidden * 128)
        table = 50_000 * dim
    seconds = (
        epochs * work / (speed * REACHED.get(one.entry.batches or Pairs, 0.1))
        + epochs * sizes.asked * n_items * dim / speed
    )
    per_request = BASE_MS + 1e-6 * n_items + (2.0 if one.entry.batches is Windows else 0.0)
    return Cost(seconds=seconds, ms=per_request, mb=4e-6 * table, peak_mb=16e-6 * table + 200)


def scaled(cost: Cost, by: Cost, measured: Cost) -> Cost:
    """Return an estimate corrected by what was measured where `by` had been estimated."""
    found = {
        name: getattr(cost, name) * getattr(measured, name) / max(getattr(by, name), 1e-9) for name in asdict(cost)
    }
    return replace(cost, **found)
