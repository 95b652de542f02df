"""From slates of a policy that explores, by clicks and the export, to what another policy would have earned."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from shop import NOW, event, ids
from torch import Tensor

from bowerbird.core import numpy_stream
from bowerbird.evaluation.off_policy import logged, parts
from bowerbird.features import Context
from bowerbird.pipeline.policy import Greedy
from bowerbird.serving import Engine
from bowerbird.store.feedback import feedback, in_parts


class Softmax(Greedy):
    """Draws one place after the other without putting back, by softmax of the scores: Plackett and Luce."""

    version = "softmax temperature=1"

    def __init__(self) -> None:
        self.turn = 0

    def depth(self, k: int) -> int:
        return k + 2

    def explore(
        self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        return *self.choose(context, candidates, scores, k, seed), torch.softmax(scores, dim=1)

    def choose(self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        self.turn += 1
        rng, left = (
            numpy_stream(seed, "softmax", self.turn),
            torch.softmax(scores, dim=1)[0].numpy().copy(),
        )
        places, chance = [], []
        for _ in range(k):
            odds = left.astype(float) / left.sum(dtype=float)
            place = int(rng.choice(len(odds), p=odds))
            places.append(place)
            chance.append(odds[place])
            left[place] = 0
        return candidates[:, places], torch.tensor([chance], dtype=torch.float32)


def settle(engine: Engine) -> None:
    engine.take([]).result()


def explore(engine: Engine) -> None:
    engine.view.pipelines["default"].policy = Softmax()


def document(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(engine.slate(name).context))
    return found


def hashed(engine: Engine, name: str, **question: Any) -> str:
    engine.recommend(question, name)
    return str(document(engine, name)["context_hash"])


def test_what_an_exploring_policy_chose_from_is_logged_with_the_chance_of_each(engine: Engine) -> None:
    greedy = engine.recommend({"user_id": "u2", "k": 2}, "before")
    explore(engine)
    body = engine.recommend({"user_id": "u2", "k": 2}, "asked")
    assert (greedy["policy"], body["policy"]) == ("greedy", Softmax.version)
    assert engine.slate("asked").policy_version == Softmax.version
    told = document(engine, "asked")
    assert len(told["candidates"]) == 4
    assert set(ids(greedy) + ids(body)) <= set(told["candidates"])
    assert sum(told["candidate_propensity"]) == pytest.approx(1, abs=1e-6)
    first = told["candidate_propensity"][told["candidates"].index(ids(body)[0])]
    assert first == pytest.approx(body["items"][0]["propensity"], rel=1e-6)
    assert "candidates" not in document(engine, "before")  # the slate says it all


def test_answers_of_one_context_share_a_hash_and_others_do_not(engine: Engine) -> None:
    same = hashed(engine, "a", user_id="u2", k=3)
    assert len(same) == 16
    assert hashed(engine, "b", user_id="u2", k=3, explain=True, fields=["price"], timeout_ms=9) == same
    others = [
        hashed(engine, "c", user_id="u4", k=3), hashed(engine, "d", user_id="u2", k=4),
        hashed(engine, "e", user_id="u2", k=3, scenario="music"),
        hashed(engine, "f", user_id="u2", k=3, where="item.price < 9"),
        hashed(engine, "g", history=["i1"], k=3), hashed(engine, "h", history=["i2"], k=3),
        hashed(engine, "i", user_id="u2", k=3, exclude_items=["i1"]), hashed(engine, "j", k=3),
    ]  # fmt: skip
    engine.take([event(1, "i3", user_id="u2")]).result()
    others.append(hashed(engine, "k", user_id="u2", k=3))
    engine.recommend({"user_id": "u2", "k": 3}, "l", previous=["i5"])
    others.append(document(engine, "l")["context_hash"])
    assert same not in others
    assert len(set(others)) == len(others)
    engine.retract("e1")
    assert hashed(engine, "m", user_id="u2", k=3) == same


def test_a_session_that_became_a_user_is_in_the_context_of_that_user(engine: Engine) -> None:
    before = hashed(engine, "a", session_id="s", k=3)
    engine.take([event("m", None, event="merge", user_id="u2", session_id="s")]).result()
    assert hashed(engine, "b", session_id="s", k=3) == hashed(engine, "c", user_id="u2", k=3) != before


def test_the_log_of_an_engine_tells_what_another_policy_would_have_earned(engine: Engine) -> None:
    explore(engine)
    clicks = []
    for n in range(600):
        body = engine.recommend({"user_id": f"u{n % 40}", "k": 2}, f"r{n}")
        good = [one for one in ids(body) if int(one[1:]) < 8]  # cheap things are liked
        clicks += [
            event(f"{n}-{one}", one, event="look", user_id="u0", request_id=f"r{n}", time=NOW + 60) for one in good
        ]
    settle(engine)  # the clicks come last: what people did would move the candidates
    engine.take(clicks).result()
    found = feedback(
        in_parts(engine.log.read, engine.log.end), worth={kind.name: kind.reward for kind in engine.view.kinds}
    )
    assert len(found.places) == 1200
    assert (found.places["reward"].sum(), found.places["delay_s"].max()) == (0.5 * len(clicks), 60)

    rounds = found.places.filter(found.places["candidates"].is_not_null())
    arms = [f"i{n}" for n in range(20)]
    log = logged(rounds, arms, policy_version=Softmax.version, most=0.5)
    chance, reward = np.zeros((600, 20)), np.array([0.5 if n < 8 else 0.0 for n in range(20)])
    own = np.zeros((600, 20))
    for n, (items, chances) in enumerate(rounds.select("candidates", "candidate_propensity").rows()):
        places = [arms.index(one) for one in items]
        odds = np.where(reward[places] > 0, 3.0, 1.0)  # of the policy that is judged: it knows what is liked
        chance[n, places] = odds / odds.sum()
        own[n, places] = chances
    assert own[np.arange(600), log.action] == pytest.approx(log.propensity, rel=1e-5)
    truth, noise = float((chance @ reward).mean()), parts("ipw", log, chance)[:, 0]
    assert noise.mean() == pytest.approx(truth, abs=4 * noise.std() / 600**0.5)
    assert noise.std() / 600**0.5 < 0.2 * truth  # so that the line before can fail
    assert abs(log.reward.mean() - truth) > 4 * log.reward.std() / 600**0.5  # as the plain mean does
