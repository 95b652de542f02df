"""What is newer than the model, by its content: recommended, likened and searched for from the next look on."""

import base64
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from fastapi.testclient import TestClient
from shop import N_ITEMS, Start, client_of, ids, taste

import bowerbird as bb
from bowerbird.core import MissingExtraError
from bowerbird.features import media
from bowerbird.recommender import RankingOptions, Recommender
from bowerbird.recommender.contents import Contents
from bowerbird.recommender.update import add_items
from bowerbird.serving import Engine
from bowerbird.serving import maker as module
from bowerbird.serving.bodies import LONGEST_TEXT

SMALL = {"dim": 16, "landmarks": 32, "hidden": 32, "epochs": 40, "batch_size": 128, "negatives": 8, "dropout": 0.0,
         "learning_rate": 0.01, "text_encoder": "words"}  # fmt: skip
HALVES = ("Even", "Odd")


class Eye:
    """A made-up encoder of pictures: what the first byte says, as two numbers; it keeps what it was shown."""

    name, dim = "eye-1", 2

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def decode(self, content: bytes) -> bytes:
        if content[:1] not in (b"0", b"1"):
            raise media.Refused("no picture")
        self.seen.append(content)
        return content

    def encode(self, values: Sequence[bytes]) -> np.ndarray:
        return np.array([[one[0] == ord("0"), one[0] == ord("1")] for one in values], np.float32)


def table(**more: Sequence[Any]) -> pl.DataFrame:
    """Return an item table whose titles tell the half of each thing."""
    rows = range(N_ITEMS)
    told = {"item_id": [f"i{row}" for row in rows], "title": [f"{HALVES[row % 2]} thing {row}" for row in rows]}
    return pl.DataFrame(told | {"price": [float(row) for row in rows]} | more)


@pytest.fixture(scope="module")
def meaning() -> Recommender:
    """A model that reads titles."""
    return bb.fit(taste().with_tables(items=table()), "crossmodal", text=("title",), **SMALL)


@pytest.fixture
def client(start: Start, meaning: Recommender) -> Iterator[TestClient]:
    with client_of(start(meaning)) as client:
        yield client


def put(client: TestClient, item_id: str, *, tend: bool = True, **properties: Any) -> None:
    assert client.put(f"/v1/items/{item_id}", json={"properties": properties}).status_code in (200, 201)
    if tend:
        client.app.state.engine.tend()  # type: ignore[attr-defined]


def places(client: TestClient, user: str) -> dict[str, dict[str, Any]]:
    """Return everything that somebody may be shown, by id."""
    body = client.post("/v1/recommendations", json={"user_id": user, "k": N_ITEMS + 5}).json()
    return {one["item_id"]: one for one in body["items"]}


def search(client: TestClient, **asked: Any) -> list[str]:
    answer = client.post("/v1/search", json=asked)
    assert answer.status_code == 200, answer.text
    return ids(answer.json())


# ── recommended ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_item_with_a_title_is_recommended_to_those_it_is_for(client: TestClient) -> None:
    put(client, "new", title="Another even thing")
    put(client, "other", title="Another odd thing")
    even, odd = places(client, "u2"), places(client, "u1")
    assert even["new"]["sources"] == odd["other"]["sources"] == ["model"]
    assert even["new"]["position"] < even["other"]["position"]
    assert odd["other"]["position"] < odd["new"]["position"]
    assert even["new"]["score"] > odd["new"]["score"]
    body = client.post("/v1/recommendations", json={"user_id": "u2", "k": 25, "explain": True}).json()
    assert next(one for one in body["items"] if one["item_id"] == "new")["reasons"][0]["kind"] == "new"


