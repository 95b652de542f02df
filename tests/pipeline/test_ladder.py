import pytest
import torch

from bowerbird.features import Context, Ragged
from bowerbird.pipeline import Ladder


@pytest.fixture
def ladder(known, sums, always) -> Ladder:
    return Ladder({"model": known, "content": sums, "popularity": always})


@pytest.fixture
def mixed() -> Context:
    """A known user, nobody, a stranger with a history, another known user."""
    return Context(torch.tensor([1, -1, -1, 0]), Ragged.of([[0], [], [0, 2], []]))


def test_each_request_is_answered_by_its_first_rung(ladder: Ladder, mixed: Context) -> None:
    scores, rung = ladder.scores(mixed)
    assert [ladder.names[one] for one in rung] == ["model", "popularity", "content", "model"]
    expected = [[1.0, 2.0, 3.0, 4.0], [0.3, 0.4, 0.1, 0.2], [0.1, 0.5, 0.1, 0.7], [4.0, 3.0, 2.0, 1.0]]
    assert torch.allclose(scores, torch.tensor(expected))


@pytest.mark.parametrize(
    "items", [None, torch.tensor([3, 0]), torch.tensor([[0, 1], [2, 3], [3, 3], [1, 0]])], ids=["all", "shared", "own"]
)
def test_a_mixed_batch_is_answered_row_by_row_as_if_alone(
    ladder: Ladder, mixed: Context, items: torch.Tensor | None
) -> None:
    scores, rung = ladder.scores(mixed, items)
    for row in range(len(mixed)):
        mine = items[[row]] if items is not None and items.dim() == 2 else items
        alone, its_rung = ladder.scores(mixed.take(torch.tensor([row])), mine)
        assert torch.equal(scores[row], alone[0])
        assert rung[row] == its_rung[0]


@pytest.mark.parametrize(
    "items", [torch.tensor([3, 0]), torch.tensor([[0, 1], [2, 3], [3, 3], [1, 0]])], ids=["shared", "own"]
)
def test_listed_items_are_columns_of_the_whole(ladder: Ladder, mixed: Context, items: torch.Tensor) -> None:
    whole = ladder.scores(mixed)[0]
    expected = whole[:, items] if items.dim() == 1 else whole.gather(1, items)
    assert torch.equal(ladder.scores(mixed, items)[0], expected)


@pytest.mark.parametrize(("items", "width"), [(None, 4), (torch.tensor([2, 1]), 2), (torch.tensor([[1, 2, 3]]), 3)])
def test_where_nobody_can_answer_the_rung_is_minus_one(ladder: Ladder, items: torch.Tensor | None, width: int) -> None:
    seeds = Context.of_seeds([[]])
    scores, rung = ladder.scores(seeds, items)
    assert rung.tolist() == [-1]
    assert scores.tolist() == [[-torch.inf] * width]


def test_one_unanswerable_request_does_not_disturb_the_others(ladder: Ladder) -> None:
    scores, rung = ladder.scores(Context.of_seeds([[0], [], [2]]))
    assert rung.tolist() == [1, -1, 1]
    assert torch.allclose(scores[0], torch.tensor([0.0, 0.5, 0.1, -0.2]))
    assert scores[1].tolist() == [-torch.inf] * 4
    assert torch.allclose(scores[2], torch.tensor([0.1, 0.0, 0.0, 0.9]))


def test_no_requests_get_no_answers(ladder: Ladder) -> None:
    scores, rung = ladder.scores(Context.nobody(0))
    assert scores.shape == (0, 4)
    assert rung.shape == (0,)
