"""The attacks over HTTP, a little of each; and that they would notice what they look for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from fastapi import FastAPI

import _attacks_access
import _attacks_doors
import _attacks_filters
import _attacks_http
import _attacks_ids
import _attacks_input
import _attacks_limits
import _attacks_pages
import _attacks_races
import _attacks_schema
import _attacks_secrets
import _attacks_shapes
import _attacks_wire
import _wire_cases
from _attacks_secrets import Place, hits
from _attacks_shop import Answer, shop
from _breaking import Effort, Found, Stage
from _naive_filters import Column, Naive, Refused
from bowerbird.pipeline import conditions, filters
from bowerbird.recommender.contents import Contents
from bowerbird.serving import access
from bowerbird.serving.view import View

JSON = {"content-type": "application/json"}


def tried(stage: Stage, folder: Path, n: int, seed: int = 0) -> Found:
    """Run a stage a little."""
    return stage.run(Effort(n, seed, folder))


@pytest.mark.parametrize(
    ("stage", "n", "figures"),
    [
        (_attacks_access.scopes, 60, {"callers": 60, "methods": 60, "spellings": 60, "headers": 60}),
        (_attacks_access.wrong_keys, 100, {"sent_a_minute": 600}),
        (_attacks_input.bad_json, 120, {"routes": 19}),
        (_attacks_ids.ids, 12, {}),
        (_attacks_shapes.shapes, 1, {}),
        (_attacks_ids.questions, 30, {"leaks": 0}),
        (_attacks_filters.filters, 90, {"over_http": 30}),
        (_attacks_doors.own_requests, 3, {"connections": 0}),
        (_attacks_pages.answers, 60, {}),
        (_attacks_schema.schema, 1, {"answers_5xx": 0, "operations": 66}),
    ],
    ids=lambda one: one.name if isinstance(one, Stage) else "",
)
def test_nothing_goes_wrong_in_this_process(stage: Stage, n: int, figures: dict[str, Any], tmp_path: Path) -> None:
    found = tried(stage, tmp_path, n)
    assert (found.wrong, found.told) == (0, [])
    assert found.tried >= n
    assert {name: found.figures[name] for name in figures} == figures


@pytest.mark.parametrize(
    ("stage", "n"),
    [
        (_attacks_secrets.canaries, 1), (_attacks_limits.limits, 5), (_attacks_wire.wire, 8),
        (_attacks_access.open_by_default, 1),
    ],
    ids=lambda one: one.name if isinstance(one, Stage) else "",
)  # fmt: skip
def test_nothing_goes_wrong_in_a_server(stage: Stage, n: int, tmp_path: Path) -> None:
    found = tried(stage, tmp_path, n)
    assert (found.wrong, found.told) == (0, [])
    assert found.tried >= n


def test_nothing_goes_wrong_in_races(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_attacks_races, "AT_ONCE", 4)
    found = tried(_attacks_races.races, tmp_path, 1)
    assert (found.wrong, found.told) == (0, [])
    assert found.tried == found.figures["kinds"] - 1  # no restart in the first round


# ── they would notice ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_route_without_a_scope_is_noticed() -> None:
    app = FastAPI(openapi_url=None)
    app.get("/v1/new")(lambda: None)
    assert _attacks_access.undeclared(app) == ["GET /v1/new needs None; the page says None"]


def test_an_open_door_is_noticed(tmp_path: Path) -> None:
    def check(self: Any, secret: str | None, address: str, scope: str) -> None:
        return None

    with patch.object(access.Access, "check", check):
        assert tried(_attacks_access.scopes, tmp_path, 40).wrong > 20


def test_a_bucket_without_a_bottom_is_noticed(tmp_path: Path) -> None:
    with patch.object(access, "WRONG_A_MINUTE", 600.0):
        found = tried(_attacks_access.wrong_keys, tmp_path, 100)
    assert found.told == ["100 guesses were looked at in 1 minutes"]


def test_ids_that_are_not_composed_are_noticed(tmp_path: Path) -> None:
    with shop(tmp_path) as place:
        assert _attacks_ids.document_faults(place, "items", "e\u0301", 1) == []
        assert _attacks_ids.event_faults(place, "e\u0301", 2) == []
        with patch("bowerbird.core.ids.unicodedata", SimpleNamespace(normalize=lambda form, text: text, category=str)):
            assert "as NFC it came back as 404" in str(_attacks_ids.document_faults(place, "items", "e\u0301", 3))
            assert "the events of this user" in str(_attacks_ids.event_faults(place, "e\u0301", 4))


def test_a_document_that_stops_the_catalogue_is_noticed(tmp_path: Path) -> None:
    with patch("bowerbird.serving.properties._objects", lambda values, name: 1 // 0), shop(tmp_path) as place:
        place.ask("PUT", "/v1/items/x", {"properties": {"a": {"b": 1}}})
        assert "ZeroDivisionError" in _attacks_input.tended(place)[0]


def test_items_that_stay_when_they_are_hidden_are_noticed(tmp_path: Path) -> None:
    with patch.object(View, "obey", lambda *_: None), patch.object(View, "expire", lambda *_: None):
        found = tried(_attacks_ids.questions, tmp_path, 30)
    assert found.figures["leaks"] > 0


def test_a_filter_that_passes_too_much_is_noticed(tmp_path: Path) -> None:
    with patch.object(conditions, "compared", lambda *_: conditions.Value(conditions.pl.lit(True), "truth", "")):
        assert tried(_attacks_filters.filters, tmp_path, 60, seed=1).wrong > 5
    filters.parse.cache_clear()


def test_a_picture_that_is_opened_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Contents.read
    with patch.object(Contents, "read", lambda self, items, paths=True: read(self, items, paths=True)):
        monkeypatch.setattr(_attacks_doors, "names", lambda port, folder: ["secret.png"])
        found = tried(_attacks_doors.own_requests, tmp_path, 1)
    assert any("was opened" in one for one in found.told)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(500, {}, b""), "answered 500"),
        (Answer(200, {"content-type": "application/json"}, b"NaN"), "no JSON"),
        (Answer(404, {"content-type": "text/html"}, b"<h1>"), "another shape"),
        (Answer(404, {"content-type": "application/problem+json"}, b"{}"), "another shape"),
    ],
)
def test_an_answer_that_is_none_is_noticed(answer: Answer, fault: str) -> None:
    assert fault in answer.faults()[0]


def test_a_canary_is_found_however_it_is_written() -> None:
    for content in (b"xcanary1y", b"y1yranac", "canary1".encode("utf-16-le"), b"canary1".hex().encode()):
        assert hits(Place("here", content, ("canary1",))) == ["here holds canary1…"]
    assert hits(Place("here", b"nothing", ("canary1",))) == []


def test_what_was_smuggled_in_is_noticed() -> None:
    case = next(one for one in _wire_cases.CASES if one.name.startswith("length, then chunked"))
    told = b"HTTP/1.1 200 OK\r\n\r\n{}HTTP/1.1 201 Created\r\n\r\n{}"
    assert _attacks_wire.faults_of(case, told) == ["answered 200", "answered 201"]
    assert _attacks_wire.faults_of(case, b"HTTP/1.1 400 Bad Request\r\n\r\n") == []
    plain = next(one for one in _wire_cases.CASES if one.name == "one request")
    assert _attacks_wire.faults_of(plain, b"") == ["no answer but b''"]


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("item.n < 3", True), ("not item.n < 3", False), ("item.gone == null", True), ("item.n / 0 == null", True),
        ('"a" in item.tags and item.n in [1, 2]', True), ("-item.n + 2 == 1", True), ("item.n", None), ("item.x", None),
        ("seen('buy', 3d)", True), ("1 < 2 < 3", None), ("item.n == 'a'", None), ("(" * 17 + "true" + ")" * 17, None),
    ],
)  # fmt: skip
def test_the_naive_evaluator_says_what_the_page_says(text: str, passes: bool | None) -> None:
    columns = {"n": Column("number"), "gone": Column("text"), "tags": Column("text", True)}
    row = {"n": 1, "gone": None, "tags": ["a", None]}
    if passes is None:
        with pytest.raises(Refused):
            Naive(text, columns, 0, lambda *_: False)
    else:
        assert (
            Naive(text, columns, 0, lambda row, event, window: (event, window) == ("buy", 259_200)).passes(row)
            is passes
        )


def test_all_attacks_are_gathered() -> None:
    parts = [name for part in _attacks_http.PARTS for name in part.stages.all]
    assert sorted(_attacks_http.stages.all) == sorted(set(parts)) == sorted(parts)
