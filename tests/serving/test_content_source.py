"""Content: what is newer than the model is found by what it says, from the next look at the catalogue on."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from shop import NOW, Clock, Start, client_of, event, ids

import bowerbird as bb
from bowerbird.explanation import words
from bowerbird.features.content import ItemWords
from bowerbird.pipeline.scenario import Scenario, Source, shipped
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine

POLITICS = ["senate votes on the budget", "the budget divides the senate", "a vote on taxes", "taxes and the election"]
SPORTS = ["the cup final", "a goal in the final minute", "the cup goes north", "one goal decides the league"]
WEATHER = ["rain over the north", "a dry summer", "storm and rain", "one more dry week"]
TITLES = [*POLITICS, *SPORTS, *WEATHER]


@pytest.fixture(scope="module")
def paper() -> Recommender:
    """A paper of three subjects; each reader has read three of four articles of one subject."""
    rows = [(f"{subject}{reader}", f"a{4 * subject + (reader + turn) % 4}", NOW - 1000 + reader)
            for subject in range(3) for reader in range(8) for turn in range(3)]  # fmt: skip
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")
    items = pl.DataFrame({"item_id": [f"a{row}" for row in range(12)], "title": TITLES})
    return bb.fit(bb.read(events, items=items), "itemknn", shrink=0.0)


@pytest.fixture
def client(start: Start, paper: Recommender) -> Iterator[TestClient]:
    """A client of a server whose news may be asked for again at once."""
    news = {"news": replace(shipped()["news"], hide_served_s=0)}
    with client_of(start(paper, scenarios=news)) as client:
        yield client


def sources(client: TestClient, item_id: str, **question: Any) -> list[str]:
    """Return which sources found an item for somebody; of one that is not shown, none."""
    body = client.post("/v1/recommendations", json={"scenario": "news", "k": 20} | question).json()
    return next((one["sources"] for one in body["items"] if one["item_id"] == item_id), [])


def put(client: TestClient, item_id: str, title: str) -> None:
    assert client.put(f"/v1/items/{item_id}", json={"properties": {"title": title}}).status_code in (200, 201)
    client.app.state.engine.tend()  # type: ignore[attr-defined]


def test_a_new_article_reaches_those_who_read_of_its_subject(client: TestClient) -> None:
    put(client, "new", "Senate: another budget, more taxes")
    assert "content" in sources(client, "new", user_id="01")
    assert "content" not in sources(client, "new", user_id="11")
    assert "content" in sources(client, "new", history=["a1"])
    assert "content" not in sources(client, "new")
    body = client.post("/v1/recommendations", json={"scenario": "news", "user_id": "01", "explain": True}).json()
    place = next(one for one in body["items"] if one["item_id"] == "new")
    assert place["reasons"] == [words.NEW.to_dict()]


def test_what_was_read_counts_although_the_model_does_not_know_it(client: TestClient) -> None:
    put(client, "first", "zebra escapes")
    put(client, "second", "the zebra is back")
    assert "content" not in sources(client, "second", user_id="fresh")
    read = {"event_id": "e", "event": "interaction", "item_id": "first", "user_id": "fresh"}
    assert client.post("/v1/events", json={"events": [read]}).json()["accepted"] == 1
    assert "content" in sources(client, "second", user_id="fresh")
    assert client.delete("/v1/events/e").status_code == 204
    assert "content" not in sources(client, "second", user_id="fresh")


def test_what_is_said_anew_counts_from_then_on(client: TestClient) -> None:
    put(client, "new", "Senate budget")
    assert "content" in sources(client, "new", user_id="01")
    put(client, "new", "Cup final")
    assert "content" not in sources(client, "new", user_id="01")
    assert "content" in sources(client, "new", user_id="11")
    put(client, "a0", "The cup final")  # what the model knows, under another title
    assert "content" in sources(client, "new", history=["a0"])
    assert client.delete("/v1/items/new").status_code == 204
    assert sources(client, "new", user_id="11") == []


def test_only_the_last_things_that_were_liked_count(start: Start, paper: Recommender) -> None:
    kinds = (bb.EventType("interaction"), bb.EventType("dislike", sign="negative"))
    page = Scenario(name="page", k=12, hides=(), sources=(Source(name="content"),))
    engine = start(paper, scenarios={"page": page})
    engine.declare([vars(kind) for kind in kinds[1:]], None)

    def found(user: str) -> set[str]:
        body = engine.recommend({"user_id": user, "scenario": "page"}, user)
        return {one["item_id"] for one in body["items"] if "content" in one["sources"]}

    assert found("nobody") == set()
    engine.take([event(1, "a4", event="interaction", user_id="x", time=NOW - 50)]).result()
    sports = found("x")
    assert {"a4", "a6"} <= sports
    engine.take([event(2, "a4", event="dislike", user_id="x", time=NOW - 40)]).result()
    assert found("x") == set()
    engine.take([event(3, "a4", event="interaction", user_id="x", time=NOW - 30)]).result()
    assert found("x") == sports
    for number in range(10):
        engine.catalogue.put("item", f"n{number}", {"title": f"word{number}"})
    engine.tend()
    later = [event(10 + n, f"n{n}", event="interaction", user_id="x", time=NOW - 20 + n) for n in range(10)]
    engine.take(later).result()
    assert found("x") == {f"n{n}" for n in range(10)}


def test_it_is_made_only_where_a_scenario_asks_for_it_and_items_say_something(
    start: Start, neighbours: Recommender, paper: Recommender, tmp_path: Any
) -> None:
    page = Scenario(name="page", sources=(Source(name="model"), Source(name="content")))
    assert start(paper, data=tmp_path / "a", scenarios={"page": Scenario(name="page")}).view.shelf.content is None
    assert start(paper, data=tmp_path / "b", scenarios={"page": page}).view.shelf.content is not None
    frame = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"]})
    silent = start(bb.fit(bb.read(frame), "popularity"), data=tmp_path / "c", scenarios={"page": page})
    assert silent.view.shelf.content is None
    assert ids(silent.recommend({"user_id": "b", "scenario": "page"}, "r")) == ["y"]
    for name, title in (("n", "red shoes"), ("m", "red hat")):
        silent.catalogue.put("item", name, {"title": title})
    silent.tend()
    assert silent.view.shelf.content is not None
    assert np.isfinite(silent.view.shelf.content(silent.view.rows(["n"]))).tolist() == [False, False, True, True]


def test_a_change_of_the_catalogue_reads_what_has_changed_and_a_version_reads_everything(
    start: Start, tmp_path: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = [f"word{row} word{row + 1}" for row in range(100)]
    frame = pl.DataFrame({"user_id": ["u"] * 100, "item_id": [f"i{row}" for row in range(100)]})
    items = pl.DataFrame({"item_id": [f"i{row}" for row in range(100)], "title": titles})
    bb.fit(bb.read(frame, items=items), "popularity").save(tmp_path / "run")
    engine: Engine = start()
    whole: list[int] = []
    of = ItemWords.of.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(ItemWords, "of", classmethod(lambda cls, table: whole.append(len(table)) or of(cls, table)))
    engine.catalogue.put("item", "new", {"title": "word7"})
    engine.tend()
    words = engine.view.words
    assert words is not None
    assert (whole, words.changed) == ([], 1)
    engine.catalogue.put("user", "u", {"city": "Oslo"})
    engine.declare([{"name": "wish"}], None)  # a view is made anew, and holds the same items
    assert engine.view.words is not None
    assert (whole, engine.view.words.changed) == ([], 1)
    engine.swap(bb.load(tmp_path / "run").save(tmp_path / "run"))
    assert whole == [101]
