"""`bowerbird select`: a race on a small table, its recipe trained, its report written; and mistakes."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bowerbird.cli.advising import budget_of
from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError, ConfigError
from bowerbird.data import Interactions
from bowerbird.selection import race


def run(*words: object) -> Any:
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture
def shop(even_odd: Interactions, tmp_path: Path) -> Path:
    assert even_odd.time is not None
    lines = zip(even_odd.user, even_odd.item, even_odd.time, strict=True)
    text = "\n".join(f"u{user},i{item},{time}" for user, item, time in lines)
    (tmp_path / "shop.csv").write_text(f"user_id,item_id,time\n{text}\n")
    return tmp_path / "shop.csv"


def test_a_race_writes_what_train_runs(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "TRIES", 2)
    recipe, report = shop.parent / "recipes" / "pick.toml", shop.parent / "report.html"
    started = time.monotonic()
    done = run("select", shop, "--budget", "14s", "--model", "itemknn", "--model", "ease", "--model", "popularity",
               "--split", "leave-one-out", "--out", recipe, "--report", report, "--study", shop.parent / "study",
               "--threads", 1, "--json")  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    assert time.monotonic() - started < 14 * 1.1
    document = json.loads(done.stdout)
    assert document["pick"]["model"] in ("itemknn", "ease")
    assert report.read_text().startswith("<!doctype html>")
    trained = run("train", recipe, "--no-refit", "--json")
    assert trained.exit_code == 0, (trained.output, trained.exception)
    told = json.loads(trained.stdout)
    assert told["metrics"]["ndcg@10"] == pytest.approx(document["pick"]["value"])
    again = run("select", shop, "--budget", "11s", "--model", "itemknn", "--model", "ease", "--split", "leave-one-out",
                "--out", recipe, "--study", shop.parent / "study", "--threads", 1)  # fmt: skip
    assert again.exit_code == 0, (again.output, again.exception)
    assert "Take " in again.stdout
    assert f"train {recipe}" in " ".join(again.stdout.split())


def test_what_came_before_the_race_counts(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bowerbird.cli.selecting.monotonic", lambda: time.monotonic() - 15)
    done = run("select", shop, "--budget", "24s", "--model", "popularity", "--split", "leave-one-out",
               "--out", shop.parent / "pick.toml", "--study", shop.parent / "study", "--threads", 1,
               "--json")  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    assert 15 < json.loads(done.stdout)["seconds"] < 24


def test_budgets_are_spans() -> None:
    assert [budget_of(text) for text in ("90s", "10m", "1h", "1.5m", "2")] == [90, 600, 3600, 90, 120]
    for text in ("", "m", "ten", "-5m", "0s", "nanm", "5d"):
        with pytest.raises(ConfigError, match=r"budget is .* Try --budget 10m"):
            budget_of(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "1s"], "must be 10 seconds or more"),
        (["--latency-ms", "0"], "latency_ms is 0"),
        (["--model", "easy"], 'Did you mean "ease"'),
        (["--model", "deepfm"], "no model suits these data"),
        (["--label", "click"], 'has no column "click"'),
    ],
)
def test_mistakes_are_told_before_the_race(shop: Path, words: list[str], said: str) -> None:
    done = run("select", shop, "--study", shop.parent / "study", *words)
    assert isinstance(done.exception, BowerbirdError), done.output
    assert said in str(done.exception)


def test_a_table_with_a_label_is_for_rankers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "TRIES", 1)
    rng = np.random.default_rng(0)
    pairs = zip(rng.choice(["a", "b"], 600), rng.random(600), strict=True)
    lines = [f"{device},{price:.3f},{int(price > 0.5)}" for device, price in pairs]
    (tmp_path / "clicks.csv").write_text("\n".join(["device,price,click", *lines]))
    recipe = tmp_path / "pick.toml"
    done = run("select", tmp_path / "clicks.csv", "--label", "click", "--budget", "20s", "--model", "logistic",
               "--out", recipe, "--study", tmp_path / "study", "--threads", 1, "--json")  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    document = json.loads(done.stdout)
    assert (document["metric"], document["pick"]["model"]) == ("auc", "logistic")
    trained = run("train", recipe, "--no-refit", "--json")
    assert trained.exit_code == 0, (trained.output, trained.exception)
    assert json.loads(trained.stdout)["metrics"]["auc"] == pytest.approx(document["pick"]["value"], abs=1e-6)
