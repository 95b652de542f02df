"""search(): which configurations are tried, which one wins, and what is kept and not repeated."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bowerbird as bb
import bowerbird.models
from bowerbird.core import ConfigError, DataError, ModelConfig, build, entries, register, registry
from bowerbird.data import Interactions, Split
from bowerbird.features import Column
from bowerbird.models.baselines.ease import EASE, EASEConfig
from bowerbird.models.baselines.itemknn import ItemKNNConfig
from bowerbird.models.baselines.mf import MFConfig
from bowerbird.models.baselines.popularity import PopularityConfig
from bowerbird.models.ranking.fm import FMConfig
from bowerbird.recommender import RankingOptions
from bowerbird.selection import Search
from bowerbird.selection import tries as tries_module
from bowerbird.selection.tries import _configs, _drawn
from bowerbird.testing import halves_as_rows
from bowerbird.testing.halves import COLUMNS

QUIET = bb.RunOptions(progress=False)


@pytest.fixture(scope="module")
def parts() -> Split:
    """Fifty people and thirty items: even people choose even items."""
    rng = np.random.default_rng(0)
    pairs = [(user, int(item)) for user in range(50) for item in rng.permutation(np.arange(user % 2, 30, 2))[:10]]
    user, item = np.array(pairs)[rng.permutation(len(pairs))].T
    events = Interactions.of(pl.Series(user), pl.Series(item), time=60 * np.arange(len(user)))
    return bb.split(events, "per-user", valid=0.2, test=0.2)


def measured(parts: Split, config: ModelConfig, metric: str = "ndcg@10") -> float:
    rec = bb.fit(parts, config, run=QUIET)
    return bb.evaluate(rec, parts.valid, metrics=[metric], intervals=False).metrics[metric]


def test_the_first_try_is_the_shipped_configuration_and_the_best_is_the_best(parts: Split) -> None:
    found = bb.search(parts, "ease", tries=6, run=QUIET)
    assert found.tries.columns == ["number", "value", "seconds", "error", "l2"]
    assert found.tries["number"].to_list() == [0, 1, 2, 3, 4, 5]
    assert found.tries["l2"][0] == EASEConfig().l2
    assert found.first == found.tries["value"][0] == measured(parts, EASEConfig())
    assert found.value == found.tries["value"].max() == measured(parts, found.best)
    assert found.protocol == parts.protocol
    assert not found.interrupted


def test_every_value_of_the_table_can_be_measured_again(parts: Split) -> None:
    found = bb.search(parts, "itemknn", tries=4, metric="recall@5", run=QUIET)
    for row in found.tries.to_dicts():
        config = ItemKNNConfig(neighbours=row["neighbours"], shrink=row["shrink"])
        assert row["value"] == measured(parts, config, "recall@5")


def test_the_test_part_is_never_asked(parts: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    evaluate = tries_module.evaluate
    monkeypatch.setattr(
        tries_module, "evaluate", lambda rec, part, **how: asked.append(part) or evaluate(rec, part, **how)
    )
    bb.search(parts, "ease", tries=3, run=QUIET)
    assert asked == [parts.valid] * 3


def test_the_same_seed_tries_the_same_and_more_tries_go_on_where_fewer_ended(parts: Split) -> None:
    few = bb.search(parts, "ease", tries=3, seed=4, run=QUIET).tries["l2"].to_list()
    many = bb.search(parts, "ease", tries=6, seed=4, run=QUIET).tries["l2"].to_list()
    other = bb.search(parts, "ease", tries=6, seed=5, run=QUIET).tries["l2"].to_list()
    assert many[:3] == few
    assert other[1:] != many[1:]


def test_what_the_configuration_sets_stays_unless_the_space_names_it(parts: Split) -> None:
    given_one = bb.search(parts, ItemKNNConfig(neighbours=7), tries=4, run=QUIET)
    assert given_one.best.neighbours == 7  # type: ignore[attr-defined]
    assert given_one.tries.columns[4:] == ["shrink", "nearest_to"]
    named = bb.search(parts, ItemKNNConfig(neighbours=7), tries=4, space={"neighbours": [1, 2, 7]}, run=QUIET)
    assert sorted(named.tries["neighbours"].to_list()) == [1, 2, 7]


def test_a_small_space_ends_when_all_of_it_was_tried(parts: Split) -> None:
    found = bb.search(parts, "itemknn", tries=20, space={"neighbours": [1, 2, 100]}, run=QUIET)
    assert sorted(found.tries["neighbours"].to_list()) == [1, 2, 100]


def test_a_sampled_metric_is_measured_among_the_sample(parts: Split) -> None:
    found = bb.search(parts, "itemknn", tries=2, sampled=3, run=QUIET)
    rec = bb.fit(parts, "itemknn", run=QUIET)
    report = bb.evaluate(rec, parts.valid, metrics=["ndcg@10"], sampled=3, intervals=False)
    assert found.first == report.metrics["ndcg@10"]
    assert found.first > bb.search(parts, "itemknn", tries=1, run=QUIET).first


def test_trained_models_choose_by_their_own_metric(parts: Split) -> None:
    config = MFConfig(dim=4, epochs=2, batch_size=64, negatives=4, select="recall@5")
    found = bb.search(parts, config, tries=2, space={"learning_rate": (1e-3, 1e-1)}, run=QUIET)
    assert found.metric == "recall@5"
    assert len(found.tries) == 2


@given(
    low=st.floats(1e-6, 1e3), times=st.floats(1.0, 1e6), place=st.floats(0.0, 1.0, exclude_max=True),
)  # fmt: skip
def test_a_number_lies_in_its_range(low: float, times: float, place: float) -> None:
    value = _drawn((low, low * times), place)
    assert low * 0.99 <= value <= low * times * 1.01  # rounded to three digits
    assert value == pytest.approx(low * times**place, rel=0.01)


@given(low=st.integers(1, 50), more=st.integers(0, 1_000), place=st.floats(0.0, 1.0, exclude_max=True))
def test_an_integer_lies_in_its_range_whose_ends_can_be_drawn(low: int, more: int, place: float) -> None:
    value = _drawn((low, low + more), place)
    assert isinstance(value, int)
    assert low <= value <= low + more
    assert _drawn((low, low + more), 0.0) == low
    assert _drawn((low, low + more), math.nextafter(1.0, 0.0)) == low + more


def test_points_fill_the_space_evenly() -> None:
    drawn = [config.l2 for config in _configs(EASEConfig(), {"l2": (1.0, 10_000.0)}, 17, 0)][1:]  # type: ignore[attr-defined]
    assert np.bincount(np.log10(drawn).astype(int)).tolist() == [4, 4, 4, 4]  # sixteen over four decades


@pytest.mark.parametrize("entry", [entry for entry in entries() if entry.search], ids=lambda entry: entry.name)
def test_the_shipped_spaces_hold_configurations_that_can_be_built(entry: Any) -> None:
    first = build(entry.config, {})
    found = list(_configs(first, entry.search, 30, 0))
    assert len(found) == 30
    assert found[0] == first


def test_tries_are_kept_and_not_repeated(parts: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "kept" / "tries.jsonl"
    first = bb.search(parts, "ease", tries=3, run=QUIET, out=out)
    assert [json.loads(line)["value"] for line in out.read_text().splitlines()] == first.tries["value"].to_list()
    fitted = []
    fit = tries_module.fit
    monkeypatch.setattr(tries_module, "fit", lambda *what, **how: fitted.append(what) or fit(*what, **how))
    again = bb.search(parts, "ease", tries=5, run=QUIET, out=out)
    assert len(fitted) == 2
    assert again.tries["value"].to_list()[:3] == first.tries["value"].to_list()
    bb.search(parts, "ease", tries=5, run=QUIET, out=out, metric="recall@5")  # another question
    bb.search(bb.split(parts.train, "random"), "ease", tries=5, run=QUIET, out=out)  # other data
    assert len(fitted) == 12
    assert len(out.read_text().splitlines()) == 15


def test_a_line_cut_short_is_tried_again(parts: Split, tmp_path: Path) -> None:
    out = tmp_path / "tries.jsonl"
    first = bb.search(parts, "ease", tries=3, run=QUIET, out=out)
    out.write_text(out.read_text()[:-20])
    assert (
        bb.search(parts, "ease", tries=3, run=QUIET, out=out).tries["value"].to_list() == first.tries["value"].to_list()
    )
    assert len(out.read_text().splitlines()) == 3


def test_ctrl_c_keeps_what_there_is(parts: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit, calls = EASE.fit, []

    def impatient(self: EASE, *what: Any) -> None:
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt
        fit(self, *what)

    monkeypatch.setattr(EASE, "fit", impatient)
    out = tmp_path / "tries.jsonl"
    found = bb.search(parts, "ease", tries=9, run=QUIET, out=out)
    assert found.interrupted
    assert len(found.tries) == len(out.read_text().splitlines()) == 2
    assert found.value == found.tries["value"].max()


def test_ctrl_c_before_the_first_try_ends_is_passed_on(parts: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EASE, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        bb.search(parts, "ease", tries=3, run=QUIET)


def test_ctrl_c_inside_a_training_ends_the_search(parts: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    from bowerbird.models.baselines.mf import MF

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    config = MFConfig(dim=4, epochs=1, batch_size=64, negatives=4)
    monkeypatch.setattr(MF, "loss", stop)
    with pytest.raises(KeyboardInterrupt):
        bb.search(parts, config, tries=3, space={"learning_rate": (1e-3, 1e-1)}, run=QUIET)


def test_a_try_that_fails_is_a_row_like_the_others(parts: Split) -> None:
    untimed = bb.split(Interactions(**{**vars_of(parts.train), "time": None}), "random")
    found = bb.search(untimed, "popularity", tries=4, run=QUIET)
    assert found.best == PopularityConfig()
    assert found.tries["value"].is_not_null().to_list() == [True, False, False, False]
    assert "half_life_days needs times" in found.tries["error"][1]
    assert found.to_dict()["tries"][1]["value"] is None


def test_when_all_fail_the_first_error_is_raised(parts: Split) -> None:
    untimed = bb.split(Interactions(**{**vars_of(parts.train), "time": None}), "random")
    with pytest.raises(DataError, match="half_life_days needs times"):
        bb.search(
            untimed, PopularityConfig(half_life_days=3.0), tries=2, space={"half_life_days": (1.0, 9.0)}, run=QUIET
        )


def vars_of(events: Interactions) -> dict[str, Any]:
    return {name: getattr(events, name) for name in events.__dataclass_fields__}


def test_it_speaks_to_people_and_to_programs(parts: Split) -> None:
    found = bb.search(parts, "ease", tries=4, run=QUIET)
    said = str(found)
    assert said.startswith(f"ndcg@10 on validation {found.first:.4f} → {found.value:.4f} in 4 tries")
    assert "l2 = " in said
    document = json.loads(json.dumps(found.to_dict()))
    assert document["best"] == {"l2": found.best.l2}  # type: ignore[attr-defined]
    assert len(document["tries"]) == 4


@dataclass(frozen=True, kw_only=True)
class PlainConfig(ModelConfig):
    """Nothing to choose."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tries": 0}, "tries is 0; it must be 1 or more. Try tries = 20."),
        ({"metric": "ndgc@10"}, "'ndgc@10' is not a metric. Did you mean \"ndcg\"?"),
        ({"space": {"l22": (1.0, 2.0)}}, 'space: l22 is not an option of EASEConfig. Did you mean "l2"? Allowed: l2.'),
        ({"space": {"l2": (2.0, 1.0)}}, 'space["l2"] is (2.0, 1.0); it must be a list of choices, or two numbers'),
        ({"space": {"l2": (0.0, 1.0)}}, 'space["l2"] is (0.0, 1.0); it must be a list of choices, or two numbers'),
        ({"space": {"l2": []}}, 'space["l2"] is []; it must hold a choice. Try space["l2"] = [300.0].'),
        ({"model": EASEConfig(l2=5.0)}, 'ease has all of them set that a search could try. Give space={"key"'),
        ({"model": "eaze"}, 'no model is named "eaze". Did you mean "ease"?'),
    ],
)
def test_what_makes_no_sense_is_refused(parts: Split, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, bb.BowerbirdError)) as caught:
        bb.search(parts, **{"model": "ease", "run": QUIET, **options})
    assert str(caught.value).startswith(message)


