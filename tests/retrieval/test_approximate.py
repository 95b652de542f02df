"""Approximate search: what it finds, that a filter never shortens a list, and what a bundle keeps."""

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bowerbird.core import BundleError, MissingExtraError, ScoreError, torch_stream
from bowerbird.retrieval.approximate import Approximate, choose
from nearest import best, normal, share_found


@pytest.fixture(scope="module")
def vectors() -> Tensor:
    return normal(20_000, 16)


@pytest.fixture(scope="module")
def index(vectors: Tensor) -> Approximate:
    return Approximate.of(vectors)


@pytest.mark.parametrize(("n_items", "search"), [(0, "exact"), (10_000, "exact"), (1_000_000, "approximate")])
def test_few_items_are_searched_exactly(n_items: int, search: str) -> None:
    assert choose(n_items) == search


def test_nearly_all_of_the_best_are_found_and_their_scores_are_exact(vectors: Tensor, index: Approximate) -> None:
    query = normal(70, 16, name="queries")  # more than one block
    values, rows = index.search(query, 100)
    assert (values.dtype, rows.dtype, rows.shape) == (torch.float32, torch.int64, (70, 100))
    assert share_found(rows, best(vectors, query, 100)[1]) > 0.99
    torch.testing.assert_close(values, (query @ vectors.T).gather(1, rows))
    assert bool((values[:, :-1] >= values[:, 1:]).all())
    assert all(len(set(row)) == 100 for row in rows.tolist())


def test_a_request_finds_the_same_alone_and_among_others(index: Approximate) -> None:
    query = normal(70, 16, name="queries")
    rows = index.search(query, 10)[1]
    assert torch.equal(rows[65:66], index.search(query[65:66], 10)[1])


@settings(max_examples=20, deadline=None)
@given(n_items=st.integers(0, 40), dim=st.integers(1, 9), n=st.integers(1, 50), seed=st.integers(0, 9))
def test_a_small_catalogue_is_answered_exactly(n_items: int, dim: int, n: int, seed: int) -> None:
    items, query = normal(n_items, dim, name=f"items {seed}"), normal(2, dim, name=f"queries {seed}")
    values, rows = Approximate.of(items).search(query, n)
    some = min(n, n_items)
    torch.testing.assert_close(values[:, :some], best(items, query, n)[0])
    assert rows[:, some:].eq(-1).all()
    assert values[:, some:].eq(-math.inf).all()


def test_an_odd_number_of_dimensions_is_searched_as_well() -> None:
    items, query = normal(5_000, 7), normal(5, 7, name="queries")
    assert share_found(Approximate.of(items).search(query, 20)[1], best(items, query, 20)[1]) > 0.99


def test_items_that_nothing_shaped_never_come(vectors: Tensor) -> None:
    shaped = torch.arange(len(vectors)) % 3 != 0
    query = normal(4, 16, name="queries")
    rows = Approximate.of(vectors, shaped=shaped).search(query, 50)[1]
    assert bool(shaped[rows].all())
    assert share_found(rows, best(vectors, query, 50, shaped)[1]) > 0.98


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95])
def test_a_filter_gives_as_many_as_asked_for_and_nearly_the_best(
    vectors: Tensor, index: Approximate, share: float
) -> None:
    allowed = torch.rand(len(vectors), generator=torch_stream(0, "filter")) < share
    query = normal(8, 16, name="queries")
    values, rows = index.search(query, 100, allowed)
    assert bool((rows >= 0).all())
    assert bool(allowed[rows].all())
    assert share_found(rows, best(vectors, query, 100, allowed)[1]) > 0.98
    torch.testing.assert_close(values, (query @ vectors.T).gather(1, rows))


def test_a_filter_against_the_taste_of_a_request_still_gives_the_best(vectors: Tensor, index: Approximate) -> None:
    query = torch.stack([vectors[0], -vectors[0]])
    allowed = vectors @ vectors[0] < 0  # the first request likes none of these best, the second all of them
    values, rows = index.search(query, 100, allowed)
    assert bool(allowed[rows].all())
    wanted_values, wanted_rows = best(vectors, query, 100, allowed)
    torch.testing.assert_close(values[0], wanted_values[0])
    assert share_found(rows[1:], wanted_rows[1:]) > 0.98


def test_fewer_allowed_items_than_places_leave_the_last_places_empty(vectors: Tensor, index: Approximate) -> None:
    allowed = torch.zeros(len(vectors), dtype=torch.bool)
    allowed[[3, 5]] = True
    values, rows = index.search(vectors[:1], 4, allowed)
    assert rows[0].sort().values.tolist() == [-1, -1, 3, 5]
    assert values[0, 2:].tolist() == [-math.inf, -math.inf]
    none = index.search(vectors[:1], 2, torch.zeros_like(allowed))
    assert none[1].tolist() == [[-1, -1]]


def test_what_a_bundle_keeps_gives_the_same_index_in_a_fifth_of_the_bytes(vectors: Tensor, index: Approximate) -> None:
    kept = index.tensors()
    again = Approximate.of_tensors(vectors, kept)
    query = normal(3, 16, name="queries")
    for one, other in zip(again.search(query, 20), index.search(query, 20), strict=True):
        assert torch.equal(one, other)
    assert {name: tensor.dtype for name, tensor in kept.items()} == {
        "rows": torch.int32,
        "codebook": torch.float32,
        "codes": torch.uint8,
    }
    assert sum(tensor.nbytes for tensor in kept.values()) < vectors.nbytes / 5


def test_the_same_vectors_give_the_same_index(vectors: Tensor, index: Approximate) -> None:
    assert torch.equal(Approximate.of(vectors).codes, index.codes)


@pytest.mark.parametrize("name", ["codebook", "codes", "rows"])
def test_tensors_of_another_index_are_refused(vectors: Tensor, index: Approximate, name: str) -> None:
    with pytest.raises(BundleError, match="does not fit"):
        Approximate.of_tensors(vectors, index.tensors() | {name: index.tensors()[name][:-1]})


def test_a_vector_that_is_not_finite_is_an_error(vectors: Tensor, index: Approximate) -> None:
    with pytest.raises(ScoreError, match="item row 7 "):
        Approximate.of(torch.cat([vectors[:7], torch.full((1, 16), math.nan)]))
    with pytest.raises(ScoreError, match="request"):
        index.search(torch.full((1, 16), math.inf), 5)


def test_without_the_extra_the_error_names_it(vectors: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"bowerbird\[ann\]"):
        Approximate.of(vectors)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_torch_keeps_its_threads_and_faiss_its_answers(vectors: Tensor, index: Approximate, threads: int) -> None:
    query, before = normal(70, 16, name="queries"), torch.get_num_threads()
    wanted = index.search(query, 10)[1]
    torch.set_num_threads(threads)
    try:
        codes = Approximate.of(vectors).codes
        found = index.search(query, 10)[1]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(codes, index.codes)
    assert torch.equal(found, wanted)
