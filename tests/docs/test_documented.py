"""Everything that people write has its place in the documents: a name that is missing there fails here."""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fastapi.routing import APIRoute
from generated import PARTS, commands, comments, ours, parameters, table, written
from pages import PAGES, ROOT, blocks_of
from pydantic import BaseModel

import bowerbird as bb
import bowerbird.models
from bowerbird.cli.main import app as program
from bowerbird.core import BowerbirdDeprecationWarning, BowerbirdError, RunOptions, reason
from bowerbird.data import Interactions
from bowerbird.data.files import FORMATS
from bowerbird.data.readers import USUAL_NAMES
from bowerbird.data.rows import USUAL_LABELS
from bowerbird.data.splits import METHODS
from bowerbird.evaluation import Health
from bowerbird.evaluation.binary import RESAMPLED
from bowerbird.evaluation.metrics import METRICS, beyond_accuracy
from bowerbird.features.columns import KINDS
from bowerbird.nn.losses import USUAL
from bowerbird.pipeline import filters, live
from bowerbird.pipeline.scenario import SOURCES, Boost, Freshness, Pin, Scenario, Source, shipped
from bowerbird.recommender import RankingOptions
from bowerbird.recommender.recipe import SECTIONS, DataOptions, SearchOptions, SplitOptions
from bowerbird.serving import (
    access,
    app,
    bodies,
    catalogue,
    control,
    events,
    gate,
    insight,
    intake,
    jobs,
    once,
    problems,
    recommendations,
)
from bowerbird.serving.bodies import ItemBody, ReasonBody, SlateBody
from bowerbird.serving.engine import Engine
from bowerbird.serving.metrics import Metrics
from bowerbird.serving.problems import STATUS, ProblemBody
from bowerbird.store.keys import SCOPES

DOCS = ROOT / "docs"
LONGEST = 1_200  # words of a page, blocks and generated parts apart
SCENARIO = (Scenario, Source, Boost, Freshness, Pin)
BODIES = [
    one
    for one in (*vars(bodies).values(), jobs.Job)
    if inspect.isclass(one) and issubclass(one, BaseModel) and one is not BaseModel
]
SERVER = (access, app, catalogue, control, events, gate, insight, jobs, recommendations, once, problems)
RECIPE = (DataOptions, SplitOptions, RankingOptions, SearchOptions, RunOptions)


def rows_of(page: str) -> set[str]:
    """Return the code words in the first two cells of a page's tables: what they explain."""
    text = (DOCS / page).read_text(encoding="utf-8")
    cells = [cell for line in text.splitlines() if line.startswith("|") for cell in line.split("|")[1:3]]
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def options_of(function: object) -> set[str]:
    return {name for name, one in inspect.signature(function).parameters.items() if one.kind == one.KEYWORD_ONLY}


@pytest.mark.parametrize("part", PARTS)
def test_what_is_written_from_the_program_is_up_to_date(part: str) -> None:
    page, text, new = written(part)
    assert text == new, f"docs/{page.name} is behind the program. Write it anew: python tests/docs/generated.py"


def test_every_command_and_option_says_what_it_is_for() -> None:
    page = (DOCS / "cli.md").read_text()
    for name, command in commands(program):
        assert f"\n## {name}\n" in page
        assert inspect.getdoc(command)
        # a name alone needs no explanation beside that of its command
        unsaid = {typed for typed, _, info in parameters(command) if not info.help}
        assert unsaid <= {"NAME", "VERSION", "KEY"}, name


def test_every_model_and_option_says_what_it_is_for() -> None:
    for entry in ours():
        assert f"# {entry.name}\n" in (DOCS / "models" / f"{entry.name}.md").read_text()
        assert {field.name for field in fields(entry.config)} == set(comments(entry.config)), entry.name
        assert set(entry.tags) <= rows_of("models.md"), entry.name


