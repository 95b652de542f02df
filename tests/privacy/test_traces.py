"""The attack finds who took part in what was learnt by heart, and nobody else."""

import numpy as np
import polars as pl
import pytest

import bowerbird as bb
from bowerbird.data import Interactions
from bowerbird.evaluation.binary import auc
from bowerbird.privacy.traces import attack, marks, told_apart
from bowerbird.privacy.unlearning import unlearn


@pytest.fixture(scope="module")
def events() -> Interactions:
    """300 people with arbitrary tastes: what a model foretells of one, it has learnt from them."""
    rng = np.random.default_rng(0)
    rows = [(u, i) for u in range(300) for i in rng.permutation(80)[:8]]
    return bb.read(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row"))


def histories(events: Interactions, people: range) -> list[np.ndarray]:
    return [events.item[events.user == one] for one in people]


def test_people_who_took_part_are_found_until_they_are_erased(events: Interactions) -> None:
    learnt = bb.fit(events.rows(events.user < 150), "ease", l2=10.0)
    inside, outside = histories(events, range(100)), histories(events, range(150, 300))
    before = attack(learnt, inside, outside)
    assert before.auc > 0.9
    assert (before.n_in, before.n_out) == (100, 150)
    after = unlearn(learnt, [str(one) for one in range(100)], keep=[str(one) for one in range(80)]).recommender
    found = attack(after, inside, outside)
    assert found.low < 0.5 < found.high
    assert attack(after, histories(events, range(100, 150)), outside).low > 0.8


def test_a_mark_is_worked_out_by_hand(two_by_two: Interactions) -> None:
    rec = bb.fit(two_by_two, "ease", l2=1.0)
    # of x and y, each foretells the other by 1/2; outside the history is nothing to compare with
    assert marks(rec, [np.array([0, 1])]).tolist() == [0.0]


def test_what_any_model_foretells_tells_nothing(events: Interactions) -> None:
    rec = bb.fit(events.rows(events.user < 150), "ease", l2=10.0)
    people = histories(events, range(140, 160))
    assert marks(rec, people, reference=rec).tolist() == [0.0] * 20
    assert marks(rec, people).tolist() == marks(rec, people).tolist()


def test_order_counts_where_the_model_reads_it(events: Interactions) -> None:
    rec = bb.fit(events.rows(events.user < 40), "sasrec", dim=4, epochs=1)
    one = events.item[events.user == 3]
    assert marks(rec, [one])[0] != marks(rec, [one[::-1]])[0]
    assert marks(rec, [one[:1]]).tolist() == [0.0]  # nothing comes before it


def test_a_coin_and_a_certainty() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=400), rng.normal(size=600)
    coin = told_apart(inside, outside)
    assert coin.low < 0.5 < coin.high
    assert coin.auc == auc(np.repeat([1.0, 0.0], [400, 600]), np.concatenate([inside, outside]))
    assert told_apart(inside + 100, outside).low == 1.0
