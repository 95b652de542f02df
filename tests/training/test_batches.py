"""Batches: what an epoch visits, what a batch depends on, and how workers share one."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from bowerbird.core import ConfigError
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions
from bowerbird.features import Content, Pairs
from bowerbird.models.baselines.mf import MFConfig
from bowerbird.nn.losses import PairConfig
from bowerbird.training import PairBatches, batches_for

OWN = ("bpr", "bce", "gbce", "cosine_contrastive")  # losses whose rows have negatives of their own
ALL = ("softmax", "sampled_softmax", *OWN)
N_USERS, N_ITEMS = 30, 25


@pytest.fixture(scope="module")
def events() -> Interactions:
    """Random choices, some made twice, some taken back by a dislike."""
    rng = np.random.default_rng(0)
    n = 400
    return Interactions(
        user=rng.integers(0, N_USERS, n).astype(np.int32), item=rng.integers(0, N_ITEMS, n).astype(np.int32),
        weight=rng.random(n).astype(np.float32) + 0.5, event=(rng.random(n) < 0.2).astype(np.uint8), time=None,
        user_ids=Ids.of(range(N_USERS)), item_ids=Ids.of(range(N_ITEMS)),
        events=(EventType("like"), EventType("dislike", sign="negative")),
    )  # fmt: skip


def cutter(events: Interactions, loss: str = "sampled_softmax", *, seed: int = 0, **options: int) -> PairBatches:
    options = {"batch_size": 32, "negatives": 6} | options
    return PairBatches(events, PairConfig(loss=loss, **options), seed=seed, device="cpu")  # type: ignore[arg-type]


def epoch_of(batches: PairBatches, epoch: int) -> list[Pairs]:
    return [batches.batch(epoch, step) for step in range(len(batches))]


def same(one: Pairs, other: Pairs) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("user", "item", "weight", "negative"))


@pytest.mark.parametrize("loss", ALL)
def test_an_epoch_visits_every_positive_pair_once_with_its_weight(events: Interactions, loss: str) -> None:
    batches = cutter(events, loss)
    seen = Counter(
        (user, item, round(weight, 5))
        for batch in epoch_of(batches, 0)
        for user, item, weight in zip(batch.user.tolist(), batch.item.tolist(), batch.weight.tolist(), strict=True)
    )
    pairs = events.positives
    expected = zip(pairs.user.tolist(), pairs.item.tolist(), pairs.weight.tolist(), strict=True)
    assert seen == Counter((user, item, round(weight, 5)) for user, item, weight in expected)
    assert batches.n_rows == len(pairs) < len(events)


def test_batches_are_full_but_for_the_last(events: Interactions) -> None:
    sizes = [len(batch) for batch in epoch_of(cutter(events), 0)]
    n = len(events.positives)
    assert sizes == [32] * (n // 32) + [n % 32]
    assert len(cutter(events)) == math.ceil(n / 32)


def test_the_order_is_another_one_each_epoch(events: Interactions) -> None:
    batches = cutter(events)
    first, second = (torch.cat([batch.user * N_ITEMS + batch.item for batch in epoch_of(batches, e)]) for e in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)


@pytest.mark.parametrize("loss", ALL)
def test_a_batch_depends_on_seed_epoch_and_step_alone(events: Interactions, loss: str) -> None:
    visited = cutter(events, loss)
    for epoch, step in ((0, 0), (1, 2), (0, 3)):
        visited.batch(epoch, step)
    assert same(visited.batch(1, 1), cutter(events, loss).batch(1, 1))
    for epoch, step, seed in ((0, 1, 0), (1, 0, 0), (1, 1, 1)):
        assert not same(visited.batch(1, 1), cutter(events, loss, seed=seed).batch(epoch, step))


def test_negatives_change_from_step_to_step(events: Interactions) -> None:
    batches = cutter(events)
    assert not torch.equal(batches.batch(0, 0).negative, batches.batch(0, 1).negative)


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("step", [0, -1])
def test_the_shards_of_two_workers_interleave_to_the_whole_batch(events: Interactions, loss: str, step: int) -> None:
    batches = cutter(events, loss, batch_size=31)
    step %= len(batches)
    whole = batches.batch(2, step)
    parts = [cutter(events, loss, batch_size=31).batch(2, step, (rank, 2)) for rank in (0, 1)]
    for name in ("user", "item", "weight", *(("negative",) if loss in OWN else ())):
        column = getattr(whole, name)
        woven = torch.empty_like(column)
        woven[0::2], woven[1::2] = (getattr(part, name) for part in parts)
        assert torch.equal(woven, column)
    assert abs(len(parts[0]) - len(parts[1])) <= 1


def test_workers_share_the_negatives_of_a_sampled_softmax(events: Interactions) -> None:
    whole, *parts = (cutter(events).batch(0, 1, shard) for shard in ((0, 1), (0, 2), (1, 2)))
    assert all(torch.equal(part.negative, whole.negative) for part in parts)
    assert whole.negative.shape == (6,)


@pytest.mark.parametrize("loss", OWN)
def test_own_negatives_are_no_positives_of_the_user(events: Interactions, loss: str) -> None:
    few = events.rows(np.arange(90))  # about 3 of 25 items each, so that redrawing always ends in time
    positives = set(zip(few.positives.user.tolist(), few.positives.item.tolist(), strict=True))
    for batch in epoch_of(cutter(few, loss, negatives=20), 0):
        assert batch.negative.shape == (len(batch), 20)
        drawn = zip(batch.user.tolist(), batch.negative.tolist(), strict=True)
        assert not {(user, item) for user, row in drawn for item in row} & positives


def test_in_a_dense_table_hardly_any_own_negative_is_a_positive(events: Interactions) -> None:
    batches = cutter(events, "bpr", negatives=50)
    chosen = torch.zeros(N_USERS, N_ITEMS, dtype=torch.bool)
    chosen[events.positives.user.astype("int64"), events.positives.item.astype("int64")] = True
    wrong = torch.cat([chosen[batch.user[:, None], batch.negative].flatten() for batch in epoch_of(batches, 0)])
    assert float(wrong.float().mean()) < 0.005 < 0.2 < float(chosen.float().mean())


def test_own_negatives_are_uniform_over_what_the_user_did_not_choose(two_by_two: Interactions) -> None:
    wide = two_by_two.rows(np.array([0]))  # ann chose x, of x and y
    batches = cutter(wide, "bpr", negatives=50)
    assert set(batches.batch(0, 0).negative.flatten().tolist()) == {1}


def test_someone_who_chose_everything_still_gets_a_batch(two_by_two: Interactions) -> None:
    batch = cutter(two_by_two, "bpr").batch(0, 0)
    of_bob = batch.negative[batch.user == 1]
    assert of_bob.shape == (2, 6)
    assert ((of_bob >= 0) & (of_bob < 2)).all()


def test_shared_negatives_are_uniform_over_all_items(events: Interactions) -> None:
    batches = cutter(events, negatives=500)
    drawn = torch.cat([batch.negative for batch in epoch_of(batches, 0)])
    counts = torch.bincount(drawn, minlength=N_ITEMS)
    expected = len(drawn) / N_ITEMS
    assert float(((counts - expected) ** 2 / expected).sum()) < 60.0  # 24 degrees: 1 in 10,000 is 59


def test_log_q_is_the_log_of_how_often_a_negative_is_expected(events: Interactions) -> None:
    batch = cutter(events, negatives=10).batch(0, 0)
    assert batch.log_q is not None
    assert batch.log_q.tolist() == pytest.approx([math.log(10 / N_ITEMS)] * 10)


def test_with_log_q_the_sampled_sum_is_that_over_all_other_items_on_average(events: Interactions) -> None:
    batches = cutter(events, negatives=4000)
    exponentials = torch.linspace(0.5, 3.0, N_ITEMS)
    batch = batches.batch(0, 0)
    assert batch.log_q is not None
    others = batch.negative != 7  # an item's own draws are left out by the loss
    estimate = (exponentials[batch.negative] / batch.log_q.exp())[others].sum()
    assert float(estimate) == pytest.approx(float(exponentials.sum() - exponentials[7]), rel=0.03)


def test_the_rate_is_that_of_the_other_items_and_only_sampled_softmax_corrects(events: Interactions) -> None:
    for loss in OWN:
        batch = cutter(events, loss, negatives=12).batch(0, 0)
        assert batch.log_q is None
        assert batch.rate == pytest.approx(12 / (N_ITEMS - 1))


def test_the_softmax_over_all_items_draws_no_negatives(events: Interactions) -> None:
    batch = cutter(events, "softmax").batch(0, 0)
    assert batch.negative.numel() == 0
    assert batch.log_q is None


def test_pairs_are_cut_from_a_table_and_other_kinds_are_refused(events: Interactions) -> None:
    batches = batches_for(Pairs, events, PairConfig(), seed=0, device="cpu")
    assert batches.n_rows == len(events.positives)
    with pytest.raises(ConfigError, match="no batches of kind Content can be cut"):
        batches_for(Content, events, PairConfig(), seed=0, device="cpu")


def test_pairs_weigh_their_own_weight_times_that_of_their_propensity(events: Interactions) -> None:
    config = MFConfig(batch_size=32, debias="popularity", debias_power=1.0)
    plain, told = PairBatches(events, MFConfig(batch_size=32), seed=0, device="cpu"), config.pair_weights(events)
    assert told is not None
    assert told.std() > 0.1
    debiased = PairBatches(events, config, seed=0, device="cpu")
    assert debiased.weight.tolist() == pytest.approx((plain.weight.numpy() * told).tolist())
    one, other = plain.batch(0, 0), debiased.batch(0, 0)
    assert torch.equal(one.item, other.item)
    assert other.whole is not None
    assert float(other.whole) == pytest.approx(float(other.weight.sum()))
