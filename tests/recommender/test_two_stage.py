"""A retriever finds candidates, a ranker orders them: through the calls that every recommender answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import bowerbird as bb
from bowerbird.core import ConfigError, DataError, RequestError, UnknownModelError
from bowerbird.data import EventType, Interactions, Rows, Split
from bowerbird.features import Categorical, Column, Context, Numeric
from bowerbird.features.sources import JoinedRows
from bowerbird.recommender import RankingOptions
from bowerbird.testing import halves

QUIET = bb.RunOptions(device="cpu", progress=False)
QUICK = {"dim": 4, "epochs": 3, "learning_rate": 0.02, "batch_size": 256}
CANDIDATES = 4  # what is left of everybody's half: beyond it, scores tie


@pytest.fixture(scope="module")
def events(shop: Interactions) -> Interactions:
    """The shop with a table of customers, and one customer who has done nothing yet."""
    ids = shop.user_ids.values
    users = pl.DataFrame({"user_id": ids, "town": [f"town {int(one[-2:]) % 3}" for one in ids]})
    whole = shop.with_tables(users=users)
    return whole.rows(whole.user != whole.user_ids.row("customer-00"))


@pytest.fixture(scope="module")
def ranked(events: Interactions) -> bb.Recommender:
    return bb.fit(events, "fm", ranking=RankingOptions(retriever="ease", candidates=CANDIDATES), run=QUIET, **QUICK)


def slates(rec: bb.Recommender) -> list[pl.DataFrame]:
    """Return what everyone is answered: known users, one without a past, an unknown one, strangers, nobody."""
    users = [*rec.user_ids.values, "who"]
    strangers = [["article-03", "article-05"], ["article-04", "nothing"], []]
    cheap = pl.col("price") < 9
    answers = rec.recommend(users, k=4), rec.recommend(histories=strangers, k=4), rec.recommend(k=4)
    return [one.to_polars() for one in (*answers, rec.recommend(users[:5], k=4, where=cheap, explain=True))]


def test_only_candidates_of_the_retriever_are_shown(ranked: bb.Recommender) -> None:
    assert ranked.source is not None
    assert ranked.source.name == "ease"
    users = ranked.user_ids.values.to_list()
    shown, found = (rec.recommend(users, k=k).to_polars() for rec, k in ((ranked, 3), (ranked.source, CANDIDATES)))
    assert shown.join(found, on=["user_id", "item_id"]).height == shown.height == 3 * len(users)
    assert not shown["item_id"].equals(found.filter(pl.col("rank") <= 3)["item_id"])  # and the ranker has its say


def test_they_stand_in_the_order_of_the_rankers_probability(ranked: bb.Recommender, events: Interactions) -> None:
    frame = ranked.recommend(["customer-03", "customer-08"], k=CANDIDATES).to_polars()
    for _, slate in frame.group_by("user_id"):
        assert slate["score"].is_sorted(descending=True)
    user, item = ranked.user_ids.rows(frame["user_id"]), ranked.item_ids.rows(frame["item_id"])
    rows = Rows(frame, np.zeros((len(frame), 1), np.float32), ("label",), user, item)
    assert ranked.stage is not None
    source = JoinedRows.of(ranked.stage.table, rows, events)
    assert ranked.stage.ranking.probabilities(source)[:, 0] == pytest.approx(frame["score"].to_numpy(), abs=1e-6)


def test_more_places_than_candidates_are_filled_all_the_same(ranked: bb.Recommender) -> None:
    assert ranked.recommend(["customer-03"], k=10).to_polars().height == 10


def test_what_was_chosen_is_not_shown_again(ranked: bb.Recommender, events: Interactions) -> None:
    frame = ranked.recommend(ranked.user_ids.values.to_list(), k=10).to_polars()
    seen = pl.DataFrame({"user_id": events.user_ids.names(events.user), "item_id": events.item_ids.names(events.item)})
    assert frame.join(seen, on=["user_id", "item_id"]).is_empty()


def test_a_filter_holds_before_candidates_are_chosen(ranked: bb.Recommender) -> None:
    frame = ranked.recommend(["customer-03"], k=4, where=pl.col("price") < 9).to_polars()
    cheap = {f"article-{row:02}" for row in range(1, 9)}
    assert frame.height == 4
    assert set(frame["item_id"]) <= cheap


def test_everyone_is_answered_from_the_right_rung(ranked: bb.Recommender) -> None:
    assert ranked.recommend(["customer-03", "customer-00", "who"], k=3).rungs == ["model", "popularity", "popularity"]
    assert ranked.recommend(histories=[["article-03"], []], k=3).rungs == ["model", "popularity"]
    assert ranked.recommend(k=3).rungs == ["popularity"]
    assert all(one.height == 3 for one in (ranked.recommend(["customer-00"], k=3).to_polars(),
                                           ranked.recommend(k=3).to_polars()))  # fmt: skip


def test_a_ranker_knows_what_its_retriever_does_not() -> None:
    options = RankingOptions(retriever="popularity", candidates=40)
    rec = bb.fit(halves(), "fm", ranking=options, run=QUIET, **QUICK | {"epochs": 12, "patience": 12, "dim": 8})
    past = halves().train
    frame = rec.recommend(past.user_ids.values.to_list(), k=5).to_polars()
    alike = frame.select(
        (pl.col("user_id").str.slice(1).cast(int) % 2 == pl.col("item_id").str.slice(1).cast(int) % 2).mean()
    ).item()
    assert alike > 0.9
    recall = [bb.evaluate(one, halves().test, metrics=["recall@10"]).metrics["recall@10"] for one in (rec, rec.source)]
    assert recall[0] > recall[1] + 0.1
    probability, rows = rec.predict(halves().test)
    assert bb.evaluate_rows(probability, rows).metrics["auc"] > 0.75


def test_saved_and_loaded_it_answers_everyone_the_same(ranked: bb.Recommender, tmp_path: Path) -> None:
    ranked.save(tmp_path)
    again = bb.load(tmp_path)
    assert again.name == "fm"
    assert again.ranking.candidates == CANDIDATES
    assert again.ranking.retriever_config == ranked.ranking.retriever_config
    for one, other in zip(slates(again), slates(ranked), strict=True):
        assert one.equals(other)
    assert ranked.recommend_all(k=3, out=tmp_path / "all.parquet") == 90
    everyone = again.recommend(again.user_ids.values.to_list(), k=3).to_polars()
    assert pl.read_parquet(tmp_path / "all.parquet")["item_id"].equals(everyone["item_id"])


def test_similar_items_are_the_retrievers(ranked: bb.Recommender) -> None:
    assert ranked.source is not None
    mine, theirs = (rec.similar(["article-04"], k=5).to_polars() for rec in (ranked, ranked.source))
    assert mine.equals(theirs)


def test_reasons_are_the_rankers_columns_then_what_it_sees_of_the_past(ranked: bb.Recommender) -> None:
    for columns, *past in ranked.recommend(["customer-03"], k=3, explain=True).reasons[0]:
        assert (columns.kind, columns.method) == ("features", "integrated gradients")
        assert {one.id for one in columns.causes} <= set(ranked.stage.ranking.encoder.schema.order)
        assert [one.kind for one in past] in ([], ["history"])


def test_scores_of_all_items_are_those_of_candidates(ranked: bb.Recommender, events: Interactions) -> None:
    context = Context.of_users(np.array([3], np.int32), events)
    scores = ranked.scores(context)[0]
    slate = ranked.recommend([ranked.user_ids[3]], k=CANDIDATES).to_polars()
    assert int(scores.isfinite().sum()) == CANDIDATES
    assert scores.topk(CANDIDATES).indices.tolist() == ranked.item_ids.rows(slate["item_id"]).tolist()


def test_trained_on_everything_it_knows_who_came_later(ranked: bb.Recommender, shop: Interactions) -> None:
    again = ranked.refit(shop)
    assert again.recommend(["customer-00"], k=3).rungs == ["model"]
    assert again.training is not None
    assert ranked.training is not None
    assert again.training.epochs == ranked.training.best_epoch
    assert again.stage is not None
    assert ranked.stage is not None
    assert torch.equal(again.stage.ranking.calibration, ranked.stage.ranking.calibration)


def test_loaded_and_trained_again_the_retriever_keeps_its_epochs_too(tmp_path: Path) -> None:
    config = bb.Recipe.of(None, {"model": {"name": "mf", "dim": 4, "epochs": 5, "patience": 1}}).model
    options = RankingOptions(retriever=config, candidates=8)
    rec = bb.fit(halves(), "logistic", ranking=options, run=QUIET, epochs=2)
    rec.save(tmp_path)
    again = bb.load(tmp_path, options=QUIET)
    assert rec.source is not None
    assert again.source is not None
    assert rec.source.training is not None
    assert again.source.training is not None
    assert again.source.training.best_epoch == rec.source.training.best_epoch
    one, other = rec.refit(halves().test.known), again.refit(halves().test.known)
    assert one.recommend(["u3"], k=5).to_polars().equals(other.recommend(["u3"], k=5).to_polars())


# ── columns ───────────────────────────────────────────────────────────────────────────────────────────────────────


def fields(rec: bb.Recommender) -> list[str]:
    assert rec.stage is not None
    return [one.name for one in rec.stage.ranking.encoder.schema.fields]


def test_columns_of_users_and_items_and_the_history_are_taken(ranked: bb.Recommender) -> None:
    assert fields(ranked) == ["user.user_id", "user.town", "item.item_id", "item.title", "item.price", "history"]


def test_columns_are_taken_as_told(events: Interactions) -> None:
    columns: dict[str, tuple[Column, ...]] = {"user": (), "item": (Numeric(name="price"),)}
    rec = bb.fit(events, "logistic", ranking=RankingOptions(columns=columns), run=QUIET, epochs=1)
    assert fields(rec) == ["item.price"]  # without the items' ids there is nothing that a history could be made of
    assert rec.recommend(["customer-03", "who"], k=3).to_polars().height == 6


def test_columns_are_read_from_toml(events: Interactions, tmp_path: Path) -> None:
    path = tmp_path / "columns.toml"
    path.write_text('[[user]]\nname = "town"\nkind = "categorical"\n')
    rec = bb.fit(events, "logistic", ranking=RankingOptions(columns=str(path)), run=QUIET, epochs=1)
    assert fields(rec) == ["user.town", "item.item_id", "item.title", "item.price", "history"]
    rec.save(tmp_path / "run")
    path.unlink()  # a bundle needs no file beside it
    assert fields(bb.load(tmp_path / "run")) == fields(rec)


def test_what_an_event_says_of_itself_is_a_column_where_it_is_asked_for(shop: Interactions) -> None:
    device = np.where(np.arange(len(shop)) % 2 == 0, "phone", "desk")
    events = replace(shop, extra=pl.DataFrame({"device": device}))
    options = RankingOptions(columns={"request": (Categorical(name="device"),)})
    rec = bb.fit(events, "logistic", ranking=options, run=QUIET, epochs=2)
    assert fields(rec)[-2:] == ["request.device", "history"]
    assert rec.stage is not None
    source, rows = rec.stage.training_rows(events)
    slot = rec.stage.ranking.encoder.schema.field("request.device").slot
    code = source.cut(torch.arange(len(source))).code[:, slot]
    assert len(code.unique()) == 2
    assert torch.equal(code, rec.stage.encoded(rows.table).code[:, 0].long())
    assert rec.recommend(["customer-03"], k=3).to_polars().height == 3  # a request that does not say is no error


def test_the_rows_of_training_can_be_had(ranked: bb.Recommender, events: Interactions) -> None:
    assert ranked.stage is not None
    source, rows = ranked.stage.training_rows(events)
    assert len(source) == len(rows) == len(events) * 5  # four negatives for each event
    assert rows.labels.mean() == pytest.approx(0.2)
    again, same = ranked.stage.training_rows(events)
    assert rows.table.equals(same.table)
    every = torch.arange(len(source))
    assert torch.equal(source.cut(every).code, again.cut(every).code)


def test_later_users_and_items_are_unknown_and_predicted_all_the_same(
    table: pl.DataFrame, articles: pl.DataFrame
) -> None:
    late = pl.DataFrame({"user": [3, 99], "item": [77, 4], "time": [1_700_000_000, 1_700_000_001]})
    split: Split = bb.split(bb.read(pl.concat([table, late]), items=articles), valid=0.05, test=0.05)
    rec = bb.fit(split, "fm", run=QUIET, **QUICK)
    probability, rows = rec.predict(split.test)
    assert {99} <= set(rows.table["user_id"])
    assert {77} <= set(rows.table["item_id"])
    assert np.isfinite(probability).all()


# ── what does not fit ─────────────────────────────────────────────────────────────────────────────────────────────


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"candidates is 0; it must be 1 or more\. Try candidates = 200\."):
        RankingOptions(candidates=0)
    with pytest.raises(ConfigError, match=r"retriever is 'deepfm'; it must be a retriever"):
        RankingOptions(retriever="deepfm")
    with pytest.raises(UnknownModelError, match=r'no model is named "itemkn"\. Did you mean "itemknn"\?'):
        RankingOptions(retriever="itemkn")
    with pytest.raises(ConfigError, match=r"columns\.toml cannot be read as TOML: "):
        RankingOptions(columns="columns.toml")


def test_columns_of_a_table_on_its_own_are_refused(events: Interactions) -> None:
    options = RankingOptions(columns={"": (Numeric(name="price"),)})
    with pytest.raises(ConfigError, match=r"columns are given for 'a table on its own'; user, item, request meet\."):
        bb.fit(events, "logistic", ranking=options, run=QUIET)


def test_a_column_that_is_not_there_is_answered_with_the_closest(events: Interactions) -> None:
    options = RankingOptions(columns={"item": (Numeric(name="prices"),)})
    with pytest.raises(DataError, match=r'there is no column "prices"\. Did you mean "price"\?'):
        bb.fit(events, "logistic", ranking=options, run=QUIET)


def test_events_that_are_not_there_are_told(shop: Interactions) -> None:
    two = replace(shop, events=(EventType("buy"), EventType("view")))
    with pytest.raises(ConfigError, match=r'no event is named "like"\. Events: buy, view\.'):
        bb.fit(two, "logistic", ranking=RankingOptions(label=("like",)), run=QUIET)
    with pytest.raises(DataError, match=r'there is no event "view", whose events are the rows\. Name another with giv'):
        bb.fit(two, "logistic", ranking=RankingOptions(label=("buy",), given="view"), run=QUIET)


def test_a_model_that_ranks_no_rows_says_so(rec: bb.Recommender) -> None:
    with pytest.raises(
        RequestError, match=r"ease ranks no rows\. Train deepfm, or another model that is tagged ranker"
    ):
        rec.predict(halves().test)
