"""The world: seeded, as it says it is, and an environment of Gymnasium."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from gymnasium.utils.env_checker import check_env

from bowerbird.bandits.simulate import POLICIES, compare, gathered, long_run, play, policy
from bowerbird.bandits.world import Marginals, Person, World, WorldConfig
from bowerbird.core import BowerbirdError
from bowerbird.data import Interactions

SMALL = WorldConfig(people=20, items=60, candidates=12, k=3, horizon=15, dim=4, topics=5)


def steps(world: World, n: int, seed: int = 0) -> list[np.ndarray]:
    seen, _ = world.reset(seed=seed)
    found = []
    for _ in range(n):
        seen, reward, *_ = world.step(seen["candidates"][:, : world.config.k])
        found.append(reward)
    return found


def test_one_person_is_an_environment() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says of spaces without bounds
        check_env(Person(SMALL), skip_render_check=True)


def test_a_world_is_its_seed() -> None:
    world = World(SMALL)
    one, again, other = (np.array(steps(world, 10, seed)) for seed in (3, 3, 4))
    assert (one == again).all()
    assert (one != other).any()
    world.reset(seed=3)
    items, people = world.vectors, world.people
    world.reset(seed=3, options={"turn": 1})
    assert (world.vectors == items).all()
    assert (world.people != people).any()


def test_observations_are_of_their_space_and_candidates_are_each_once() -> None:
    world = World(SMALL)
    seen, _ = world.reset(seed=1)
    for _ in range(5):
        assert world.observation_space.contains({name: one.copy() for name, one in seen.items()})
        assert all(len(set(row)) == 12 for row in seen["candidates"].tolist())
        assert (np.diff(seen["scores"], axis=1) <= 0).all()
        assert (world.arrival[seen["candidates"]] <= world.now).all()
        seen, *_ = world.step(seen["candidates"][:, :3])


def test_clicks_come_as_often_as_is_expected_and_less_further_down() -> None:
    config = replace(SMALL, people=4_000, horizon=6, noise=0.0, long_term=0.0, stay=1e9, candidates=3)
    world = World(config)
    seen, _ = world.reset(seed=0)
    expected, came, places = 0.0, 0.0, np.zeros(3)
    for _ in range(6):
        slates = np.random.default_rng(0).permuted(seen["candidates"], axis=1)
        expected += float(world.expected(slates).sum())
        seen, reward, _, _, info = world.step(slates)
        came += float(reward.sum())
        places += info["clicks"].sum(axis=0)
    assert came == pytest.approx(expected, rel=0.05)
    assert places[1:] / places[0] == pytest.approx([2**-0.5, 3**-0.5], rel=0.1)


def test_the_best_slate_is_the_best_of_the_candidates() -> None:
    world = World(SMALL)
    seen, _ = world.reset(seed=2)
    world.tired[:] = np.random.default_rng(0).random(world.tired.shape)
    world._seen()
    slates = world.candidates
    odds = world.log_odds(slates)
    order = np.argsort(-odds, axis=1)[:, :3]
    best = world.expected(np.take_along_axis(slates, order, axis=1))
    np.testing.assert_allclose(world.best(), best, rtol=1e-5)
    assert (world.expected(slates[:, :3]) <= best + 1e-6).all()
    assert seen["here"].all()


def test_who_sees_the_same_topic_again_tires_of_it_and_who_is_glad_stays() -> None:
    world = World(replace(SMALL, drift=0.0, people=2_000, horizon=40))
    world.reset(seed=0)
    slates = np.repeat(np.arange(3)[None], 2_000, axis=0)
    before = world.log_odds(slates).mean()
    for _ in range(5):
        world.step(slates)
    assert world.log_odds(slates).mean() < before - 0.3
    here = {}
    for glad in (-1.0, 1.0):
        world.reset(seed=0)
        world.substance[:] = glad
        steps_here = []
        for _ in range(40):
            steps_here.append((world.gone == 0).mean())
            world.step(slates)
        here[glad] = np.mean(steps_here)
    assert here[1.0] > here[-1.0] + 0.03


def test_items_arrive_and_the_ranker_does_not_know_them() -> None:
    world = World(replace(SMALL, horizon=50))
    world.reset(seed=0)
    assert 0 < (world.arrival > 0).sum() == 30
    assert (world.rated[world.arrival > 0] == 0).all()
    assert set(world._seen()["candidates"].ravel()) <= set(range(30))
    world.now = 50
    assert set(world._seen()["candidates"].ravel()) > set(range(30))


def test_popularity_is_that_of_the_data() -> None:
    rng = np.random.default_rng(0)
    items = rng.zipf(1.6, 4_000) % 50
    data = Interactions.of(pl.Series(rng.integers(0, 90, 4_000)), pl.Series(items))
    marginals = Marginals.of(data)
    config = replace(
        SMALL, people=3_000, items=50, candidates=50, new_items=0.0, taste=0.0, boredom=0.0, long_term=0.0, drift=0.0,
        noise=0.0, intercept=-6.0, k=3, horizon=100, stay=1e9,
    )  # fmt: skip
    world = World(config, marginals)
    seen, _ = world.reset(seed=0)
    clicked = np.zeros(50)
    rng = np.random.default_rng(1)
    for _ in range(100):
        slates = rng.permuted(seen["candidates"], axis=1)[:, :3]
        seen, _, _, _, info = world.step(slates)
        np.add.at(clicked, slates[info["clicks"]], 1)
    shares = [np.sort(one)[::-1][:5] / one.sum() for one in (clicked, marginals.popularity)]
    np.testing.assert_allclose(shares[0], shares[1], rtol=0.25)


@pytest.mark.parametrize("wrong", [{"k": 20}, {"candidates": 50}, {"new_items": 1.0}, {"people": 0}, {"known": 2.0}])
def test_a_world_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BowerbirdError):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


# ── play ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [one for one in POLICIES if one != "reinforce"])
def test_a_policy_plays_late_and_with_gaps(name: str) -> None:
    world = World(SMALL)
    world.reset(seed=5)
    whole = play(policy(name, world), world, seed=5)
    again = play(policy(name, world), world, seed=5)
    gaps = play(policy(name, world), world, seed=5, late=4, missing=0.3)
    assert whole.reward == again.reward
    assert len(gaps.clicks) == 15
    assert (whole.regret >= -1e-6).all()


def test_policies_that_learn_miss_less_than_those_that_do_not() -> None:
    config = replace(
        SMALL, people=60, horizon=80, known=0.0, boredom=0.0, long_term=0.0, drift=0.0, spread=1.5, stay=1e9
    )
    makers = {name: lambda world, name=name: policy(name, world) for name in ("greedy", "random", "linucb")}
    found = compare(makers, World(config), range(2))
    regret = {name: np.mean([one.regret.sum() for one in runs]) for name, runs in found.items()}
    assert regret["linucb"] < 0.7 * regret["greedy"] < 0.7 * regret["random"]


def test_a_policy_that_is_none_is_named_with_the_nearest() -> None:
    with pytest.raises(BowerbirdError, match=r'no policy is named "linucbb".*Did you mean "linucb"'):
        policy("linucbb", World(SMALL))


def test_returns_of_a_log_are_those_of_its_people(tmp_path: Path) -> None:
    world = World(replace(SMALL, horizon=40))
    world.reset(seed=0)
    belief = long_run(world)
    log = gathered(belief, world, 0, 1, discount=0.8)
    assert len(log.gain) == len(log.past) == len(log.place)
    assert log.gain.shape == (len(log), 3)
    told = belief.fit(log)
    assert len(told) == belief.epochs
    assert np.isfinite(told).all()
