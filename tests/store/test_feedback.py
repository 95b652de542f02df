"""What came of what was shown: by hand, from slates and events of one log."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bowerbird.core import DataError
from bowerbird.evaluation.off_policy import logged
from bowerbird.store import feedback as module
from bowerbird.store.events import TableLog
from bowerbird.store.feedback import ORPHAN, PLACE, Feedback, feedback, in_parts, read_feedback
from bowerbird.store.log import MERGE, SLATE, LogEvent
from bowerbird.store.opening import opened

DAY = 86_400


@pytest.fixture
def log(tmp_path: Path) -> Iterator[TableLog]:
    with closing(opened(tmp_path)) as database:
        yield TableLog(database)


def slate(
    name: str, items: list[Any], *, time: int = 1000, user: Any = "ann", session: Any = None, **more: Any
) -> LogEvent:
    document = {
        "items": items, "propensity": [0.5] * len(items), "scores": [3.0 - n for n in range(len(items))],
        "sources": [["model"] for _ in items], "context_hash": "c0ffee",
    } | more  # fmt: skip
    return LogEvent(
        name, SLATE, user_id=user, session_id=session, time=time, request_id=name, scenario="goods",
        context=json.dumps(document), policy_version="soft t=1", model_version="000001",
    )  # fmt: skip


def click(name: str, request: str | None, item: Any, *, time: int = 1010, event: str = "like", **more: Any) -> LogEvent:
    return LogEvent(name, event, **({"user_id": "ann", "item_id": item, "time": time, "request_id": request} | more))


def of(log: TableLog, **options: Any) -> Feedback:
    return feedback(in_parts(log.read, log.end), **options)


def came(found: Feedback) -> list[tuple[Any, ...]]:
    return found.places.select("request_id", "item_id", "event", "reward", "delay_s", "late").rows()


def test_each_place_has_a_row_with_all_that_was_known_when_it_was_shown(log: TableLog) -> None:
    first = slate("r1", ["x", "y"], sources=[["model", "pin"], ["model"]], propensity=[1.0, 0.25],
                  experiment={"name": "e", "arm": "b"},
                  candidates=["y", "z"], candidate_propensity=[0.25, 0.75])  # fmt: skip
    log.append([first, slate("r2", ["é\"'\n"], user=None, session="s")])
    found = of(log)
    assert tuple(found.places.columns) == PLACE
    shared = (1000, "goods", "soft t=1", "000001")
    nothing = (None, 0.0, None, 0)
    assert found.places.rows() == [
        ("r1", *shared, "ann", None, "x", 1, 1.0, 3.0, True, "c0ffee", "e", "b", None, None, *nothing),
        ("r1", *shared, "ann", None, "y", 2, 0.25, 2.0, False, "c0ffee", "e", "b", ["y", "z"], [0.25, 0.75], *nothing),
        ("r2", *shared, None, "s", "é\"'\n", 1, 0.5, 3.0, False, "c0ffee", None, None, None, None, *nothing),
    ]


def test_the_strongest_event_counts_once_and_late_ones_are_only_counted(log: TableLog) -> None:
    log.append([slate("r", ["x", "y", "z"])])
    log.append([
        click("a", "r", "x", event="look"), click("b", "r", "x", time=1500), click("b", "r", "x", time=1500),
        click("c", "r", "x", time=1400), click("d", "r", "x", time=1001 + DAY), click("e", "r", "z", time=1001 + DAY),
        click("f", None, "y"), click("g", "r", "y", time=990, weight=0.25),
    ])  # fmt: skip
    found = of(log, worth={"like": 2.0, "look": 1.0})
    assert came(found) == [
        ("r", "x", "like", 2.0, 400, 1),  # the first of two likes
        ("r", "y", "like", 0.5, 0, 0),  # its clock was slow
        ("r", "z", None, 0.0, None, 1),
    ]
    assert len(found.orphans) == 0  # who came without a list is none
    assert came(of(log, window_s=2 * DAY, worth={"like": 2.0}))[2] == ("r", "z", "like", 2.0, DAY + 1, 0)
    assert came(of(log, worth={"look": 1.0}))[0][2:4] == ("look", 1.0)  # what is no type any more is worth nothing


def test_clicks_without_an_impression_are_orphans_with_a_reason(log: TableLog) -> None:
    log.append([
        click("before", "r", "x", time=999), slate("r", ["x"]), slate("empty", []), click("a", "r", "q", position=3),
        click("b", "nowhere", "x"), click("c", "empty", "x"),
        LogEvent("m", MERGE, session_id="s", user_id="ann", request_id="r"),
    ])  # fmt: skip
    found = of(log)
    assert tuple(found.orphans.columns) == ORPHAN
    assert found.orphans.select("event_id", "item_id", "position", "reason").rows() == [
        ("a", "q", 3, "not_in_slate"), ("b", "x", None, "unknown_request"), ("c", "x", None, "not_in_slate"),
    ]  # fmt: skip
    assert came(found) == [("r", "x", "like", 1.0, 0, 0)]  # the order in the log is nothing


def test_what_was_retracted_or_erased_leaves_no_trace(log: TableLog) -> None:
    log.append([slate("r1", ["x"]), slate("r2", ["x"], user="bob"), click("a", "r1", "x"), click("b", "r1", "q")])
    log.append([click("c", "r2", "x", user_id="bob")])
    for name in "ab":
        log.retract(name)
    log.erase("bob")
    found = of(log)
    assert came(found) == [("r1", "x", None, 0.0, None, 0)]
    assert len(found.orphans) == 0


def test_a_session_that_becomes_a_user_keeps_what_it_was_shown(log: TableLog) -> None:
    log.append([slate("r", ["x"], user=None, session="s"), LogEvent("m", MERGE, user_id="ann", session_id="s")])
    log.append([click("a", "r", "x")])
    assert came(of(log)) == [("r", "x", "like", 1.0, 10, 0)]
    assert of(log).places["session_id"].to_list() == ["s"]


@pytest.mark.parametrize(("items", "clicked", "shown"), [
    ([3, 2**62], "3", [3, 2**62]), ([3, "x"], 3, ["3", "x"]), (["3", "4"], 3, ["3", "4"]),
])  # fmt: skip
def test_an_item_is_the_same_as_a_number_and_as_the_text_that_spells_it(
    log: TableLog, items: list[Any], clicked: Any, shown: list[Any]
) -> None:
    log.append([slate("r", items, candidates=items, candidate_propensity=[0.5, 0.5]), click("a", "r", clicked)])
    found = of(log)
    assert found.places["item_id"].to_list() == shown
    assert found.places["candidates"].to_list() == [shown, None]
    assert found.places["reward"].to_list() == [1.0, 0.0]


def test_a_log_that_is_read_in_parts_says_the_same(
    log: TableLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log.append(
        [slate("r1", [1]), click("a", "r1", 1), slate("r2", ["x"]), click("b", "r2", "y"), click("c", "r2", "x")]
    )
    whole = of(log)
    monkeypatch.setattr(module, "STEP", 1)
    assert of(log).places.equals(whole.places)
    assert of(log).orphans.equals(whole.orphans)
    assert read_feedback(tmp_path).places.equals(whole.places)  # beside the process that writes


@pytest.mark.parametrize("context", ['{"items": [1], "scores": [Infinity]}', '{"items": [1', "", " ", "[]", "{}"])
def test_a_slate_that_cannot_be_read_shows_nothing_and_the_others_stay(log: TableLog, context: str) -> None:
    broken = LogEvent("r1", SLATE, user_id="ann", time=5, context=context)
    older = LogEvent("r3", SLATE, user_id="ann", time=5, context='{"items": ["x"]}')
    log.append([broken, slate("r2", ["x"]), older])
    assert of(log).places["request_id"].to_list() == ["r2", "r3"]
    assert of(log).places["propensity"].to_list() == [0.5, None]


def test_an_empty_log_has_columns_and_no_rows(log: TableLog) -> None:
    found = of(log)
    assert (found.places.columns, found.orphans.columns) == (list(PLACE), list(ORPHAN))
    assert len(found.places) == len(found.orphans) == 0


def test_only_what_came_since_a_moment_is_returned(log: TableLog) -> None:
    log.append(
        [slate("r1", ["x"]), slate("r2", ["x"], time=2000), click("a", "r1", "x", time=2000), click("b", "no", "x")]
    )
    found = of(log, since=2000)
    assert found.places["request_id"].to_list() == ["r2"]
    assert len(found.orphans) == 0  # a click on what was shown before is none


@pytest.mark.parametrize(("change", "arms", "said"), [
    ({}, ["x"], "item_id is 'y' in row 1, which is none of the 1 arms"),
    ({"propensity": [0.5, 0.0]}, ["x", "y"], r"propensity is 0\.0 in row 1"),
    ({"propensity": [0.5, 1.5]}, ["x", "y"], r"propensity is 1\.5 in row 1"),
    ({"propensity": [0.5]}, ["x", "y"], "propensity is missing in row 0"),
])  # fmt: skip
def test_a_log_that_cannot_be_judged_by_is_refused_with_its_row(
    log: TableLog, change: dict[str, Any], arms: list[str], said: str
) -> None:
    log.append([slate("r", ["x", "y"], **change)])
    with pytest.raises(DataError, match=said):
        logged(of(log).places, arms, policy_version="soft t=1", most=1)


def test_rewards_out_of_range_and_other_policies_are_refused_with_their_row(log: TableLog) -> None:
    log.append([slate("r", ["x", "y"]), click("a", "r", "y", weight=5.0)])
    with pytest.raises(DataError, match=r"reward is 5\.0 in row 1; it must lie between 0 and 1"):
        logged(of(log).places, ["x", "y"], most=1)
    with pytest.raises(DataError, match='row 0 is of policy "soft t=1", not of "greedy"'):
        logged(of(log).places, ["x", "y"], policy_version="greedy")
    unsaid = of(log).places.with_columns(policy_version=pl.lit(None, pl.String))
    with pytest.raises(DataError, match="policy_version is missing in row 0"):
        logged(unsaid, ["x", "y"], policy_version="greedy")
