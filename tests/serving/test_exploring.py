"""Scenarios that explore: chances differ by request, are logged, and the policy learns from what came of its slates."""

import json

import pytest
import torch
from shop import NOW, Clock, Start, event, ids

from bowerbird.core import BowerbirdError
from bowerbird.pipeline.scenario import EXPLORATIONS, Scenario
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine


def exploring(start: Start, rec: Recommender, policy: str, weight: float) -> Engine:
    table = {"policy": policy, "weight": weight, "candidates": 8, "settle_s": 100}
    return start(rec, scenarios={"default": Scenario.of({"name": "default", "exploration": table})})


@pytest.mark.parametrize("policy", EXPLORATIONS)
def test_every_policy_serves_and_logs_chances(start: Start, factors: Recommender, policy: str) -> None:
    engine = exploring(start, factors, policy, 0.5)
    slates = {}
    for n in range(12):
        body = engine.recommend({"user_id": "u2", "k": 3}, f"r{n}")
        told = json.loads(str(engine.slate(f"r{n}").context))
        assert (body["policy"], len(body["items"]), len(told["candidates"])) == (f"{policy} 0.5", 3, 8)
        assert all(0 < one["propensity"] <= 1 for one in body["items"])
        assert sum(told["candidate_propensity"]) == pytest.approx(1, abs=1e-5)
        first = told["candidate_propensity"][told["candidates"].index(ids(body)[0])]
        assert first == pytest.approx(body["items"][0]["propensity"], rel=1e-5)
        slates[tuple(ids(body))] = body
    drawn = policy not in ("ucb", "linucb")
    assert (len(slates) > 1) == drawn  # each request has a chance of its own
    again = engine.recommend({"user_id": "u2", "k": 3}, "r0")
    assert ids(again) == ids(engine.recommend({"user_id": "u2", "k": 3}, "r0"))


@pytest.mark.parametrize("policy", ["ucb", "linucb", "thompson"])
def test_a_policy_learns_what_is_chosen_once_it_has_settled(
    start: Start, clock: Clock, factors: Recommender, policy: str
) -> None:
    engine = exploring(start, factors, policy, 0.1)
    for n in range(60):
        body = engine.recommend({"user_id": f"u{n % 40}", "k": 8}, f"r{n}")
        good = [one for one in ids(body) if int(one[1:]) >= 14]  # only dear things are chosen
        engine.take([event(f"{n}-{one}", one, event="look", user_id="u0", request_id=f"r{n}") for one in good]).result()

    def dear() -> int:
        bodies = [engine.recommend({"user_id": f"u{n}", "k": 2}, f"after{n}") for n in range(20)]
        return sum(int(one[1:]) >= 14 for body in bodies for one in ids(body))

    engine.exploring.teach(engine.view)
    before = dear()  # nothing has settled
    clock.at, clock.ticks = NOW + 101, 60.0
    engine.exploring.teach(engine.view)
    assert dear() > before + 4
    (known,) = engine.exploring._taught.values()
    learned = known.policy.belief.believe(None, torch.arange(20)[None], torch.zeros(1, 20)).mean
    clock.ticks = 120.0
    engine.exploring.teach(engine.view)  # what was learned once is not learned again
    again = known.policy.belief.believe(None, torch.arange(20)[None], torch.zeros(1, 20)).mean
    assert torch.equal(learned, again)
    assert known.offset > 0


def test_a_scenario_without_exploration_is_greedy_and_a_policy_is_kept_with_its_version(
    start: Start, factors: Recommender
) -> None:
    engine = exploring(start, factors, "ucb", 0.1)
    policy = engine.view.pipelines["default"].policy
    engine._shape_boards()
    assert engine.view.pipelines["default"].policy is policy
    plain = start(factors, run=engine.run.parent / "other", data=engine.run.parent / "more")
    assert plain.recommend({"user_id": "u2"}, "r")["policy"] == "greedy"
    assert not plain.exploring._taught


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"policy": "sofmax"}, 'Did you mean "softmax"|softmax'),
        ({"policy": "epsilon-greedy", "weight": 1.5}, "weight"),
        ({"weight": -1}, "weight"),
        ({"candidates": 0}, "candidates"),
        ({"wight": 1}, "weight"),
        ("softmax", "exploration must be a table|must be a table"),
    ],
)
def test_an_exploration_that_makes_no_sense_is_refused_by_its_key(table: object, says: str) -> None:
    with pytest.raises(BowerbirdError, match=says):
        Scenario.of({"name": "a", "exploration": table})
