from pathlib import Path

import polars as pl
import pytest

import bowerbird as bb
from bowerbird.core import RequestError, UnknownItemError
from bowerbird.data import Interactions
from bowerbird.recommender import recommender as module

COLUMNS = ["request", "user_id", "rank", "item_id", "title", "score", "rung", "reason"]


def items_of(slates) -> list[list[str]]:
    """Return the item ids of each request."""
    frame = slates.to_polars()
    return [frame.filter(pl.col("request") == row)["item_id"].to_list() for row in range(len(slates))]


# ── who is asked for ──────────────────────────────────────────────────────────────────────────────────────────────


def test_users_get_a_slate_each_in_the_order_asked(rec: bb.Recommender) -> None:
    frame = rec.recommend(["customer-03", "customer-08"], k=3).to_polars()
    assert frame.columns == COLUMNS
    assert frame["user_id"].to_list() == ["customer-03"] * 3 + ["customer-08"] * 3
    assert frame["rank"].to_list() == [1, 2, 3, 1, 2, 3]
    assert all(int(item[-2:]) % 2 == 1 for item in frame["item_id"][:3])
    assert all(int(item[-2:]) % 2 == 0 for item in frame["item_id"][3:])


def test_scores_fall_from_rank_to_rank(rec: bb.Recommender) -> None:
    scores = rec.recommend(["customer-03"], k=8).to_polars()["score"]
    assert scores.is_sorted(descending=True)
    assert scores[0] > scores[7]


def test_a_posted_history_is_answered_as_that_users_own_would_be(rec: bb.Recommender, shop: Interactions) -> None:
    mine = shop.item_ids.names(shop.item[shop.user == shop.user_ids.row("customer-05")]).to_list()
    known, posted = rec.recommend(["customer-05"], k=5), rec.recommend(histories=[mine], k=5)
    assert items_of(known) == items_of(posted)
    assert posted.to_polars()["user_id"].to_list() == [None] * 5


def test_neither_users_nor_histories_asks_for_nobody_in_particular(rec: bb.Recommender, shop: Interactions) -> None:
    slates = rec.recommend(k=3)
    best = pl.Series(shop.positives.item).value_counts(sort=True)["count"].head(3).cast(pl.Float32)
    assert slates.rungs == ["popularity"]
    assert slates.to_polars()["score"].to_list() == best.to_list()


def test_the_same_user_twice_gets_the_same_slate_twice(rec: bb.Recommender) -> None:
    first, second = items_of(rec.recommend(["customer-03", "customer-03"], k=4))
    assert first == second
    assert len(first) == 4


@pytest.mark.parametrize("nobody", [{"users": []}, {"histories": []}])
def test_no_requests_get_no_slates(rec: bb.Recommender, nobody: dict) -> None:
    slates = rec.recommend(**nobody)
    assert len(slates) == 0
    assert slates.to_polars().columns == COLUMNS


def test_unknown_items_of_a_history_are_dropped_and_counted(rec: bb.Recommender) -> None:
    with_unknown = rec.recommend(histories=[["article-02", "lamp", "sofa"], ["article-03"]], k=4)
    assert with_unknown.unknown_items == [2, 0]
    assert items_of(with_unknown)[:1] == items_of(rec.recommend(histories=[["article-02"]], k=4))


def test_a_user_who_has_seen_nearly_everything_gets_what_is_left(rec: bb.Recommender) -> None:
    seen = [f"article-{row:02}" for row in range(18)]
    [left] = items_of(rec.recommend(histories=[seen], k=10))
    assert sorted(left) == ["article-18", "article-19"]


# ── requests that make no sense ───────────────────────────────────────────────────────────────────────────────────


def test_users_and_histories_together_are_refused(rec: bb.Recommender) -> None:
    with pytest.raises(RequestError, match="users and histories are both given"):
        rec.recommend(["customer-03"], histories=[["article-01"]])


