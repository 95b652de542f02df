"""Windows: every event is foreseen once, from what came before it, and hardly a position is padding."""

from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.data import EventType, Interactions
from bowerbird.features import Windows
from bowerbird.nn.sequences import WindowConfig
from bowerbird.training.windows import WindowBatches


def events_of(histories: list[list[int]], **more: object) -> Interactions:
    """Return these histories as events, one after another."""
    user = [f"u{place}" for place, items in enumerate(histories) for _ in items]
    item = [str(one) for items in histories for one in items]
    return Interactions.of(pl.Series(user, dtype=pl.String), pl.Series(item, dtype=pl.String), **more)  # type: ignore[arg-type]


def cutter(events: Interactions, **settings: object) -> WindowBatches:
    return WindowBatches(events, WindowConfig(**settings), seed=0, device="cpu")  # type: ignore[arg-type]


def steps(batches: WindowBatches, epoch: int = 0) -> list[Windows]:
    return [batches.batch(epoch, step) for step in range(len(batches))]


def transitions(events: Interactions, batches: list[Windows]) -> Counter[tuple[str, str, str]]:
    """Return how often each (user, item, next item) is trained on, as ids."""
    found: Counter[tuple[str, str, str]] = Counter()
    for one in batches:
        row, place = (one.target >= 0).nonzero(as_tuple=True)
        ends = zip(one.user[row], one.item[row, place], one.target[row, place], strict=True)
        found.update(
            (events.user_ids[int(user)], events.item_ids[int(now)], events.item_ids[int(then)])
            for user, now, then in ends
        )
    return found


@given(st.lists(st.lists(st.integers(0, 30), unique=True, max_size=23), min_size=1, max_size=12), st.integers(1, 9))
def test_every_event_but_the_first_is_foreseen_once(histories: list[list[int]], length: int) -> None:
    events = events_of(histories)
    if not any(len(one) > 1 for one in histories):
        return
    expected = Counter(
        (f"u{place}", str(now), str(then)) for place, items in enumerate(histories) for now, then in pairwise(items)
    )
    batches = cutter(events, history_len=length, batch_size=16)
    assert transitions(events, steps(batches)) == expected
    assert batches.n_rows == expected.total()
    for one in steps(batches):
        assert one.item.shape[1] <= length
        assert len(one) == 1 or one.item.numel() <= 16
        filled = (one.item >= 0).int()
        assert bool((filled.diff(dim=1) <= 0).all())  # oldest first, padding behind
        assert torch.equal(one.weight, (one.target >= 0).sum(dim=1).float())


@given(st.lists(st.lists(st.integers(0, 30), unique=True, max_size=23), min_size=1, max_size=12), st.integers(1, 9))
def test_with_prefixes_every_event_has_a_row_of_what_came_before_it(histories: list[list[int]], length: int) -> None:
    events = events_of(histories)
    expected = sorted(
        (f"u{place}", *map(str, items[max(0, n - length) : n]), str(items[n]))
        for place, items in enumerate(histories)
        for n in range(1, len(items))
    )
    if not expected:
        return
    batches, found = cutter(events, history_len=length, batch_size=5, prefixes=True), []
    for one in steps(batches):
        assert len(one) <= 5
        assert one.weight.tolist() == [1.0] * len(one)
        for user, item, target in zip(one.user, one.item, one.target, strict=True):
            read = item[item >= 0]
            assert (target[: len(read) - 1] == -1).all()
            names = [events.item_ids[int(row)] for row in [*read, target[len(read) - 1]]]
            found.append((events.user_ids[int(user)], *names))
    assert sorted(found) == expected
    assert batches.n_rows == len(expected)


def test_a_long_history_keeps_its_last_window_whole() -> None:
    batches = cutter(events_of([list(range(12))]), history_len=5)
    rows = [row for one in steps(batches) for row in one.item.tolist()]
    assert sorted(tuple(item for item in row if item >= 0) for row in rows) == [(0,), (1, 2, 3, 4, 5), (6, 7, 8, 9, 10)]


def test_hardly_a_position_is_padding() -> None:
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.geometric(0.12, 2000) + 2, 60)
    batches = cutter(events_of([rng.permutation(500)[:n].tolist() for n in lengths]), batch_size=2048)
    assert batches.padding < 0.15
    computed = sum(one.item.numel() for one in steps(batches))
    assert batches.padding == pytest.approx(1 - batches.n_rows / computed)


def test_epochs_differ_and_repeat_by_seed() -> None:
    rng = np.random.default_rng(0)
    events = events_of([rng.permutation(50)[:8].tolist() for _ in range(64)])
    one, again = cutter(events, batch_size=64), cutter(events, batch_size=64)
    assert all(torch.equal(a.item, b.item) for a, b in zip(steps(one, 3), steps(again, 3), strict=True))
    assert not all(torch.equal(a.user, b.user) for a, b in zip(steps(one, 3), steps(one, 4), strict=True))


def test_workers_share_a_batch() -> None:
    rng = np.random.default_rng(0)
    batches = cutter(events_of([rng.permutation(50)[:8].tolist() for _ in range(30)]), loss="bce")
    whole = batches.batch(1, 0)
    parts = [batches.batch(1, 0, (rank, 2)) for rank in range(2)]
    assert torch.equal(torch.cat([one.item for one in parts]).sort(dim=0).values, whole.item.sort(dim=0).values)
    assert torch.equal(parts[1].negative, whole.negative[1::2])
    assert all(torch.equal(one.whole, whole.weight.sum()) for one in parts)  # type: ignore[arg-type]


def test_an_item_that_was_hidden_is_read_but_not_foreseen() -> None:
    histories = [[1, 2, 1, 3, 2]]
    hiding = events_of(histories)
    assert set(transitions(hiding, steps(cutter(hiding)))) == {("u0", "1", "2"), ("u0", "1", "3")}
    listens = events_of(histories, events=(EventType("listen", hides=False),))
    assert transitions(listens, steps(cutter(listens))).total() == 4


def test_dislikes_and_views_are_not_read() -> None:
    kinds = (EventType("like"), EventType("skip", sign="negative"), EventType("see", sign="neutral"))
    events = events_of([[1, 2, 3, 4, 5]], event=np.array([0, 1, 0, 2, 0]), events=kinds)
    assert set(transitions(events, steps(cutter(events)))) == {("u0", "1", "3"), ("u0", "3", "5")}


def test_equal_times_and_lonely_events() -> None:
    events = events_of([[1, 2, 3], [4], []], time=np.zeros(4, np.int64))
    assert set(transitions(events, steps(cutter(events)))) == {("u0", "1", "2"), ("u0", "2", "3")}


def test_negatives_are_shared_or_own() -> None:
    events = events_of([[1, 2, 3, 4], [5, 6, 7]])
    own = cutter(events, loss="bce", negatives=2).batch(0, 0)
    assert own.negative.shape == (*own.item.shape, 2)
    shared = cutter(events, loss="sampled_softmax", negatives=5).batch(0, 0)
    assert shared.negative.shape == (5,)
    assert shared.log_q is not None
    assert shared.log_q.exp().sum().item() == pytest.approx(5 / events.n_items * 5)
    assert not len(cutter(events, loss="softmax").batch(0, 0).negative)
