"""Sources: boards, likeness, and the fusion of what several found."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from bowerbird.core import ScoreError, torch_stream
from bowerbird.data import EventType, Schema
from bowerbird.features import Context, Ragged
from bowerbird.nn.vectors import DotProduct
from bowerbird.pipeline import Ladder
from bowerbird.pipeline.sources import Found, Scorer, best, fuse, of_board

EVERYTHING = np.ones(4, bool)


def draw() -> torch.Generator:
    return torch_stream(0, "test")


def found(name: str, items: list[int], weight: float = 1.0) -> Found:
    return Found(name, np.array(items), np.arange(len(items), 0, -1, dtype=np.float32), weight)


def test_the_best_are_of_those_that_are_allowed() -> None:
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    items, values = best(scores, np.array([True, False, True, False]), 3, draw)
    assert items.tolist() == [0, 2]
    assert values.tolist() == [4.0, 2.0]


def test_what_may_not_be_scored_is_not_found() -> None:
    assert best(torch.tensor([[-torch.inf, 1.0]]), EVERYTHING, 2, draw)[0].tolist() == [1]


def test_a_score_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(ScoreError, match="item row 1"):
        best(torch.tensor([[1.0, torch.nan]]), EVERYTHING, 1, draw)


def test_a_board_skips_what_is_not_allowed_however_far_it_must_look() -> None:
    allowed = np.zeros(100, bool)
    allowed[[3, 90, 95]] = True
    assert of_board(np.arange(100), allowed, 2).tolist() == [3, 90]
    assert of_board(np.arange(100), allowed, 9).tolist() == [3, 90, 95]


def test_a_single_source_keeps_its_own_scores() -> None:
    items, scores = fuse([found("model", [5, 3]), found("latest", [])], draw)
    assert items.tolist() == [5, 3]
    assert scores.tolist() == [2.0, 1.0]


def test_places_are_merged_by_hand() -> None:
    items, scores = fuse([found("model", [0, 1, 2]), found("latest", [2, 3], weight=0.5)], draw)
    # 2: 1/63 + 0.5/61 = 0.0241; 0: 1/61 = 0.0164; 1: 1/62 = 0.0161; 3: 0.5/62 = 0.0081
    assert items.tolist() == [2, 0, 1, 3]
    assert scores == pytest.approx([1 / 63 + 0.5 / 61, 1 / 61, 1 / 62, 0.5 / 62])


def test_equal_places_are_ordered_by_chance() -> None:
    two = [found("model", [0]), found("latest", [1])]
    first = {int(fuse(two, lambda seed=seed: torch_stream(seed, "x"))[0][0]) for seed in range(30)}
    assert first == {0, 1}


@given(st.lists(st.lists(st.integers(0, 20), unique=True), max_size=4))
def test_a_fusion_holds_every_item_once_best_first(lists: list[list[int]]) -> None:
    items, scores = fuse([found("model", one) for one in lists], draw)
    assert sorted(items.tolist()) == sorted(set().union(*lists))
    assert (np.diff(scores) <= 0).all()


class Dots(DotProduct):
    def __init__(self) -> None:
        super().__init__(Schema(1, 4, (EventType("click"),), ()))
        self.items = torch.tensor([[2.0, 0.0], [3.0, 4.0], [0.0, -1.0], [1.0, 1.0]])
        self.shaped_item[:3] = True

    def query(self, context: Context) -> torch.Tensor:
        return torch.zeros(len(context), 2)

    def item_vectors(self) -> torch.Tensor:
        return self.items

    def grow(self, n_users: int, n_items: int) -> None:
        raise AssertionError("the pipeline grows nothing")


def test_likeness_of_vectors_is_that_of_the_ladder() -> None:
    model = Dots()
    context = Context.of_histories([[0, 1]])
    scores = Scorer(Ladder({"model": model})).likeness(context)
    assert scores is not None
    asked = model.scores(Context.of_seeds([[0, 1]]))
    assert torch.allclose(scores[0, :3], asked[0, :3])
    assert scores[0, 3] == asked[0, 3] == -torch.inf


def test_likeness_looks_at_the_last_few_or_at_the_seeds(sums) -> None:
    scorer = Scorer(Ladder({"model": sums}))
    history = Ragged.of([[0, 2, 2, 3, 3, 3, 3, 1]])
    last = scorer.likeness(Context(torch.tensor([-1]), Ragged.of([[3, 3, 0, 0, 0, 0, 0, 1]])))
    assert last is not None
    seeded = scorer.likeness(Context(torch.tensor([-1]), history, Ragged.of([[3]])))
    assert seeded is not None
    assert seeded.tolist() == sums.rows[[3]].tolist()


def test_without_a_past_or_without_a_model_of_likeness_there_is_none(sums, always) -> None:
    assert Scorer(Ladder({"model": sums})).likeness(Context.nobody()) is None
    assert Scorer(Ladder({"model": always})).likeness(Context.of_histories([[1]])) is None


# ── items newer than the model ────────────────────────────────────────────────────────────────────────────────────


class Wish(Dots):
    """Everybody who chose something wishes for the same."""

    def query(self, context: Context) -> torch.Tensor:
        return torch.tensor([[1.0, 2.0]]).expand(len(context), 2)


class Exact:
    """An index that looks at everything."""

    def __init__(self, vectors: torch.Tensor, shaped: torch.Tensor) -> None:
        self.vectors, self.shaped, self.asked = vectors, shaped, 0

    def search(
        self, query: torch.Tensor, n: int, allowed: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert allowed is not None
        assert len(allowed) == len(self.vectors)  # it knows nothing newer
        self.asked += 1
        scores = (query @ self.vectors.T).masked_fill(~(self.shaped & allowed), -torch.inf)
        values, rows = scores.topk(min(n, len(self.vectors)), dim=1)
        return values, rows.masked_fill(values == -torch.inf, -1)


NEWER = torch.tensor([[1.0, 1.0], [torch.nan, torch.nan], [0.0, 9.0]])  # of the second nothing is known
SOMEBODY = Context.of_histories([[0]])


def test_what_is_newer_is_scored_and_likened_by_hand() -> None:
    scorer = Scorer(Ladder({"model": Wish()})).beyond(NEWER)
    assert scorer.reach == 7
    scores, rung = scorer.scores(SOMEBODY)
    assert rung == 0
    assert scores[0].tolist() == [2.0, 11.0, -2.0, -torch.inf, 3.0, -torch.inf, 18.0]
    alike = scorer.likeness(Context.of_seeds([[6]]))  # (0, 1)
    assert alike is not None
    assert alike[0].tolist() == pytest.approx([0.0, 0.8, -1.0, -torch.inf, 0.5**0.5, -torch.inf, 1.0])


def test_only_what_something_is_known_of_can_be_a_seed() -> None:
    rows = np.array([6, 5, 3, 0, 7])
    scorer = Scorer(Ladder({"model": Wish()}))
    assert scorer.beyond(NEWER).knows(rows, 4).tolist() == [True, False, False, True, False]
    assert scorer.knows(rows, 4).tolist() == [False, False, False, True, False]


def test_a_model_without_vectors_knows_its_own_items(sums) -> None:
    scorer = Scorer(Ladder({"model": sums}))
    assert scorer.reach == 0
    assert scorer.knows(np.array([0, 3, 4]), 4).tolist() == [True, True, False]


def test_without_an_index_nothing_is_searched_by_one() -> None:
    scorer = Scorer(Ladder({"model": Wish()})).beyond(NEWER)
    assert scorer.near(SOMEBODY, 3, np.ones(7, bool)) is None
    assert scorer.kin(SOMEBODY, 3, np.ones(7, bool)) is None


def test_newer_items_take_the_place_of_those_before() -> None:
    first = Scorer(Ladder({"model": Wish()}), Exact)
    second = first.beyond(NEWER).beyond(NEWER[:1])
    assert (first.reach, second.reach) == (4, 5)
    assert second.scores(SOMEBODY)[0][0].tolist() == [2.0, 11.0, -2.0, -torch.inf, 3.0]
    assert first.scores(SOMEBODY)[0].shape == (1, 4)
    assert second.over(second.ladder).reach == 5
    likened = [one.like(np.array([0]), 1, np.arange(one.reach) != 0, draw) for one in (first, second)]
    assert [None if found is None else found[0].tolist() for found in likened] == [[1], [4]]
    nothing = second.beyond(NEWER[:0])
    assert nothing.reach == 4
    found = nothing.near(SOMEBODY, 9, np.ones(4, bool))
    assert found is not None
    assert found[0].tolist() == [1, 0, 2]


def test_an_index_and_what_is_newer_are_one_list_by_hand() -> None:
    scorer = Scorer(Ladder({"model": Wish()}), Exact).beyond(NEWER)
    everything = np.ones(7, bool)
    found = scorer.near(SOMEBODY, 3, everything)
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([6, 1, 4], [18.0, 11.0, 3.0])
    everything[[6, 1]] = False
    found = scorer.near(SOMEBODY, 9, everything)
    assert found is not None
    assert found[0].tolist() == [4, 0, 2]  # neither 3 nor 5, of which nothing is known
    near = scorer.like(np.array([6]), 2, np.arange(7) != 6, draw)
    assert near is not None
    assert near[0].tolist() == [1, 4]
    again = scorer.like(np.array([6]), 2, np.arange(7) < 1, draw)  # of those that were kept, only one is allowed
    assert again is not None
    assert again[0].tolist() == [0]


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 6))
@example(1835, 1, 2)  # two that are equally near but for rounding
def test_an_index_with_newer_items_finds_what_looking_at_all_finds(seed: int, n: int, n_newer: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    newer = torch.randn(n_newer, 2, generator=rng)
    newer[torch.rand(n_newer, generator=rng) < 0.3] = torch.nan
    model = Wish()
    model.items = torch.randn(4, 2, generator=rng)
    plain, indexed = (Scorer(Ladder({"model": model}), one).beyond(newer) for one in (None, Exact))
    allowed = (torch.rand(4 + n_newer, generator=rng) < 0.7).numpy()
    for whole, found in (
        (plain.scores(SOMEBODY)[0], indexed.near(SOMEBODY, n, allowed)),
        (plain.likeness(SOMEBODY), indexed.kin(SOMEBODY, n, allowed)),
    ):
        assert whole is not None
        assert found is not None
        items, values = best(whole, allowed, n, draw)
        assert found[1] == pytest.approx(values, abs=1e-6)
        # which of two that differ by rounding comes first is left open
        assert whole[0, found[0]].numpy() == pytest.approx(values, abs=1e-6)
        assert len(set(found[0].tolist())) == len(items)
        assert allowed[found[0]].all()
