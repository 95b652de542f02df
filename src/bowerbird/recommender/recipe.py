"""Recipes: a run as a TOML file with the sections data, split, model, ranking, search and run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bowerbird.core import (
    ConfigError,
    Entry,
    ModelConfig,
    RunOptions,
    UnknownModelError,
    build,
    check,
    closest,
    did_you_mean,
    lookup,
)
from bowerbird.core.config import shown
from bowerbird.core.toml import read_toml
from bowerbird.data import (
    REGISTRY,
    Interactions,
    Rows,
    RowSplit,
    Split,
    given_rows,
    load,
    load_rows,
    read_rows,
    split,
    split_rows,
)
from bowerbird.data.files import format_of
from bowerbird.data.readers import open_table
from bowerbird.data.rows import USUAL_LABELS
from bowerbird.recommender.two_stage import RankingOptions

SECTIONS = ("data", "split", "model", "ranking", "search", "run")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where the interactions come from; columns left out are inferred."""

    path: str  # a file, or the name of a data set
    user: str | None = None
    item: str | None = None
    time: str | None = None
    event: str | None = None
    weight: str | None = None
    items: str | None = None  # a table of items, with titles
    users: str | None = None  # a table of users
    format: str | None = None
    root: str | None = None  # a folder that holds data sets by name

    def load(self) -> Interactions:
        """Return the interactions."""
        columns = {key: value for key, value in asdict(self).items() if key not in ("path", "root")}
        return load(self.path, data_root=self.root, **columns)

    def holds_rows(self, label: Sequence[str]) -> bool:
        """Return whether this is a feature table: a data set of that kind, or a file with a column of labels."""
        if self.path in REGISTRY:
            return REGISTRY[self.path].kind == "rows"
        if Path(self.path).is_file() and format_of(Path(self.path), self.format) == "libsvm":
            return True
        names = open_table(self.path, format=self.format).names
        return any(name in names for name in (label or USUAL_LABELS))

    def load_rows(self, label: Sequence[str], cut: "SplitOptions") -> RowSplit:
        """Return a feature table in parts: its own, or cut as `cut` says."""
        if self.path in REGISTRY:
            parts = load_rows(self.path, data_root=self.root)
            if set(parts) == {"train", "valid", "test"}:
                return given_rows(parts["train"], parts["valid"], parts["test"])
            if set(parts) != {"all"}:
                raise ConfigError(f"{self.path} holds {', '.join(parts)}. Read one of them with load_rows and bb.fit.")
            return cut.cut_rows(parts["all"])
        names = {"user": self.user, "item": self.item, "time": self.time, "format": self.format}
        return cut.cut_rows(read_rows(self.path, labels=list(label) or None, **names))


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How the table is cut; see `bowerbird.data.split`."""

    method: str | None = None
    valid: float = 0.1
    test: float = 0.1
    warmup: int = 0
    seed: int = 0

    def cut(self, events: Interactions) -> Split:
        """Return the split."""
        return split(events, self.method, valid=self.valid, test=self.test, warmup=self.warmup, seed=self.seed)

    def cut_rows(self, rows: Rows) -> RowSplit:
        """Return the split of a feature table."""
        return split_rows(rows, self.method, valid=self.valid, test=self.test, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Whether better hyper-parameters are looked for before training; see `bowerbird.search`."""

    tries: int = 0  # configurations to measure on validation; 0 trains the model as it is written

    def __post_init__(self) -> None:
        check(self.tries >= 0, "tries", self.tries, "must be 0 or more", try_instead=20)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that one run is. `bb.fit` trains the model as it is written; `bowerbird train` searches first."""

    model: ModelConfig
    data: DataOptions | None = None
    split: SplitOptions = field(default_factory=SplitOptions)
    ranking: RankingOptions = field(default_factory=RankingOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    run: RunOptions = field(default_factory=RunOptions)

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a TOML file; raises `ConfigError` naming the file and the key that is wrong."""
        return cls.of(Path(path), {})

    @classmethod
    def of(cls, path: Path | None, given: Mapping[str, Mapping[str, Any]]) -> "Recipe":
        """Return the recipe of a TOML file, or of nothing, with the values that `given` holds by section on top."""
        sections = {name: {} for name in SECTIONS} if path is None else _sections(path)
        where = f"{path}, " if path is not None else ""
        merged = {name: {**sections.get(name, {}), **given.get(name, {})} for name in SECTIONS}
        settings = merged["model"]
        if given.get("model", {}).get("name", settings.get("name")) != sections.get("model", {}).get("name"):
            settings = dict(given.get("model", {}))  # another model: the file's settings are not meant for it
        entry = _entry(settings.get("name"), where and f"{where}[model], key name", settings)
        if sections.get("data") and "path" not in merged["data"]:
            build(DataOptions, {"path": "", **merged["data"]}, where=f"{where}[data]")  # perhaps it was mistyped
            raise ConfigError("path is None; it must name a file or a data set.", where=f"{where}[data], key path")
        values = {key: value for key, value in settings.items() if key != "name"}
        return cls(
            model=build(entry.config, values, where=f"{where}[model]"),
            data=build(DataOptions, merged["data"], where=f"{where}[data]") if "path" in merged["data"] else None,
            split=build(SplitOptions, merged["split"], where=f"{where}[split]"),
            ranking=build(RankingOptions, merged["ranking"], where=f"{where}[ranking]"),
            search=build(SearchOptions, merged["search"], where=f"{where}[search]"),
            run=build(RunOptions, merged["run"], where=f"{where}[run]"),
        )


def _entry(name: Any, where: str, settings: Mapping[str, Any]) -> Entry:
    """Return the model of that name; `where` is the place of the name in a file, beside which `settings` stand."""
    if not isinstance(name, str):
        near = closest("name", settings) if name is None else None
        mistyped = f" ({near} is not it)" if near else ""
        raise ConfigError(
            f"model.name is {shown(name)}{mistyped}; it must name a model. "
            'Give --model lightgcn, or name = "lightgcn" in [model]; `bowerbird models` lists them.',
            where=where,
        )
    try:
        return lookup(name)
    except UnknownModelError as error:
        raise UnknownModelError(error.message, where=where) from None


def _sections(path: Path) -> dict[str, dict[str, Any]]:
    try:
        sections = read_toml(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such recipe.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    for name, section in sections.items():
        if name not in SECTIONS or not isinstance(section, dict):
            raise ConfigError(
                f"{path}: [{shown(name, plain=True)}] is not a section of a recipe.{did_you_mean(name, SECTIONS)} "
                f"Allowed: {', '.join(SECTIONS)}."
            )
    return sections
