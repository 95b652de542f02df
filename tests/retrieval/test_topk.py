"""Exact top-k: order, ties by chance, short lists, and what is hidden."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bowerbird.core import ScoreError, torch_stream
from bowerbird.features import Ragged
from bowerbird.retrieval import hide_seen, top_k


def best(scores: Tensor, k: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return top_k(scores, k, lambda: torch_stream(seed, "ties"))


def chi_square(counts: Tensor) -> float:
    """Return the statistic against equal frequencies; its mean is the number of cells less one."""
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


@given(st.integers(1, 12), st.integers(1, 15), st.randoms(use_true_random=False))
def test_distinct_scores_come_in_sorted_order(n_items: int, k: int, random: object) -> None:
    rows = []
    for _ in range(3):
        row = [float(number) for number in range(n_items)]
        random.shuffle(row)  # type: ignore[attr-defined]
        rows.append(row)
    values, columns = best(torch.tensor(rows), k)
    for row, value, column in zip(rows, values.tolist(), columns.tolist(), strict=True):
        expected = sorted(range(n_items), key=lambda item: -row[item])[:k]
        assert column == expected + [-1] * (k - len(expected))
        assert value == [row[item] for item in expected] + [-math.inf] * (k - len(expected))


@given(
    st.lists(st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 2.0]), min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(1, 8),
)
def test_with_ties_the_values_are_the_best_ones_and_no_column_comes_twice(rows: list[list[float]], k: int) -> None:
    values, columns = best(torch.tensor(rows), k)
    for row, value, column in zip(rows, values.tolist(), columns.tolist(), strict=True):
        assert value == (sorted(row, reverse=True) + [-math.inf] * 2)[:k]
        shown = [item for item in column if item >= 0]
        assert len(set(shown)) == len(shown)
        assert [row[item] if item >= 0 else -math.inf for item in column] == value
        assert all((item >= 0) == (score > -math.inf) for item, score in zip(column, value, strict=True))


def test_a_constant_scorer_shows_each_item_equally_often_at_each_place() -> None:
    _, columns = best(torch.zeros(12_000, 6), k=2)
    for place in (0, 1):
        assert chi_square(torch.bincount(columns[:, place], minlength=6)) < 25.7  # 1 in 10,000 with 5 degrees


def test_a_tie_at_the_last_place_is_drawn_among_all_that_tie() -> None:
    scores = torch.tensor([[5.0, 1.0, 1.0, 0.0, 1.0, 1.0]]).repeat(8_000, 1)
    _, columns = best(scores, k=3)
    assert (columns[:, 0] == 0).all()
    pairs = torch.bincount(columns[:, 1] * 6 + columns[:, 2], minlength=36).view(6, 6)
    tied = torch.tensor([1, 2, 4, 5])
    ordered = pairs[tied][:, tied][~torch.eye(4, dtype=torch.bool)]
    assert ordered.sum() == 8_000
    assert chi_square(ordered) < 37.4  # the 12 ordered pairs alike: 1 in 10,000 with 11 degrees


def test_a_tie_inside_the_list_comes_in_random_order() -> None:
    scores = torch.tensor([[3.0, 7.0, 7.0, 1.0, 9.0]]).repeat(4_000, 1)
    _, columns = best(scores, k=4)
    assert (columns[:, [0, 3]] == torch.tensor([4, 0])).all()
    assert chi_square(torch.bincount(columns[:, 1], minlength=5)[1:3]) < 15.1


def test_a_tie_in_one_row_does_not_disturb_the_others() -> None:
    scores = torch.stack([torch.zeros(8), torch.arange(8.0), torch.zeros(8)])
    _, columns = best(scores, k=3)
    assert columns[1].tolist() == [7, 6, 5]


def test_one_seed_breaks_ties_one_way() -> None:
    scores = torch.zeros(20, 30)
    one, again, other = (best(scores, 5, seed)[1] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_more_places_than_items_are_left_empty() -> None:
    values, columns = best(torch.tensor([[1.0, 2.0]]), k=4)
    assert columns.tolist() == [[1, 0, -1, -1]]
    assert values.tolist() == [[2.0, 1.0, -math.inf, -math.inf]]


def test_minus_infinity_never_fills_a_list() -> None:
    values, columns = best(torch.tensor([[-math.inf, 2.0, -math.inf, -5.0], [-math.inf] * 4]), k=3)
    assert columns.tolist() == [[1, 3, -1], [-1, -1, -1]]
    assert values[0].tolist() == [2.0, -5.0, -math.inf]


def test_plus_infinity_is_the_best_score() -> None:
    assert best(torch.tensor([[1.0, math.inf, 2.0]]), k=2)[1].tolist() == [[1, 2]]


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("item", [0, 2])
def test_a_score_that_is_not_a_number_names_its_item(k: int, item: int) -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [math.inf, -math.inf, 0.0]])
    scores[1, item] = math.nan
    with pytest.raises(ScoreError, match=f"the score of item row {item} is not a number"):
        best(scores, k)


def test_the_scores_given_are_not_changed() -> None:
    scores = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    before = scores.clone()
    best(scores, k=2)
    assert torch.equal(scores, before)


@pytest.fixture
def history() -> Ragged:
    """Three requests: items 0 and 2 (an event of kind 1), nothing, item 1."""
    plain = Ragged.of([[0, 2], [], [1]])
    return replace(plain, event=torch.tensor([0, 1, 0], dtype=torch.uint8))


def hidden(scores: Tensor) -> list[list[int]]:
    return (scores == -math.inf).int().tolist()


def test_only_events_that_hide_hide_their_item(history: Ragged) -> None:
    scores = torch.ones(3, 3)
    hide_seen(scores, history, torch.tensor([True, False]))
    assert hidden(scores) == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_a_history_without_events_hides_all_of_its_items(history: Ragged) -> None:
    scores = torch.ones(3, 3)
    hide_seen(scores, replace(history, event=None), torch.tensor([False]))
    assert hidden(scores) == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_an_item_is_hidden_when_any_of_its_events_hides_it() -> None:
    twice = replace(Ragged.of([[1, 1]]), event=torch.tensor([1, 0], dtype=torch.uint8))
    scores = torch.ones(1, 2)
    hide_seen(scores, twice, torch.tensor([True, False]))
    assert hidden(scores) == [[0, 1]]


def test_what_is_not_hidden_keeps_its_score(history: Ragged) -> None:
    scores = torch.arange(9.0).view(3, 3)
    hide_seen(scores, history, torch.tensor([True, True]))
    assert scores[scores > -math.inf].tolist() == [1.0, 3.0, 4.0, 5.0, 6.0, 8.0]


@pytest.mark.parametrize("n_items", [22_000, 22_017])  # with and without a rest after the last whole group
@pytest.mark.parametrize("item_after_item", [False, True])
def test_long_rows_are_ranked_as_a_full_sort_ranks_them(n_items: int, item_after_item: bool) -> None:
    scores = torch.randperm(3 * n_items, generator=torch.Generator().manual_seed(0)).float().view(3, n_items)
    scores[0, -5:] += 10 * n_items  # some of the best lie in the rest
    scores[1, 1000:] = -math.inf
    expected = scores.sort(dim=1, descending=True)
    asked = scores.T.contiguous().T if item_after_item else scores
    for k in (1, 20, 150):
        values, columns = best(asked, k)
        assert torch.equal(values, expected.values[:, :k])
        assert torch.equal(columns, expected.indices[:, :k])
