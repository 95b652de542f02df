"""News: articles live for hours, the front page decides what is read, and a model must not learn the front page.

python examples/news/run.py [--data adressa-macr|FOLDER|read.csv --items articles.csv] [--out runs/news]
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
import _story

import bowerbird as bb
from bowerbird.data import Interactions, Split

VIEW = bb.EventType("view", weight=0.5, phrase="opened")
READ = bb.EventType("read", weight=2.0, phrase="read")
HELD = 3  # events of each article that validation holds, where the test treats articles alike
WEIGHED = ("popularity", "none")  # whether events weigh by how likely they were to be seen: chosen on validation
BASELINES = [
    ("ease", {"l2": 30.0}),
    ("ease", {"l2": 300.0}),
    ("spectral", {}),
    *(("mf", {"temperature": 0.2, "debias": how, "batch_size": 4096}) for how in WEIGHED),
]
DEEP = [("xsimgcl", {"temperature": 0.2, "length": 0.0, "debias": how, "batch_size": 4096}) for how in WEIGHED]


def made(people: int, rng: np.random.Generator) -> Interactions:
    """Return openings, of which half are read to the end; an article loses half of its appeal in two days."""
    opened, articles = _story.world(people, 320, 25, rng, days=14, half_life_days=2.0, mood=0.2)
    read = opened.filter(pl.Series(rng.random(len(opened)) < 0.5)).with_columns(pl.col("time") + 120)
    events = pl.concat([opened.with_columns(event=pl.lit("view")), read.with_columns(event=pl.lit("read"))])
    return bb.read(events, event_types=[VIEW, READ], items=articles.rename({"maker": "publisher"}))


def alike(parts: Split, rng: np.random.Generator) -> Split:
    """Return the parts with a validation part that has as many events of each article, as the test has."""
    events = parts.test.known
    order = rng.permutation(len(events))
    order = order[np.argsort(events.item[order], kind="stable")]
    count = np.bincount(events.item)
    place = np.arange(len(events)) - np.repeat(np.cumsum(count) - count, count)
    held = np.zeros(len(events), bool)
    held[order] = place < np.minimum(HELD, count[events.item[order]] // 2)
    return bb.split(events.rows(~held), valid=events.rows(held), test=parts.test.targets)


def main(words: list[str] | None = None) -> _story.Told:
    """Tell the story."""
    asked = _story.options(__doc__ or "", words)
    name, found = _story.data_of(asked, made, {"view": VIEW, "read": READ})
    # one moment for all, and readers who come later show two articles first; or parts that were published
    parts = alike(found, np.random.default_rng(0)) if isinstance(found, Split) else bb.split(found, warmup=2)
    told = _story.Told(name)
    _story.contest(told, asked, _story.Lists(parts, "ndcg@10", asked.seed), BASELINES, DEEP)
    _story.slates(told, asked, "news", everything=None if isinstance(found, Split) else found)
    return told


if __name__ == "__main__":
    main()