def test_a_new_item_of_which_nothing_is_told_is_not_scored(client: TestClient) -> None:
    put(client, "silent", price=3)
    put(client, "new", title="Another even thing")
    shown = places(client, "u2")
    assert shown["new"]["sources"] == ["model"]
    assert "model" not in shown["silent"]["sources"]  # it fills a place at most
    assert client.get("/v1/items/silent/similar").status_code == 422
    put(client, "silent", title="It was an even thing")
    assert places(client, "u2")["silent"]["sources"] == ["model"]


def test_what_is_said_anew_counts_from_then_on(client: TestClient) -> None:
    put(client, "new", title="Another even thing")
    before = places(client, "u2")["new"]["score"]
    put(client, "new", title="Another odd thing")
    assert places(client, "u2")["new"]["score"] < before
    assert "new" not in search(client, text="even", k=10)
    assert client.delete("/v1/items/new").status_code == 204
    assert "new" not in places(client, "u1")
    assert "new" not in search(client, text="odd", k=25)


def test_an_index_finds_what_is_newer_too(start: Start, meaning: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    class Exact:
        def __init__(self, vectors: torch.Tensor, shaped: torch.Tensor) -> None:
            self.vectors = vectors

        def search(self, query: torch.Tensor, n: int, allowed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scores = (query @ self.vectors.T).masked_fill(~allowed, -torch.inf)
            values, rows = scores.topk(min(n, len(self.vectors)), dim=1)
            return values, rows.masked_fill(values == -torch.inf, -1)

    with client_of(start(meaning)) as client:
        put(client, "new", title="Another even thing")
        exact = places(client, "u2")
    monkeypatch.setattr(module, "choose", lambda n_items: "approximate")
    monkeypatch.setattr(module, "_indexed", Exact)
    with client_of(start(meaning)) as client:
        assert client.app.state.engine.view.scorer.taste is not None  # type: ignore[attr-defined]
        found = places(client, "u2")
    assert list(found) == list(exact)
    assert found["new"]["sources"] == ["model"]


def test_a_ranker_is_given_what_its_retriever_finds_among_new_items(start: Start) -> None:
    past = taste().with_tables(items=table())
    ranking = RankingOptions(retriever=bb.fit(past, "crossmodal", text=("title",), **SMALL).config, candidates=25)
    with client_of(start(bb.fit(past, "fm", ranking=ranking, epochs=1, dim=4))) as client:
        put(client, "new", title="Another even thing")
        assert places(client, "u2")["new"]["sources"] == ["model"]
        assert "new" in search(client, text="even", k=11)


# ── like others ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_like_a_new_item(client: TestClient) -> None:
    put(client, "new", title="Another even thing")
    put(client, "newer", title="An even thing")
    body = client.get("/v1/items/new/similar?k=6").json()
    assert "new" not in ids(body)
    assert "newer" in ids(body)
    assert all(int(one[1:]) % 2 == 0 for one in ids(body) if one != "newer")
    cart = client.post("/v1/items:similar", json={"items": ["new", "i2"], "k": 5}).json()
    assert {"new", "i2"}.isdisjoint(ids(cart))
    assert "newer" in ids(cart)
    assert "new" in ids(client.get("/v1/items/i2/similar?k=11").json())


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of all files that content is read from, from now on."""
    names: list[str] = []
    read = media._Files.read
    monkeypatch.setattr(media._Files, "read", lambda self, name, kind: names.append(name) or read(self, name, kind))
    return names


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Recommender, Eye]:
    """A model that reads titles and looks at pictures, and its eye."""
    eye = Eye()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(media._loaded, ("image", "eye"), eye)
    for half in "01":
        (tmp_path / f"{half}.png").write_bytes(f"{half} picture".encode())
    items = table(picture=[f"{row % 2}.png" for row in range(N_ITEMS)])
    rec = bb.fit(
        taste().with_tables(items=items), "crossmodal", text=("title",), image=("picture",), image_encoder="eye",
        folder=str(tmp_path), **SMALL,
    )  # fmt: skip
    return rec, eye


def test_a_picture_that_a_property_names_is_never_opened(
    start: Start, gallery: tuple[Recommender, Eye], opened: list[str], tmp_path: Path
) -> None:
    rec, eye = gallery
    (tmp_path / "secret.png").write_bytes(b"1 secret")
    eye.seen.clear()
    with client_of(start(rec)) as client:
        for number, name in enumerate(
            ["0.png", "secret.png", str(tmp_path / "secret.png"), "../secret.png", "a.zip!b"]
        ):
            put(client, f"new{number}", title="Another even thing", picture=name)
        assert places(client, "u2")["new1"]["sources"] == ["model"]  # by its title
        assert client.get("/v1/items/new0/similar").status_code == 200
    assert opened == []
    assert eye.seen == []
    rec.contents.read(pl.DataFrame({"title": ["Even"], "picture": ["secret.png"]}))  # as whoever owns the files does
    assert opened == ["secret.png"]
    assert eye.seen == [b"1 secret"]


def test_a_picture_is_searched_by_its_bytes(start: Start, gallery: tuple[Recommender, Eye], opened: list[str]) -> None:
    rec, _ = gallery
    with client_of(start(rec)) as client:
        zero, one = (base64.b64encode(text).decode() for text in (b"0 mine", b"1 mine"))
        even, odd = search(client, image=zero, k=5), search(client, image=one, k=5)
        assert {int(item[1:]) % 2 for item in even} == {0}
        assert {int(item[1:]) % 2 for item in odd} == {1}
        assert {int(item[1:]) % 2 for item in search(client, text="odd", image=one, k=5)} == {1}
        broken = client.post("/v1/search", json={"image": base64.b64encode(b"no picture").decode()})
        assert broken.status_code == 422
        assert broken.json()["detail"] == "nothing can be read of the image."
    assert opened == []


# ── search ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_text_finds_what_says_it(client: TestClient, meaning: Recommender) -> None:
    body = client.post("/v1/search", json={"text": "an even thing", "k": 7}).json()
    assert len(body["items"]) == 7
    assert all(int(one[1:]) % 2 == 0 for one in ids(body))
    assert ids(body) == meaning.search("an even thing", k=7).ids[0]
    scores = [one["score"] for one in body["items"]]
    assert scores == sorted(scores, reverse=True)
    assert (body["rung"], body["fallback"], body["user_id"], body["scenario"]) == ("content", [], None, None)
    assert body["items"][0]["sources"] == ["content"]
    assert body["items"][0]["title"].startswith("Even thing")
    assert len(search(client, text="even")) == 10


def test_new_items_are_found_from_the_next_look_on(client: TestClient) -> None:
    put(client, "new", title="Even", tend=False)
    assert "new" not in search(client, text="even", k=11)
    client.app.state.engine.tend()  # type: ignore[attr-defined]
    assert "new" in search(client, text="even", k=11)
    assert client.patch("/v1/items/new", json={"available": False}).status_code == 200
    assert "new" not in search(client, text="even", k=25)
    put(client, "silent", price=3)
    assert "silent" not in search(client, text="even", k=25)  # of which nothing is known


def test_a_version_that_knows_the_new_item_finds_it_too(start: Start, meaning: Recommender, tmp_path: Path) -> None:
    meaning.save(tmp_path / "run")
    engine: Engine = start()
    engine.catalogue.put("item", "new", {"title": "Another even thing"})
    engine.tend()
    question = {"text": "even", "k": 11, "where": None, "image": None}
    assert "new" in ids(engine.search(question, "r1"))
    rows = pl.DataFrame({"item_id": ["new"], "title": ["Another even thing"]})
    engine.swap(add_items(bb.load(tmp_path / "run"), rows).save(tmp_path / "run"))
    assert engine.view.extra == ()
    assert "new" in ids(engine.search(question, "r2"))
    assert ids(engine.search(question, "r2")).count("new") == 1


def test_where_limits_what_is_found(client: TestClient) -> None:
    found = search(client, text="even", where="item.price < 5", k=10)
    assert (set(found[:3]), set(found[3:])) == ({"i0", "i2", "i4"}, {"i1", "i3"})
    answer = client.post("/v1/search", json={"text": "even", "where": 'seen("like")'})
    assert answer.status_code == 422
    assert "seen() asks about a person" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "what is to be found? Give a text or a picture."),
        ({"text": ""}, "what is to be found? Give a text or a picture."),
        ({"text": "  "}, "nothing can be read of the text."),
        ({"text": "…!?"}, "nothing can be read of the text."),
        ({"text": "x" * (LONGEST_TEXT + 1)}, "/text: String should have at most 4000 characters"),
        ({"image": "no base64!"}, "/image: it is no base64 (RFC 4648, section 4, with padding)"),
        ({"image": "YWJj"}, "crossmodal was trained without a column of kind image. Ask by another."),
        ({"text": "even", "k": 0}, "/k: Input should be greater than or equal to 1"),
        ({"text": "even", "q": 1}, "/q: Extra inputs are not permitted"),
        ({"text": "even", "where": "item.price <"}, "the filter is wrong at character 13"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(client: TestClient, asked: dict[str, Any], said: str) -> None:
    answer = client.post("/v1/search", json=asked)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert answer.json()["code"] == "invalid_request"


def test_a_text_as_long_as_may_be_is_read(client: TestClient) -> None:
    assert len(search(client, text=("even " * LONGEST_TEXT)[:LONGEST_TEXT])) == 10


@pytest.mark.parametrize("kind", ["neighbours", "factors", "bare"])
def test_a_model_without_a_space_of_contents_says_so(kind: str, start: Start, request: pytest.FixtureRequest) -> None:
    if kind == "bare":
        rec = bb.fit(taste().with_tables(items=table()), "crossmodal", **SMALL | {"contrast": 0.0, "epochs": 1})
    else:
        rec = request.getfixturevalue(kind)
    with client_of(start(rec)) as client:
        put(client, "new", title="Another even thing")
        answer = client.post("/v1/search", json={"text": "even"})
        assert answer.status_code == 422
        assert answer.json()["detail"] == f"{rec.name} has no space of contents to search. Train crossmodal."
        assert ("model" in places(client, "u2")["new"]["sources"]) == (kind == "bare")


def test_a_key_must_allow_it(start: Start, meaning: Recommender) -> None:
    engine = start(meaning)
    with client_of(engine) as client:
        for scope, status in (("recommend", 200), ("catalog:read", 403)):
            secret = engine.keys.create(scope.replace(":", "-"), [scope])[1]
            headers = {"Authorization": f"Bearer {secret}"}
            assert client.post("/v1/search", json={"text": "even"}, headers=headers).status_code == status
        assert client.post("/v1/search", json={"text": "even"}).status_code == 401


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_without_the_encoder_goes_on(
    start: Start, meaning: Recommender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise MissingExtraError("the encoder needs a package.")

    with client_of(start(meaning)) as client:
        monkeypatch.setattr(Contents, "read", missing)
        with caplog.at_level(logging.WARNING):
            put(client, "new", title="Another even thing")
        assert "the encoder needs a package. Until then new items are not known by their content." in caplog.text
        assert "new" in places(client, "u2")
        assert "model" not in places(client, "u2")["new"]["sources"]
        assert len(search(client, text="even", k=25)) == N_ITEMS


@pytest.mark.parametrize("title", [5, 2.5, True, ["Even", "thing"], {"en": "Even"}, None, "\x00", "x" * 10_000])
def test_whatever_a_title_is_the_server_goes_on(client: TestClient, title: Any) -> None:
    put(client, "odd", title=title, picture={"a": [1]})
    put(client, "new", title="Another even thing")
    shown = places(client, "u2")
    assert shown["new"]["sources"] == ["model"]
    assert "odd" in shown
