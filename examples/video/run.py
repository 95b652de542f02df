"""Video: whatever was watched to the end is done with; what is new needs a first viewer.

python examples/video/run.py [--data tiktok-diffmm|ml-1m|FOLDER|watched.csv --items films.csv] [--out runs/video]
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
import _story

import bowerbird as bb
from bowerbird.data import Interactions, Split

OPEN = bb.EventType("open", weight=0.5, hides=False, phrase="opened")
WATCH = bb.EventType("watch", weight=3.0, phrase="watched")
BASELINES = [("itemknn", {}), ("ease", {"l2": 30.0}), ("ease", {"l2": 100.0}), ("ease", {"l2": 300.0})]
DEEP = {"temperature": 0.15, "length": 0.5}


def made(people: int, rng: np.random.Generator) -> Interactions:
    """Return openings, of which most end in a watch; a film loses half of its appeal in a month."""
    opened, films = _story.world(people, 320, 25, rng, makers=6, half_life_days=30.0, mood=0.3)
    watched = opened.filter(pl.Series(rng.random(len(opened)) < 0.7)).with_columns(pl.col("time") + 5_400)
    events = pl.concat([opened.with_columns(event=pl.lit("open")), watched.with_columns(event=pl.lit("watch"))])
    films = films.rename({"topic": "genre", "maker": "series"})
    return bb.read(events, event_types=[OPEN, WATCH], items=films)


def with_pictures(parts: Split) -> tuple[Split, dict[str, str | int]]:
    """Return parts whose items have the vectors of the column `image`, where there is one, and how vectors begin."""
    items = parts.train.items
    if items is None or not isinstance(items.schema.get("image"), pl.Array):
        return parts, {}
    train = parts.train.with_content(items={"image": items["image"].to_numpy()})
    pictured = bb.split(train, valid=parts.valid.targets, test=parts.test.targets)
    return pictured, {"start": "image", "dim": items["image"].dtype.shape[0]}


def main(words: list[str] | None = None) -> _story.Told:
    """Tell the story."""
    asked = _story.options(__doc__ or "", words)
    name, found = _story.data_of(asked, made, {"open": OPEN, "watch": WATCH})
    parts = found if isinstance(found, Split) else bb.split(found)  # by time where there is one
    parts, begin = with_pictures(parts)
    told = _story.Told(name)
    _story.contest(told, asked, _story.Lists(parts, "ndcg@20", asked.seed), BASELINES, [("lightgcn", DEEP | begin)])
    _story.slates(told, asked, "video", everything=None if isinstance(found, Split) else found)
    return told


if __name__ == "__main__":
    main()
