"""`bowerbird explain`: why, why not, altogether, and a predictor's row."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError, ConfigError, RequestError, UnknownItemError
from bowerbird.data import Interactions
from bowerbird.explanation.counterfactual import ranks
from bowerbird.explanation.overview import Overview
from bowerbird.features import Context


def explained(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["explain", *map(str, words), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def shown(*words: object) -> str:
    done = CliRunner().invoke(app, ["explain", *map(str, words)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(*words: object) -> BowerbirdError:
    done = CliRunner().invoke(app, ["explain", *map(str, words)])
    assert isinstance(done.exception, BowerbirdError), done.output
    return done.exception


@pytest.fixture(scope="module")
def rec(films: Interactions) -> bb.Recommender:
    return bb.fit(bb.split(films), "ease")


@pytest.fixture(scope="module")
def run(rec: bb.Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "films"
    rec.save(folder)
    return folder


def test_the_first_item_has_its_place_causes_and_what_it_hangs_on(rec: bb.Recommender, run: Path) -> None:
    user = rec.past.user_ids[7]
    first = rec.recommend([user], k=1).ids[0][0]
    found = explained(run, "--user", user, "--item", first)
    assert (found["item_id"], found["place"], found["shown"], found["note"]) == (first, 1, True, "")
    reason = found["reasons"][0]
    assert (reason["kind"], reason["method"]) == ("history", "sum")
    mine = set(rec.past.item_ids.names(rec.past.item[rec.past.user == 7]).to_list())
    assert {one["id"] for one in reason["causes"]} <= mine
    removed = {one["id"] for one in found["without"]}
    left = [one for one in rec.past.item_ids.names(rec.past.item[rec.past.user == 7]) if one not in removed]
    scores = rec.model.scores(Context.of_histories([rec.past.item_ids.rows(left)]))
    allowed = np.ones(rec.past.n_items, bool)
    allowed[rec.past.item[rec.past.user == 7]] = False
    assert ranks(scores, int(rec.past.item_ids.row(first)), torch.from_numpy(allowed))[0] > 10


def test_people_read_a_table_and_two_sentences(rec: bb.Recommender, run: Path) -> None:
    user = rec.past.user_ids[7]
    first = rec.recommend([user], k=1).ids[0][0]
    text = shown(run, "--user", user, "--item", first)
    assert "is number 1 of" in text
    assert any(line.endswith("(by sum: the score is a sum over the causes)") for line in text.splitlines())
    assert "It would leave the 10 first without" in text


def test_why_not(rec: bb.Recommender, run: Path) -> None:
    user, seen = rec.past.user_ids[7], rec.past.item_ids[int(rec.past.item[rec.past.user == 7][0])]
    found = explained(run, "--user", user, "--item", seen)
    assert (found["place"], found["shown"]) == (None, False)
    assert "chose it before" in found["note"]
    last = rec.recommend([user], k=1000).ids[0][-1]
    far = explained(run, "--user", user, "--item", last)
    assert far["place"] > 10
    assert (far["shown"], far["without"]) == (False, None)


def test_a_stranger_is_explained_by_a_history(rec: bb.Recommender, run: Path) -> None:
    history = rec.past.item_ids.values[:3].to_list()
    first = rec.recommend(histories=[history], k=1).ids[0][0]
    words = [word for one in history for word in ("--history", one)]
    found = explained(run, *words, "--item", first)
    assert found["place"] == 1
    assert {one["id"] for one in found["reasons"][0]["causes"]} <= set(history)


def test_what_cannot_be_explained_is_refused(rec: bb.Recommender, run: Path) -> None:
    user, item = rec.past.user_ids[0], rec.past.item_ids[0]
    assert isinstance(refused(run, "--user", user, "--item", "no-such-film"), UnknownItemError)
    assert "not known here" in str(refused(run, "--user", "nobody", "--item", item))
    assert "Give either a user or a history" in str(refused(run, "--item", item))
    assert "Give --item and --user" in str(refused(run))
    assert "there are reasons by sum" in str(refused(run, "--user", user, "--item", item, "--method", "ablation"))
    assert isinstance(refused(run, "--user", user, "--item", item, "--method", "magic"), ConfigError)
    assert isinstance(refused(run, "--history", "what", "--item", item), RequestError)


def test_an_overview_sums_up_to_one_and_is_drawn(run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "relies.png"
    found = explained(run, "--overview", "--people", 30, "--out", picture)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert found["people"] == 30
    assert set(found["sections"]) == {"places", "items"}
    assert sum(one["mean"] for one in found["sections"]["places"]) == pytest.approx(1.0)
    assert all(one["low"] <= one["mean"] <= one["high"] for one in found["sections"]["places"])
    again = Overview.from_dict(found)
    assert again.to_dict()["sections"] == found["sections"]


def test_a_predictors_row_adds_up_in_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    device = rng.choice(["phone", "desk"], 600)
    chance = np.where(device == "phone", 0.8, 0.2)
    frame = pl.DataFrame(
        {"device": device, "noise": rng.choice(["a", "b", "c"], 600), "click": (rng.random(600) < chance).astype(int)}
    )
    frame.write_csv(tmp_path / "clicks.csv")
    words = ["train", "--data", tmp_path / "clicks.csv", "--label", "click", "--model", "fm", "--out", tmp_path / "run"]
    done = CliRunner().invoke(app, [str(one) for one in words])
    assert done.exit_code == 0, (done.output, done.exception)
    row = int(np.flatnonzero(device == "phone")[0]) + 1
    found = explained(tmp_path / "run", "--rows", tmp_path / "clicks.csv", "--row", row)
    assert found["reason"]["causes"][0]["label"] == "device: phone"
    assert found["reason"]["text"].startswith("because of device: phone")
    overall = explained(tmp_path / "run", "--overview")
    assert [one["name"] for one in overall["sections"]["features"]] == ["device", "noise"]
    assert "row" in str(refused(tmp_path / "run", "--rows", tmp_path / "clicks.csv", "--row", 601))
