"""The race: order, halving, limits, resuming; with a worker that answers at once, and once with a real one."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import bowerbird as bb
from bowerbird.core import ConfigError, ModelConfig, RunOptions, entry_of, lookup
from bowerbird.data import Interactions, Split, read_rows, split_rows
from bowerbird.recommender import DataOptions, Recipe, SplitOptions
from bowerbird.selection import Advice, as_dict, as_html, recipe_text, select
from bowerbird.selection import race as race_module
from bowerbird.selection.candidates import candidates
from bowerbird.selection.measure import Measured
from bowerbird.selection.profile import profile
from bowerbird.selection.worker import Answer, Attempt, Worker

WORTH = {"popularity": 0.1, "itemknn": 0.3, "ease": 0.4, "mf": 0.35, "lightgcn": 0.2}
Told = list[tuple[str, float, float]]  # model, share, limit


class Quick:
    """Answers at once what a table says; `told` is what it was asked."""

    told: Told = []  # noqa: RUF012
    failing: tuple[str, ...] = ()
    interrupt_after = 10**6
    seconds = 0.5

    def __init__(self, split: Any, run: RunOptions, *, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.noise = self.rng.normal(0, 0.1, 200)

    def begin(self) -> None: ...

    def start(self) -> None: ...

    def __enter__(self) -> "Quick":
        return self

    def __exit__(self, *error: object) -> None: ...

    def measure(
        self, config: ModelConfig, share: float, limit_s: float, *, most_mb: float | None = None, last_s: float = 0.0
    ) -> Answer:
        name = entry_of(config).name
        self.told.append((name, share, limit_s))
        if len(self.told) > self.interrupt_after:
            raise KeyboardInterrupt
        if name in self.failing:
            return Answer(None, None, "was ended after 1.0 s, its limit", 1.0)
        worth = WORTH[name] + (0.05 if getattr(config, "l2", 300.0) < 300.0 else 0.0)
        values = worth + self.noise + np.random.default_rng(len(name)).normal(0, 0.02, 200)
        found = Measured(
            value=float(values.mean()), seconds=self.seconds * share, ms=1, ms_high=30 if name == "mf" else 2,
            mb=500 if name == "ease" else 1, peak_mb=10, epochs=0, packages=(), cut=False,
        )  # fmt: skip
        return Answer(found, values)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    asked: Told = []
    for name, value in (("told", asked), ("failing", ()), ("interrupt_after", 10**6)):
        monkeypatch.setattr(Quick, name, value)
    monkeypatch.setattr(race_module, "Worker", Quick)
    monkeypatch.setattr(race_module, "LEAST", {1: 20, 2: 20})
    monkeypatch.setattr(race_module, "TRIES", 4)
    monkeypatch.setattr(race_module, "LEISURE", 0.0)  # so that no part is left out
    return asked


@pytest.fixture
def parts(even_odd: Interactions) -> Split:
    whole = bb.split(even_odd, "leave-one-out")
    assert isinstance(whole, Split)
    return whole


Chosen = Callable[..., Advice]


@pytest.fixture
def chosen(parts: Split, tmp_path: Path) -> Chosen:
    def run(**options: Any) -> Advice:
        return select(parts, **({"budget_s": 60.0, "models": list(WORTH), "study": tmp_path / "study"} | options))

    return run


def test_every_model_is_tried_as_it_is_shipped_before_any_is_tuned(told: Told, chosen: Chosen) -> None:
    found = chosen()
    first = [one for one in found.trials if one.share == found.trials[0].share][: len(WORTH)]
    assert {one.model for one in first} == set(WORTH)
    assert all(one.shipped for one in first)
    assert found.pick.trial.model == "ease"
    assert found.settings(found.pick.trial).startswith("l2 = ")  # a better setting was found
    assert found.runner_up is not None
    assert found.runner_up.trial.model == "mf"
    assert any("ease" in one["model"] for one in found.from_sample)


def test_parts_grow_and_the_weaker_half_stays_behind(told: Told, chosen: Chosen, monkeypatch: Any) -> None:
    monkeypatch.setattr(race_module, "LITTLE", 0.0)  # so that no try is for nothing
    monkeypatch.setattr(race_module, "LEADING", 1)
    found = chosen()
    shares = [one.share for one in found.trials]
    assert shares == sorted(shares)
    assert {one.model for one in found.trials if one.share == 1.0} == {"ease", "mf", "itemknn"}
    assert {one.model for one in found.skipped if "was left behind" in one.why} == {"popularity", "lightgcn"}


def test_what_made_one_model_better_is_lent_to_another_that_has_the_setting(
    told: Told, parts: Split, tmp_path: Path
) -> None:
    space = {"mf": {"dim": [16, 128], "l2": [0.1, 0.2]}, "lightgcn": {"dim": [16, 64, 128], "hops": [1, 2]}}
    runners, _ = candidates(profile(parts), models=list(space), space=space, settings={"mf": {"dim": 16}})
    race = race_module.Race(
        parts, runners, race_module.Limits(60.0), run=RunOptions(), study=tmp_path, deadline=time.monotonic() + 60
    )
    mf, lightgcn = runners
    better = replace(mf.config, dim=128, l2=0.2)
    for config, value in ((mf.config, 0.1), (better, 0.2)):
        answer = race.worker.measure(config, 1.0, 1.0)
        race._note(mf, config, 1.0, replace(answer.measured, value=value), answer.values)
    assert list(race._lent(lightgcn, lightgcn.config, 1.0)) == [replace(lightgcn.config, dim=128)]
    assert not list(race._lent(mf, better, 1.0))  # nothing is known of the other


def test_families_take_turns_among_those_that_nothing_is_known_of(parts: Split) -> None:
    runners, _ = candidates(profile(parts), models=["mf", "lightgcn", "ngcf", "simgcl", "ials"])
    seconds = {"mf": 3.0, "lightgcn": 5.0, "ngcf": 4.0, "simgcl": 9.0, "ials": 1.0}
    turns = race_module._turns(runners, seconds)
    assert turns == {"ials": 0, "mf": 1, "ngcf": 0, "lightgcn": 1, "simgcl": 2}


def test_a_step_goes_to_the_neighbours_of_a_setting_and_rates_stand_apart() -> None:
    config = lookup("ials").config(dim=64, l2=0.01)
    rate, others = race_module._steps({"dim": [32, 64, 128], "l2": (0.001, 10.0)}, config)
    assert not rate
    assert [(one.dim, one.l2) for one in others] == [(128, 0.01), (32, 0.01), (64, 0.1), (64, 0.001)]
    config = lookup("mf").config(dim=200, learning_rate=0.01)
    rate, others = race_module._steps({"dim": (16, 256), "learning_rate": [0.01, 0.1]}, config)
    assert [one.learning_rate for one in rate] == [0.1]
    assert [one.dim for one in others] == [256, 100]


def test_a_part_that_cannot_judge_leaves_nobody_behind(told: Told, chosen: Chosen, monkeypatch: Any) -> None:
    monkeypatch.setattr(race_module, "ROUGH", 0.0)
    found = chosen()
    assert min(one.share for one in found.trials) < 1
    assert all(one.shipped for one in found.trials if one.share < 1)  # no settings are looked for there
    assert {one.model for one in found.trials if one.share == 1} == set(WORTH)


def test_settings_of_whoever_is_far_behind_wait(told: Told, chosen: Chosen) -> None:
    tuned = [one.model for one in chosen().trials if one.share == 1 and not one.shipped]
    assert tuned[0] == "ease"
    assert len(set(tuned)) > 1
    assert tuned == sorted(tuned, key=lambda model: model != "ease")


def test_small_parts_are_left_out_where_there_is_time(told: Told, chosen: Chosen, monkeypatch: Any) -> None:
    monkeypatch.setattr(race_module, "LEISURE", 1.0)
    assert {one.share for one in chosen().trials} == {1.0}


def test_limits_are_kept_by_estimate_and_by_measure(told: Told, chosen: Chosen) -> None:
    quick = chosen(latency_ms=20)
    assert quick.pick.trial.model == "ease"
    assert "mf" not in {place.trial.model for place in quick.places}
    assert chosen(latency_ms=20, memory_mb=100).places[0].trial.model == "itemknn"


def test_what_an_estimate_forbids_is_never_begun(told: Told, chosen: Chosen, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"MB to serve; the limit is 0 MB"):
        chosen(memory_mb=1e-6, study=tmp_path / "other")
    assert told == []


def test_a_try_never_has_more_time_than_is_left(told: Told, chosen: Chosen) -> None:
    began = time.monotonic()
    found = chosen(budget_s=12.0, began=began)
    assert all(limit <= 12.0 for _, _, limit in told)
    assert found.seconds < 12.0


def test_what_fails_is_told_and_not_tried_again(told: Told, chosen: Chosen, monkeypatch: Any) -> None:
    monkeypatch.setattr(Quick, "failing", ("mf",))
    found = chosen()
    assert sum(name == "mf" for name, _, _ in told) == 1
    assert any(one.model == "mf" and "was ended" in one.why for one in found.skipped)


def test_the_same_question_goes_on_where_it_ended(told: Told, chosen: Chosen) -> None:
    first, asked = chosen(), len(told)
    again = chosen()
    assert again.resumed >= len(WORTH)
    before = {(one.model, one.share, repr(one.config)) for one in first.trials}
    after = {(one.model, one.share, repr(one.config)) for one in again.trials}
    assert len(told) - asked == len(after - before)  # nothing is measured twice
    assert again.pick.trial.value >= first.pick.trial.value


def test_ctrl_c_keeps_what_was_measured(told: Told, chosen: Chosen, monkeypatch: Any) -> None:
    monkeypatch.setattr(Quick, "interrupt_after", 3)
    found = chosen()
    assert found.interrupted
    assert len(found.trials) == 3
    monkeypatch.setattr(Quick, "interrupt_after", 10**6)
    assert chosen().resumed == 3


def test_ctrl_c_before_anything_is_ctrl_c(told: Told, chosen: Chosen, monkeypatch: Any) -> None:
    monkeypatch.setattr(Quick, "interrupt_after", 0)
    with pytest.raises(KeyboardInterrupt):
        chosen()


@pytest.mark.parametrize("options", [{"budget_s": 1.0}, {"latency_ms": 0.0}, {"memory_mb": -1.0}])
def test_options_that_make_no_sense_are_refused(chosen: Chosen, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options)).removesuffix('_s')}.* must be"):
        chosen(**options)


# ── what is written ───────────────────────────────────────────────────────────────────────────────────────────────


class Tags(HTMLParser):
    """Opens and closes tags, and keeps what might ask for something outside."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.outside += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_report_is_one_sound_file_that_asks_for_nothing(told: Told, chosen: Chosen) -> None:
    found = chosen(latency_ms=20)
    text = as_html(found, data="<script>alert(1)</script>", recipe="my.toml")
    page = Tags()
    page.feed(text)
    assert page.open == []
    assert page.outside == []
    assert "<script" not in text
    assert "@import" not in text
    assert text.count("<svg") == 3
    said = " ".join(page.texts)
    assert found.sentence in said
    assert "bowerbird train my.toml" in said
    assert all(place.trial.model in said for place in found.places)
    assert f"{found.pick.trial.value:.4f}" in said


