"""The bodies of `update`, `versions`, `promote` and `rollback`: a run learns, and goes back to what it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import bowerbird as bb
from bowerbird.cli.versions import (
    NOTHING_NEW,
    PUBLISHED,
    REFUSED,
    run_promote,
    run_rollback,
    run_update,
    run_versions,
)
from bowerbird.core import BundleError, RequestError
from bowerbird.recommender import DataOptions, UpdateOptions
from bowerbird.store import bundles


def likes(users: range, start: int, *, other_half: bool = False) -> pl.DataFrame:
    """Five items of their half, or of the other one, for each user."""
    rng = np.random.default_rng(start)
    rows = [(f"u{user}", f"i{(user + other_half) % 2 + 2 * item}")
            for user in users for item in rng.choice(10, 5, replace=False)]  # fmt: skip
    rows = [rows[place] for place in rng.permutation(len(rows))]
    table = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    return table.with_columns(time=start + pl.int_range(len(table)))


SETTINGS = {"dim": 8, "epochs": 15, "batch_size": 128, "negatives": 8, "learning_rate": 0.03}
PAST, NEWS = likes(range(40), 1_000), likes(range(30, 50), 9_000)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    bb.fit(bb.read(PAST), "mf", **SETTINGS).save(tmp_path / "run")
    return tmp_path / "run"


def file_of(table: pl.DataFrame, folder: Path) -> DataOptions:
    table.write_csv(folder / "events.csv")
    return DataOptions(path=str(folder / "events.csv"))


def answers(run: Path) -> pl.DataFrame:
    return bb.load(run).recommend([f"u{user}" for user in range(50)], k=8, explain=True).to_polars()


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_events_of_a_file_that_are_known_are_not_learnt_twice(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = file_of(pl.concat([PAST, NEWS]), tmp_path)
    assert run_update(run, data, as_json=True) == PUBLISHED
    told = printed(capsys)
    assert {key: told[key] for key in ("parent", "version", "events", "accepted", "new_users", "new_items")} == {
        "parent": "000001", "version": "000002", "events": len(NEWS), "accepted": True, "new_users": 10, "new_items": 0,
    }  # fmt: skip
    assert set(told) == {
        "run", "parent", "version", "events", "accepted", "reason", "before", "after", "new_users", "new_items",
        "seconds", "log_offset",
    }  # fmt: skip
    assert len(bb.load(run).past) == len(PAST) + len(NEWS)
    assert run_update(run, data, as_json=True) == NOTHING_NEW
    told = printed(capsys)
    assert (told["version"], told["events"], told["accepted"]) == (None, 0, False)
    assert bb.load(run).version == "000002"


def test_moments_go_from_version_to_version(run: Path, tmp_path: Path) -> None:
    before = bb.load(run, moments=True).moments["item.steps"].item()
    run_update(run, file_of(NEWS, tmp_path))
    assert bb.load(run, moments=True).moments["item.steps"].item() > before > 0


def test_a_log_is_read_from_where_the_version_ends(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked, ends = list[int](), iter([60, 100, 100])

    def read_log(start: int) -> tuple[pl.DataFrame, int]:
        asked.append(start)
        end = next(ends)
        return NEWS[start:end], end

    assert run_update(run, read_log=read_log, as_json=True) == PUBLISHED
    assert printed(capsys)["log_offset"] == 60
    assert run_update(run, read_log=read_log) == PUBLISHED
    assert run_update(run, read_log=read_log) == NOTHING_NEW
    assert asked == [0, 60, 100]
    assert bb.load(run).log_offset == 100
    assert len(bb.load(run).past) == len(PAST) + len(NEWS)


def test_a_worse_one_is_refused_and_the_old_one_stays(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = answers(run)
    wrong = pl.concat([likes(range(40), 5_000, other_half=True), likes(range(40), 8_000)[:50]])
    assert (
        run_update(run, file_of(wrong, tmp_path), options=UpdateOptions(epochs=10, tolerance=0.0), as_json=True)
        == REFUSED
    )
    told = printed(capsys)
    assert (told["accepted"], told["version"]) == (False, None)
    assert told["reason"].startswith("ndcg@10 on the 50 newest events fell from")
    assert answers(run).equals(before)
    assert bundles.versions(run) == ["000001"]


def test_a_source_is_needed_and_only_one(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="where do the new events come from"):
        run_update(run)
    with pytest.raises(RequestError, match="where do the new events come from"):
        run_update(run, file_of(NEWS, tmp_path), read_log=lambda start: (NEWS, 5))


def test_going_back_gives_the_answers_of_before_to_the_last_byte(run: Path, tmp_path: Path) -> None:
    before = answers(run)
    run_update(run, file_of(NEWS, tmp_path))
    after = answers(run)
    assert not after.equals(before)
    run_rollback(run)
    assert answers(run).equals(before)
    run_promote(run, "000002")
    assert answers(run).equals(after)


def test_going_back_goes_to_the_parent_and_else_to_the_one_before(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_update(run, file_of(NEWS, tmp_path))
    bb.fit(bb.read(PAST), "popularity").save(run)
    bb.load(run, version="000001").save(run)  # the fourth is made from the first, which is gone
    for before, version in (("000004", "000003"), ("000003", "000002")):
        capsys.readouterr()
        run_rollback(run, as_json=True)
        assert printed(capsys) == {"run": str(run), "before": before, "version": version}
    with pytest.raises(BundleError, match="there is no version before 000002 to go back to"):
        run_rollback(run)
    bb.load(run).save(run)
    run_rollback(run)
    assert bundles.current(run) == "000002"  # its parent, though the third and the fourth stand between


def test_versions_are_listed_with_where_they_come_from(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_update(run, file_of(NEWS, tmp_path))
    run_promote(run, "000001")
    (run / "bundles" / "000002" / "manifest.json").write_text("{}")
    bb.fit(bb.read(PAST), "popularity").save(run, log_offset=9)
    capsys.readouterr()
    run_versions(run, as_json=True)
    told = printed(capsys)
    assert (told["run"], told["current"]) == (str(run), "000003")
    first, second, third = told["versions"]
    assert {key: first[key] for key in first if key != "created"} == {
        "version": "000001", "current": False, "model": "mf", "parent": None, "log_offset": 0, "ndcg@10": None,
    }  # fmt: skip
    assert first["created"] > 1_600_000_000
    assert set(second) == {"version", "current", "damaged"}
    assert (third["current"], third["log_offset"]) == (True, 9)
    run_versions(run)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("000001", "damaged", "popularity", "current"))


def test_what_was_measured_is_listed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_update(run, file_of(NEWS, tmp_path), as_json=True)
    after = printed(capsys)["after"]
    run_versions(run, as_json=True)
    assert printed(capsys)["versions"][1]["ndcg@10"] == after


@pytest.mark.parametrize("name", ["bundles/000002/weights.safetensors", "histories/000002/histories.parquet"])
def test_a_damaged_version_is_not_promoted(run: Path, tmp_path: Path, name: str) -> None:
    run_update(run, file_of(NEWS, tmp_path))
    run_rollback(run)
    path = run / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match="was changed after it was written"):
        run_promote(run, "000002")
    assert bundles.current(run) == "000001"


def test_a_version_that_is_not_there_is_answered_with_those_that_are(run: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no version 000009. There are: 000001\."):
        run_promote(run, "000009")
