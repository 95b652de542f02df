"""The generated parts of the documents: commands, models and their figures, data sets, what came of breaking things.

    python tests/docs/generated.py

writes them anew, between the marks `<!-- generated: NAME -->` and `<!-- end -->` of the pages. A test compares.
"""

import ast
import inspect
import json
import re
import sys
import textwrap
import tomllib
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.models import ArgumentInfo, OptionInfo

import bowerbird
import bowerbird.models
from bowerbird.cli.main import app
from bowerbird.core import Entry, ModelConfig, entries
from bowerbird.data import REGISTRY
from bowerbird.data.named import READ_WITH

DOCS = Path(__file__).parents[2] / "docs"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
REFERENCES = ("classic", "ctr", "sequential", "graph", "relations", "content")  # benchmarks that compare models
STORIES = ("goods", "video", "news", "music", "friends", "ads")
ADDRESSES = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
MARK = r"(<!-- generated: {name} -->\n).*?(<!-- end -->)"


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines) + "\n"


# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────


def commands(program: typer.Typer, before: str = "bowerbird") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every command as it is typed, and the function that answers it."""
    for info in program.registered_commands:
        assert info.callback is not None
        yield f"{before} {info.name or info.callback.__name__.replace('_', '-')}", info.callback
    for group in program.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{before} {group.name}")


def parameters(command: Callable[..., Any]) -> Iterator[tuple[str, str, ArgumentInfo | OptionInfo]]:
    """Yield each parameter of a command as it is typed, with its default and what Typer is told about it."""
    hints = typing.get_type_hints(command, include_extras=True)
    for name, one in inspect.signature(command).parameters.items():
        kind, info = typing.get_args(hints[name])[:2]
        declared = [text for text in (info.default, *(info.param_decls or ())) if isinstance(text, str)]
        if isinstance(info, ArgumentInfo):
            typed = info.metavar or name.upper()
        elif declared:
            typed = ", ".join(declared)
        else:
            typed = "--" + name.replace("_", "-") + (f", --no-{name}" if kind is bool else "")
        if isinstance(info, OptionInfo) and info.metavar:
            typed += f" {info.metavar}"
        needed = one.default is inspect.Parameter.empty
        plain = {True: "yes", False: "no"}.get(one.default, one.default) if kind is bool else one.default
        yield typed, "needed" if needed else "" if plain is None else str(plain), info


def cli_part() -> str:
    """Return a section for each command, with a table of its arguments and options."""
    sections = []
    for name, command in commands(app):
        rows = [
            (f"`{typed}`", f"{info.help or ''}{f' Also ${info.envvar}.' if info.envvar else ''}", default)
            for typed, default, info in parameters(command)
        ]
        head = f"## {name}\n\n{inspect.getdoc(command)}\n"
        sections.append(head + ("\n" + table(("what is typed", "meaning", "default"), rows) if rows else ""))
    return "\n".join(sections)


# ── models ────────────────────────────────────────────────────────────────────────────────────────────────────────


def comments(config: type[ModelConfig]) -> dict[str, str]:
    """Return the comment beside each option, that of a base class where its own line has none."""
    said: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if not issubclass(base, ModelConfig):
            continue
        source = textwrap.dedent(inspect.getsource(base))
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                beside = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset :].partition("# ")[2]
                if beside:
                    said[node.target.id] = beside.strip()
    return said


def facts(entry: Entry) -> list[str]:
    """Return what the model file says under "Paper:", "Differs:" and "Cost:", each in one line."""
    text = inspect.getmodule(entry.model).__doc__ or ""
    found = re.findall(r"^(Paper|Differs|Cost): +(.*?)(?=^\w+: |\Z)", text, flags=re.DOTALL | re.MULTILINE)
    return [f"{name}: {' '.join(said.split())}".replace("*", "\\*") for name, said in found]


def ours() -> list[Entry]:
    """Return the models of this package; others may be installed, or registered by a test."""
    return [one for one in entries() if one.model.__module__.startswith("bowerbird.")]


def models_part() -> str:
    """Return a table of all models."""
    rows = [(f"[{one.name}](models/{one.name}.md)", one.summary, ", ".join(one.tags)) for one in ours()]
    return table(("model", "what it does", "tags"), rows)


def model_part(entry: Entry) -> str:
    """Return what a model is, where it comes from, what was measured, and a table of its options."""
    said = comments(entry.config)
    rows = []
    for field in fields(entry.config):
        span = entry.search.get(field.name)
        tried = (
            "" if span is None else ", ".join(map(str, span)) if isinstance(span, list) else f"{span[0]} – {span[1]}"
        )
        rows.append((f"`{field.name}`", str(field.default), said.get(field.name, ""), tried))
    lines = [f"Tags: {', '.join(entry.tags)}.", *facts(entry)]
    options = "## Options\n\n" + table(("option", "default", "meaning", "searched"), rows)
    return "\n\n".join(lines) + f"\n\n## Measured\n\n{measured(entry.name)}\n{options}"


def measured(model: str) -> str:
    """Return the newest row of a model on each data set, those on test before others, beside what was published."""
    rows = []
    for name in REFERENCES:
        published = getattr(import_module(name), "PUBLISHED", {})
        mine = [row for row in kept(name) if row["model"] == model]
        order = sorted(mine, key=lambda row: row["report"] == "test")  # stable: the newest of each part stays last
        for data, row in {row["data"]: row for row in order}.items():
            beside = published.get((data, model), {})
            figures = list(row["metrics"].items())[:2]
            rows.append(
                (
                    f"`{data}`", row["report"], ", ".join(f"{key} {value:.4f}" for key, value in figures),
                    ", ".join(f"{beside[key]:.4f}" for key, _ in figures if key in beside),
                    f"`python benchmarks/{name}.py`, {row['date']}",
                )
            )  # fmt: skip
    if not rows:
        return "In no table of the repository yet.\n"
    return table(("data", "part", "ours", "published", "by"), rows)


def kept(benchmark: str) -> list[dict[str, Any]]:
    """Return the rows of a benchmark that were kept, oldest first."""
    path = BENCHMARKS / "results" / f"{benchmark}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


# ── the library ───────────────────────────────────────────────────────────────────────────────────────────────────


def python_part() -> str:
    """Return what `import bowerbird` offers: each name as it is written, and what its documentation says."""
    return "\n".join(_object(name, getattr(bowerbird, name)) for name in bowerbird.__all__)


def _object(name: str, one: Any) -> str:
    sections = [f"## {name}\n\n{_written(name, one)}"]
    if inspect.isclass(one):
        for member in (each for each in vars(one) if not each.startswith("_")):
            found = inspect.getattr_static(one, member)
            if callable(getattr(one, member)) and inspect.getdoc(found):
                sections.append(f"### {name}.{member}\n\n{_written(member, getattr(one, member))}")
            elif isinstance(found, property | cached_property):
                sections.append(f"### {name}.{member}\n\n{inspect.getdoc(found)}\n")
    return "\n".join(sections)


def _written(name: str, one: Any) -> str:
    """Return a signature without the modules that its types come from, and what is said below it."""
    if inspect.isclass(one) and issubclass(one, Exception):
        return f"{inspect.getdoc(one)}\n"
    signature = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", str(inspect.signature(one)))
    signature = re.sub(r"-> '(.+)'$", r"-> \1", signature)
    return f"```text\n{name}{_wrapped(signature, len(name))}\n```\n\n{inspect.getdoc(one)}\n"


def _wrapped(signature: str, width: int) -> str:
    """Return a signature, each argument on a line of its own where one line is too short for all."""
    if len(signature) + width <= 110:
        return signature
    inside, depth, parts = signature[1 : signature.rindex(")")], 0, [""]
    for letter in inside:
        depth += (letter in "([{") - (letter in ")]}")
        parts.append("") if letter == "," and not depth else parts.append(parts.pop() + letter)
    return "(\n" + "".join(f"    {part.strip()},\n" for part in parts) + signature[signature.rindex(")") :]


def packages_part() -> str:
    """Return a table of the packages, those at the top first, as the check of imports has them."""
    rules = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    rows = []
    for layer in rules["contracts"][0]["layers"]:
        for name in layer.split(" | "):
            about = (import_module(f"bowerbird.{name}").__doc__ or "").partition("\n")[0]
            rows.append((f"`{name}`", about))
    return table(("package", "what it is for"), rows)


# ── data sets ─────────────────────────────────────────────────────────────────────────────────────────────────────


def sets_part() -> str:
    """Return a table of the named data sets."""
    rows = [(f"`{one.name}`", one.title, f"`{READ_WITH[one.kind]}`", one.terms) for one in REGISTRY.values()]
    return table(("name", "what it is", "read with", "its owner's terms"), rows)


# ── what was broken ───────────────────────────────────────────────────────────────────────────────────────────────


def explained_part() -> str:
    """Return how faithful the reasons of every model are, by its newest row."""
    rows = []
    for row in {row["model"]: row for row in kept("explain")}.values():
        m = row["metrics"]
        again = f"{m['agreement']:.3f} of two seeds" if "agreement" in m else ""
        if "counterfactual.n" in m:
            again = f"{m['counterfactual.verified']:.0%} of {m['counterfactual.n']:.0f} counterfactuals"
        told = [f"`{row['model']}`", row["data"], "columns" if row["family"] == "ranker" else "past items"]
        rows.append((*told, _gain(m, "deletion"), _gain(m, "sufficiency"), f"{m['ms']:.1f}", again))
        if "content.deletion.gain" in m:
            of = {name.removeprefix("content."): one for name, one in m.items() if name.startswith("content.")}
            rows.append((*told[:2], "kinds of content", _gain(of, "deletion"), _gain(of, "sufficiency"), "", ""))
    heads = ("model", "data", "causes", "deletion", "sufficiency", "ms for ten items", "asked again")
    return table(heads, rows)


def _gain(metrics: dict[str, float], of: str) -> str:
    value, low, high = (metrics[f"{of}.{end}"] for end in ("gain", "low", "high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def papers_part() -> str:
    """Return the papers that CITATION.cff names, each once, with the models that follow it."""
    papers: dict[str, dict[str, Any]] = {}
    for one in yaml.safe_load((DOCS.parent / "CITATION.cff").read_text(encoding="utf-8"))["references"]:
        models = papers.setdefault(one["title"], one | {"models": []})["models"]
        models += [f"`{one['notes']}`"] if f"`{one['notes']}`" not in models else []
    rows = []
    for one in papers.values():
        names = [who["family-names"] for who in one["authors"]]
        who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        links = [other["value"] for other in one.get("identifiers", ())]
        link = ", ".join(f"[{name}]({ADDRESSES[name.partition(':')[0]]}{name.partition(':')[2]})" for name in links)
        rows.append((", ".join(one["models"]), f"{who}, {one['title']}, {one['year']}", link))
    return table(("of", "paper", "link"), rows)


def story_part(story: str) -> str:
    """Return how a story's deep model did against its baseline on real sets, by its newest row of each."""
    rows = []
    for row in {row["data"]: row for row in kept("stories") if row["model"] == story}.values():
        low, high = row["intervals"]["difference"]
        gain = f"{row['metrics']['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
        shown = [_figured(row, role) for role in ("floor", "baseline", "deep")]
        taken = row["config"]["deep" if row["verdict"] == "better" else "baseline"][0]
        rows.append((f"`{row['data']}`, {_metric(row)}", *shown, gain, f"`{taken}`"))
    return table(("data, figure", "floor", "baseline", "deep", "deep − baseline, paired", "take"), rows)


