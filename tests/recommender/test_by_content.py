"""Content around a model: search, likeness by content, new items by what they say, and who refuses."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import bowerbird as bb
from bowerbird.core import DataError, RequestError
from bowerbird.data import Interactions
from bowerbird.features import media
from bowerbird.models.multimodal.crossmodal import CrossmodalConfig
from bowerbird.recommender import RankingOptions, UpdateOptions, update
from bowerbird.recommender.update import add_items

SMALL = {"dim": 16, "landmarks": 32, "hidden": 32, "epochs": 40, "batch_size": 128, "negatives": 8, "dropout": 0.0,
         "learning_rate": 0.01, "text_encoder": "words"}  # fmt: skip
CONFIG = CrossmodalConfig(**SMALL, text=("title",), attributes=("kind",))


def titles(rows: Sequence[int]) -> pl.DataFrame:
    """Return a table of articles whose titles tell their half, the lower the cheaper."""
    return pl.DataFrame(
        {
            "item": [f"article-{row:02}" for row in rows],
            "title": [f"{('Even', 'Odd')[row % 2]} article {row}" for row in rows],
            "kind": [("even", "odd")[row % 2] for row in rows],
            "price": [float(row) for row in rows],
        }
    )


@pytest.fixture(scope="module")
def told(shop: Interactions) -> Interactions:
    return shop.with_tables(items=titles(range(20)))


@pytest.fixture(scope="module")
def meaning(told: Interactions) -> bb.Recommender:
    return bb.fit(told, CONFIG)


def parities(ids: list[str]) -> set[int]:
    return {int(one[-2:]) % 2 for one in ids}


class Eye:
    """A made-up encoder of pictures, two numbers by the first byte."""

    name, dim = "eye-1", 2

    def decode(self, content: bytes) -> bytes:
        return content

    def encode(self, values: Sequence[bytes]) -> np.ndarray:
        return np.array([[one[0] == ord("0"), one[0] == ord("1")] for one in values], np.float32)


@pytest.fixture
def gallery(told: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bb.Recommender:
    """A model of pictures alone, of which even and odd articles have one each."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(media._loaded, ("image", "eye"), Eye())
    for half in "01":
        (tmp_path / f"{half}.png").write_bytes(half.encode())
    table = titles(range(20)).with_columns(picture=pl.Series([f"{row % 2}.png" for row in range(20)]))
    config = CrossmodalConfig(**SMALL, image=("picture",), image_encoder="eye", folder=str(tmp_path))
    return bb.fit(told.with_tables(items=table), config)


# ── search ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_text_finds_what_says_it(meaning: bb.Recommender) -> None:
    slates = meaning.search("odd", k=10)
    assert parities(slates.ids[0]) == {1}
    frame = slates.frame
    assert frame["rung"].to_list() == ["content"] * 10
    assert frame["title"].to_list() == [f"Odd article {int(one[-2:])}" for one in slates.ids[0]]
    body = slates.body("r")
    assert (body["rung"], body["fallback"], body["items"][0]["sources"]) == ("content", [], ["content"])


def test_where_limits_what_is_found(meaning: bb.Recommender) -> None:
    [found] = meaning.search("odd", k=10, where=pl.col("price") < 4).ids
    assert set(found[:2]) == {"article-01", "article-03"}
    assert set(found[2:]) == {"article-00", "article-02"}
    with pytest.raises(RequestError, match=r'where: .*"cost".* Columns: item_id, title, kind, price\.'):
        meaning.search("odd", where=pl.col("cost") < 4)


@pytest.mark.parametrize("nothing", [{}, {"text": ""}, {"text": "", "image": b""}, {"image": ""}])
def test_nothing_cannot_be_looked_for(meaning: bb.Recommender, nothing: dict) -> None:
    with pytest.raises(RequestError, match=r"what is to be found\? Give a text or a picture\."):
        meaning.search(**nothing)


@pytest.mark.parametrize("text", [" ", "…", "\n"])
def test_a_text_without_a_word_says_nothing(meaning: bb.Recommender, text: str) -> None:
    with pytest.raises(RequestError, match=r"nothing can be read of the text\."):
        meaning.search(text)


@pytest.mark.parametrize("k", [0, 10_001])
def test_an_impossible_number_of_places_is_refused(meaning: bb.Recommender, k: int) -> None:
    with pytest.raises(RequestError, match=f"k is {k}; it must be 1 to 10,000"):
        meaning.search("odd", k=k)


def test_a_model_is_asked_by_what_it_was_trained_with(meaning: bb.Recommender, gallery: bb.Recommender) -> None:
    with pytest.raises(RequestError, match=r"crossmodal was trained without a column of kind image. Ask by another"):
        meaning.search("odd", image=b"1")
    with pytest.raises(RequestError, match=r"crossmodal was trained without a column of kind text. Ask by another"):
        gallery.search("odd")


