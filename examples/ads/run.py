"""Ads: what counts is the chance of a click, as a probability, since a price is put on it.

python examples/ads/run.py [--data criteo-8k|avazu-8k|frappe|FOLDER|clicks.csv] [--out runs/ads]
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
import _story

import bowerbird as bb
from bowerbird.data import Interactions, Rows, RowSplit, given_rows, read_rows, split_rows
from bowerbird.evaluation.rows_report import compare_rows
from bowerbird.evaluation.statistics import Difference
from bowerbird.recommender import RankingOptions

SHOWN = bb.EventType("impression", sign="neutral", hides=False, phrase="saw")
CLICK = bb.EventType("click", hides=False, phrase="clicked")
RANKING = RankingOptions(given="impression", label=("click",), retriever="popularity")  # a row is an ad that was shown
BASELINES = [("logistic", {})]
ENOUGH = 5_000  # rows of a published test; a smaller one is put together with the other parts and drawn anew
DEEP = [("deepfm", {}), ("dcnv2", {})]


class Clicks(_story.Lists):
    """A contest of probabilities: of shown ads, which are clicked."""

    floor = ()
    learnt = "train, calibrated on validation"

    def fit(self, name: str, settings: Mapping[str, Any]) -> Any:
        """Return a ranker of shown ads, or of feature rows."""
        stages = {"ranking": RANKING} if hasattr(self.parts.test, "known") else {}
        return bb.fit(self.parts, name, run=self.run, **stages, **settings)

    def again(self, model: Any) -> Any:
        """Return it as it is: validation has chosen the epoch and calibrated it."""
        return model

    def measure(self, model: Any, part: str) -> Any:
        """Return AUC, log loss and calibration on the rows of a part."""
        asked = getattr(self.parts, part)
        chance, rows = (model.predict(asked), asked) if isinstance(asked, Rows) else model.predict(asked)
        return bb.evaluate_rows(chance, rows, part=part, protocol=self.parts.protocol, seed=self.seed)

    def compare(self, a: Any, b: Any) -> Difference:
        """Return the difference of AUC, and print that of the log loss."""
        auc, loss = (compare_rows(a, b, metrics=[one], seed=self.seed)[0] for one in ("auc", "logloss"))
        for name, one in (("deep model", a), ("baseline", b)):
            said, is_so = one.probability.mean(), one.metrics["base_rate"]
            print(f"{name}: says {said:.4f}, is {is_so:.4f}, ece {one.metrics['ece']:.4f}")
        print(f"log loss, better by {loss.mean:+.4f} [{loss.low:+.4f}, {loss.high:+.4f}], {loss.verdict}")
        return auc


def made(people: int, rng: np.random.Generator) -> Interactions:
    """Return ads shown by chance, and clicks: an advertiser's appeal, and a taste for topics that no sum can know."""
    shown, ads = _story.world(people, 80, 60, rng, makers=4, again=True, mood=0.0)
    shown = shown.with_columns(ads["item_id"].gather(rng.integers(len(ads), size=len(shown))).alias("item_id"))
    topic = shown.join(ads, on="item_id", maintain_order="left")["topic"].rank("dense").to_numpy() - 1
    who = shown["user_id"].rank("dense").to_numpy() - 1
    taste, appeal = rng.normal(size=(who.max() + 1, 8)), rng.normal(size=8)
    chance = 1 / (1 + np.exp(2.0 - 1.5 * taste[who, topic] - 0.5 * appeal[topic]))
    clicked = shown.filter(pl.Series(rng.random(len(shown)) < chance)).with_columns(pl.col("time") + 5)
    events = pl.concat([shown.with_columns(event=pl.lit("impression")), clicked.with_columns(event=pl.lit("click"))])
    return bb.read(events, event_types=[SHOWN, CLICK], items=ads.drop("published_at").rename({"maker": "advertiser"}))


def cut(found: Rows | dict[str, Rows]) -> RowSplit:
    """Return rows in three parts: as published, or anew where the published test tells too little."""
    if isinstance(found, Rows):
        return split_rows(found, valid=0.15, test=0.25)
    if {"train", "valid", "test"} <= set(found) and len(found["test"]) >= ENOUGH:
        return given_rows(found["train"], found["valid"], found["test"])
    return split_rows(Rows.concat(list(found.values())), valid=0.15, test=0.25)


def main(words: list[str] | None = None) -> _story.Told:
    """Tell the story."""
    asked = _story.options(__doc__ or "", words)
    name, found = _story.data_of(asked, made, {}, own=lambda path, items: read_rows(path))
    parts = bb.split(found) if isinstance(found, Interactions) else cut(found)
    told = _story.Told(name)
    _story.contest(told, asked, Clicks(parts, "auc", asked.seed), BASELINES, DEEP)
    if isinstance(found, Interactions):
        _story.slates(told, asked, "ads", k=3, everything=found)
        return told
    for reason, chance in told.taken.explain(parts.test.table.head(3)):
        print(f"{chance:.3f}: {reason.text}")
    if asked.out:
        told.taken.save(asked.out)
        print(f"\nscore rows:  bowerbird predict {asked.out} ROWS --out scores.parquet")
    return told


if __name__ == "__main__":
    main()
