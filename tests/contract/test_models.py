"""Every registered model keeps every promise that applies to it. A new model is picked up by being registered.

The promises are those of `bowerbird.testing`, which any other package runs on its own models.
"""

from functools import cache

import pytest
import torch

import bowerbird as bb
from bowerbird.core import entries, lookup
from bowerbird.features import Context
from bowerbird.nn.losses import NAMES, PairConfig
from bowerbird.testing import Subject, checks, halves
from bowerbird.testing.halves import known_users
from bowerbird.testing.learning import configs_by_loss, fitted_in_another_order
from bowerbird.testing.rows import labels_of

RETRIEVERS = [entry.name for entry in entries() if "retriever" in entry.tags]
RANKERS = [entry.name for entry in entries() if "ranker" in entry.tags]
KEEPS = [(entry.name, check) for entry in entries() for check in checks(entry.name)]

subject_of = cache(Subject.of)  # trained once for all checks


@pytest.mark.parametrize(("name", "check"), KEEPS)
def test_keeps(name: str, check: str) -> None:
    checks()[check](subject_of(name))


def test_every_model_is_checked_by_all_that_applies_to_it() -> None:
    always = {name for name in checks() if all((one, name) in KEEPS for one in RETRIEVERS)}
    assert len(always) == 19
    assert set(checks("ease")) - always == {"beats_popularity", "hears_strangers", "follows_users_wherever_they_stand"}
    assert set(checks("mf")) - always == {
        "beats_popularity", "hears_strangers", "differs_under_another_seed", "follows_users_and_their_rows",
        "has_one_finite_loss_a_row", "clears_its_gradient_between_steps", "resumes_as_if_never_interrupted",
    }  # fmt: skip


@pytest.mark.parametrize("name", RANKERS)
def test_every_ranker_is_checked_by_all_that_rankers_promise(name: str) -> None:
    assert len(checks(name)) == 17


def test_only_models_of_several_tasks_learn_several_labels() -> None:
    several = [name for name in RANKERS if len(labels_of(subject_of(name))) > 1]
    assert several == [entry.name for entry in entries() if "multi-task" in entry.tags]


@pytest.mark.parametrize("name", ["ease", "itemknn", "popularity"])
def test_models_that_count_whole_people_follow_users_to_the_last_bit(name: str) -> None:
    mine, before = fitted_in_another_order(subject_of(name))
    assert torch.equal(mine, before)


@pytest.mark.parametrize("name", [name for name in RETRIEVERS if issubclass(lookup(name).config, PairConfig)])
def test_a_model_of_pairs_takes_every_loss(name: str) -> None:
    subject = Subject.of(name, {"cosine": True})  # without which one of them means nothing
    assert [config.loss for config in configs_by_loss(subject)] == list(NAMES)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", RETRIEVERS)
def test_only_popularity_answers_nobody(name: str) -> None:
    assert bool(subject_of(name).fitted.model.can(Context.nobody()).all()) == (name == "popularity")


def test_popularity_is_what_everybody_falls_back_to() -> None:
    rec, other = subject_of("popularity").fitted, subject_of("ease").fitted
    assert torch.equal(rec.scores(known_users()), other.popularity.scores(known_users()))
    assert bb.evaluate(rec, halves().test, metrics=["recall@10"], intervals=False).metrics["recall@10"] < 0.7


def test_popularity_hears_nothing_of_a_stranger() -> None:
    frame = subject_of("popularity").fitted.recommend(histories=[["i1", "i5", "i9", "i13"]], k=8).to_polars()
    assert sum(int(item[1:]) % 2 for item in frame["item_id"]) < 8
