"""Insight: cards, the shape of popularity, drift, the map, people, the report of a race; and how much is tried."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from shop import N_ITEMS, N_USERS, Clock, Start, client_of, event, ids, taste

import bowerbird as bb
from bowerbird.evaluation import by_activity, evaluate
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine
from bowerbird.serving.insight import DRIFT_S, LONGEST_SELECTION


def test_popularity_is_a_curve_from_the_item_chosen_most(client: TestClient) -> None:
    found = client.get("/v1/popularity").json()
    assert found["items"] == N_ITEMS
    x, y = np.array(found["curve"]).T
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(y) >= 0).all()
    assert (np.diff(y, n=2) <= 1e-9).all()  # most chosen first: the curve bends down
    assert (y >= x - 1e-9).all()
    assert 0 <= found["gini"] < 1


def test_the_curve_of_four_items_by_hand(start: Start) -> None:
    rows = [(f"u{n}", item) for item, people in (("a", 5), ("b", 3), ("c", 1), ("d", 1)) for n in range(people)]
    rec = bb.fit(bb.read(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")), "popularity")
    with client_of(start(rec)) as client:
        found = client.get("/v1/popularity").json()
    assert np.allclose(found["curve"], [[0, 0], [0.25, 0.5], [0.5, 0.8], [0.75, 0.9], [1, 1]])
    assert found["gini"] == pytest.approx(0.35)  # area 0.25 (0.25 + 0.65 + 0.85 + 0.95) = 0.675, and 2 · 0.675 − 1
    assert found["top_tenth"] == pytest.approx(0.5)  # of four items it is one


def test_the_map_of_who_chose_what_puts_even_things_by_even_ones(client: TestClient) -> None:
    found = client.get("/v1/map").json()
    part = client.get("/v1/map?k=5&column=kind").json()
    wrong = client.get("/v1/map?column=price")
    assert (found["source"], found["column"], found["columns"]) == ("choices", "kind", ["kind"])
    place = {one["item_id"]: np.array([one["x"], one["y"]]) for one in found["points"]}
    group = {one["item_id"]: one["group"] for one in found["points"]}
    middle = {kind: np.mean([place[one] for one in place if group[one] == kind], axis=0) for kind in ("even", "odd")}
    near = [min(middle, key=lambda kind: np.linalg.norm(place[one] - middle[kind])) == group[one] for one in place]
    assert np.mean(near) > 0.9
    assert len(part["points"]) == 5
    assert all(np.allclose(place[one["item_id"]], [one["x"], one["y"]]) for one in part["points"])
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")


def test_the_map_of_vectors_is_their_two_principal_components(start: Start, factors: Recommender) -> None:
    engine = start(factors)
    with client_of(engine) as client:
        found = client.get("/v1/map").json()
    assert found["source"] == "vectors"
    unit = engine.view.scorer.unit
    assert unit is not None
    vectors = unit.double().numpy()
    u, s, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    wanted = {engine.view.item_id(row): u[row, :2] * s[:2] for row in range(len(vectors))}
    x, y = (
        np.array([[one[axis], wanted[one["item_id"]][n]] for one in found["points"]]).T for n, axis in enumerate("xy")
    )
    for mine, slow in (x, y):  # of two axes, opposite and as good, either may be meant
        assert np.allclose(np.abs(mine), np.abs(slow), atol=1e-6)
        assert abs(np.corrcoef(mine, slow)[0, 1]) == pytest.approx(1)
    assert np.allclose(found["explained"], (s**2 / (s**2).sum())[:2])


def test_a_new_item_is_on_no_map_and_one_of_few_people_is_cold(client: TestClient, engine: Engine) -> None:
    client.put("/v1/items/new", json={"properties": {"title": "New", "kind": "even"}})
    engine.tend()
    found = client.get("/v1/map").json()
    assert (found["items"], found["placeless"]) == (N_ITEMS + 1, 1)
    for one in found["points"]:
        assert one["cold"] == (one["chosen"] < 5)


def test_drift_is_quiet_without_events_and_named_with_strange_ones(client: TestClient, clock: Clock) -> None:
    quiet = client.get("/v1/drift").json()
    assert (quiet["drift"], quiet["rows"]["now"]) == (False, 0)
    rows = [{"event_id": f"d{n}", "event": "like", "user_id": f"x{n}", "item_id": "i3"} for n in range(400)]
    client.post("/v1/events", json={"events": rows})
    assert client.get("/v1/drift").json()["rows"]["now"] == 0  # looked at once a minute
    clock.ticks += DRIFT_S
    found = client.get("/v1/drift").json()
    assert (found["drift"], found["rows"]["now"]) == (True, 400)
    assert any("item" in one["name"] for one in found["series"] if one["alarm"])


def test_people_are_known_ones_and_always_the_same(client: TestClient) -> None:
    found = client.get("/v1/people?k=7").json()
    assert (len(set(found["people"])), found["of"]) == (7, N_USERS)
    assert found == client.get("/v1/people?k=7").json()
    assert set(found["people"]) <= {f"u{n}" for n in range(N_USERS)}


def test_the_card_of_a_version_is_its_manifest_without_files(
    start: Start, neighbours: Recommender, tmp_path: Path
) -> None:
    neighbours.save(tmp_path / "run")
    with client_of(start()) as client:
        found = client.get("/v1/models/000001").json()
        assert found["model"] == "itemknn"
        assert {one["name"] for one in found["events"]} == {"like", "look", "dislike"}
        assert "files" not in found
        assert client.get("/v1/models/000009").status_code == 404


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (json.dumps({"models": [{"model": "ease", "value": 0.1}], "trials": [1], "data": "/secret/path"}), 200),
        ("[]", 409), ("{", 409), (json.dumps({"models": [{"model": "ease"}]}), 409), ("[" * 100_000, 409),
        (" " * (LONGEST_SELECTION + 1), 409),
    ],
    ids=["fine", "list", "broken", "no value", "deep", "long"],
)  # fmt: skip
def test_the_report_of_a_race_is_read_or_refused(client: TestClient, tmp_path: Path, text: str, status: int) -> None:
    assert client.get("/v1/selection").status_code == 404
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "select.json").write_text(text)
    answer = client.get("/v1/selection")
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == {"models": [{"model": "ease", "value": 0.1}]}  # neither tries nor paths


# ── how much is tried, and what comes of slates ───────────────────────────────────────────────────────────────────────


def test_a_request_may_say_how_much_is_tried(client: TestClient) -> None:
    asked = {"user_id": "u1", "k": 5}
    usual = client.post("/v1/recommendations", json=asked).json()
    none = client.post("/v1/recommendations", json=asked | {"exploration": 0}).json()
    assert ids(usual) == ids(none)
    tried = [client.post("/v1/recommendations", json=asked | {"exploration": 1}).json() for _ in range(20)]
    assert {one["policy"] for one in tried} == {"epsilon-greedy 1"}
    allowed = next(step["candidates"] for step in usual["trace"] if step["stage"] == "filter")
    # every place is drawn from all that are left: 1 / n, 1 / (n − 1), …
    assert [one["propensity"] for one in tried[0]["items"]] == pytest.approx([1 / (allowed - n) for n in range(5)])
    assert len({tuple(ids(one)) for one in tried}) > 10
    assert client.post("/v1/recommendations", json=asked | {"exploration": 1.5}).status_code == 422


def test_the_trace_says_what_sources_found_and_filters_removed(client: TestClient) -> None:
    asked = {"user_id": "u1", "explain": True, "where": "item.kind == 'odd'"}
    steps = {one["stage"]: one for one in client.post("/v1/recommendations", json=asked).json()["trace"]}
    removed = steps["filter"]["removed"]
    assert (removed["seen"], removed["where"]) == (6, 10)
    assert steps["filter"]["candidates"] == N_ITEMS - sum(removed.values())
    assert steps["sources"]["found"] == {"model": steps["sources"]["candidates"]}


def test_a_slate_is_chosen_from_once_by_whatever_good_event_names_it(client: TestClient, engine: Engine) -> None:
    def counted(outcome: str) -> float:
        return float(engine.metrics.registry.get_sample_value("bowerbird_slates_total", {"outcome": outcome}) or 0)

    slates = [client.post("/v1/recommendations", json={"user_id": "u1"}).json() for _ in range(3)]
    events = [
        event(1, "i1", user_id="u1", request_id=slates[0]["request_id"]),
        event(2, "i3", user_id="u1", request_id=slates[0]["request_id"]),  # the same slate
        event(3, "i1", user_id="u1", request_id=slates[1]["request_id"], event="dislike"),  # nothing good
        event(4, "i1", user_id="u1", request_id="made-up"),
        event(5, "i1", user_id="u1"),
    ]
    engine.take(events).result()
    assert (counted("shown"), counted("chosen_from")) == (3, 1)


def test_parts_by_activity_are_the_whole_again() -> None:
    split = bb.split(taste(), "per-user", valid=0.2, test=0.2)
    report = evaluate(bb.fit(split, "itemknn"), split.valid)
    assert by_activity(report, split.valid) == []  # forty people cannot be told apart
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", t) for u in range(120) for t, i in enumerate(rng.permutation(40)[: 5 + u % 30])]
    split = bb.split(bb.read(pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")), "per-user")
    report = evaluate(bb.fit(split, "itemknn"), split.valid)
    found = by_activity(report, split.valid)
    assert len(found) == 3
    assert sum(one["users"] for one in found) == report.n_users
    mean = sum(one["users"] * one["metrics"]["ndcg@10"] for one in found) / report.n_users
    assert mean == pytest.approx(report.metrics["ndcg@10"])
    for one in found:
        low, high = one["intervals"]["ndcg@10"]
        assert low <= one["metrics"]["ndcg@10"] <= high