def _metric(row: dict[str, Any]) -> str:
    return next(name.partition(".")[2] for name in row["metrics"] if name.startswith("deep."))


def _figured(row: dict[str, Any], role: str) -> str:
    if role not in row["config"]:
        return ""
    name, value = row["config"][role][0], row["metrics"][f"{role}.{_metric(row)}"]
    low, high = row["intervals"][f"{role}.{_metric(row)}"]
    return f"`{name}` {value:.4f} [{low:.4f}, {high:.4f}]"


def broken_part(benchmark: str) -> str:
    """Return what came of each stage of a benchmark that breaks things, by its newest row."""
    newest = {row["stage"]: row for row in kept(benchmark)}
    rows = [
        (
            f"`{row['stage']}`",
            row["promise"],
            *(f"{row[name]:,}" for name in ("tried", "passed", "wrong")),
            row["bound"],
            ", ".join(f"{name.replace('_', ' ')} {figure(value)}" for name, value in row["figures"].items()),
            f"{row['minutes']:.1f}",
        )
        for row in newest.values()
    ]
    seeds = sorted({row["seed"] for row in newest.values()})
    told = [
        f"{name} {', '.join(sorted({row[name] for row in newest.values()}))}" for name in ("machine", "commit", "date")
    ]
    heads = ("stage", "promise", "tried", "passed", "wrong", "rate, 95 %", "figures", "min")
    return table(heads, rows) + f"\nSeed {', '.join(map(str, seeds))}; {'; '.join(told)}.\n"


