"""The benchmark of the advisor: its spaces, its table, and that its name takes nothing from Python."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import _selecting
import _shared
import bowerbird as bb
from bowerbird.core import lookup
from bowerbird.data import Interactions

BENCHMARKS = Path(_selecting.__file__).parent


@pytest.mark.parametrize("name", _selecting.PLANS)
def test_a_space_holds_what_its_models_begin_with(name: str) -> None:
    plan = _selecting.PLANS[name]
    there = list(_selecting.configs(plan))
    for model in plan.space:
        assert (model, lookup(model).config(**plan.settings.get(model, {}))) in there
    assert len({(model, repr(config)) for model, config in there}) == len(there)


def test_people_left_out_leave_no_gaps(even_odd: Interactions) -> None:
    kept = _selecting._without_gaps(even_odd.rows(even_odd.user < 2))
    assert (kept.n_users, kept.n_items, len(kept)) == (2, 10, 10)
    assert set(kept.user_ids.names(kept.user)) == {0, 1}


def test_the_regret_across_halves_is_not_flattered_by_chance(even_odd: Interactions) -> None:
    parts = bb.split(even_odd, "leave-one-out")
    first = np.random.default_rng(0).permutation(40) % 2 == 0  # as the benchmark cuts them

    def known(values: np.ndarray) -> _selecting.Known:
        config = lookup("popularity").config()
        return _selecting.Known("popularity", config, 0.0, float(values.mean()), values, 1.0)

    mine, better = known(np.full(40, 0.2)), known(np.full(40, 0.4))
    lucky = known(np.where(first, 0.5, 0.1))  # the best of all, by a mean of 0.3, beside the pick alone
    assert _selecting.regret_across(parts, [mine], mine) == 0
    assert _selecting.regret_across(parts, [mine, better], mine) == pytest.approx(0.5)
    assert _selecting.regret_across(parts, [mine, lucky], mine) == pytest.approx((1 - 2.0 + 0) / 2)


def test_whoever_imports_select_beside_it_is_given_pythons() -> None:
    code = "import select, subprocess; print(select.__name__, callable(select.select))"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    assert done.stdout == "select True\n"


@pytest.mark.parametrize("missed", [0, 1])
def test_the_table_shows_each_seed_and_ends_with_1_where_one_missed(
    missed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = {"pick": "ease l2 = 100", "level": not missed, "low": 0.001, "high": 0.004, "tries": 9}
    row = {
        "data": "ml-100k", "note": "times", "date": "2026-11-29", "protocol": "split=per-user", "seeds": [0],
        "metrics": {"missed": missed, "configurations": 44.0, "exhaustive_s": 250.0, "0.regret": 0.0123,
                    "0.time_share": 0.098},
        "told": {"best": "sasrec 0.15", "0": one},
    }  # fmt: skip
    (tmp_path / "select.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.setattr(_shared, "RESULTS", tmp_path)
    assert _selecting.table() == missed
    said = capsys.readouterr()
    assert "regret 1.23%" in said.out
    assert "9.8% of the time" in said.out
    assert ("bar not reached: ml-100k" in said.err) == bool(missed)
