"""Scenarios: what a list is for, as a TOML file: where candidates come from, what hides them, how they are re-ranked.

A scenario names no model: any recommender may serve it. Six are shipped, in `bowerbird/scenarios/`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from bowerbird.core import ConfigError, RequestError, build, check, closest
from bowerbird.core.toml import read_toml
from bowerbird.pipeline import filters

SOURCES = ("model", "popular", "trending", "latest", "similar", "content")
EXPLORATIONS = ("softmax", "epsilon-greedy", "ucb", "linucb", "thompson", "neural-linear")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
T = TypeVar("T", int, float)
LARGEST = 1e15  # of any number in a table: sums of them stay numbers
MOST = 1000  # places of a slate, and candidates: what is done item by item stays small


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where candidates come from, and how many."""

    name: str  # one of `SOURCES`
    n: int = 100
    weight: float = 1.0  # of its places, where several sources are merged

    def __post_init__(self) -> None:
        meant = closest(self.name, SOURCES) or "model"
        check(self.name in SOURCES, "name", self.name, f"must be one of {', '.join(SOURCES)}", try_instead=meant)
        check(1 <= self.n <= MOST, "n", self.n, f"must be between 1 and {MOST:,}", try_instead=100)
        check(self.weight > 0, "weight", self.weight, "must be above 0", try_instead=1.0)


@dataclass(frozen=True, kw_only=True)
class Boost:
    """Items that a filter picks are worth more, or less."""

    where: str  # in the filter language
    factor: float  # what their scores are multiplied by; below 1 buries them

    def __post_init__(self) -> None:
        check_filter("where", self.where)
        check(self.factor >= 0, "factor", self.factor, "must be 0 or more", try_instead=1.5)


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """New items are worth more: a score is multiplied by 1 + strength · 2^(−age / half-life)."""

    column: str = "published_at"  # an item column of moments; an item without one is as if old
    half_life_days: float = 30.0  # age at which half of the advantage is gone
    strength: float = 0.5  # the advantage of what was published this moment

    def __post_init__(self) -> None:
        check(self.half_life_days > 0, "half_life_days", self.half_life_days, "must be above 0", try_instead=30.0)
        check(self.strength >= 0, "strength", self.strength, "must be 0 or more", try_instead=0.5)