def figure(value: Any) -> str:
    """Return a figure as it is read."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


PARTS = {
    "cli": ("cli.md", cli_part),
    "models": ("models.md", models_part),
    "sets": ("data.md", sets_part),
    "faults": ("what-we-broke.md", partial(broken_part, "faults")),
    "security": ("what-we-broke.md", partial(broken_part, "security")),
    "explain": ("explanations.md", explained_part),
    **{f"model {one.name}": (f"models/{one.name}.md", partial(model_part, one)) for one in ours()},
    "papers": ("reading.md", papers_part),
    "python": ("python.md", python_part),
    "packages": ("architecture.md", packages_part),
    **{one: (f"stories/{one}.md", partial(story_part, one)) for one in STORIES},
}


def written(name: str) -> tuple[Path, str, str]:
    """Return the page of a part, its text as it is, and as it has to be."""
    file, make = PARTS[name]
    text = (DOCS / file).read_text(encoding="utf-8")
    mark = re.compile(MARK.format(name=name), flags=re.DOTALL)
    assert mark.search(text), f'{file} has no place for the part "{name}"'
    return DOCS / file, text, mark.sub(lambda found: f"{found[1]}\n{make()}\n{found[2]}", text)


if __name__ == "__main__":
    sys.path.insert(0, str(BENCHMARKS))
    for part in PARTS:
        page, _, new = written(part)
        page.write_text(new, encoding="utf-8")
