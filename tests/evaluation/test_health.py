"""health(): figures against slow versions, and which lists are warned of."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bowerbird as bb
from bowerbird.data import Holdout, Interactions
from bowerbird.evaluation import Health, health
from bowerbird.evaluation.health import FEW_ITEMS, MOST_USERS, K

Build = Callable[..., Any]
USERS, ITEMS = 60, 200


@pytest.fixture(scope="module")
def crowd(holdout_of: Build) -> Holdout:
    """Sixty users with twenty choices each among 200 items, the first ones much more often than the last."""
    rng = np.random.default_rng(0)
    appeal = 1 / np.arange(1, ITEMS + 1)
    pairs = [
        (user, int(item)) for user in range(USERS)
        for item in rng.choice(ITEMS, 20, replace=False, p=appeal / appeal.sum())
    ]  # fmt: skip
    everything = [(user, user) for user in range(USERS)] + [(item % USERS, item) for item in range(ITEMS)]
    return holdout_of(sorted({*pairs, *everything}), [(0, 0)])


@pytest.fixture(scope="module")
def people(crowd: Holdout) -> torch.Tensor:
    return torch.from_numpy(np.bincount(crowd.known.positives.item, minlength=ITEMS)).float()


def lists(scores: np.ndarray, past: Interactions) -> list[set[int]]:
    """Return each user's ten best unseen items, one by one; scores must not tie."""
    found = []
    for user in range(past.n_users):
        seen = set(past.item[past.user == user].tolist())
        found.append(set([item for item in np.argsort(-scores[user]) if item not in seen][:K]))
    return found