@pytest.mark.parametrize("other", [{"users": ["customer-03"]}, {"histories": [["article-01"]]}])
def test_features_beside_users_or_histories_are_refused(rec: bb.Recommender, other: dict) -> None:
    with pytest.raises(RequestError, match=f"{next(iter(other))} and features are both given"):
        rec.recommend(**other, features=[{"age": 30}])


def test_features_are_refused_by_a_model_that_knows_nobody_by_them(rec: bb.Recommender) -> None:
    with pytest.raises(RequestError, match=rf"{rec.name} knows nobody by features\. Train twotower, with a user table"):
        rec.recommend(features=[{"age": 30}])


@pytest.mark.parametrize(
    "asked", [{"users": "customer-03"}, {"histories": "article-01"}, {"histories": ["article-01"]}]
)
def test_a_bare_text_is_refused_where_a_list_belongs(rec: bb.Recommender, asked: dict) -> None:
    with pytest.raises(RequestError, match=r'a text is not a list of ids. Write \["u7"\]'):
        rec.recommend(**asked)


@pytest.mark.parametrize("k", [0, -1, 10_001, "5", 2.5])
def test_an_impossible_number_of_places_is_refused(rec: bb.Recommender, k: object, tmp_path: Path) -> None:
    for ask in (rec.recommend, lambda k: rec.similar(["article-01"], k=k), lambda k: rec.recommend_all(k=k, out="x")):
        with pytest.raises(RequestError, match=rf"k is {k!r}; it must be 1 to 10,000. Try k = 10."):
            ask(k=k)


# ── where ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_where_limits_the_candidates_and_fills_the_places(rec: bb.Recommender) -> None:
    [items] = items_of(rec.recommend(["customer-03"], k=5, where=pl.col("price") < 10))
    assert len(items) == 5
    assert all(int(item[-2:]) < 10 for item in items)


def test_where_leaves_out_items_whose_column_is_empty(rec: bb.Recommender) -> None:
    [items] = items_of(rec.recommend(k=20, where=pl.col("price") > -1))
    assert len(items) == 19
    assert "article-00" not in items


def test_where_may_ask_for_ids(rec: bb.Recommender) -> None:
    wanted = ["article-02", "article-07"]
    [items] = items_of(rec.recommend(k=5, where=pl.col("item_id").is_in(wanted)))
    assert sorted(items) == wanted


def test_where_may_be_one_truth_for_all(rec: bb.Recommender) -> None:
    assert items_of(rec.recommend(k=5, where=pl.lit(True))) == items_of(rec.recommend(k=5))
    assert items_of(rec.recommend(k=5, where=pl.lit(False))) == [[]]


def test_a_column_that_is_not_there_is_refused_with_those_that_are(rec: bb.Recommender) -> None:
    with pytest.raises(RequestError, match=r'where: .*"cost".* Columns: item_id, title, price\.'):
        rec.recommend(k=5, where=pl.col("cost") < 10)


def test_where_must_be_true_or_false(rec: bb.Recommender) -> None:
    with pytest.raises(RequestError, match="where gives Float64, not true or false"):
        rec.recommend(k=5, where=pl.col("price"))


# ── similar ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_similar_items_share_their_customers(rec: bb.Recommender) -> None:
    even, odd = items_of(rec.similar(["article-04", "article-11"], k=6))
    assert all(int(item[-2:]) % 2 == 0 for item in even)
    assert all(int(item[-2:]) % 2 == 1 for item in odd)
    assert "article-04" not in even
    assert "article-11" not in odd


def test_similar_follows_where(rec: bb.Recommender) -> None:
    [items] = items_of(rec.similar(["article-04"], k=3, where=pl.col("price") > 10))
    assert len(items) == 3
    assert all(int(item[-2:]) > 10 for item in items)


def test_an_unknown_item_is_refused_with_the_closest_one(rec: bb.Recommender) -> None:
    with pytest.raises(UnknownItemError, match=r"no item has the id 'artcle-07'. Did you mean \"article-07\"\?"):
        rec.similar(["article-04", "artcle-07"])


