"""The long run: the gradient is that of the return, and it finds what pays later."""

import numpy as np
import pytest
import torch

from bowerbird.bandits.policies import Explorer
from bowerbird.bandits.reinforce import Episodes, Reinforce, _in_order, returns
from bowerbird.core import BowerbirdError


def test_returns_are_discounted_sums_of_what_follows() -> None:
    rewards = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, 0.0]])
    assert returns(rewards, 0.5).tolist() == [[2.0, 1.0], [2.0, 2.0], [4.0, 0.0]]
    with pytest.raises(BowerbirdError, match="discount"):
        returns(rewards, 1.0)


def test_chances_in_order_are_those_of_plackett_and_luce() -> None:
    logits, place = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[1, 0]])
    odds = np.exp([1.0, 0.0, -1.0])
    chosen, chance = _in_order(logits, place)
    expected = [odds[1] / odds.sum(), odds[0] / (odds[0] + odds[2])]
    np.testing.assert_allclose(chance[0], expected, rtol=1e-6)
    np.testing.assert_allclose(chosen[0], np.log(expected), rtol=1e-6)


def learned(pays: int, *, cap: float = 10.0) -> Reinforce:
    """Return what is learned where item `pays` brings the return, from a log that seldom shows it."""
    rng, n = torch.Generator().manual_seed(0), 4_000
    candidates = torch.arange(4).expand(n, 4)
    scores = torch.tensor([3.0, 1.0, 0.0, -1.0]).expand(n, 4)
    belief = Reinforce(lambda context: torch.zeros(len(context), 2, 3), lambda c, i, s: torch.zeros(*i.shape, 2),
                       (3, 2, 4), cap=cap, epochs=8, batch=500)  # fmt: skip
    prior = belief.prior(candidates, scores)
    place = torch.multinomial(prior.softmax(dim=1), 1, generator=rng)
    gain = (place == pays).float() + 0.3 * torch.randn(n, 1, generator=rng)
    log = Episodes(
        torch.zeros(n, 2, 3),
        candidates,
        torch.zeros(n, 4, 2),
        prior,
        place,
        prior.softmax(dim=1).gather(1, place),
        gain,
    )
    belief.fit(log)
    return belief


@pytest.mark.parametrize("pays", [1, 3])
def test_what_pays_later_comes_first_though_the_ranker_has_it_last(pays: int) -> None:
    policy = Explorer(learned(pays), "softmax", 0.0)
    scores = torch.tensor([[3.0, 1.0, 0.0, -1.0]])
    assert policy.choose([0], torch.arange(4)[None], scores, 1, 0)[0].tolist() == [[pays]]
    policy.belief.strength = 0.0  # type: ignore[attr-defined]
    assert policy.choose([0], torch.arange(4)[None], scores, 1, 0)[0].tolist() == [[0]]


def test_items_that_came_later_are_worth_what_the_ranker_says() -> None:
    belief = learned(3)
    items, scores = torch.tensor([[9, 7, -1]]), torch.tensor([[1.0, 2.0, 0.0]])
    mean = belief.believe([0], items, scores).mean
    assert mean[0].argmax() == 1
    assert mean[0, 2] == -torch.inf


def test_a_log_with_wrong_chances_is_refused_by_its_row() -> None:
    one = torch.zeros(2, 1)
    with pytest.raises(BowerbirdError, match="row 1 has propensities"):
        Episodes(
            torch.zeros(2, 1, 1), one.long(), torch.zeros(2, 1, 1), one, one.long(), torch.tensor([[0.5], [0]]), one
        )
