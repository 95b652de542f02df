from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.core import BundleError, RealWorld
from bowerbird.store import histories
from failing_world import FailsAt

ONE = "000001"
PAST = pl.DataFrame(
    {
        "user_id": ["ann", "bob", "ann"],
        "item_id": [1, 2, 3],
        "event": ["like", "like", "view"],
        "weight": [1.0, 0.5, 1.0],
        "time": [10, 20, 30],
    }
)


def folder_of(run: Path, version: str = ONE) -> Path:
    return run / "histories" / version


def test_what_was_kept_is_recalled(tmp_path: Path) -> None:
    histories.keep(tmp_path / "new" / "run", ONE, PAST)
    assert histories.recall(tmp_path / "new" / "run", ONE).equals(PAST)


def test_the_last_table_kept_is_the_one_recalled(tmp_path: Path) -> None:
    histories.keep(tmp_path, ONE, PAST)
    histories.keep(tmp_path, ONE, PAST.head(1))
    assert histories.recall(tmp_path, ONE).equals(PAST.head(1))


def test_every_version_has_its_own(tmp_path: Path) -> None:
    histories.keep(tmp_path, ONE, PAST)
    histories.keep(tmp_path, "000002", PAST.head(1))
    assert histories.recall(tmp_path, ONE).equals(PAST)
    assert histories.recall(tmp_path, "000002").equals(PAST.head(1))


def test_versions_that_are_gone_take_their_histories_with_them(tmp_path: Path) -> None:
    for version in (ONE, "000002", "000003"):
        histories.keep(tmp_path, version, PAST)
    histories.prune(tmp_path, ["000002", "000003"])
    assert RealWorld().names(tmp_path / "histories") == ["000002", "000003"]


def shared(run: Path, table: pl.DataFrame) -> None:
    """Write the one pair of files that runs had before."""
    histories.keep(run, "all", table)
    for name in ("histories.parquet", "histories.sha256"):
        (folder_of(run, "all") / name).rename(run / name)
    (run / "histories").rename(run / "moved")
    (run / "moved" / "all").rmdir()
    (run / "moved").rmdir()


def test_a_version_without_its_own_answers_from_those_that_all_shared_before(tmp_path: Path) -> None:
    shared(tmp_path, PAST)
    assert histories.recall(tmp_path, ONE).equals(PAST)
    histories.keep(tmp_path, "000002", PAST.head(1))
    assert histories.recall(tmp_path, ONE).equals(PAST)
    assert histories.recall(tmp_path, "000002").equals(PAST.head(1))


def test_shared_histories_stay_while_a_version_needs_them_and_go_with_the_last(tmp_path: Path) -> None:
    shared(tmp_path, PAST)
    histories.keep(tmp_path, "000002", PAST)
    histories.prune(tmp_path, [ONE, "000002"])
    assert histories.recall(tmp_path, ONE).equals(PAST)
    histories.prune(tmp_path, ["000002"])
    assert RealWorld().names(tmp_path) == ["histories"]


@pytest.mark.parametrize("step", range(2))
def test_shared_histories_that_a_crash_kept_go_the_next_time(tmp_path: Path, step: int) -> None:
    shared(tmp_path, PAST)
    histories.keep(tmp_path, "000002", PAST)
    with pytest.raises(OSError, match="cut off"):
        histories.prune(tmp_path, ["000002"], world=FailsAt(step))
    histories.prune(tmp_path, ["000002"])
    assert RealWorld().names(tmp_path) == ["histories"]


def test_a_table_without_anybody_is_kept_too(tmp_path: Path) -> None:
    histories.keep(tmp_path, ONE, PAST.clear())
    assert histories.recall(tmp_path, ONE).schema == PAST.schema


def test_the_file_is_plain_parquet(tmp_path: Path) -> None:
    histories.keep(tmp_path, ONE, PAST)
    assert pl.read_parquet(folder_of(tmp_path) / "histories.parquet").equals(PAST)


@pytest.mark.parametrize("name", ["histories.parquet", "histories.sha256"])
def test_a_missing_file_is_named_with_what_it_means(tmp_path: Path, name: str) -> None:
    histories.keep(tmp_path, ONE, PAST)
    (folder_of(tmp_path) / name).unlink()
    with pytest.raises(BundleError) as caught:
        histories.recall(tmp_path, ONE)
    assert str(caught.value) == (
        f"{folder_of(tmp_path) / name} is missing: nobody's past is known. Restore it or train again."
    )


def test_one_changed_byte_anywhere_is_refused(tmp_path: Path) -> None:
    histories.keep(tmp_path, ONE, PAST)
    for name in ("histories.parquet", "histories.sha256"):
        path = folder_of(tmp_path) / name
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(BundleError, match=r"histories\.parquet was changed after it was written\. Restore it"):
                histories.recall(tmp_path, ONE)
        path.write_bytes(whole)
    assert histories.recall(tmp_path, ONE).equals(PAST)


@pytest.mark.parametrize("length", [0, 4, 100])
def test_a_file_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    histories.keep(tmp_path, ONE, PAST)
    path = folder_of(tmp_path) / "histories.parquet"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BundleError, match="was changed after it was written"):
        histories.recall(tmp_path, ONE)


@pytest.mark.parametrize("step", range(4))
def test_a_crash_at_any_step_leaves_the_old_table_and_the_next_one_can_be_kept(tmp_path: Path, step: int) -> None:
    histories.keep(tmp_path, ONE, PAST)
    for _ in range(3):
        with pytest.raises(OSError, match="cut off"):
            histories.keep(tmp_path, ONE, PAST.head(1), world=FailsAt(step))
        assert histories.recall(tmp_path, ONE).equals(PAST)
    histories.keep(tmp_path, ONE, PAST.head(2))
    assert histories.recall(tmp_path, ONE).equals(PAST.head(2))


@settings(max_examples=20)
@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**63), 2**63 - 1))))
def test_any_ids_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]]) -> None:
    folder = tmp_path_factory.getbasetemp() / "histories"
    table = pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.Int64}, orient="row")
    histories.keep(folder, ONE, table)
    assert histories.recall(folder, ONE).equals(table)