def test_a_picture_is_looked_for_by_its_path_or_its_bytes(gallery: bb.Recommender, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"1")
    [by_path], [by_bytes] = (gallery.search(image=one, k=10).ids for one in (str(tmp_path / "mine.png"), b"1"))
    assert by_path == by_bytes
    assert parities(by_path) == {1}
    with pytest.raises(RequestError, match="nothing can be read of the image"):
        gallery.search(image="no-such.png")


@pytest.mark.parametrize("model", ["ease", "popularity", "mf"])
def test_a_model_without_content_cannot_search(told: Interactions, model: str, quick: dict) -> None:
    rec = bb.fit(told, model, **(quick | {"epochs": 1} if model == "mf" else {}))
    for ask in (
        lambda: rec.search("odd"),
        lambda: rec.contents.places,
        lambda: rec.contents.sought("", "odd.png"),
        lambda: rec.contents.sought("odd"),
    ):
        with pytest.raises(RequestError, match=f"{model} has no space of contents to search. Train crossmodal."):
            ask()
    assert rec.contents.read(titles([1])) is None


# ── likeness by content ───────────────────────────────────────────────────────────────────────────────────────────


def cosines(vectors: torch.Tensor, row: int) -> np.ndarray:
    """Return the cosine of one row with every other, one by one."""
    one = vectors[row].double().numpy()
    return np.array([one @ other / (np.linalg.norm(one) * np.linalg.norm(other)) for other in vectors.double().numpy()])


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0])
def test_likeness_mixes_behaviour_and_content_as_is_wished(meaning: bb.Recommender, weight: float) -> None:
    item = "article-04"
    row = meaning.item_ids.row(item)
    mixed = (1 - weight) * cosines(meaning.model.item_vectors(), row) + weight * cosines(meaning.contents.places, row)
    mixed[row] = -math.inf
    frame = meaning.similar([item], k=19, content=weight).frame
    best = np.argsort(-mixed)[:19]
    assert np.allclose(frame["score"].to_numpy(), mixed[best], atol=1e-5)
    assert frame["item_id"].to_list()[:5] == meaning.item_ids.names(best).to_list()[:5]
    assert item not in frame["item_id"]


def test_without_a_weight_likeness_is_as_it_was(meaning: bb.Recommender) -> None:
    items = ["article-04", "article-11"]
    plain = meaning.similar(items, k=6)
    assert meaning.similar(items, k=6, content=0.0).frame.equals(plain.frame)
    nearly = meaning.similar(items, k=6, content=1e-6)
    assert nearly.ids == plain.ids
    assert nearly.rungs == plain.rungs == ["model"] * 2


def test_likeness_by_content_follows_where_and_knows_several(meaning: bb.Recommender) -> None:
    slates = meaning.similar(["article-04", "article-11"], k=3, content=1.0, where=pl.col("price") > 10)
    assert [parities(one) for one in slates.ids] == [{0}, {1}]
    assert all(int(one[-2:]) > 10 for ids in slates.ids for one in ids)


def test_an_item_without_content_is_like_others_by_behaviour_alone(told: Interactions) -> None:
    silent = pl.when(pl.col("item") != "article-04")
    table = titles(range(20)).with_columns(title=silent.then("title"), kind=silent.then("kind"))
    rec = bb.fit(told.with_tables(items=table), CONFIG)
    row = rec.item_ids.row("article-04")
    found = rec.similar(["article-04"], k=3, content=0.5).frame["score"]
    own = np.delete(cosines(rec.model.item_vectors(), row), row)
    assert found.to_list() == pytest.approx(sorted(0.5 * own, reverse=True)[:3], abs=1e-5)
    assert rec.similar(["article-04"], k=3, content=1.0).ids == [[]]
    assert "article-04" not in rec.search("even", k=20).ids[0]
    assert "article-04" not in rec.similar(["article-02"], k=19, content=1.0).ids[0]
    assert "article-04" in rec.similar(["article-02"], k=19, content=0.5).ids[0]


@pytest.mark.parametrize("content", [-0.1, 1.1, math.nan])
def test_a_weight_that_is_none_is_refused(meaning: bb.Recommender, content: float) -> None:
    with pytest.raises(RequestError, match=rf"content is {content}; it must be 0 to 1. Try content = 0.5."):
        meaning.similar(["article-04"], content=content)


def test_a_model_without_content_has_no_likeness_by_it(rec: bb.Recommender) -> None:
    assert rec.similar(["article-04"], content=0.0)
    with pytest.raises(RequestError, match=r"ease has no space of contents to search. Train crossmodal."):
        rec.similar(["article-04"], content=0.5)


