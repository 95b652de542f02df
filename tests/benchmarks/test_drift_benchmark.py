"""The drift benchmark: its worlds change when they say so, its bars can be missed, and years are walked in order."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import _drift_worlds as worlds
import _drift_years as years
import _shared
import bowerbird as bb
import drift


def test_quiet_windows_make_figures_and_bars_can_be_missed(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "REFERENCE", 4_000)
    options = drift.options_of(["--parts", "quiet", "--windows", "2", "--save", "--bars"])
    options.require += ["quiet.count>=11"]
    monkeypatch.setattr(worlds.quiet, "__defaults__", (2,))
    assert _shared.main(options, drift.measure) == 1
    assert "bar not reached: quiet.count>=11" in capsys.readouterr().err
    [metrics] = [json.loads(line)["metrics"] for line in (results / "drift.jsonl").read_text().splitlines()]
    assert metrics["quiet.series"] >= 30
    assert metrics["quiet.streams_watched"] == 30
    assert drift.table() == 0


def test_a_world_changes_as_far_as_it_is_told() -> None:
    world = worlds.World(0)
    calm, changed = world.rows(20_000, "a"), world.rows(20_000, "b", 1.0)

    def share(frame: pl.DataFrame, one: pl.Expr) -> float:
        return float(frame.select(one.mean()).item())

    assert share(calm, pl.col("category") == "c") == pytest.approx(0.10, abs=0.01)
    assert share(changed, pl.col("category") == "c") == pytest.approx(0.25, abs=0.01)
    assert share(changed, pl.col("item").str.starts_with("new")) == pytest.approx(0.05, abs=0.01)
    assert share(changed, pl.col("number")) == pytest.approx(0.5, abs=0.05)
    assert share(changed, pl.col("click")) == pytest.approx(0.05, abs=0.01)
    assert share(changed, pl.col("ndcg")) == pytest.approx(share(calm, pl.col("ndcg")) / 2, rel=0.15)


@pytest.mark.parametrize("kind", list(worlds.WITHIN))
def test_changes_begin_and_end_where_they_are_said_to(kind: str) -> None:
    for by in ("windows", "streams"):
        change, phases = worlds.course(kind, by)
        begin, end = phases[0]
        assert not change[:begin].any()
        assert change[end - 1] == 1
        assert phases[-1][1] == len(change)


def test_what_changes_suddenly_is_found_by_streams() -> None:
    delays, false = worlds.by_streams("sudden", 0)
    assert set(delays) == set(worlds.STREAMS)
    assert max(delays["score"]) <= 500
    assert false == 0


def test_years_are_foreseen_before_they_are_learnt(tmp_path: Path) -> None:
    rng, month = np.random.default_rng(0), 2_700_000
    tables = []
    for turn in range(8):
        items = "old" if turn < 4 else "new"
        rows = [(f"u{u}", f"{items}{u % 2 + 2 * k}") for u in range(60) for k in rng.choice(30, 4, replace=False)]
        frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
        tables.append(frame.with_columns(time=turn * month + pl.int_range(len(frame)) + 1))
    events = bb.read(pl.concat(tables))
    plan = years.Plan(start="1970-02", unit="M", step=1, schedule=2)
    rows, arms = years.walk(events, plan, "itemknn", 0)
    assert [row["period"] for row in rows] == sorted(row["period"] for row in rows)
    assert arms["stale"].updates == 0
    assert arms["always"].updates == len(rows)
    assert any("unknown items: the mean rose" in one for one in arms["alarm"].said)
    found = years.figures(rows, arms)
    assert found["ndcg@10.stale"] < found["ndcg@10.alarm"] <= found["ndcg@10.always"] + 1e-9
    curves = {"shop": {"rows": rows, "alarms": arms["alarm"].alarms}}
    years.draw(curves, tmp_path / "years.png")
    assert (tmp_path / "years.png").stat().st_size > 5_000
    assert json.dumps(rows)


def test_data_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words, said in (
        (["--parts", "years", "--data", "-"], "set BOWERBIRD_DATA"),
        (["--parts", "years", "--data", str(tmp_path)], "holds no folder amazon-hin"),
        (["--parts", "years", "--data", str(tmp_path), "--sets", "shop"], "there are amazon-hin"),
        (["--parts", "nothing"], "there are quiet"),
    ):
        assert _shared.main(drift.options_of(words), drift.measure) == 2
        assert said in capsys.readouterr().err