def test_the_document_is_json_and_says_what_was_measured(told: Told, chosen: Chosen) -> None:
    document = json.loads(json.dumps(as_dict(chosen())))
    assert document["pick"]["model"] == "ease"
    assert {"value", "interval", "seconds", "ms", "mb", "lines", "packages_mb", "on_front"} <= set(document["pick"])
    assert document["difference"]["low"] <= document["difference"]["mean"] <= document["difference"]["high"]
    assert document["trials"]


def test_a_recipe_reads_as_it_was_written(tmp_path: Path) -> None:
    config = lookup("itemknn").config(neighbours=7, nearest_to="scored")  # type: ignore[call-arg]
    data, cut = DataOptions(path='a "table".csv', user="who"), SplitOptions(method="per-user", valid=0.2)
    text = recipe_text(config, data, cut, RunOptions(seed=3), label=("click", "buy"), said="Why.\nHow.")
    (tmp_path / "recipe.toml").write_text(text)
    recipe = Recipe.load(tmp_path / "recipe.toml")
    assert (recipe.model, recipe.data, recipe.split, recipe.run.seed) == (config, data, cut, 3)
    assert recipe.ranking.label == ("click", "buy")
    assert text.startswith("# Why.\n# How.\n")


# ── with a process of its own ─────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_measures_and_is_ended_at_its_limit(parts: Split) -> None:
    run = RunOptions(progress=False, threads=1)
    with Worker(parts, run) as worker:
        answer = worker.measure(lookup("ease").config(), 1.0, 60.0)
        assert answer.measured is not None
        report = bb.evaluate(bb.fit(parts, "ease", run=run), parts.valid, metrics=["ndcg@10"])
        assert answer.measured.value == pytest.approx(report.metrics["ndcg@10"])
        assert answer.values is not None
        assert np.allclose(answer.values, report.per_user["ndcg@10"].to_numpy())
        assert answer.measured.mb == pytest.approx(4e-6 * parts.train.n_items**2)
        long = replace(lookup("mf").config(), epochs=10**6, patience=10**6)  # type: ignore[type-var]
        cut = worker.measure(long, 1.0, 6.0)
        assert cut.measured is not None
        assert cut.measured.cut
        assert cut.seconds < 6.0
        ended = worker.measure(long, 1.0, 30.0, most_mb=1.0)
        assert "over the limit of 1" in ended.error
        assert worker.measure(lookup("popularity").config(), 1.0, 60.0).measured is not None  # another process