def test_rankers_are_tried_on_rows_by_the_metric_that_chooses_their_epoch(tmp_path: Path) -> None:
    config, rows = FMConfig(epochs=2, learning_rate=0.02), halves_as_rows()
    space, file = {"dim": (2, 8)}, tmp_path / "tries.jsonl"

    def searched(columns: Sequence[Column]) -> Search:
        return bb.search(rows, config, tries=3, space=space, columns=columns, run=QUIET, out=file)

    found = searched(COLUMNS)
    assert found.metric == "auc"
    assert found.protocol == rows.protocol
    for row in found.tries.to_dicts():
        made = bb.fit(rows, replace(config, dim=row["dim"]), columns=COLUMNS, run=QUIET)
        assert made.training is not None
        assert row["value"] == made.training.best
    assert searched(COLUMNS).tries.equals(found.tries)  # what is kept is not made again
    assert searched(COLUMNS[:3]).first != found.first
    assert len(file.read_text().splitlines()) == 6
    with pytest.raises(
        ConfigError, match=r"metric is 'ndcg@10'; it must be the one that the ranker is chosen by\. Try"
    ):
        bb.search(rows, config, metric="ndcg@10")


def test_rankers_of_interactions_are_tried_behind_their_retriever(parts: Split) -> None:
    ranking = RankingOptions(retriever="popularity", candidates=5)
    config = FMConfig(epochs=2, dim=4)
    found = bb.search(parts, config, tries=2, space={"dim": [2]}, ranking=ranking, run=QUIET)
    made = bb.fit(parts, config, ranking=ranking, run=QUIET)
    assert made.training is not None
    assert found.first == made.training.best


def test_a_model_without_a_space_asks_for_one(parts: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ENTRIES", {})
    register("plain", config=PlainConfig)(type("Plain", (), {}))
    with pytest.raises(ConfigError, match=r"plain names none that a search could try. Give space="):
        bb.search(parts, PlainConfig(), run=QUIET)


def test_a_file_of_something_else_is_refused(parts: Split, tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    out.write_text('{"user": 1}\n')
    with pytest.raises(ConfigError, match=r"events.jsonl, line 1 is no try of a search. Name another file."):
        bb.search(parts, "ease", run=QUIET, out=out)
