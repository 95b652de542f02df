"""The relations benchmark on a tiny set: how its tasks are cut, and which rows its table calls worse."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import _shared
import relations
from bowerbird.data import Edges, EventType, Interactions, split

STAGES = (EventType("view", hides=False), EventType("cart", hides=False), EventType("buy"))


def listened(n_users: int = 30, n_items: int = 20) -> Interactions:
    """Each user likes ten of their own half of the items, and befriends five of their own half of the users."""
    rng = np.random.default_rng(0)
    pairs = [(user, item) for user in range(n_users) for item in rng.permutation(np.arange(user % 2, n_items, 2))[:10]]
    friends = [(user, other) for user in range(n_users) for other in rng.choice(np.arange(user % 2, n_users, 2), 5)]
    source, target = np.array(friends, np.int32).T
    user, item = np.array(pairs).T
    events = Interactions.of(pl.Series(user), pl.Series(item))
    edges = Edges("user", "user", source, target, np.ones(len(source), np.float32))
    return relations.replace(events, relations={"friend": edges})


def pairs_of(events: Interactions) -> set[tuple[object, object]]:
    pairs = events.positives
    users, items = events.user_ids.names(pairs.user), events.item_ids.names(pairs.item)
    return set(zip(users.to_list(), items.to_list(), strict=True))


def test_both_directions_of_a_friendship_lie_in_one_part_and_nobody_meets_themselves() -> None:
    parts = relations.friends_of(listened())
    found = [pairs_of(part) for part in (parts.train, parts.valid.targets, parts.test.targets)]
    assert all(one == {(b, a) for a, b in one} for one in found)
    assert not found[0] & found[1]
    assert not (found[0] | found[1]) & found[2]
    assert all(a != b for one in found for a, b in one)
    history = parts.test.history
    hidden = zip(history.user_ids.names(history.user), history.item_ids.names(history.item), strict=True)
    assert {(user, user) for user in range(30)} <= set(hidden)
    assert set(parts.train.relations) == set(parts.test.known.relations) == {"user chose", "item chose"}
    heard = listened()
    for side, ids in (("user", parts.train.user_ids), ("item", parts.train.item_ids)):
        edges = parts.train.relations[f"{side} chose"]
        told = set(zip(ids.names(edges.source).to_list(), edges.target.tolist(), strict=True))
        assert told == set(zip(heard.user_ids.names(heard.user).to_list(), heard.item.tolist(), strict=True))


def test_validation_of_the_funnel_is_the_last_purchase_without_its_views() -> None:
    rows = [("a", 1, 0), ("a", 1, 2), ("a", 2, 0), ("b", 1, 2), ("a", 2, 1), ("a", 2, 2), ("b", 3, 0)]
    user, item, event = zip(*rows, strict=True)
    train = Interactions.of(pl.Series(user), pl.Series(item), event=np.array(event), events=STAGES)
    test = Interactions.of(pl.Series(["a", "b"]), pl.Series([3, 2]), events=STAGES[2:])
    given = split(train, test=test)
    parts = relations.funnel_of(given, together=False)
    assert [pairs_of(part) for part in (parts.train, parts.valid.targets)] == [{("a", 1), ("b", 1)}, {("a", 2)}]
    assert len(parts.train) == 4
    assert [kind.sign for kind in parts.train.events] == ["neutral", "neutral", "positive"]
    assert pairs_of(parts.test.targets) == {("a", 3), ("b", 2)}
    together = relations.funnel_of(given, together=True)
    assert pairs_of(together.train) == {("a", 1), ("b", 1), ("b", 3)}


def test_a_row_is_kept_and_compared_user_by_user(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(relations, "load", lambda name, data_root: listened())
    small = ["--set", "dim=8", "--set", "epochs=3", "--threads", "1", "--report", "test", "--save"]
    for model, words in (("popularity", ()), ("hetero", (*small[:4], "--seeds", "0,1")), ("lightgcn", small[:4])):
        kept = [*small[4:], "--keep", str(tmp_path / "kept")]
        options = relations.options_of(["--data", "lastfm-2k", "--model", model, *words, *kept])
        assert _shared.main(options, relations.measure) == 0
    rows = [json.loads(line) for line in (results / "relations.jsonl").read_text().splitlines()]
    assert [list(row.get("peers", {})) for row in rows] == [[], ["popularity"], ["hetero", "popularity"]]
    assert rows[1]["relations"] == ["friend"]
    assert rows[2]["relations"] == []
    gain = rows[1]["metrics"]["ndcg@20"] - rows[0]["metrics"]["ndcg@20"]
    assert float(rows[1]["peers"]["popularity"]["ndcg@20"].split()[0]) == pytest.approx(gain, abs=1e-4)


@pytest.mark.parametrize(("hetero", "status"), [(0.3, 0), (0.2, 1), (0.1, 1)])
def test_the_table_fails_where_hetero_is_not_above_lightgcn(hetero: float, status: int, results: Path) -> None:
    rows = [("lightgcn", 0.2, "test"), ("hetero", 0.0, "test"), ("hetero", hetero, "test"), ("hetero", 0.0, "valid")]
    with open(results / "relations.jsonl", "w") as file:
        for model, value, report in rows:
            row = {"data": "items/lastfm-2k", "model": model, "report": report, "date": "", "protocol": ""}
            file.write(json.dumps(row | {"metrics": {"recall@20": value, "ndcg@20": value}}) + "\n")
    assert relations.table() == status
