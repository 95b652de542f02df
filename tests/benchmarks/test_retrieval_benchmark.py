"""The benchmark of retrieval on a few thousand made-up items."""

import argparse
from collections.abc import Callable
from typing import Any

import pytest
import torch

import _shared
import retrieval


def options(**changes: Any) -> argparse.Namespace:
    parsed = _shared.parser("").parse_args([])
    rest = {"data": "made-up", "threads": 1, "items": (500, 3_000), "filters": (0.5,), "dim": 8, "requests": 20}
    return argparse.Namespace(**(vars(parsed) | rest | {"json": True} | changes))


def test_a_run_reports_every_search_of_every_number_of_items(last_row: Callable[[], dict[str, Any]]) -> None:
    assert _shared.main(options(require=["recall@100>=0.9"]), retrieval.measure) == 0
    row = last_row()
    kinds = [(one["n_items"], one["kind"], one.get("share")) for one in row["cells"]]
    searches = [("exact", None), ("approximate", None), ("exact", 0.5), ("approximate", 0.5)]
    assert kinds == [(n_items, *search) for n_items in (500, 3_000) for search in searches]
    largest = row["cells"][5]
    assert row["metrics"]["recall@100"] == largest["recall@100"] <= 1
    assert 0 < largest["p50_ms"] <= largest["p99_ms"]
    assert all(one["filled"] == 1 for one in row["cells"] if "filled" in one)


def test_a_bar_that_is_not_reached_fails_the_run() -> None:
    assert _shared.main(options(require=["build_s<=0"]), retrieval.measure) == 1


def test_recall_counts_rows_and_no_empty_places() -> None:
    best = torch.tensor([[1, 2, -1, -1], [3, 4, 5, 6]])
    assert retrieval.recall(torch.tensor([[2, 7, -1, -1], [6, 5, 4, 3]]), best) == pytest.approx((1 / 2 + 1) / 2)