def test_rows_are_raced_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"device": rng.choice(["a", "b"], 600), "price": rng.random(600)})
    frame = frame.with_columns(click=((pl.col("device") == "a") ^ (pl.col("price") > 0.8)).cast(pl.Int64))
    found = select(
        split_rows(read_rows(frame, labels="click")), budget_s=15.0, models=["logistic", "fm"], study=tmp_path,
        settings={"logistic": {"epochs": 2}, "fm": {"epochs": 2}}, space={"logistic": {}, "fm": {}},
        run=RunOptions(progress=False, threads=1),
    )  # fmt: skip
    assert (found.metric, found.who) == ("auc", "rows")
    assert {place.trial.model for place in found.places} == {"logistic", "fm"}
    assert 0.5 < found.pick.trial.value <= 1
    assert found.seconds < 15
    assert "bowerbird predict" in as_html(found, data="clicks.csv")


class Beside:
    """An executor that runs tries here, and notes how many it was given at once."""

    at_once = 2

    def __init__(self) -> None:
        self.given: list[int] = []

    def __call__(self, function: Callable[[Attempt], Any], tries: Sequence[Attempt], limit_s: float) -> list[Any]:
        self.given.append(len(tries))
        assert limit_s > 0
        return [None if one.config == lookup("popularity").config() else function(one) for one in tries]


def test_an_executor_is_given_first_tries_together_and_what_it_loses_is_told(parts: Split, tmp_path: Path) -> None:
    executor, space = Beside(), {"ease": {"l2": [100.0, 300.0]}, "itemknn": {"shrink": [10.0]}}  # soon used up
    found = select(
        parts, budget_s=60.0, models=["ease", "itemknn", "popularity"], space=space,
        study=tmp_path / "study", executor=executor,
    )  # fmt: skip
    assert executor.given[0] == 3
    assert set(executor.given[1:]) <= {1}  # settings, one after the other: each tells what to try next
    assert {one.model for one in found.trials} == {"ease", "itemknn"}
    lost = next(one for one in found.skipped if one.model == "popularity")
    assert "had no result after" in lost.why
    again = select(
        parts, budget_s=60.0, models=["ease", "itemknn"], space=space,
        study=tmp_path / "study", executor=(unasked := Beside()),
    )  # fmt: skip
    assert again.resumed >= 2
    assert unasked.given == [] or max(unasked.given) == 1