def test_a_bare_text_is_no_list_of_items(rec: bb.Recommender) -> None:
    with pytest.raises(RequestError, match="a text is not a list of ids"):
        rec.similar("article-04")


def test_popularity_knows_nothing_similar_and_says_who_does(shop: Interactions) -> None:
    with pytest.raises(RequestError, match=r"popularity knows no likeness between items. Train itemknn"):
        bb.fit(shop, "popularity").similar(["article-04"])


# ── ids ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_integer_ids_come_back_as_integers(numbered: Interactions) -> None:
    frame = bb.fit(numbered, "itemknn").recommend([3, 8], k=2).to_polars()
    assert frame["user_id"].to_list() == [3, 3, 8, 8]
    assert frame.schema["item_id"] == pl.Int64
    assert frame["title"].to_list() == [None] * 4


def test_integer_ids_may_be_asked_for_as_texts(numbered: Interactions) -> None:
    rec = bb.fit(numbered, "itemknn")
    assert items_of(rec.recommend(["3"], k=4)) == items_of(rec.recommend([3], k=4))
    assert items_of(rec.recommend(histories=[["2", "4"]], k=4)) == items_of(rec.recommend(histories=[[2, 4]], k=4))
    assert items_of(rec.similar(["5"], k=4)) == items_of(rec.similar([5], k=4))
    assert rec.recommend(["3", "x"]).rungs == ["model", "popularity"]


def test_text_and_integer_ids_give_the_same_slates(rec: bb.Recommender, numbered: Interactions) -> None:
    texts = items_of(rec.recommend(["customer-03"], k=5))
    numbers = items_of(bb.fit(numbered, "ease", l2=5.0).recommend([3], k=5))
    assert texts == [[f"article-{item:02}" for item in numbers[0]]]


# ── everyone ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("block", [1, 7, 500])
def test_recommend_all_writes_what_each_user_would_be_shown(
    rec: bb.Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(module, "block_size", lambda n_items: block)
    users, done = rec.user_ids.values.to_list(), []
    assert rec.recommend_all(k=4, out=tmp_path / "all.parquet", progress=done.append) == 4 * len(users)
    written = pl.read_parquet(tmp_path / "all.parquet")
    assert written.columns == ["user_id", "rank", "item_id", "score", "rung"]
    shown = pl.concat([rec.recommend([user], k=4).to_polars() for user in users])
    assert written.drop("score").equals(shown.select("user_id", "rank", "item_id", "rung"))
    assert (written["score"] - shown["score"]).abs().max() < 1e-5
    assert done == sorted(done)
    assert done[-1] == len(users)


def test_recommend_all_writes_no_file_that_a_spreadsheet_would_open(rec: bb.Recommender, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"all\.csv: what is written is Parquet\. Call it .*all\.parquet"):
        rec.recommend_all(k=4, out=tmp_path / "all.csv")
    assert not list(tmp_path.iterdir())


def test_recommend_all_draws_ties_from_the_runs_seed(shop: Interactions, tmp_path: Path) -> None:
    rec = bb.fit(shop, "popularity", run=bb.RunOptions(seed=3))
    rec.recommend_all(k=5, out=tmp_path / "all.parquet")
    everyone = rec.user_ids.values.to_list()
    shown = rec.recommend(everyone, k=5).to_polars()["item_id"]
    assert pl.read_parquet(tmp_path / "all.parquet")["item_id"].equals(shown)
    other = bb.fit(shop, "popularity", run=bb.RunOptions(seed=4)).recommend(everyone, k=5).to_polars()["item_id"]
    assert not other.equals(shown)


def test_recommend_all_leaves_out_places_that_cannot_be_filled(rec: bb.Recommender, tmp_path: Path) -> None:
    rows = rec.recommend_all(k=25, out=tmp_path / "all.parquet")
    written = pl.read_parquet(tmp_path / "all.parquet")
    assert rows == len(written) == 30 * 20 - len(rec.past)
    assert written["item_id"].null_count() == 0
