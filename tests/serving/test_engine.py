"""The engine: events change answers at once, catalogue and versions change them whole."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shop import N_ITEMS, NOW, Clock, Start, event, ids, taste

import bowerbird as bb
from bowerbird.core import BundleError, RequestError, ScoreError, UnknownItemError
from bowerbird.pipeline.scenario import Pin, Scenario, Source, shipped
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine
from bowerbird.store import bundles
from bowerbird.store.database import DatabaseBroken
from bowerbird.store.events import impressions

WHOLE = N_ITEMS  # places enough for everything


def ask(engine: Engine, name: str = "r", **question: Any) -> dict[str, Any]:
    return engine.recommend(question, name)


def do(engine: Engine, *events: Any) -> int:
    """Let events be kept; return the offset after them."""
    return engine.take(list(events)).result().end


def settle(engine: Engine) -> None:
    """Wait until everything that was written before is on the disk, such as the slates."""
    engine.take([]).result()


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["neighbours", "factors", "sequence"])
def test_an_event_changes_the_next_list_and_taking_it_back_brings_the_old_one(
    kind: str, start: Start, request: pytest.FixtureRequest
) -> None:
    engine = start(request.getfixturevalue(kind))
    before = ask(engine, "r1", user_id="u1", k=5)
    offset = do(engine, event(1, "i0", user_id="u1"), event(2, "i2", user_id="u1"), event(3, "i4", user_id="u1"))
    after = ask(engine, "r2", user_id="u1", k=5, min_offset=offset)
    assert not after["stale"]
    assert [one["score"] for one in after["items"]] != [one["score"] for one in before["items"]]
    assert {"i0", "i2", "i4"}.isdisjoint(ids(after))
    for number in (1, 2, 3):
        assert engine.retract(f"e{number}")
    assert ask(engine, "r3", user_id="u1", k=5)["items"] == before["items"]
    assert not engine.retract("e1")


def test_a_session_is_a_person_and_becomes_a_user(start: Start, factors: Recommender) -> None:
    engine = start(factors)
    assert ask(engine, "r1", session_id="s", k=5)["rung"] == "popularity"
    do(engine, event(1, "i0", session_id="s"), event(2, "i2", session_id="s"))
    lived = ask(engine, "r2", session_id="s", k=5)
    assert lived["rung"] == "model"
    assert {"i0", "i2"}.isdisjoint(ids(lived))
    assert ask(engine, "r3", user_id="new", k=5)["rung"] == "popularity"
    do(engine, event("m", None, event="merge", user_id="new", session_id="s"))
    assert ask(engine, "r4", user_id="new", k=5)["items"] == lived["items"]
    do(engine, event(3, "i4", session_id="s"))  # what the session still does is the user's
    assert "i4" not in ids(ask(engine, "r5", user_id="new", k=WHOLE))
    assert engine.retract("e1")
    assert "i0" in ids(ask(engine, "r6", user_id="new", k=WHOLE))


def test_a_session_stays_its_user_in_a_version_that_learnt_of_the_merge(
    start: Start, factors: Recommender, tmp_path: Path
) -> None:
    factors.save(tmp_path / "run")
    engine = start()
    end = do(
        engine, event(1, "i0", session_id="s"), event("m", None, event="merge", user_id="new", session_id="s")
    )  # fmt: skip
    engine.swap(bb.load(tmp_path / "run").save(tmp_path / "run", log_offset=end))
    do(engine, event(2, "i4", session_id="s"))
    assert "i4" not in ids(ask(engine, user_id="new", k=WHOLE))


def test_what_a_session_was_shown_counts_for_the_user_that_it_becomes(start: Start, factors: Recommender) -> None:
    engine = start(factors, scenarios={"page": Scenario(name="page", k=3, hide_served_s=600)})
    first = ask(engine, "r1", session_id="s", scenario="page")
    do(engine, event("m", None, event="merge", user_id="new", session_id="s"))
    assert set(ids(first)).isdisjoint(ids(ask(engine, "r2", user_id="new", scenario="page")))


def test_a_dislike_hides_the_item_and_speaks_against_its_like(engine: Engine) -> None:
    do(engine, *(event(n, f"i{n}", user_id="new") for n in (0, 2, 1)))
    before = {one["item_id"]: one["score"] for one in ask(engine, "r1", user_id="new", k=WHOLE)["items"]}
    do(engine, event("d", "i1", user_id="new", event="dislike"))
    after = {one["item_id"]: one["score"] for one in ask(engine, "r2", user_id="new", k=WHOLE)["items"]}
    assert "i1" not in after
    assert {int(one[1:]) % 2 for one in list(after)[:4]} == {0}  # only the even things speak now
    assert list(after) != list(before)


def test_an_offset_that_never_comes_makes_the_answer_stale(engine: Engine) -> None:
    assert ask(engine, "r1", user_id="u1", min_offset=10**9)["stale"] is True
    assert ask(engine, "r2", user_id="u1", min_offset=engine.log.end)["stale"] is False


def test_an_offset_is_reflected_although_the_last_event_was_taken_back(
    start: Start, neighbours: Recommender, tmp_path: Path
) -> None:
    neighbours.save(tmp_path / "run")
    first = start()
    end = do(first, event(1, "i1", user_id="u0"))
    first.retract("e1")
    first.close()
    assert ask(start(), user_id="u0", min_offset=end)["stale"] is False


def test_an_event_taken_back_before_a_restart_stays_taken_back(start: Start, neighbours: Recommender) -> None:
    first = start(neighbours)
    do(first, event(1, "i1", user_id="u0"), event(2, "i3", user_id="u0"))
    first.retract("e1")
    told = ask(first, "r", user_id="u0", k=WHOLE)
    first.close()
    assert ask(start(neighbours), "s", user_id="u0", k=WHOLE)["items"] == told["items"]


def test_answers_and_merges_cannot_be_taken_back(engine: Engine) -> None:
    ask(engine, "slate", user_id="u0")
    do(engine, event("m", None, event="merge", user_id="u1", session_id="s"))
    assert not engine.retract("slate")
    assert not engine.retract("em")
    assert engine.slate("slate").request_id == "slate"


# ── what a request asks for ───────────────────────────────────────────────────────────────────────────────────────


def test_pages_never_repeat_and_show_the_whole_catalogue(engine: Engine) -> None:
    bodies = [ask(engine, "p0", user_id="u2", k=3)]
    while bodies[-1]["items"]:
        question, previous = engine.after(f"p{len(bodies) - 1}")
        bodies.append(engine.recommend(question, f"p{len(bodies)}", previous=previous))
    shown = [one for body in bodies for one in ids(body)]
    past = taste()
    seen = {past.item_ids[row] for row in past.item[past.user == past.user_ids.row("u2")].tolist()}
    assert len(shown) == len(set(shown))
    assert set(shown) | seen == {f"i{item}" for item in range(N_ITEMS)}
    assert seen.isdisjoint(shown)


def test_what_was_served_lately_is_not_served_again_until_its_time_is_over(
    start: Start, neighbours: Recommender, clock: Clock
) -> None:
    engine = start(neighbours, scenarios={"page": Scenario(name="page", k=4, hide_served_s=600)})
    first = ids(ask(engine, "r1", user_id="u2", scenario="page"))
    settle(engine)
    second = ids(ask(engine, "r2", user_id="u2", scenario="page"))
    assert len(second) == 4
    assert set(first).isdisjoint(second)
    clock.at += 601
    assert ids(ask(engine, "r3", user_id="u2", scenario="page")) == first


def test_excluded_items_stay_away_and_others_fill_their_places(engine: Engine) -> None:
    first = ids(ask(engine, "r1", user_id="u2", k=4))
    second = ids(ask(engine, "r2", user_id="u2", k=4, exclude_items=[*first, "nothing"]))
    assert len(second) == 4
    assert set(first).isdisjoint(second)


def test_a_filter_is_never_left(engine: Engine) -> None:
    body = ask(engine, user_id="u2", k=WHOLE, where='item.kind == "odd" and item.price < 10')
    assert sorted(ids(body)) == ["i1", "i3", "i5", "i7", "i9"]
    with pytest.raises(RequestError):
        ask(engine, user_id="u2", where="item.nothing == 1")


def test_why_names_the_stage_that_an_item_left_at(engine: Engine) -> None:
    best = ids(ask(engine, user_id="u2", k=1))[0]
    assert engine.why({"user_id": "u2", "k": 1}, best)["shown"]
    left = engine.why({"user_id": "u2", "exclude_items": [best]}, best)
    assert not left["shown"]
    assert left["stages"] == [{"stage": "filter", "kept": False, "detail": "excluded"}]
    with pytest.raises(UnknownItemError):
        engine.why({"user_id": "u2"}, "nothing")


def test_a_given_list_is_ordered_and_nothing_is_added(engine: Engine) -> None:
    given = ["i1", "i3", "nothing", *ids(ask(engine, "r", user_id="u2", k=2))]
    body = engine.ranked({"user_id": "u2", "items": given}, "s")
    assert set(ids(body)) == set(given) - {"nothing"}
    assert ids(body)[:2] == given[3:]
    assert body["unknown_items"] == 1


def test_a_scenario_that_is_not_there_is_named_with_those_that_are(engine: Engine) -> None:
    with pytest.raises(RequestError, match="goods"):
        ask(engine, scenario="nowhere")


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_scenario_fills_a_slate_for_everyone(name: str, engine: Engine) -> None:
    for question in ({"user_id": "u3"}, {"session_id": "s"}, {"history": ["i1"]}, {}):
        assert len(ids(ask(engine, scenario=name, k=3, **question))) == 3


# ── boards and the catalogue ──────────────────────────────────────────────────────────────────────────────────────


def test_boards_follow_events(engine: Engine) -> None:
    assert ids(engine.board("popular", 1, None, "r")) != ["i19"]
    do(engine, *(event(n, "i19", user_id=f"new{n}") for n in range(50)))
    engine.tend()
    assert ids(engine.board("popular", 1, None, "r")) == ["i19"]
    assert ids(engine.board("trending", 1, None, "r")) == ["i19"]
    for n in range(50):
        engine.retract(f"e{n}")
    engine.tend()
    assert ids(engine.board("popular", 1, None, "r")) != ["i19"]


@pytest.mark.parametrize("years", [-25, 3])
def test_what_trends_recovers_from_a_clock_that_was_wrong(
    years: int, start: Start, clock: Clock, neighbours: Recommender
) -> None:
    clock.at = NOW + years * 365 * 86_400
    engine = start(neighbours)
    do(engine, *(event(n, "i19", user_id=f"new{n}", time=clock.at) for n in range(9)))
    engine.tend()
    clock.at = NOW
    do(engine, *(event(f"right{n}", "i18", user_id=f"new{n}") for n in range(30)))
    engine.tend()
    for again in (engine, start(neighbours, follow=True)):
        board = again.board("trending", 2, None, "r")
        assert ids(board)[0] == "i18"
        assert np.isfinite([one["score"] for one in board["items"]]).all()


def test_an_item_that_nobody_chooses_any_more_leaves_the_boards(engine: Engine) -> None:
    engine.catalogue.put("item", "new", {})
    engine.tend()
    for number, weight in enumerate((0.1, 0.2, 0.3)):
        do(engine, event(number, "new", user_id="u0", weight=weight))
    engine.tend()
    assert "new" in ids(engine.board("popular", 100, None, "r"))
    for number in (1, 0, 2):  # (0.1 + 0.2 + 0.3) - 0.2 - 0.1 - 0.3 is not 0 in floats
        engine.retract(f"e{number}")
    engine.tend()
    assert "new" not in ids(engine.board("popular", 100, None, "r"))
    assert "new" not in ids(engine.board("trending", 100, None, "r"))


def test_a_new_item_is_latest_and_reaches_slates_where_the_scenario_asks_for_news(engine: Engine) -> None:
    engine.catalogue.put("item", "new", {"title": "New thing", "price": 1.5, "published_at": NOW})
    engine.tend()
    assert ids(engine.board("latest", 1, None, "r")) == ["new"]
    body = ask(engine, user_id="u2", scenario="news", explain=True, fields=["price"])
    place = next(one for one in body["items"] if one["item_id"] == "new")
    assert place["title"] == "New thing"
    assert place["properties"] == {"price": 1.5}
    assert place["reasons"][0]["kind"] == "new"


def test_events_of_an_item_count_although_they_came_before_it(engine: Engine) -> None:
    do(engine, *(event(n, "new", user_id=f"new{n}") for n in range(50)))
    engine.catalogue.put("item", "new", {})
    engine.tend()
    assert ids(engine.board("popular", 1, None, "r")) == ["new"]
    assert "new" not in ids(ask(engine, user_id="new0", k=WHOLE + 1))


def test_an_unavailable_item_is_gone_at_once_and_comes_back(engine: Engine) -> None:
    best = ids(ask(engine, "r1", user_id="u2", k=1))[0]
    stored = engine.catalogue.put("item", best, {}, available=False)
    engine.heed("item", stored.change - 1)
    assert best not in ids(ask(engine, "r2", user_id="u2", k=WHOLE))
    engine.tend()
    assert best not in ids(ask(engine, "r3", user_id="u2", k=WHOLE))
    engine.patch("item", best, {"available": True}, None)
    engine.tend()
    assert ids(ask(engine, "r4", user_id="u2", k=1)) == [best]


def test_an_expired_item_is_gone(engine: Engine, clock: Clock) -> None:
    best = ids(ask(engine, "r1", user_id="u2", k=1))[0]
    engine.catalogue.put("item", best, {}, expires=NOW + 10)
    engine.tend()
    assert ids(ask(engine, "r2", user_id="u2", k=1)) == [best]
    clock.at = NOW + 10
    engine.tend()
    assert best not in ids(ask(engine, "r3", user_id="u2", k=WHOLE))


def test_a_deleted_item_is_shown_to_nobody_even_after_a_restart(start: Start, neighbours: Recommender) -> None:
    first = start(neighbours)
    best = ids(ask(first, "r1", user_id="u2", k=1))[0]
    first.delete("item", best, None)
    assert first.known("item", best) is None
    assert best not in ids(ask(first, "r2", user_id="u2", k=WHOLE))
    first.tend()
    assert best not in ids(ask(first, "r3", user_id="u2", k=WHOLE))
    first.close()
    assert best not in ids(ask(start(neighbours), "r4", user_id="u2", k=WHOLE))


def test_a_change_of_the_catalogue_loses_neither_histories_nor_counts(engine: Engine) -> None:
    do(engine, *(event(n, "i19", user_id=f"new{n}") for n in range(50)), event("x", "i0", user_id="u1"))
    engine.tend()
    popular, mine = engine.board("popular", WHOLE, None, "r"), ask(engine, "r", user_id="u1", k=5)
    engine.catalogue.put("item", "i3", {"title": "Another name"})
    engine.tend()
    assert [one["score"] for one in engine.board("popular", WHOLE, None, "r")["items"]] == [
        one["score"] for one in popular["items"]
    ]
    assert ids(ask(engine, "s", user_id="u1", k=5)) == ids(mine)
    assert engine.view.titles(engine.view.rows(["i3"])) == ["Another name"]


def test_documents_of_users_do_not_make_the_engine_build_views(engine: Engine) -> None:
    engine.catalogue.put("user", "u1", {"city": "Oslo"})
    engine.tend()
    view = engine.view
    engine.tend()
    assert engine.view is view


# ── the log ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_impressions_are_in_the_log_with_place_chance_and_versions(
    start: Start, neighbours: Recommender, tmp_path: Path
) -> None:
    neighbours.save(tmp_path / "run")
    engine = start()
    body = ask(engine, "asked", user_id="u2", k=3, scenario="goods")
    settle(engine)
    table = impressions(engine.log.read())
    assert table["request_id"].to_list() == ["asked"] * 3
    assert table["item_id"].to_list() == ids(body)
    assert table["position"].to_list() == [1, 2, 3]
    assert table["propensity"].to_list() == [one["propensity"] for one in body["items"]]
    assert set(table["policy_version"]) == {"greedy"}
    assert set(table["model_version"]) == {"000001"}
    assert set(table["scenario"]) == {"goods"}
    document = json.loads(str(engine.slate("asked").context))
    assert document["question"] == {"user_id": "u2", "k": 3, "scenario": "goods"}
    assert {"trace", "rung", "fallback", "previous", "scores"} <= document.keys()


def test_answers_go_on_when_nothing_can_be_written_any_more(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise DatabaseBroken("the disk failed")

    monkeypatch.setattr(engine.database, "write", broken)
    assert len(ids(ask(engine, user_id="u2", k=3))) == 3
    assert b'bowerbird_events_total{outcome="lost"} 1.0' in engine.metrics.text()
    monkeypatch.undo()


# ── versions ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def two(tmp_path: Path, neighbours: Recommender, factors: Recommender) -> Path:
    """A run with two versions, of which the first is the published one."""
    run = tmp_path / "run"
    neighbours.save(run)
    factors.save(run)
    bundles.point(run, "000001")
    return run


def test_a_swap_among_requests_fails_none_and_mixes_nothing(two: Path, start: Start) -> None:
    engine = start()
    expected = {}
    for version in ("000002", "000001"):
        engine.swap(version)
        expected[version] = {f"u{n}": ask(engine, f"{version}-{n}", user_id=f"u{n}", k=5)["items"] for n in range(4)}
    wrong: list[Any] = []
    enough = threading.Event()

    def many(number: int) -> None:
        name, turn = f"u{number}", 0
        while not enough.is_set():
            turn += 1
            try:
                body = ask(engine, f"{name}-{turn}", user_id=name, k=5)
                if body["items"] != expected[body["model_version"]][name] or body["fallback"]:
                    wrong.append(body)
            except Exception as error:
                wrong.append(error)

    callers = [threading.Thread(target=many, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for turn in range(6):
        engine.promote(("000002", "000001")[turn % 2])
    enough.set()
    for caller in callers:
        caller.join()
    assert not wrong, wrong[0]


def test_an_event_taken_back_while_a_version_comes_into_use_is_taken_back_in_it(two: Path, start: Start) -> None:
    engine = start()
    do(engine, *(event(n, "i1", user_id=f"new{n}") for n in range(20)))
    taking = [threading.Thread(target=engine.retract, args=(f"e{n}",)) for n in range(20)]
    swapping = threading.Thread(target=engine.promote, args=("000002",))
    for one in (*taking[:10], swapping, *taking[10:]):
        one.start()
    for one in (*taking, swapping):
        one.join()
    assert engine.view.version == "000002"
    assert not any(engine.view.people.deeds(f"unew{n}") for n in range(20))


@pytest.mark.parametrize("put", [False, True])
def test_going_back_loads_nothing_and_knows_what_happened_meanwhile(
    two: Path, start: Start, monkeypatch: pytest.MonkeyPatch, put: bool
) -> None:
    engine = start()
    do(engine, event(1, "i0", user_id="new"), event(2, "i2", user_id="new"), event(3, "i3", user_id="new"))
    engine.promote("000002")
    do(engine, event(4, "i4", user_id="new"))
    engine.retract("e2")
    if put:
        engine.put_many("item", [("later", {}, True, None), ("i8", {}, False, None)], whole=True)
        engine.tend()
    monkeypatch.setattr("bowerbird.serving.engine.load", lambda *_, **__: pytest.fail("it was loaded again"))
    engine.promote("000001")
    body = ask(engine, user_id="new", k=WHOLE)
    assert body["model_version"] == "000001"
    assert {"i0", "i3", "i4"}.isdisjoint(ids(body))
    assert "i2" in ids(body)
    assert ("i8" in ids(body), "later" in ids(body)) == (not put, put)
    counts = engine.view.tally.chosen[engine.view.rows(["i0", "i2", "i4"])]
    monkeypatch.undo()
    engine.close()
    again = start(keep=False)
    assert again.view.version == "000001"
    assert again.view.tally.chosen[again.view.rows(["i0", "i2", "i4"])] == pytest.approx(counts)
    assert ids(ask(again, user_id="new", k=WHOLE)) == ids(body)


def test_a_broken_version_is_refused_and_the_old_one_answers(two: Path, start: Start) -> None:
    engine = start()
    weights = two / "bundles" / "000002" / bundles.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    bundles.point(two, "000002")
    with pytest.raises(BundleError):
        engine.tend()
    engine.tend()  # once is enough
    assert ask(engine, user_id="u2")["model_version"] == "000001"
    with pytest.raises(BundleError):
        engine.promote("000002")
    assert ask(engine, user_id="u2")["model_version"] == "000001"


def test_a_server_that_starts_on_a_broken_version_answers_from_the_one_before(
    two: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    weights = two / "bundles" / "000002" / bundles.WEIGHTS
    sound = weights.read_bytes()
    bundles.point(two, "000002")
    weights.write_bytes(sound[:-1] + b"x")
    engine = start()
    assert ask(engine, user_id="u2")["model_version"] == "000001"
    assert "000002" in caplog.text
    assert "version 000001 answers" in caplog.text
    engine.tend()
    assert engine.view.version == "000001"
    weights.write_bytes(sound)
    engine.promote("000002")
    assert ask(engine, user_id="u2")["model_version"] == "000002"


def test_a_server_does_not_start_on_a_version_that_was_rolled_back(two: Path, start: Start) -> None:
    (two / "bundles" / "000001" / bundles.WEIGHTS).unlink()
    with pytest.raises(BundleError, match="000001"):
        start()


def test_a_version_whose_scores_are_not_numbers_is_refused(two: Path, start: Start, factors: Recommender) -> None:
    engine = start()
    broken = bb.load(two, version="000002")
    broken.model.items.fill_(float("nan"))
    broken.model.user.data.fill_(float("nan"))
    version = broken.save(two)
    with pytest.raises(BundleError, match=version):
        engine.tend()
    assert engine.view.version == "000001"


def test_a_version_that_fails_too_often_makes_room_for_the_one_before(
    two: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start()
    engine.promote("000002")

    def fail(*_: object, **__: object) -> None:
        raise ScoreError("the score of item row 3 is not a number.")

    monkeypatch.setattr(engine.view.recommender.model, "query", fail)
    for n in range(10):
        body = ask(engine, f"r{n}", user_id="u2", k=3)
        assert body["fallback"][0] == "model_failed"
        assert len(body["items"]) == 3
    engine.tend()
    body = ask(engine, "after", user_id="u2", k=3)
    assert (body["model_version"], body["fallback"]) == ("000001", [])
    assert bundles.current(two) == "000001"
    assert b'bowerbird_swaps_total{outcome="rolled_back"} 1.0' in engine.metrics.text()
    engine.tend()
    assert engine.view.version == "000001"


def test_a_score_that_is_infinite_reaches_neither_the_answer_nor_the_log(
    two: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start()
    scores = engine.view.recommender.model.scores
    monkeypatch.setattr(engine.view.recommender.model, "scores", lambda *given: scores(*given) + np.inf)
    body = ask(engine, user_id="u2", k=3)
    assert body["fallback"][0] == "model_failed"
    assert np.isfinite([one["score"] for one in body["items"]]).all()
    settle(engine)
    engine.promote("000002")  # it reads the log


def test_the_keeper_outlives_whatever_goes_wrong(
    start: Start, neighbours: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(neighbours, keep=True)
    looked = threading.Semaphore(0)

    def fail(**_: object) -> None:
        looked.release()
        raise KeyError("something unforeseen")

    monkeypatch.setattr(engine, "tend", fail)
    assert looked.acquire(timeout=10)
    assert looked.acquire(timeout=10)


def test_a_run_that_cannot_be_read_leaves_the_data_directory_free(start: Start, neighbours: Recommender) -> None:
    with pytest.raises(BundleError):
        start()
    start(neighbours)


def test_pins_hold_and_scores_stay_finite(start: Start, neighbours: Recommender) -> None:
    page = Scenario(name="page", k=5, pins=(Pin(item="i19", position=2),), sources=(Source(name="model"),))
    body = ask(start(neighbours, scenarios={"page": page}), user_id="u2", scenario="page")
    assert ids(body)[1] == "i19"
    assert np.isfinite([one["score"] for one in body["items"]]).all()


def test_an_item_whose_choices_were_taken_back_is_trending_no_more(engine: Engine) -> None:
    engine.catalogue.put("item", "new", {})
    engine.tend()
    for number, weight in enumerate((0.1, 0.2, 0.3)):
        do(engine, event(number, "new", user_id="u0", weight=weight, time=NOW - 1000 * number))
    row = engine.view.row("new")
    for number in (1, 0, 2):
        engine.retract(f"e{number}")
    assert (engine.view.tally.chosen[row], engine.view.tally.hot[row]) == (0, 0)