def test_personalisation_and_coverage_by_hand(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of([(0, 0), (1, 1), (0, 2), (1, 3), (0, 4), (1, 4)], [(0, 1)])
    never = -np.inf
    scorer = fixed_scorer([[never, 3, never, never, 0], [2, never, 1, never, 0]], cut)
    found = health(scorer, cut.known)
    # the lists are {1} and {0, 2}: nothing in common, three of the five items
    assert found is not None
    assert (found.users, found.personalisation, found.coverage, found.coverage_most) == (2, 1.0, 0.6, 0.6)
    same = health(fixed_scorer([[never, 3, never, 1, 0], [never, never, never, never, 0]], cut), cut.known)
    assert same is not None
    assert same.personalisation == 1.0  # one of them has no list at all


def test_what_lists_have_in_common_by_hand(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of([(0, 0), (1, 1), (2, 2), (0, 3), (1, 4)], [(0, 1)], n_items=5)
    never = -np.inf
    scorer = fixed_scorer([[never, never, 1, never, 2], [never, never, 1, 2, never], [never, never, 1, 1, 2]], cut)
    found = health(scorer, cut.known)
    # {2, 4}, {2, 3} and {3, 4}: each of the three pairs has one item of two in common
    assert found is not None
    assert found.personalisation == pytest.approx(0.5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1_000))
def test_figures_agree_with_a_look_at_every_pair(
    crowd: Holdout, people: torch.Tensor, fixed_scorer: Build, seed: int
) -> None:
    rng, past = np.random.default_rng(seed), crowd.known
    scores = rng.normal(size=(USERS, ITEMS)).astype(np.float32) + rng.normal(size=ITEMS).astype(np.float32)
    found = health(fixed_scorer(scores, crowd), past, seed=seed)
    mine = lists(scores, past)
    assert found is not None
    overlap = np.mean([len(one & other) / K for one, other in combinations(mine, 2)])
    assert found.personalisation == pytest.approx(1 - overlap)
    assert found.coverage == len(set.union(*mine)) / ITEMS
    head = set(np.argsort(-people.numpy(), kind="stable")[: ITEMS // 10].tolist())
    assert found.head_10[0] == pytest.approx(np.mean([len(one & head) / K for one in mine]))
    assert found.head_10[2] == pytest.approx(float(people[list(head)].sum() / people.sum()))


def test_popularity_shows_what_popularity_shows(crowd: Holdout, people: torch.Tensor, fixed_scorer: Build) -> None:
    scores = people - torch.arange(ITEMS) * 1e-4  # without ties
    found = health(fixed_scorer(scores.repeat(USERS, 1), crowd), crowd.known, personal=False)
    assert found is not None
    assert found.popular > 0.9  # ties among the last places are drawn
    assert found.head_10[:2] == pytest.approx((1.0, 1.0), abs=0.05)
    assert found.warnings == ()


def test_a_model_that_is_popularity_is_told_so(crowd: Holdout, people: torch.Tensor, fixed_scorer: Build) -> None:
    found = health(fixed_scorer(people.repeat(USERS, 1) * 3, crowd), crowd.known)
    assert found is not None
    assert len(found.warnings) == 1
    assert "of the places are what popularity shows: the model has learned little beside it. Train" in found.warnings[0]


def test_lists_that_are_all_alike_are_told_so(crowd: Holdout, fixed_scorer: Build) -> None:
    backwards = torch.arange(ITEMS).float().repeat(USERS, 1)
    found = health(fixed_scorer(backwards, crowd), crowd.known)
    assert found is not None
    assert any("of their places in common: the model tells people hardly apart" in text for text in found.warnings)


def test_guesses_are_told_so(crowd: Holdout, fixed_scorer: Build) -> None:
    guesses = torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(0))
    found = health(fixed_scorer(guesses, crowd), crowd.known)
    assert found is not None
    [text] = found.warnings
    assert "guesses would put 10% there. Train longer, or check that the item column is the right one." in text


def test_lists_of_few_items_are_told_so(holdout_of: Build, fixed_scorer: Build) -> None:
    pairs = [(user, item) for user in range(400) for item in (user, 400)]
    cut = holdout_of(pairs, [(0, 1)])
    scores = torch.randn(400, 401, generator=torch.Generator().manual_seed(0))
    scores[:, :20] += 20.0  # ten of the same twenty for everyone
    found = health(fixed_scorer(scores, cut), cut.known)
    assert found is not None
    assert any(
        "all lists together show 5." in text and "of the catalogue is never seen" in text for text in found.warnings
    )


def test_tiny_data_is_not_warned_of(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of([(user, item) for user in range(30) for item in (user % 5, 5 + user % 3)], [(0, 1)])
    assert cut.known.n_items < FEW_ITEMS
    found = health(fixed_scorer(torch.zeros(30, 8), cut), cut.known)
    assert found is not None
    assert found.warnings == ()


def test_without_two_pasts_there_is_nothing_to_look_at(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of([(0, 0)], [(0, 1)])
    assert health(fixed_scorer([[0.0, 0.0]], cut), cut.known) is None


def test_no_more_than_a_thousand_users_are_asked(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of([(user, user % 12) for user in range(MOST_USERS + 50)], [(0, 1)])
    scorer = fixed_scorer(torch.zeros(MOST_USERS + 50, 12), cut)
    first, again = health(scorer, cut.known), health(scorer, cut.known)
    assert first is not None
    assert first.users == MOST_USERS
    assert first == again


def test_a_recommender_keeps_its_health(even_odd: Interactions, tmp_path: Path) -> None:
    rec = bb.fit(even_odd, "ease", l2=5.0)
    assert isinstance(rec.health, Health)
    rec.save(tmp_path)
    assert bb.load(tmp_path).health == rec.health
    manifest = json.loads((tmp_path / "bundles" / "000001" / "manifest.json").read_text())
    assert Health.from_dict(manifest["health"]) == rec.health
    assert str(rec.health).startswith("lists of 40 users: personalisation 0.")
    assert rec.health is rec.health  # looked at once


def test_learning_again_forgets_the_old_health(even_odd: Interactions) -> None:
    rec = bb.fit(even_odd, "itemknn")
    before = rec.health
    rec.learn()
    assert rec.health == before
    assert rec.health is not before


def test_nobody_has_a_past() -> None:
    one = bb.read(pl.DataFrame({"user": ["a", "a"], "item": ["x", "y"]}))
    assert bb.fit(one, "popularity").health is None