@dataclass(frozen=True, kw_only=True)
class Pin:
    """An item with a place of its own, as long as it is allowed."""

    item: str  # the caller's id, as text
    position: int  # 1 is the first place
    where: str = ""  # in the filter language: the pin holds while this picks the item

    def __post_init__(self) -> None:
        check(1 <= self.position <= MOST, "position", self.position, f"must be between 1 and {MOST:,}", try_instead=1)
        check_filter("where", self.where)


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """What is tried out, beside what is best: the policy that fills the free places, and logs the chance of each.

    Softmax and epsilon-greedy try by the ranker's own scores; the others learn from what came of slates.
    """

    policy: str = "softmax"  # one of `EXPLORATIONS`
    weight: float = 0.1  # how much: a temperature, a chance, or standard deviations; 0 tries nothing
    candidates: int = 50  # of the best, among which is chosen
    settle_s: int = 600  # after so long a slate teaches what came of it

    def __post_init__(self) -> None:
        meant = closest(self.policy, EXPLORATIONS) or "softmax"
        rule = f"must be one of {', '.join(EXPLORATIONS)}"
        check(self.policy in EXPLORATIONS, "policy", self.policy, rule, try_instead=meant)
        most = 1.0 if self.policy == "epsilon-greedy" else LARGEST
        check(0 <= self.weight <= most, "weight", self.weight, f"must be between 0 and {most:g}", try_instead=0.1)
        within = 1 <= self.candidates <= MOST
        check(within, "candidates", self.candidates, f"must be between 1 and {MOST:,}", try_instead=50)
        check(self.settle_s >= 0, "settle_s", self.settle_s, "must be 0 or more", try_instead=600)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One kind of list."""

    name: str  # small letters, digits, - and _
    k: int = 20  # places, where a request does not say
    sources: tuple[Source, ...] = (Source(name="model", n=500),)
    where: str = ""  # in the filter language: what may be shown at all
    hides: tuple[str, ...] | None = None  # events that hide their item; left out: as the event types themselves say
    hide_served_s: int = 0  # for so long an item that was shown is not shown again
    ranker: bool = True  # whether the recommender's ranker, where there is one, orders the candidates
    candidates: int = 200  # how many of the merged candidates are ranked and diversified
    boosts: tuple[Boost, ...] = ()
    freshness: Freshness | None = None
    diversity: float = 0.0  # 0 looks at relevance only, 1 at difference only: 1 − λ of maximal marginal relevance
    caps: Mapping[str, int] = field(default_factory=dict)  # item column → places that one value may take
    pins: tuple[Pin, ...] = ()
    exploration: Exploration | None = None
    timeout_ms: float = 0.0  # an answer that would take longer is made more simply; 0 waits for the whole
    event_weights: Mapping[str, float] = field(
        default_factory=dict
    )  # what an event says about liking; below 0: dislike

    def __post_init__(self) -> None:
        check(NAME.fullmatch(self.name) is not None, "name", self.name, "must be of small letters, digits, - and _")
        check(1 <= self.k <= MOST, "k", self.k, f"must be between 1 and {MOST:,}", try_instead=20)
        names = [source.name for source in self.sources]
        check(bool(names), "sources", names, "must name a source", try_instead='[{name = "model"}]')
        check(len(set(names)) == len(names), "sources", names, "must name each source once")
        check_filter("where", self.where)
        check(self.hide_served_s >= 0, "hide_served_s", self.hide_served_s, "must be 0 or more", try_instead=0)
        within = 1 <= self.candidates <= MOST
        check(within, "candidates", self.candidates, f"must be between 1 and {MOST:,}", try_instead=200)
        check(0 <= self.diversity <= 1, "diversity", self.diversity, "must be between 0 and 1", try_instead=0.3)
        for column, most in self.caps.items():
            check(most >= 1, f"caps.{column}", most, "must be 1 or more", try_instead=2)
        places = [pin.position for pin in self.pins]
        check(len(set(places)) == len(places), "pins", places, "must take each place once")
        check(self.timeout_ms >= 0, "timeout_ms", self.timeout_ms, "must be 0 or more", try_instead=50.0)

    @classmethod
    def load(cls, path: str | Path) -> "Scenario":
        """Read a TOML file, whose name is the scenario's unless it says another; `ConfigError` names the wrong key."""
        return _load(Path(path))

    @classmethod
    def of(cls, document: Mapping[str, Any], *, where: str = "") -> "Scenario":
        """Return the scenario of a document, as TOML and JSON hold it; `where` tells where it came from."""
        try:
            return cls._of(dict(document), where)
        except ConfigError as error:
            raise ConfigError(error.message, where=error.where or where) from None

    @classmethod
    def _of(cls, values: dict[str, Any], where: str) -> "Scenario":
        for key, kind in {"sources": Source, "boosts": Boost, "pins": Pin}.items():
            if key in values:
                check(_tables(values[key]), key, values[key], "must be a list of tables")
                values[key] = tuple(build(kind, table, where=_join(where, f"[[{key}]]")) for table in values[key])
        if values.get("freshness") is not None:
            check(isinstance(values["freshness"], Mapping), "freshness", values["freshness"], "must be a table")
            values["freshness"] = build(Freshness, values["freshness"], where=_join(where, "[freshness]"))
        if values.get("exploration") is not None:
            check(isinstance(values["exploration"], Mapping), "exploration", values["exploration"], "must be a table")
            values["exploration"] = build(Exploration, values["exploration"], where=_join(where, "[exploration]"))
        caps = _numbers("caps", values.pop("caps", {}), int)
        weights = _numbers("event_weights", values.pop("event_weights", {}), float)
        check("name" in values, "name", None, "must name the scenario")
        return replace(build(cls, values, where=where), caps=caps, event_weights=weights)


def shipped() -> dict[str, Scenario]:
    """Return the scenarios that come with the package, by name."""
    found = (_load(file) for file in (files("bowerbird") / "scenarios").iterdir() if file.name.endswith(".toml"))
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def known_scenarios(folder: Path | None) -> dict[str, Scenario]:
    """Return the shipped scenarios, and those of the TOML files of a folder over them."""
    given = () if folder is None else sorted(folder.glob("*.toml"))
    return shipped() | {path.stem: Scenario.load(path) for path in given}


def check_filter(key: str, text: str) -> None:
    """Raise `ConfigError` unless `text` is empty or a filter."""
    if text:
        try:
            filters.parse(text)
        except RequestError as error:
            raise ConfigError(f"{key} is no filter: {error.message}") from None


def _load(file: Path | Traversable) -> Scenario:
    try:
        document = read_toml(file)
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such scenario.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    return Scenario.of({"name": file.name.removesuffix(".toml")} | document, where=str(file))


def _tables(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value)


def _join(where: str, section: str) -> str:
    return f"{where}, {section}" if where else section


def _numbers(key: str, table: Any, kind: type[T]) -> dict[str, T]:
    """Return a table whose values are numbers, as `kind`; no whole number is made of a broken one."""
    check(isinstance(table, Mapping), key, table, "must be a table")
    for name, value in table.items():
        whole = type(value) is int
        rule = "must be a whole number" if kind is int else "must be a number"
        right = whole or (kind is float and type(value) is float)
        check(right and abs(value) <= LARGEST, f"{key}.{name}", value, rule)
    return {name: kind(value) for name, value in table.items()}
