"""Encoded parts: the interactions of many files under one vocabulary, whoever runs the tasks and in whatever pieces."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import DataError
from bowerbird.data import Interactions, encode, encoded, load, read

FRAME = pl.DataFrame(
    {"user_id": ["zoe", "ann", "bob", "ann", "cem", "zoe", "bob"], "item_id": [7, 3, 7, 9, 3, 9, 1],
     "timestamp": [50, 10, 70, 30, 20, 60, 40], "event": ["view", "buy", "view", "view", None, "buy", "view"],
     "weight": [1.0, 2.0, 1.0, 1.0, 1.0, 0.5, 3.0], "page": ["a"] * 7}
)  # fmt: skip

LATER = FRAME.with_columns(FRAME["user_id"][:2].extend_constant(None, 5))


def parts(folder: Path, frame: pl.DataFrame = FRAME, *cuts: int) -> Path:
    """Write the rows of a frame as Parquet files that end before these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for start, end in zip((0, *cuts), (*cuts, frame.height), strict=True):
        frame[start:end].write_parquet(folder / f"part-{start:03}.parquet")
    return folder


def events_of(of: Interactions) -> set[tuple[Any, ...]]:
    """Return events by the caller's ids: numbers of rows are nobody's business."""
    assert of.time is not None
    names = [of.events[code].name for code in of.event]
    users, items = of.user_ids.names(of.user).to_list(), of.item_ids.names(of.item).to_list()
    return set(zip(users, items, of.time.tolist(), names, of.weight.tolist(), strict=True))


@given(st.sets(st.integers(1, 6), max_size=4))
def test_what_is_encoded_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, cuts: set[int]) -> None:
    folder = tmp_path_factory.mktemp("encoded")
    source = parts(folder / "parts", FRAME, *sorted(cuts))
    found, straight = load(encode(source, folder / "out")), read(source)
    assert events_of(found) == events_of(straight)
    assert found.time is not None
    assert (np.diff(found.time) > 0).all()
    assert (found.user_ids, found.item_ids) == (straight.user_ids, straight.item_ids)  # however files were cut
    assert found.fingerprint == straight.fingerprint
    assert (found.user.dtype, found.item.dtype) == (np.int32, np.int32)


def test_tasks_run_wherever_they_are_sent_and_are_cut_to_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "PIECE", 2)
    sent = list[int]()

    def run(function: Callable[[Any], Any], tasks: Iterable[Any]) -> list[Any]:
        listed = list(tasks)
        sent.append(len(listed))
        return [function(one) for one in reversed(listed)][::-1]

    folder = encode(parts(tmp_path / "parts", FRAME, 3), tmp_path / "out", run=run)
    assert sent == [4, 2, 4]  # rows 3 + 4 in pieces of two; users and items; pieces again
    assert events_of(load(folder)) == events_of(read(FRAME))
    left = sorted(path.name for path in folder.iterdir())
    assert left == [
        "_encoded.json", "_items.parquet", "_users.parquet", *(f"part-{n:05}.parquet" for n in range(4))
    ]  # fmt: skip


def test_what_is_encoded_already_stays_and_other_files_are_encoded_anew(tmp_path: Path) -> None:
    source = parts(tmp_path / "parts")
    folder = encode(source, tmp_path / "out")
    assert encode(source, folder, run=_never) == folder
    parts(source, FRAME[:5])
    assert len(load(encode(source, folder))) == 5
    with pytest.raises(AssertionError, match="nothing is to be done"):
        encode(source, folder, run=_never, item="page")


def _never(function: Callable[[Any], Any], tasks: Iterable[Any]) -> list[Any]:
    raise AssertionError("nothing is to be done")


def test_a_crash_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    source = parts(tmp_path / "parts", FRAME, 3)

    def crash(function: Callable[[Any], Any], tasks: Iterable[Any]) -> list[Any]:
        if "_renumber" in str(function):
            raise OSError("killed")
        return list(map(function, tasks))

    with pytest.raises(OSError, match="killed"):
        encode(source, tmp_path / "out", run=crash)
    assert not encoded.is_encoded(tmp_path / "out")
    assert len(load(encode(source, tmp_path / "out"))) == 7


def test_tables_of_items_stand_beside_codes_and_columns_do_not(tmp_path: Path) -> None:
    folder = encode(parts(tmp_path / "parts"), tmp_path / "out")
    titled = load(folder, items=pl.DataFrame({"item_id": [9, 1], "title": ["nine", "one"]}))
    assert [titled.title(row) for row in range(4)] == ["7", "3", "nine", "one"]
    with pytest.raises(DataError, match="holds codes, and knows its columns; leave out user"):
        load(folder, user="user_id")


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (LATER, r'2 rows from row 3 on, column "user_id": 2 of 2 rows'),
        (FRAME.clear(), "there is no row"),
        (FRAME.drop("item_id"), "no column is recognised as the item"),
    ],
)
def test_mistakes_are_told_with_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: pl.DataFrame, said: str
) -> None:
    monkeypatch.setattr(encoded, "PIECE", 2)
    with pytest.raises(DataError, match=said):
        encode(parts(tmp_path / "parts", frame), tmp_path / "out")


def test_ids_of_two_kinds_are_refused(tmp_path: Path) -> None:
    parts(tmp_path / "parts", FRAME)
    FRAME.with_columns(pl.lit(1).alias("user_id")).write_parquet(tmp_path / "parts" / "other.parquet")
    with pytest.raises(DataError, match="user_id"):
        encode(tmp_path / "parts", tmp_path / "out")
