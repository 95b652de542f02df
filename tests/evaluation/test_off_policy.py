"""Off-policy estimates: against slow and obvious versions, by hand, and against the truth of made-up worlds."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.core import DataError
from bowerbird.evaluation.off_policy import (
    ESTIMATORS,
    MODELLED,
    Logged,
    estimate,
    logged,
    overlap,
    parts,
    reward_model,
    settled,
    weights,
)


def soft(scores: np.ndarray) -> np.ndarray:
    """Return softmax over the last axis."""
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


class World:
    """People of five numbers, ten arms, and what each would earn: so that the truth is known."""

    def __init__(self, seed: int, n: int = 1_000, *, apart: float = 0.3) -> None:
        fixed, rng = np.random.default_rng(12345), np.random.default_rng([seed, 1])
        likes, habit = fixed.normal(size=(5, 10)), fixed.normal(size=(5, 10))
        self.x = rng.normal(size=(n, 5))
        self.q = 1 / (1 + np.exp(-self.x @ likes))
        behaviour = soft(apart * self.x @ habit)
        self.chance = soft(apart * self.x @ likes)
        action = (behaviour.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
        rows = np.arange(n)
        reward = (rng.random(n) < self.q[rows, action]).astype(float)
        self.log = Logged(action, reward, behaviour[rows, action], 10)

    @property
    def truth(self) -> float:
        return float((self.chance * self.q).sum(axis=1).mean())


def slow(name: str, log: Logged, chance: np.ndarray, model: np.ndarray, setting: float) -> float:
    """Return an estimate, round by round."""
    total = bottom = direct = 0.0
    for n in range(len(log)):
        arm, reward = int(log.action[n]), float(log.reward[n])
        w = float(chance[n, arm]) / float(log.propensity[n])
        value = sum(float(chance[n, one]) * float(model[n, one]) for one in range(log.n_arms))
        error = reward - float(model[n, arm])
        match name:
            case "dm":
                total += value
            case "ipw":
                total += w * reward
            case "snipw":
                total, bottom = total + w * reward, bottom + w
            case "dr":
                total += value + w * error
            case "sndr":
                total, bottom, direct = total + w * error, bottom + w, direct + value
            case "switch":
                total += value + (w * error if w <= setting else 0.0)
            case "dros":
                total += value + setting * w / (w * w + setting) * error
            case "replay":
                if max(range(log.n_arms), key=lambda one: float(chance[n, one])) == arm:
                    total, bottom = total + reward, bottom + 1
    if name in ("snipw", "replay"):
        return total / bottom if bottom else 0.0
    return direct / len(log) + total / bottom if name == "sndr" else total / len(log)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(ESTIMATORS))
def test_estimates_are_those_of_slow_and_obvious_versions(seed: int, name: str) -> None:
    world = World(seed, 60)
    model = np.random.default_rng(seed).random((60, 10))
    setting = settled(name, world.log, world.chance, model) if name in ("switch", "dros") else np.inf
    asked = slow(name, world.log, world.chance, model, setting if np.isfinite(setting) else 1e300)
    found = estimate(world.log, world.chance, model, names=[name], draws=2)[name]
    assert found.value == pytest.approx(asked, abs=1e-8)


def test_two_rounds_by_hand() -> None:
    log = Logged(np.array([0, 1]), np.array([1.0, 0.0]), np.array([0.5, 0.25]), 2)
    chance = np.array([[1.0, 0.0], [0.5, 0.5]])
    model = np.array([[0.8, 0.1], [0.4, 0.2]])
    assert weights(log, chance).tolist() == [2.0, 2.0]
    found = {name: one.value for name, one in estimate(log, chance, model, draws=2).items()}
    assert found["ipw"] == pytest.approx((2 * 1 + 2 * 0) / 2)
    assert found["snipw"] == pytest.approx(2 / 4)
    assert found["dm"] == pytest.approx((0.8 + 0.3) / 2)
    assert found["dr"] == pytest.approx((0.8 + 2 * 0.2 + 0.3 + 2 * -0.2) / 2)
    assert found["sndr"] == pytest.approx((0.8 + 0.3) / 2 + (2 * 0.2 + 2 * -0.2) / 4)
    assert found["replay"] == pytest.approx(1.0)  # in the second round the first arm comes first


def test_the_log_of_a_policy_tells_what_it_earned_itself() -> None:
    world = World(3, 500)
    behaviour = np.full((500, 10), 0.1)
    log = Logged(world.log.action, world.log.reward, np.full(500, 0.1), 10)
    assert estimate(log, behaviour)["ipw"].value == pytest.approx(log.reward.mean())
    said = overlap(log, behaviour)
    assert (said.effective, said.mean_weight, said.unseen) == (pytest.approx(500), pytest.approx(1.0), 0.0)
    assert said.verdict == "the log covers the policy"


def test_what_a_log_cannot_tell_is_said() -> None:
    log = Logged(np.zeros(300, int), np.ones(300), np.ones(300), 3)
    elsewhere = np.tile([0.2, 0.8, 0.0], (300, 1))
    assert overlap(log, elsewhere).unseen == pytest.approx(0.8)
    assert "never tried" in overlap(log, elsewhere).verdict
    few = Logged(np.zeros(50, int), np.ones(50), np.ones(50), 3)
    assert "fewer than 100" in overlap(few, np.tile([1.0, 0.0, 0.0], (50, 1))).verdict


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    hits = dict.fromkeys(("ipw", "snipw", "dr", "sndr", "auto"), 0)
    n, truth = 200, World(10**6, 200_000).truth
    for seed in range(n):
        world, rng = World(seed), np.random.default_rng(seed)
        model = reward_model(world.log, world.x, rng=rng)
        for name, one in estimate(world.log, world.chance, model, names=list(hits), draws=300, rng=rng).items():
            hits[name] += one.low <= truth <= one.high
    for name, times in hits.items():
        assert 0.90 <= times / n <= 0.99, name


def test_a_model_of_rewards_makes_estimates_closer() -> None:
    errors: dict[str, list[float]] = {name: [] for name in ("ipw", "dr", "auto")}
    for seed in range(30):
        world = World(seed, 500, apart=1.0)
        model = reward_model(world.log, world.x, rng=np.random.default_rng(seed))
        for name, one in estimate(world.log, world.chance, model, names=list(errors), draws=100).items():
            errors[name].append((one.value - world.truth) ** 2)
    assert np.mean(errors["dr"]) < 0.8 * np.mean(errors["ipw"])
    assert np.mean(errors["auto"]) < np.mean(errors["dr"])


def test_a_round_is_told_by_a_model_that_has_not_seen_it() -> None:
    n = 90
    log = Logged(np.arange(n) % 3, np.random.default_rng(0).integers(0, 2, n).astype(float), np.full(n, 1 / 3), 3)
    features = np.eye(n)  # whoever has seen a round could tell its reward by heart
    told = reward_model(log, features, rng=np.random.default_rng(0))[np.arange(n), log.action]
    assert abs(np.corrcoef(told, log.reward)[0, 1]) < 0.5


def test_the_same_draws_make_the_same_intervals() -> None:
    world = World(1)
    one, two = (estimate(world.log, world.chance, rng=np.random.default_rng(5)) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("propensity", 0.0, r"propensity is 0\.0 in row 2; it must be above 0 and at most 1"),
        ("propensity", 1.5, r"propensity is 1\.5 in row 2"),
        ("propensity", None, r"propensity is missing in row 2"),
        ("reward", -1.0, r"reward is -1\.0 in row 2; it must lie between 0 and 1"),
        ("reward", 7.0, r"reward is 7\.0 in row 2"),
        ("reward", float("nan"), r"reward is nan in row 2"),
        ("item_id", "z", r"item_id is 'z' in row 2, which is none of the 2 arms"),
        ("policy_version", "2", r'row 2 is of policy "2", not of "1"'),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_row(column: str, value: object, said: str) -> None:
    rows = {"item_id": ["a", "b"] * 2, "reward": [0.0, 1.0] * 2, "propensity": [0.5] * 4, "policy_version": ["1"] * 4}
    assert len(logged(pl.DataFrame(rows), ["a", "b"], policy_version="1", most=1)) == 4
    rows[column] = [*rows[column][:2], value, rows[column][3]]  # type: ignore[list-item]
    with pytest.raises(DataError, match=said):
        logged(pl.DataFrame(rows), ["a", "b"], policy_version="1", most=1)


def test_what_is_no_policy_or_no_log_is_refused() -> None:
    world = World(0, 10)
    with pytest.raises(DataError, match="in row 4 sum to 2"):
        weights(world.log, np.where(np.arange(10)[:, None] == 4, 0.2, 0.1) * np.ones((10, 10)))
    with pytest.raises(DataError, match=r"shape \(10, 3\)"):
        weights(world.log, np.ones((10, 3)) / 3)
    with pytest.raises(DataError, match="no rounds"):
        Logged(np.zeros(0, int), np.zeros(0), np.zeros(0), 2)
    with pytest.raises(DataError, match="no column reward"):
        logged(pl.DataFrame({"item_id": ["a"]}), ["a"])
    with pytest.raises(DataError, match="needs a model"):
        parts("dr", world.log, world.chance)
    with pytest.raises(DataError, match='named "best"'):
        parts("best", world.log, world.chance)
    assert not set(estimate(world.log, world.chance, draws=2)) & set(MODELLED)
