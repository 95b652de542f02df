"""Learning from new events: even users like even items, odd users odd ones; then newcomers and a new item come."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import bowerbird as bb
from bowerbird.core import ConfigError, DataError
from bowerbird.data import EventType
from bowerbird.features import Categorical
from bowerbird.recommender import RankingOptions, Recommender, Update, UpdateOptions, update
from bowerbird.recommender.update import unseen

USERS, ITEMS = 40, 20
QUIET = bb.RunOptions(device="cpu", progress=False)
SETTINGS: dict[str, dict[str, Any]] = {
    "popularity": {},
    "itemknn": {},
    "ease": {},
    "mf": {"dim": 8, "epochs": 15, "batch_size": 128, "negatives": 8, "learning_rate": 0.03},
    "lightgcn": {
        "dim": 8, "epochs": 10, "batch_size": 128, "negatives": 8, "learning_rate": 0.03, "decay": 1.0, "hops": 3,
        "temperature": 0.15,
    },
    "sasrec": {"dim": 8, "epochs": 12, "batch_size": 128, "learning_rate": 0.01},
    "fm": {"dim": 4, "epochs": 4, "batch_size": 256, "learning_rate": 0.02},  # of two stages
}  # fmt: skip
TRAINED = ("mf", "lightgcn", "sasrec")


def likes(users: range, each: int, start: int, *, other_half: bool = False) -> pl.DataFrame:
    """Return events of users who each like some items of their half, or of the other one, in any order."""
    rng = np.random.default_rng(start)
    half = ITEMS // 2
    rows = [
        (f"u{user}", f"i{(user + other_half) % 2 + 2 * item}")
        for user in users
        for item in rng.choice(half, each, replace=False)
    ]
    rows = [rows[place] for place in rng.permutation(len(rows))]
    table = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    return table.with_columns(time=start + pl.int_range(len(table)))


def news() -> pl.DataFrame:
    """Return what ten known people and twenty newcomers did; those who are even found a new item."""
    found = pl.DataFrame({"user_id": [f"u{user}" for user in range(30, 60, 2)], "item_id": "new"})
    return pl.concat([found.with_columns(time=9_000 + pl.int_range(len(found))), likes(range(30, 60), 5, 10_000)])


@cache
def fitted(name: str) -> Recommender:
    ranking = RankingOptions(retriever="mf", candidates=12) if name == "fm" else None
    return bb.fit(bb.read(likes(range(USERS), 6, 1_000)), name, run=QUIET, ranking=ranking, **SETTINGS[name])


@cache
def updated(name: str) -> Update:
    return update(fitted(name), news())


def slates(rec: Recommender) -> pl.DataFrame:
    users = [f"u{user}" for user in range(USERS)]
    table = pl.concat([rec.recommend(users, k=5).to_polars(), rec.recommend(histories=[["i0", "i4"]], k=5).to_polars()])
    return table.drop("user_id")


def own_half(rec: Recommender) -> float:
    """Return the share of places that people who did nothing new get from their own half."""
    users = [f"u{user}" for user in range(USERS)]
    lists = rec.recommend(users, k=4).ids
    return float(
        np.mean([int(i[1:]) % 2 == int(u[1:]) % 2 for u, mine in zip(users, lists, strict=True) for i in mine])
    )


# ── what is learnt ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SETTINGS)
def test_rows_of_old_ids_stay_and_new_ids_follow(name: str) -> None:
    old, new = fitted(name), updated(name).recommender
    assert new.user_ids.head(len(old.user_ids)) == old.user_ids
    assert new.item_ids.head(len(old.item_ids)) == old.item_ids
    assert (updated(name).new_users, updated(name).new_items) == (20, 1)
    assert (len(new.user_ids), len(new.item_ids)) == (USERS + 20, ITEMS + 1)
    assert len(new.past) == len(old.past) + len(news()) == len(old.past) + updated(name).n_events


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "popularity"])
def test_a_new_item_that_new_people_like_is_recommended_to_others_like_them(name: str) -> None:
    assert updated(name).accepted, updated(name).reason
    even = [f"u{user}" for user in range(0, 30, 2)]
    lists = updated(name).recommender.recommend(even, k=6).ids  # of their half, four items and the new one are left
    assert np.mean(["new" in one for one in lists]) > 0.7


@pytest.mark.parametrize("name", SETTINGS)
def test_newcomers_are_answered_by_the_model(name: str) -> None:
    newcomers = [f"u{user}" for user in range(USERS, USERS + 20)]
    assert set(updated(name).recommender.recommend(newcomers, k=5).rungs) == {"model"}


def test_a_new_item_is_as_popular_as_the_people_who_chose_it_are_many() -> None:
    rec = updated("popularity").recommender
    assert rec.model.counts[rec.item_ids.row("new")] == 15
    assert "new" in rec.recommend(k=ITEMS + 1).ids[0]


@pytest.mark.parametrize("name", ["ease", "mf", "fm"])
def test_the_one_that_was_updated_stays_as_it_was(name: str) -> None:
    before = slates(fitted(name))
    update(fitted(name), news())
    assert slates(fitted(name)).equals(before)


@pytest.mark.parametrize("name", ["mf", "fm"])
def test_an_update_repeats(name: str) -> None:
    assert slates(update(fitted(name), news()).recommender).equals(slates(updated(name).recommender))


def test_a_closed_form_is_that_of_everything() -> None:
    everything = bb.read(pl.concat([likes(range(USERS), 6, 1_000), news()]))
    weights = bb.fit(everything, "ease", run=QUIET).model.weights
    assert torch.allclose(updated("ease").recommender.model.weights, weights, atol=1e-6)


def test_a_late_event_takes_its_place_in_time() -> None:
    late = pl.DataFrame({"user_id": ["u1"], "item_id": ["i1"], "time": [1_005]})
    past = update(fitted("popularity"), late).recommender.past
    assert past.time is not None
    assert (np.diff(past.time) >= 0).all()
    assert past.time[:8].tolist().count(1_005) == 2


def test_events_without_times_follow_those_of_the_past() -> None:
    rec = bb.fit(bb.read(likes(range(USERS), 6, 1_000).drop("time")), "itemknn", run=QUIET)
    past = update(rec, news()).recommender.past
    assert past.time is None
    assert past.item_ids.names(past.item[-len(news()) :]).equals(news()["item_id"], check_names=False)


def test_new_items_are_described_and_old_ones_stay_as_they_were() -> None:
    items = pl.DataFrame({"item_id": [f"i{item}" for item in range(ITEMS)], "title": [f"t{i}" for i in range(ITEMS)]})
    rec = bb.fit(bb.read(likes(range(USERS), 6, 1_000), items=items), "ease", run=QUIET)
    told = pl.DataFrame({"item_id": ["new", "i3"], "title": ["News", "Another"], "price": [2.0, 3.0]})
    for given, title, columns in ((told, "News", ["title", "price"]), (None, None, ["title"])):
        past = update(rec, news(), items=given).recommender.past
        assert past.items is not None
        assert past.items.columns == columns
        assert past.items["title"][past.item_ids.row("new")] == title
        assert past.items["title"][past.item_ids.row("i3")] == "t3"


# ── going on ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TRAINED)
def test_the_moments_of_the_optimiser_go_on(name: str) -> None:
    rec, once = fitted(name), UpdateOptions(epochs=1, holdout=0.0)
    goes_on = update(rec, news(), options=once).recommender
    anew = bb.fit(bb.read(likes(range(USERS), 6, 1_000)), name, run=QUIET, **SETTINGS[name])
    anew.moments = {}
    anew = update(anew, news(), options=once).recommender
    taken = anew.moments["item.steps"].item()
    assert 0 < taken < 20
    assert goes_on.moments["item.steps"].item() == rec.moments["item.steps"].item() + taken
    assert len(goes_on.moments["item.mean"]) >= len(rec.moments["item.mean"]) + 1
    assert not torch.equal(goes_on.model.state_dict()["item"], anew.model.state_dict()["item"])


def test_a_loaded_recommender_goes_on_as_the_saved_one(tmp_path: Path) -> None:
    fitted("mf").save(tmp_path)
    again = update(bb.load(tmp_path, moments=True, options=QUIET), news())
    assert slates(again.recommender).equals(slates(updated("mf").recommender))
    assert again.recommender.parent == "000001"
    fitted("mf").version = None


@pytest.mark.parametrize(("name", "most_lost", "least_lost"), [("lightgcn", 0.15, 0.2), ("sasrec", 0.05, 0.3)])
def test_replay_guards_old_users_against_forgetting(name: str, most_lost: float, least_lost: float) -> None:
    rng = np.random.default_rng(5)  # newcomers without any taste
    rows = [(f"n{n}", f"i{item}") for n in range(10) for item in rng.choice(ITEMS, 7, replace=False)]
    noise = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_columns(time=9_000 + pl.int_range(70))
    known = own_half(fitted(name))
    lost = [
        known - own_half(update(fitted(name), noise, options=UpdateOptions(epochs=20, replay=r, holdout=0)).recommender)
        for r in (0.75, 0.0)
    ]
    assert known > 0.9
    assert lost[0] < most_lost
    assert lost[1] > least_lost


@pytest.mark.parametrize("name", TRAINED)
def test_events_that_train_nothing_are_known_all_the_same(name: str) -> None:
    kinds = [EventType("like"), EventType("view", sign="neutral", hides=False)]
    past = likes(range(USERS), 6, 1_000).with_columns(event=pl.lit("like"))
    rec = bb.fit(bb.read(past, event_types=kinds), name, run=QUIET, **SETTINGS[name] | {"epochs": 1})
    seen = pl.DataFrame({"user_id": ["who"] * 2, "item_id": ["i0", "i1"], "event": "view", "time": [5_000, 5_001]})
    found = update(rec, seen, options=UpdateOptions(replay=0.0, holdout=0.0))
    assert found.accepted
    assert len(found.recommender.past) == len(rec.past) + 2
    assert torch.equal(found.recommender.model.item, rec.model.item)


def test_refitting_an_updated_one_trains_for_the_epochs_that_were_chosen() -> None:
    for name in ("mf", "fm"):
        old, new = fitted(name).training, updated(name).recommender.training
        assert old is not None
        assert new is not None
        assert new.best_epoch == old.best_epoch == SETTINGS[name]["epochs"]


# ── two stages ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_ranker_goes_on_from_its_weights_and_its_columns() -> None:
    old, new = fitted("fm").stage, updated("fm").recommender.stage
    assert old is not None
    assert new is not None
    assert new.ranking.encoder is old.ranking.encoder
    for part in ("user", "item"):
        before, after = getattr(old.table, part).code, getattr(new.table, part).code
        assert torch.equal(after[: len(before) - 1], before[:-1])
        assert torch.equal(after[-1], before[-1])
    states = [one.ranking.model.state_dict() for one in (old, new)]
    moved = [float((states[0][key] - states[1][key]).abs().max()) for key in states[0] if states[0][key].numel()]
    assert 0 < max(moved) < 1


def test_newcomers_of_a_loaded_ranker_have_empty_columns(tmp_path: Path) -> None:
    users = pl.DataFrame({"user_id": [f"u{user}" for user in range(USERS)], "town": ["a", "b"] * (USERS // 2)})
    events = bb.read(likes(range(USERS), 6, 1_000), users=users)
    bb.fit(events, "fm", run=QUIET, **SETTINGS["fm"]).save(tmp_path)
    rec = update(bb.load(tmp_path, options=QUIET), news(), options=UpdateOptions(holdout=0.0)).recommender
    assert rec.stage is not None
    place = next(n for n, field in enumerate(rec.stage.ranking.encoder.schema.fields) if field.name == "user.town")
    code = rec.stage.table.user.code[:, place]
    assert len(code[:USERS].unique()) == 2
    assert len(code[USERS : USERS + 20].unique()) == 1
    assert code[USERS] not in code[:USERS]


def test_a_ranker_that_reads_the_request_is_not_updated() -> None:
    events = bb.read(likes(range(USERS), 6, 1_000).with_columns(device=pl.lit("phone")))
    options = RankingOptions(columns={"request": (Categorical(name="device"),)})
    rec = bb.fit(events, "fm", run=QUIET, ranking=options, **SETTINGS["fm"])
    with pytest.raises(DataError, match=r"reads columns of the request \(device\), which no past holds"):
        update(rec, news())


# ── event types that were declared since ──────────────────────────────────────────────────────────────────────────

WISH, BLOCK = EventType("wish", weight=0.5, hides=False), EventType("block", sign="negative")


def declared_news() -> pl.DataFrame:
    """Return news of which every other event is a wish, and one of the last a block."""
    table = news().with_columns(event=pl.Series(["interaction", "wish"] * 100)[: len(news())])
    return table.with_columns(event=pl.when(pl.int_range(len(table)) == len(table) - 3).then(pl.lit("block"))
                              .otherwise("event"))  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_types_that_were_declared_since_are_learnt_and_kept(name: str, tmp_path: Path) -> None:
    old, table = fitted(name), declared_news()
    with pytest.raises(DataError, match=r'of the type "block", which the model does not know. Declare the type'):
        update(old, table)
    found = update(old, table, kinds=[WISH, BLOCK], options=UpdateOptions(tolerance=1.0))
    rec = found.recommender
    assert found.accepted, found.reason
    assert rec.past.events == (*old.past.events, WISH, BLOCK) == rec.schema.events
    assert len(rec.past) == len(old.past) + len(table)
    assert len(old.past.events) == 1
    if rec.stage is not None:  # a label means what it meant: items are drawn against what was chosen
        assert rec.stage.table.counts is None
        assert rec.stage.training_rows(rec.past)[1].labels.mean() == pytest.approx(0.2, abs=0.05)
    rec.save(tmp_path)
    again = bb.load(tmp_path, options=QUIET, moments=True)
    assert slates(again).equals(slates(rec))
    if again.stage is not None:
        assert again.stage.kinds == old.past.events
    twice = update(again, likes(range(30, 60), 2, 90_000).with_columns(event=pl.lit("wish")))
    assert len(twice.recommender.past.events) == 3


def test_a_closed_form_is_that_of_everything_in_its_new_meaning() -> None:
    muted = EventType("interaction", weight=3.0, hides=False)
    new = update(fitted("popularity"), declared_news(), kinds=[muted, WISH, BLOCK]).recommender
    past = fitted("popularity").past
    item = int(past.item[0])
    people = len(past.positives.user[past.positives.item == item])
    assert new.past.events[0] == muted
    assert new.model.counts[item] >= 3 * people


def test_another_meaning_changes_what_is_hidden_and_what_is_popular_and_nothing_of_the_model() -> None:
    rec = fitted("ease")
    kept = rec.past.by_user
    other = rec.knowing((EventType("interaction", weight=2.0, hides=False), WISH))
    assert rec.knowing(rec.past.events) is rec
    assert torch.equal(other.popularity.counts, 2 * rec.popularity.counts)
    assert other.model is rec.model
    seen = set(rec.past.item_ids.names(rec.past.item[rec.past.user == 0]))
    assert seen.isdisjoint(rec.recommend([rec.user_ids[0]], k=ITEMS).ids[0])
    assert seen <= set(other.recommend([rec.user_ids[0]], k=ITEMS).ids[0])
    assert other.past.by_user is kept
    back = other.knowing(rec.past.events)
    assert torch.equal(back.popularity.counts, rec.popularity.counts)
    assert slates(back).equals(slates(rec))


# ── the gate ──────────────────────────────────────────────────────────────────────────────────────────────────────


def spoil(monkeypatch: pytest.MonkeyPatch, how: Callable[[Any], None]) -> None:
    """Let something go wrong in every training of an update."""
    module = sys.modules["bowerbird.recommender.update"]
    train = module.train

    def spoiled(model: Any, *args: Any, **options: Any) -> Any:
        found = train(model, *args, **options)
        how(model)
        return found

    monkeypatch.setattr(module, "train", spoiled)


@pytest.mark.parametrize("name", TRAINED)
def test_a_candidate_that_turns_everything_round_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda model: model.items.neg_())
    found = update(fitted(name), news())
    assert not found.accepted
    assert found.recommender is fitted(name)
    assert found.before is not None
    assert found.after is not None
    assert found.after < 0.6 * found.before
    assert found.reason.startswith(f"ndcg@10 on the 50 newest events fell from {found.before:.4f} to {found.after:.4f}")
    assert update(fitted(name), news(), options=UpdateOptions(tolerance=1.0)).accepted


@pytest.mark.parametrize("name", ["mf", "lightgcn"])
def test_a_candidate_that_learnt_the_opposite_from_its_events_is_refused(name: str) -> None:
    wrong = pl.concat([likes(range(USERS), 5, 5_000, other_half=True), likes(range(USERS), 2, 8_000)[:50]])
    found = update(fitted(name), wrong, options=UpdateOptions(epochs=10))
    assert (found.accepted, found.recommender) == (False, fitted(name))


def test_weights_that_are_not_finite_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda model: model.items[3].fill_(float("nan")))
    found = update(fitted("mf"), news())
    assert (found.accepted, found.before, found.after) == (False, None, None)
    assert found.reason == 'the weights "items" of MF are not all finite'
    assert found.recommender is fitted("mf")


def test_the_newest_events_are_measured_and_learnt_too() -> None:
    found, rec = updated("mf"), updated("mf").recommender
    assert f"{found.before:.4f} to {found.after:.4f}" in found.reason
    assert found.reason.startswith("ndcg@10 on the 50 newest events")
    assert rec.measured is not None
    assert rec.measured["metrics"]["ndcg@10"] == found.after
    assert rec.measured["protocol"].startswith("split=later")
    assert len(rec.past) == len(fitted("mf").past) + len(news())


@pytest.mark.parametrize(("n", "held"), [(2, 1), (40, 20), (165, 50)])
def test_a_tenth_is_held_out_but_at_least_fifty_and_no_more_than_half(n: int, held: int) -> None:
    reason = update(fitted("ease"), news()[:n]).reason
    assert f"on the {held} newest events" in reason or reason == "nobody could be asked about the newest events"


def test_where_nobody_can_be_asked_nothing_is_measured() -> None:
    strange = pl.DataFrame({"user_id": ["a", "a"], "item_id": ["p", "q"], "time": [20_000, 20_001]})
    found = update(fitted("ease"), strange)
    assert (found.accepted, found.before, found.after) == (True, None, None)
    assert found.reason == "nobody could be asked about the newest events"


@pytest.mark.parametrize(("key", "value"), [("epochs", 0), ("replay", 1.0), ("holdout", 0.6), ("tolerance", -0.1)])
def test_options_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is {value}; it must be"):
        replace(UpdateOptions(), **{key: value})


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (news().drop("item_id"), 'the events have no column "item_id". They have: user_id, time.'),
        (news().drop("time"), 'the events have no column "time"'),
        (news().clear(), "there is no new event to learn from"),
        (news().with_columns(user_id=pl.lit(None, pl.String)), 'column "user_id": 165 of 165 events are empty'),
        (news().with_columns(event=pl.lit("sold")), '165 events are of the type "sold", which the model does not know'),
    ],
)
def test_events_that_cannot_be_learnt_are_refused(events: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError) as caught:
        update(fitted("popularity"), events)
    assert message in str(caught.value)


def test_ids_of_another_type_are_refused() -> None:
    frame = pl.DataFrame({"user_id": [1, 2, 3], "item_id": [1, 2, 1], "time": [1, 2, 3]})
    rec = bb.fit(bb.read(frame), "popularity", run=QUIET)
    with pytest.raises(DataError, match="ids are texts where the run has integers"):
        update(rec, news())


def test_unseen_are_later_events_and_those_of_the_newest_second_that_are_not_there() -> None:
    past = bb.read(pl.DataFrame({"user_id": [7, 8, 8], "item_id": ["x", "x", "y"], "time": [1, 5, 5]}))
    table = pl.DataFrame(
        {
            "user_id": ["7", "9", "8", "9", "8"],
            "item_id": ["x", "y", "y", "y", "y"],
            "event": "interaction",
            "time": [1, 4, 5, 5, 6],
        }
    )
    assert unseen(past, table).equals(table[[3, 4]])
    untimed = replace(past, time=None)
    assert unseen(untimed, table).equals(table[[1, 3]])
