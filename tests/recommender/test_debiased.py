"""Debiased training through the doors: worlds whose bias is known, recipes, and what cannot be weighed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import ConfigError, DataError
from bowerbird.data import EventType, Interactions, Rows, read_rows, split_rows
from bowerbird.evaluation.binary import log_loss
from bowerbird.features import Categorical
from bowerbird.models.ranking.fm import FMConfig
from bowerbird.recommender import RankingOptions

QUIET = bb.RunOptions(device="cpu", progress=False)
COLUMNS = [Categorical(name="user_id"), Categorical(name="item_id")]
RANKER = {"dim": 4, "epochs": 30, "learning_rate": 0.02, "batch_size": 1024, "select": "logloss", "l2": 1e-4}
SEEN = {1.0: 0.5, 0.0: 0.1}  # how likely an answer is given, by what it is


@pytest.fixture(scope="module")
def world() -> pl.DataFrame:
    """Everybody about everything, and which answers they give by themselves: five times as many of what they like."""
    rng = np.random.default_rng(0)
    user, item = (side.ravel() for side in np.meshgrid(np.arange(60), np.arange(50), indexing="ij"))
    alike = user % 2 == item % 2
    label = (rng.random(len(user)) < np.where(alike, 0.5, 0.1)).astype(np.float64)
    chance = np.where(label == 1, SEEN[1.0], SEEN[0.0])
    seen = rng.random(len(user)) < chance
    return pl.DataFrame({"user_id": user, "item_id": item, "label": label, "propensity": chance, "seen": seen})


def rows_of(frame: pl.DataFrame) -> Rows:
    return read_rows(frame.drop("seen"), labels="label", user="user_id", item="item_id")


def test_the_truth_about_everything_is_recovered_from_what_was_chosen(world: pl.DataFrame) -> None:
    parts = split_rows(rows_of(world.filter("seen")), "random", valid=0.2, test=0.1)
    everything = rows_of(world)
    loss, mean = {}, {}
    for debias in ("none", "given"):
        fitted = bb.fit(parts, "fm", columns=COLUMNS, run=QUIET, debias=debias, **RANKER)
        told = fitted.predict(everything)[:, 0]
        loss[debias], mean[debias] = log_loss(everything.labels[:, 0], told), told.mean()
    truth = everything.labels.mean()
    assert abs(mean["given"] - truth) < 0.05 < 0.2 < mean["none"] - truth
    assert loss["given"] < loss["none"] - 0.1


def shop(frame: pl.DataFrame) -> Interactions:
    kinds = (EventType("like"), EventType("skip", sign="negative"))
    named = frame.with_columns(event=pl.when(pl.col("label") == 1).then(pl.lit("like")).otherwise(pl.lit("skip")))
    return bb.read(named.drop("label", "seen"), event="event", event_types=kinds)


def test_a_ranker_of_interactions_weighs_by_the_same_column(world: pl.DataFrame) -> None:
    events = shop(world.filter("seen"))
    loss, truth = {}, bb.split(events, "random").test
    for debias in ("none", "given"):
        options = {"dim": 4, "epochs": 30, "learning_rate": 0.02, "l2": 1e-4}
        rec = bb.fit(events, "fm", ranking=RankingOptions(retriever="popularity"), run=QUIET, debias=debias, **options)
        told, rows = rec.predict(truth)
        loss[debias] = told.mean()
    assert loss["given"] < loss["none"] - 0.2
    assert rec.stage is not None
    weight = rec.stage.rows(truth, weighed=True)[0].weight
    assert weight is not None
    assert set(np.round(weight.numpy() / weight.min().item(), 3).tolist()) == {1.0, 5.0}  # 0.5 over 0.1
    assert rec.stage.rows(truth)[0].weight is None  # what is measured stays as it is
    assert rows.table.columns == ["user_id", "item_id", "propensity"]


def test_popularity_tells_rare_items_of_ones_taste_from_the_known_ones() -> None:
    """Even users like even items all alike; half of them were shown ten times as often."""
    rng = np.random.default_rng(1)
    user, item = (side.ravel() for side in np.meshgrid(np.arange(200), np.arange(40), indexing="ij"))
    often = item < 20
    chosen = (user % 2 == item % 2) & (rng.random(len(user)) < np.where(often, 0.4, 0.04))
    events = bb.read(pl.DataFrame({"user_id": user[chosen], "item_id": item[chosen]}))
    gap = {}
    for debias in ("none", "popularity"):
        options = {"dim": 8, "epochs": 20, "cosine": False, "temperature": 1.0, "loss": "bce", "negatives": 4}
        rec = bb.fit(events, "mf", run=QUIET, debias=debias, debias_power=1.0, debias_clip=100.0, l2=1e-3, **options)
        scores = np.array([rec.model.user.detach().numpy() @ rec.model.item.detach().numpy().T])[0]
        users, items = (np.array(ids.values.to_list()) for ids in (rec.user_ids, rec.item_ids))
        own = users[:, None] % 2 == items % 2
        gap[debias] = scores[own & (items < 20)].mean() - scores[own & (items >= 20)].mean()
    assert gap["popularity"] < 0.5 * gap["none"]


def test_a_recipe_switches_it_on_and_the_bundle_remembers(world: pl.DataFrame, tmp_path: Path) -> None:
    world.filter("seen").drop("seen", "label").write_csv(tmp_path / "events.csv")
    (tmp_path / "recipe.toml").write_text(
        f'[data]\npath = "{(tmp_path / "events.csv").as_posix()}"\n[model]\nname = "mf"\nepochs = 1\ndebias = "given"\n'
    )
    run = tmp_path / "run"
    words = ["train", str(tmp_path / "recipe.toml"), "--set", "debias_clip=3", "--out", str(run)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    config = bb.load(run).config
    assert (config.debias, config.debias_clip) == ("given", 3.0)  # type: ignore[attr-defined]
    result = CliRunner().invoke(app, [*words[:2], "--set", "debias=givne"])
    assert isinstance(result.exception, ConfigError)
    assert 'Did you mean "given"' in str(result.exception)


def test_what_a_past_does_not_keep_cannot_be_weighed(world: pl.DataFrame, tmp_path: Path) -> None:
    events = shop(world.filter("seen"))
    with pytest.raises(DataError, match="debias is 'given', and there is no column"):
        bb.fit(replace(events, extra=None), "mf", run=QUIET, debias="given")
    world.drop("seen").write_parquet(tmp_path / "rows.parquet")
    config = FMConfig(epochs=1, debias="given")
    with pytest.raises(ConfigError, match="streamed weigh all rows alike"):
        bb.Predictor.fit_files(tmp_path / "rows.parquet", None, config, labels="label")


def test_parts_that_were_given_keep_the_columns_that_all_have(world: pl.DataFrame) -> None:
    seen = world.filter("seen").drop("seen", "label")
    train, test = bb.read(seen[:-50]), bb.read(seen[-50:].with_columns(more=pl.lit("x")))
    parts = bb.split(train, test=test)
    assert parts.train.extra is not None
    assert parts.train.extra.columns == ["propensity"]
    assert parts.test.targets.extra is not None
    told = parts.test.targets.extra["propensity"].to_list()
    assert sorted(told) == sorted(seen[-50:]["propensity"].to_list())
    assert bb.split(bb.read(seen.drop("propensity")[:-50]), test=test).train.extra is None