# ── new items ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_new_items_are_known_by_what_they_say(meaning: bb.Recommender) -> None:
    more = add_items(meaning, titles([50, 51]))
    assert more.item_ids.values[20:].to_list() == ["article-50", "article-51"]
    assert len(meaning.item_ids) == 20  # the old one is as it was
    even, odd = (more.recommend([user], k=22).frame for user in ("customer-08", "customer-03"))
    rank = {row["item_id"]: row["rank"] for row in even.to_dicts()}
    assert rank["article-50"] < rank["article-51"]
    rank = {row["item_id"]: row["rank"] for row in odd.to_dicts()}
    assert rank["article-51"] < rank["article-50"]
    assert more.recommend(k=22, where=pl.col("price") >= 50).frame["title"].sort().to_list() == [
        "Even article 50", "Odd article 51",
    ]  # fmt: skip
    assert "article-51" in more.search("odd", k=11).ids[0]
    assert "article-51" in more.similar(["article-03"], k=10, content=1.0).ids[0]


def test_items_that_are_known_are_left_alone(meaning: bb.Recommender) -> None:
    other = titles([4]).with_columns(title=pl.lit("Odd article"))
    more = add_items(meaning, pl.concat([other, titles([50, 50])]))
    assert more.item_ids.values.to_list() == [*meaning.item_ids.values.to_list(), "article-50"]
    row = meaning.item_ids.row("article-04")
    assert torch.allclose(more.model.item_vectors()[row], meaning.model.item_vectors()[row], atol=1e-5)
    assert more.past.items is not None
    assert more.past.items["title"][row] == "Even article 4"
    none = add_items(meaning, other)
    assert none.item_ids == meaning.item_ids
    users = meaning.user_ids.values.to_list()
    assert none.recommend(users, k=5).ids == meaning.recommend(users, k=5).ids


def test_a_new_item_of_which_nothing_is_said_waits_for_its_first_event(meaning: bb.Recommender) -> None:
    more = add_items(meaning, pl.DataFrame({"item": ["article-50"]}))
    assert len(more.item_ids) == 21
    assert not more.model.shaped_item[20]
    assert "article-50" not in more.recommend(["customer-08"], k=21).ids[0]


def test_what_was_added_is_saved_and_learnt_on(meaning: bb.Recommender, tmp_path: Path) -> None:
    meaning.save(tmp_path)
    more = add_items(bb.load(tmp_path, moments=True), titles([50]))
    version = more.save(tmp_path)
    again = bb.load(tmp_path, moments=True)
    assert (again.version, again.parent) == (version, "000001")
    assert again.recommend(["customer-08"], k=21).ids == more.recommend(["customer-08"], k=21).ids
    events = pl.DataFrame(
        {"user_id": [f"customer-{row:02}" for row in range(0, 30, 2)], "item_id": "article-50", "time": 1_700_000_000}
    )
    done = update(again, events, options=UpdateOptions(holdout=0.0, epochs=1))
    assert done.accepted
    assert done.new_items == 0
    assert done.recommender.model.chosen[20] == 15
    assert torch.allclose(done.recommender.contents.places[20], again.contents.places[20], atol=0.3)


def test_ids_are_of_the_kind_that_is_known(numbered: Interactions, meaning: bb.Recommender) -> None:
    table = titles(range(20)).with_columns(item=pl.Series(range(20)))
    rec = bb.fit(numbered.with_tables(items=table), CONFIG)
    more = add_items(rec, titles([50]).with_columns(item=pl.Series(["7000"])))
    assert more.item_ids.values.to_list() == [*rec.item_ids.values.to_list(), 7000]
    with pytest.raises(DataError) as caught:
        add_items(rec, titles([50, 51]).with_columns(item=pl.Series(["7000", "x"])))
    assert str(caught.value) == (
        'column "item": 1 of 2 ids are empty or no integers, as those that are known. Mend or drop them.'
    )
    with pytest.raises(DataError, match="1 of 2 ids are empty or no texts"):
        add_items(meaning, titles([50, 51]).with_columns(item=pl.Series([None, "x"])))


def test_a_model_that_reads_no_content_refuses_new_items(rec: bb.Recommender) -> None:
    with pytest.raises(
        RequestError, match=r"ease knows items by what people choose. Train crossmodal, vbpr or twotower"
    ):
        add_items(rec, titles([50]))


# ── two stages ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_retriever_reads_content_for_a_ranker(told: Interactions, tmp_path: Path) -> None:
    rec = bb.fit(told, "fm", ranking=RankingOptions(retriever=CONFIG, candidates=12), dim=4, epochs=1)
    assert set(rec.past.item_content) == {"text", "attributes"}
    assert parities(rec.search("odd", k=10).ids[0]) == {1}
    found = rec.contents.embed(rec.contents.read(titles([50])))
    assert found is not None
    assert found.isfinite().all()
    rec.save(tmp_path)
    again = bb.load(tmp_path)
    users = rec.user_ids.values.to_list()
    assert again.recommend(users, k=5).frame.equals(rec.recommend(users, k=5).frame)
    assert torch.equal(again.contents.embed(again.contents.read(titles([50]))), found)
