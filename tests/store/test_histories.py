from pathlib import Path
from typing import Any

import polars as pl
import pytest
from failing_world import FailsAt
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.core import BundleError
from bowerbird.store import histories

PAST = pl.DataFrame(
    {
        "user_id": ["ann", "bob", "ann"],
        "item_id": [1, 2, 3],
        "event": ["like", "like", "view"],
        "weight": [1.0, 0.5, 1.0],
        "time": [10, 20, 30],
    }
)


def test_what_was_kept_is_recalled(tmp_path: Path) -> None:
    histories.keep(tmp_path / "new" / "run", PAST)
    assert histories.recall(tmp_path / "new" / "run").equals(PAST)


def test_the_last_table_kept_is_the_one_recalled(tmp_path: Path) -> None:
    histories.keep(tmp_path, PAST)
    histories.keep(tmp_path, PAST.head(1))
    assert histories.recall(tmp_path).equals(PAST.head(1))


def test_a_table_without_anybody_is_kept_too(tmp_path: Path) -> None:
    histories.keep(tmp_path, PAST.clear())
    assert histories.recall(tmp_path).schema == PAST.schema


def test_the_file_is_plain_parquet(tmp_path: Path) -> None:
    histories.keep(tmp_path, PAST)
    assert pl.read_parquet(tmp_path / "histories.parquet").equals(PAST)


@pytest.mark.parametrize("name", ["histories.parquet", "histories.sha256"])
def test_a_missing_file_is_named_with_what_it_means(tmp_path: Path, name: str) -> None:
    histories.keep(tmp_path, PAST)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError) as caught:
        histories.recall(tmp_path)
    assert str(caught.value) == (f"{tmp_path / name} is missing: nobody's past is known. Restore it or train again.")


def test_one_changed_byte_anywhere_is_refused(tmp_path: Path) -> None:
    histories.keep(tmp_path, PAST)
    for name in ("histories.parquet", "histories.sha256"):
        path = tmp_path / name
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(BundleError, match=r"histories\.parquet was changed after it was written\. Restore it"):
                histories.recall(tmp_path)
        path.write_bytes(whole)
    assert histories.recall(tmp_path).equals(PAST)


@pytest.mark.parametrize("length", [0, 4, 100])
def test_a_file_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    histories.keep(tmp_path, PAST)
    path = tmp_path / "histories.parquet"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BundleError, match="was changed after it was written"):
        histories.recall(tmp_path)


@pytest.mark.parametrize("step", range(4))
def test_a_crash_at_any_step_leaves_the_old_table_and_the_next_one_can_be_kept(tmp_path: Path, step: int) -> None:
    histories.keep(tmp_path, PAST)
    for _ in range(3):
        with pytest.raises(OSError, match="cut off"):
            histories.keep(tmp_path, PAST.head(1), world=FailsAt(step))
        assert histories.recall(tmp_path).equals(PAST)
    histories.keep(tmp_path, PAST.head(2))
    assert histories.recall(tmp_path).equals(PAST.head(2))


@settings(max_examples=20)
@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**63), 2**63 - 1))))
def test_any_ids_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]]) -> None:
    folder = tmp_path_factory.getbasetemp() / "histories"
    table = pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.Int64}, orient="row")
    histories.keep(folder, table)
    assert histories.recall(folder).equals(table)
