"""Batches of labelled rows: what an epoch visits, what a batch depends on, and how workers share one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import TrainedConfig
from bowerbird.features import Encoded, FeatureBatch
from bowerbird.features.sources import EncodedRows
from bowerbird.training import Batches, RowBatches


def batches(n: int = 23, size: int = 5, *, seed: int = 0) -> RowBatches:
    """Return batches of rows whose code and label are their number."""
    row = torch.arange(n)[:, None]
    source = EncodedRows(Encoded(row.int(), None, torch.zeros(n, 0)), row.float())
    return RowBatches(source, TrainedConfig(batch_size=size), seed=seed, fingerprint="numbers")


def rows(batch: FeatureBatch) -> list[int]:
    found: list[int] = batch.code.flatten().tolist()
    return found


def epoch_of(cut: RowBatches, epoch: int) -> list[list[int]]:
    return [rows(cut.batch(epoch, step)) for step in range(len(cut))]


def test_an_epoch_visits_every_row_once_with_its_label() -> None:
    cut = batches()
    assert (len(cut), cut.n_rows, cut.fingerprint) == (5, 23, "numbers")
    assert isinstance(cut, Batches)
    found = [cut.batch(0, step) for step in range(5)]
    assert [len(batch) for batch in found] == [5, 5, 5, 5, 3]
    assert sorted(row for batch in found for row in rows(batch)) == list(range(23))
    for batch in found:
        assert batch.label is not None
        assert batch.weight is not None
        assert batch.label.flatten().tolist() == rows(batch)
        assert batch.weight.tolist() == [1.0] * len(batch)
        assert batch.whole == len(batch)


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    one, other = batches(seed=0), batches(seed=1)
    orders = [epoch_of(one, 0), epoch_of(one, 1), epoch_of(other, 0)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert epoch_of(batches(seed=0), 0) == orders[0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=12))
def test_a_batch_is_the_same_in_whatever_order_batches_are_asked_for(asked: list[tuple[int, int]]) -> None:
    cut, straight = batches(), {epoch: epoch_of(batches(), epoch) for epoch in range(4)}
    for epoch, step in asked:
        assert rows(cut.batch(epoch, step)) == straight[epoch][step]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4))
def test_workers_share_a_batch_and_know_its_whole_weight(n: int, size: int, workers: int) -> None:
    cut = batches(n, size)
    for step in range(len(cut)):
        whole = cut.batch(2, step)
        parts = [cut.batch(2, step, (worker, workers)) for worker in range(workers)]
        assert sorted(row for part in parts for row in rows(part)) == sorted(rows(whole))
        assert all(part.whole == len(whole) for part in parts)
        assert sum(float(part.weight.sum()) for part in parts) == len(whole)  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [23, 100])
def test_a_batch_may_hold_everything(size: int) -> None:
    cut = batches(23, size)
    assert len(cut) == 1
    assert sorted(rows(cut.batch(0, 0))) == list(range(23))


def test_rows_weigh_what_their_source_says_and_workers_know_the_whole() -> None:
    row = torch.arange(7)[:, None]
    weight = torch.tensor([0.5, 1.0, 2.0, 0.25, 3.0, 0.1, 0.15])
    source = EncodedRows(Encoded(row.int(), None, torch.zeros(7, 0)), row.float(), weight)
    cut = RowBatches(source, TrainedConfig(batch_size=4), seed=0, fingerprint="numbers")
    for step in range(2):
        whole = cut.batch(0, step)
        assert whole.weight is not None
        assert whole.whole is not None
        assert whole.weight.tolist() == weight[rows(whole)].tolist()
        assert float(whole.whole) == pytest.approx(float(whole.weight.sum()))
        for rank in range(2):
            part = cut.batch(0, step, (rank, 2))
            assert part.weight is not None
            assert part.weight.tolist() == weight[rows(part)].tolist()
            assert part.whole == whole.whole