def test_a_comment_is_inherited_until_it_is_written_anew() -> None:
    said = {entry.name: comments(entry.config) for entry in ours()}
    assert said["lightgcn"]["hops"] == "graph layers; 0 leaves plain matrix factorisation"
    assert said["lightgcn"]["l2"] == said["mf"]["l2"] == "weight of the penalty on the parameters of the batch"
    assert said["ease"]["l2"].startswith("weight of the penalty: more for more people")


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |\n"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("data.md", options_of(bb.read) | set(FORMATS) | {field.name for field in fields(bb.EventType)}),
        ("splits.md", options_of(bb.split) | {"method", *METHODS}),
        ("splits.md", {"users", "items", "pairs", "before others' training", "cold users", "cold items"}),
        ("evaluation.md", options_of(bb.evaluate) | set(METRICS) | {field.name for field in fields(Health)}),
        ("evaluation.md", set(beyond_accuracy(np.zeros((1, 1), int), np.ones(1, int)))),
        ("models.md", options_of(bb.search) | set(USUAL)),
        ("recipes.md", {*SECTIONS, "name"}),
        ("ranking.md", {field.name for field in fields(RankingOptions)} | set(KINDS)),
        ("ranking.md", {*RESAMPLED, "gauc_share", "ece", "base_rate"}),
        ("recipes.md", {field.name for kind in RECIPE for field in fields(kind)}),
        ("scenarios.md", {field.name for kind in SCENARIO for field in fields(kind)} | set(SOURCES) | set(shipped())),
        ("explanations.md", set(reason.KINDS) | set(reason.METHODS)),
        ("http.md", {name for body in BODIES for name in body.model_fields} | {*SCOPES, access.OPEN}),
    ],
    ids=lambda value: value if isinstance(value, str) else min(value),
)  # fmt: skip
def test_every_name_is_explained_in_a_table_of_its_page(page: str, names: set[str]) -> None:
    assert names - rows_of(page) == set()


def test_the_audit_has_the_columns_that_are_explained(even_odd: Interactions) -> None:
    assert set(bb.split(even_odd).audit.columns) - {"part"} <= rows_of("splits.md")


def test_usual_names_and_losses_are_as_written() -> None:
    data, models = (DOCS / "data.md").read_text(), (DOCS / "models.md").read_text()
    for role, names in USUAL_NAMES.items():
        assert re.search(rf"^\| `{role}` \| (yes|no) \| {', '.join(names)} \|", data, flags=re.MULTILINE)
    assert f"{', '.join(USUAL_LABELS[:-1])} or {USUAL_LABELS[-1]}" in data
    for name, usual in USUAL.items():
        assert re.search(rf"^\| `{name}` \| {usual or 'none'}\b", models, flags=re.MULTILINE)


def routes() -> dict[tuple[str, str], str]:
    """Return the scope of every route of the server, by its method and its path."""
    found: dict[tuple[str, str], str] = {}
    for part in (recommendations, events, catalogue, control, insight):
        for route in part.router.routes:
            assert isinstance(route, APIRoute)
            [scope] = [one.call.scope for one in route.dependant.dependencies if hasattr(one.call, "scope")]
            found |= {(method, route.path.replace(":path", "")): scope for method in route.methods}
    return found


