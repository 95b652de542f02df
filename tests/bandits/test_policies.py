"""Policies: the chance that is logged is the chance with which places are filled."""

from itertools import permutations

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from bowerbird.bandits.beliefs import Believed, Feedback, Linear, Means, NeuralLinear, Scores, examination
from bowerbird.bandits.policies import DRAWS, RULES, Explorer, feedback_of
from bowerbird.core import BowerbirdError

SCORES = torch.tensor([[3.0, 2.0, 1.5, 0.0]])
ITEMS = torch.tensor([[7, 5, 2, 9]])


class Given:
    """A belief that is given."""

    def __init__(self, mean: Tensor, sd: Tensor) -> None:
        self.mean, self.sd = mean, sd

    def believe(self, context: object, candidates: Tensor, scores: Tensor) -> Believed:
        n = len(candidates)
        return Believed(self.mean.expand(n, -1).masked_fill(candidates < 0, -torch.inf), self.sd.expand(n, -1))

    def describe(self, context: object, candidates: Tensor, scores: Tensor) -> None:
        return None

    def learn(self, feedback: Feedback) -> None: ...


def given(rule: str, weight: float) -> Explorer:
    return Explorer(Given(SCORES / 2, torch.full((1, 4), 0.8)), rule, weight)


@pytest.mark.parametrize(("rule", "weight"), [("epsilon-greedy", 0.4), ("softmax", 0.7), ("thompson", 1.0)])
def test_a_propensity_is_how_often_an_item_fills_a_place_after_those_before(rule: str, weight: float) -> None:
    n, policy = 40_000, given(rule, weight)
    draws = 40 if rule == "thompson" else 1  # its chance is that given its draws, so that those must vary, too
    items, chance = [], []
    for seed in range(draws):
        one = policy.choose(None, ITEMS.expand(n // draws, 4), SCORES.expand(n // draws, 4), 2, seed)
        items.append(one[0])
        chance.append(one[1])
    shown, told = torch.cat(items), torch.cat(chance)
    first = {int(item): float((shown[:, 0] == item).float().mean()) for item in ITEMS[0]}
    for item, share in first.items():
        mine = shown[:, 0] == item
        expected = float((mine.float() / told[:, 0]).mean())  # inverse propensity: every item counts once
        there = 1 - (1 - share) ** DRAWS if rule == "thompson" else 1.0  # in some draws the rarest never wins
        assert expected == pytest.approx(there, abs=0.08), (item, share)
        if rule != "thompson":
            assert float(told[mine, 0].mean()) == pytest.approx(share, abs=0.01)
    for one, other in permutations(ITEMS[0].tolist(), 2):
        pair = (shown[:, 0] == one) & (shown[:, 1] == other)
        if float(pair.float().mean()) > 0.05:
            both = told[:, 0] * told[:, 1]
            assert float((pair.float() / both).mean()) == pytest.approx(1.0, abs=0.1), (one, other)


@pytest.mark.parametrize("rule", RULES)
def test_chances_of_the_first_place_are_those_that_are_logged(rule: str) -> None:
    policy = given(rule, 0.5)
    items, told, chances = policy.explore(None, ITEMS, SCORES, 4, seed=3)
    assert float(chances.sum()) == pytest.approx(1.0)
    place = int((ITEMS[0] == items[0, 0]).nonzero()[0])
    assert float(chances[0, place]) == pytest.approx(float(told[0, 0]), abs=1e-6)
    assert sorted(items[0].tolist()) == sorted(ITEMS[0].tolist())


@pytest.mark.parametrize("rule", RULES)
def test_weight_zero_is_greedy_and_empty_places_stay_empty(rule: str) -> None:
    policy, items = Explorer(Scores(), rule, 0.0), torch.tensor([[7, 5, 2, -1], [-1, -1, -1, -1]])
    shown, told = policy.choose(None, items, SCORES.expand(2, 4), 4, seed=0)
    assert shown.tolist() == [[7, 5, 2, -1], [-1] * 4]
    assert told.tolist() == [[1, 1, 1, 0], [0] * 4]
    eager = Explorer(Scores(), rule, 0.9)
    shown, told = eager.choose(None, items, SCORES.expand(2, 4), 4, seed=0)
    assert sorted(shown[0].tolist()) == [-1, 2, 5, 7]
    assert (shown[1] < 0).all()
    assert ((told > 0) == (shown >= 0)).all()


def test_the_same_seed_chooses_the_same() -> None:
    policy = given("thompson", 1.0)
    one, other = (policy.choose(None, ITEMS, SCORES, 3, seed)[0].tolist() for seed in (5, 5))
    assert one == other
    assert len({tuple(policy.choose(None, ITEMS, SCORES, 3, seed)[0][0].tolist()) for seed in range(50)}) > 3


def test_a_weight_may_fade_and_must_be_a_chance_where_it_is_one() -> None:
    policy = Explorer(Scores(), "epsilon-greedy", 0.8, half_life=2.0)
    chances = [float(policy.choose(None, ITEMS, SCORES, 1, seed)[1].min()) for seed in range(40)]
    assert min(chances[-10:]) > 0.9
    assert policy.version == "epsilon-greedy 0.8"
    for rule, weight in (("epsilon-greedy", 1.1), ("softmax", -1.0), ("best", 0.1)):
        with pytest.raises(BowerbirdError, match=r"weight|rule"):
            Explorer(Scores(), rule, weight)


# ── beliefs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_linear_belief_is_ridge_regression_on_what_was_looked_at() -> None:
    rng = np.random.default_rng(0)
    x, position = rng.standard_normal((200, 3)).astype(np.float32), rng.integers(1, 4, 200)
    reward = (x @ [0.5, -0.2, 0.1] + rng.normal(0, 0.1, 200)).astype(np.float32)
    looks = np.array(examination(0.5, 3))
    belief = Linear(lambda *_: torch.from_numpy(x[None]), 3, examined=tuple(looks), ridge=2.0, noise=0.5)
    for part in np.array_split(np.arange(200), 7):  # in lessons of any size
        told = [torch.from_numpy(one[part]) for one in (np.arange(200), reward, position, x)]
        belief.learn(Feedback(*told))
    seen = x * looks[position - 1][:, None]
    a = 2.0 * np.eye(3) + seen.T @ seen / 0.25
    weights = np.linalg.solve(a, seen.T @ reward / 0.25)
    believed = belief.believe(None, torch.arange(200)[None], torch.zeros(1, 200))
    np.testing.assert_allclose(believed.mean[0], x @ weights, atol=1e-5)
    np.testing.assert_allclose(believed.sd[0], np.sqrt(np.einsum("nd,de,ne->n", x, np.linalg.inv(a), x)), atol=1e-5)
    drawn = believed.draws(20_000, torch.Generator().manual_seed(0))[:, 0, :2]
    expected = x[:2] @ np.linalg.inv(a) @ x[:2].T
    np.testing.assert_allclose(np.cov(drawn.numpy().T), expected, atol=0.1 * expected.max())


def test_means_count_what_was_looked_at_and_items_that_come_later_are_unknown() -> None:
    belief = Means((1.0, 0.5))
    item, reward, position = (
        torch.tensor([0, 0, 1, 1]),
        torch.tensor([1.0, 0, 1, torch.nan]),
        torch.tensor([1, 2, 2, 1]),
    )
    belief.learn(Feedback(item, reward, position))
    believed = belief.believe(None, torch.tensor([[0, 1, 5]]), torch.zeros(1, 3))
    prior = (0.5 + 2) / (1 + 2.0)
    assert believed.mean[0].tolist() == pytest.approx([(prior + 1) / 2.5, (prior + 1) / 1.5, prior])
    assert float(believed.sd[0, 2]) > float(believed.sd[0, 1]) > float(believed.sd[0, 0])


def test_what_is_forgotten_counts_less() -> None:
    belief = Linear(lambda *_: torch.ones(1, 1, 1), 1, forget=0.5)
    for reward in [0.0] * 20 + [1.0] * 5:
        belief.learn(Feedback(torch.zeros(1).long(), torch.tensor([reward]), torch.ones(1).long(), torch.ones(1, 1)))
    assert float(belief.believe(None, torch.zeros(1, 1).long(), torch.zeros(1, 1)).mean) > 0.7


def test_neural_linear_learns_what_no_linear_one_can() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(6_000, 2, generator=rng) * 2 - 1
    reward = ((x[:, 0] * x[:, 1]) > 0).float()  # exclusive or
    ones, items = torch.ones(6_000).long(), torch.arange(6_000)
    errors = {}
    for name, belief in {
        "linear": Linear(lambda *_: x[None], 2),
        "neural": NeuralLinear(lambda *_: x[None], 2, every=1_000, epochs=10),
    }.items():
        for part in torch.split(items, 1_000):
            belief.learn(Feedback(part, reward[part], ones[part], x[part]))
        mean = belief.believe(None, items[None], torch.zeros(1, 6_000)).mean[0]
        errors[name] = float((mean - reward).square().mean())
    assert errors["neural"] < 0.1 < 0.3 < errors["linear"]


# ── logs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_policy_learns_from_a_table() -> None:
    log = pl.DataFrame(
        {"item": [3, 4], "position": [1, 2], "reward": [1.0, None], "features": [[1.0, 0.0], [0.0, 1.0]]}
    )
    policy = Explorer(Linear(lambda *_: torch.eye(2)[None], 2), "ucb", 1.0)
    policy.update(log)
    believed = policy.belief.believe(None, torch.tensor([[3, 4]]), torch.zeros(1, 2))
    assert float(believed.mean[0, 0]) == pytest.approx(0.8)
    assert float(believed.mean[0, 1]) == 0.0  # not known yet: nothing was learned
    assert float(believed.sd[0, 1]) == 1.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"item": [-1, 0]}, "row 0 has item -1"),
        ({"reward": [0.0, float("inf")]}, "row 1 has item 1 and reward inf"),
        ({"position": [1, 0]}, "position is 0 in row 1"),
        ({"position": None}, "no column position"),
    ],
)
def test_a_log_that_cannot_be_learned_from_is_refused_by_the_row(change: dict[str, object], says: str) -> None:
    columns = {"item": [0, 1], "position": [1, 2], "reward": [0.0, 1.0]} | change
    log = pl.DataFrame({name: values for name, values in columns.items() if values is not None})
    with pytest.raises(BowerbirdError, match=says):
        feedback_of(log)


def test_features_of_another_length_are_refused() -> None:
    belief = Linear(lambda *_: torch.ones(1, 1, 3), 3)
    with pytest.raises(BowerbirdError, match="has 2 features; this policy asks for 3"):
        belief.learn(Feedback(torch.zeros(1).long(), torch.zeros(1), torch.ones(1).long(), torch.ones(1, 2)))
    assert DRAWS >= 50
