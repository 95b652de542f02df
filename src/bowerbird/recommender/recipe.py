"""Recipes: a run as a TOML file with the sections data, split, model and run."""

import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bowerbird.core import ConfigError, ModelConfig, RunOptions, build, check, did_you_mean, lookup
from bowerbird.data import Interactions, Split, load, split


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
    format: str | None = None
    root: str | None = None  # a folder that holds data sets by name

    def load(self) -> Interactions:
        """Return the interactions."""
        columns = {key: value for key, value in asdict(self).items() if key not in ("path", "root")}
        return load(self.path, data_root=self.root, **columns)


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


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that one run is."""

    model: ModelConfig
    data: DataOptions | None = None
    split: SplitOptions = field(default_factory=SplitOptions)
    run: RunOptions = field(default_factory=RunOptions)

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a TOML file; raises `ConfigError` naming the file and the key that is wrong."""
        try:
            sections = tomllib.loads(Path(path).read_text())
        except FileNotFoundError:
            raise ConfigError(f"{path}: there is no such recipe.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from None
        known = ("data", "split", "model", "run")
        for name in sections:
            if name not in known or not isinstance(sections[name], dict):
                raise ConfigError(
                    f"{path}: [{name}] is not a section of a recipe.{did_you_mean(name, known)} Allowed: {known}."
                )
        settings: dict[str, Any] = dict(sections.get("model", {}))
        check("name" in settings, "model.name", None, "must name a model", try_instead='"lightgcn"')
        return cls(
            model=build(lookup(settings.pop("name")).config, settings, where=f"{path}, [model]"),
            data=build(DataOptions, sections["data"], where=f"{path}, [data]") if "data" in sections else None,
            split=build(SplitOptions, sections.get("split", {}), where=f"{path}, [split]"),
            run=build(RunOptions, sections.get("run", {}), where=f"{path}, [run]"),
        )

    def seeded(self, seed: int) -> "Recipe":
        """Return the same recipe under another seed."""
        return replace(self, run=replace(self.run, seed=seed))