def test_every_route_is_in_the_page_of_the_server_with_its_scope(even_odd: Interactions) -> None:
    page, scopes = (DOCS / "http.md").read_text(), routes()
    paths = app.create_app(bb.fit(even_odd, "popularity")).openapi()["paths"]
    for path, method in ((path, method.upper()) for path, methods in paths.items() for method in methods):
        scope = scopes.get((method, path), r"[\w:]+")  # of the few that belong to no part
        assert re.search(rf"^\| `{method} {re.escape(path)}` \| `{scope}` \|", page, flags=re.MULTILINE), (method, path)
    shown = set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", page, flags=re.MULTILINE))
    assert shown == {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_the_answer_that_is_shown_has_the_keys_of_one() -> None:
    [sample] = [json.loads(one.text) for one in blocks_of(DOCS / "http.md") if one.language == "json"]
    place = sample["items"][0]
    for body, shown in ((SlateBody, sample), (ItemBody, place), (ReasonBody, place["reasons"][0])):
        assert set(body.model_fields) == set(shown)


def sources_of(*modules: ModuleType) -> str:
    return "\n".join(inspect.getsource(one) for one in modules)


def test_every_refusal_is_in_the_page_of_the_server() -> None:
    page, said = (DOCS / "http.md").read_text(), sources_of(*SERVER)
    assert all(f"`{name}`" in page for name in ProblemBody.model_fields)
    own = [(int(status), code) for status, code in re.findall(r'Refusal\(\s*(\d+), "(\w+)"', said)]
    assert len(own) == len(re.findall(r"Refusal\(\s*\d", said)) > 10
    usual = [(400, "invalid_request"), (404, "not_found"), (405, "method_not_allowed")]
    for status, code in (*own, *usual, *((status, code) for _, status, code in STATUS)):
        assert f"| {status} | `{code}` |" in page, (status, code)
    codes = re.findall(r'"code": "(\w+)"', inspect.getsource(intake))
    assert len(codes) == 3
    for code in codes:
        assert f"| `{code}` |" in page, code


def test_every_limit_of_the_server_is_in_its_page() -> None:
    page = (DOCS / "http.md").read_text()
    limits = [gate.LONGEST_BODY, gate.LONGEST_PATH, gate.LONGEST_HEADERS, gate.MOST_AT_ONCE, int(access.PER_S)]
    limits += [bodies.MOST_PLACES, bodies.LONGEST_HISTORY, bodies.MOST_EXCLUDED, bodies.MOST_EVENTS, bodies.MOST_ROWS]
    assert [one for one in limits if f"{one:,}" not in page] == []


def test_every_limit_of_filters_is_in_their_page() -> None:
    page = (DOCS / "filters.md").read_text()
    limits = (filters.MAX_BYTES, filters.MAX_DEPTH, filters.MAX_SIGNS, filters.MAX_VALUES)
    assert [one for one in limits if not re.search(rf"\b{one:,}\b", page)] == []
    assert {f"{unit}`" for unit in filters.SECONDS} <= set(re.findall(r"\d([a-z]`)", page))


def test_every_word_of_an_answer_is_in_the_page_of_the_server() -> None:
    words = set(re.findall(r'\.fall\("(\w+)"\)', inspect.getsource(live)))
    words |= set(re.findall(r'yield "(\w+)"', inspect.getsource(live.LivePipeline._boards)))
    words |= set(re.findall(r'\.popular\(asked, "(\w+)"\)', inspect.getsource(Engine)))
    assert {"cold", "light", "any", "model_failed"} <= words
    stages = set(re.findall(r'"(\w+)": (?:self\._|candidates)', inspect.getsource(live.LivePipeline._stages)))
    assert {"filter", "sources", "ranking", "reranking", "slate"} == stages
    assert words | stages <= rows_of("http.md")


def test_every_figure_of_the_server_is_in_its_page() -> None:
    page = (DOCS / "http.md").read_text()
    metrics = Metrics()
    for name in vars(metrics).values():
        if hasattr(name, "_labelnames"):
            ending = "_total" if name._type == "counter" else ""
            labels = ", ".join(f"`{one}`" for one in name._labelnames)
            assert f"| `{name._name}{ending}` | {labels} |" in page


def test_every_error_is_in_the_table_with_what_it_refines() -> None:
    import_module("bowerbird.testing")  # brings an error of its own
    page = (DOCS / "errors.md").read_text()
    for kind in (BowerbirdError, *_below(BowerbirdError)):
        if kind.__module__.startswith("bowerbird."):
            assert f"| `{kind.__name__}` | `{kind.__bases__[-1].__name__}` |" in page
    assert f"`{BowerbirdDeprecationWarning.__name__}`" in page


def _below(kind: type) -> Iterator[type]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def test_every_public_name_is_promised() -> None:
    page = (DOCS / "compatibility.md").read_text()
    assert set(re.findall(r"`bb\.(\w+)`", page)) == set(bb.__all__)


# ── links ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def anchors_of(page: Path) -> set[str]:
    """Return what a link may name after #: the headings, as GitHub and MkDocs spell them."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


def broken_links(page: Path) -> list[str]:
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if file.startswith(("http://", "https://")):
            continue
        other = page if not file else page.parent / file
        if not other.is_file() or (anchor and anchor not in anchors_of(other)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text(
        "# One\n\n[a](two.md) [b](two.md#the-end) [c](#one) [d](three.md) [e](two.md#no)\n"
    )
    (tmp_path / "two.md").write_text("# Two\n\n## The end!\n\n```text\n# No\n```\n")
    assert broken_links(tmp_path / "one.md") == ["three.md", "two.md#no"]


def test_every_page_can_be_reached() -> None:
    site = (ROOT / "mkdocs.yml").read_text()
    indices = {"decisions": DOCS / "decisions" / "index.md", "models": DOCS / "models.md"}
    for page in sorted(DOCS.rglob("*.md")):
        name = page.relative_to(DOCS).as_posix()
        index = indices.get(page.parent.name)
        assert name in site or (index and f"{page.name})" in index.read_text()), name


def test_no_page_is_longer_than_people_read() -> None:
    for page in sorted(DOCS.rglob("*.md")):
        text = re.sub(r"<!-- generated: .*?<!-- end -->", "", _prose(page), flags=re.DOTALL)
        assert page.name == "http.md" or len(text.split()) <= LONGEST, page.name  # that one is looked up, not read


def test_the_index_of_decisions_has_their_titles() -> None:
    index = (DOCS / "decisions" / "index.md").read_text()
    for page in sorted((DOCS / "decisions").glob("0*.md")):
        number, _, title = page.read_text().partition("\n")[0].removeprefix("# ").partition(". ")
        assert f"| {number} | [{title}]({page.name}) |" in index


# ── pages in Chinese, and who is to be cited ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/own-table.md", "docs/select.md"])
def test_a_page_in_chinese_has_the_same_sections_and_blocks(page: str) -> None:
    english, chinese = ROOT / page, (ROOT / page).with_suffix(".zh-CN.md")
    assert [(one.language, one.text) for one in blocks_of(english)] == [
        (one.language, one.text) for one in blocks_of(chinese)
    ]
    levels = [re.findall(r"^(#+) ", _prose(page), flags=re.MULTILINE) for page in (english, chinese)]
    assert levels[0] == levels[1]
    assert f"({chinese.name})" in english.read_text(encoding="utf-8")
    assert f"({english.name})" in chinese.read_text(encoding="utf-8")
    words = [re.findall(r"`[^`\n]+`", _prose(page)) for page in (english, chinese)]
    assert sorted(words[0]) == sorted(words[1])


def _prose(page: Path) -> str:
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_the_paper_of_every_model_is_cited() -> None:
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8").split("\n  - type: ")
    assert f"version: {bb.__version__}\n" in cited[0]
    for entry in ours():
        text = inspect.getmodule(entry.model).__doc__ or ""
        found = re.search(r"^Paper: +(.*?)(?=^\w+: |\Z)", text, flags=re.DOTALL | re.MULTILINE)
        for clause in " ".join(found[1].split()).split("; ") if found else ():
            name, year = re.search(r"[A-Z][\w-]+(?: [A-Z][\w-]+)?", clause), re.search(r"\b(?:19|20)\d\d\b", clause)
            if year is None:  # how the paper is followed, not another one
                continue
            assert name is not None
            mine = [one for one in cited if f'notes: "{entry.name}"' in one]
            paper = [one for one in mine if f"family-names: {name[0]}\n" in one and f"year: {year[0]}\n" in one]
            assert paper, f"CITATION.cff lacks {name[0]} {year[0]}, the paper of {entry.name}"
            for number in re.findall(r"arXiv:\d+\.\d+", clause):
                assert number in paper[0]
