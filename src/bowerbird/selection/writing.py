"""A recipe as a TOML file, which `bowerbird train` runs as it is."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from bowerbird.core import ModelConfig, RunOptions, entry_of
from bowerbird.recommender import DataOptions, SplitOptions


def recipe_text(
    config: ModelConfig,
    data: DataOptions,
    split: SplitOptions,
    run: RunOptions,
    *,
    label: tuple[str, ...] = (),
    said: str,
) -> str:
    """Return a recipe: what differs from the usual values, and `said` as its first lines."""
    usual = type(config)()
    model = {name: value for name, value in asdict(config).items() if value != getattr(usual, name)}
    sections: dict[str, Mapping[str, Any]] = {
        "data": {name: value for name, value in asdict(data).items() if value is not None},
        "split": _unusual(split, SplitOptions()),
        "model": {"name": entry_of(config).name} | model,
        "ranking": {"label": label} if label else {},
        "run": {"seed": run.seed} | ({"threads": run.threads} if run.threads else {}),
    }
    lines = [f"# {line}" for line in said.splitlines()]
    for name, values in sections.items():
        there = {key: value for key, value in values.items() if value is not None}
        if there:
            lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in there.items())]
    return "\n".join(lines) + "\n"


def _unusual(one: Any, usual: Any) -> dict[str, Any]:
    names = [field.name for field in fields(one)]
    return {name: getattr(one, name) for name in names if getattr(one, name) != getattr(usual, name)}


def _value(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)
