"""Music: what was heard may come again, a play counts once however often; podcasts are heard once.

python examples/music/run.py [--data lastfm-2k|FOLDER|plays.csv --items tracks.csv] [--out runs/music]
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
import _story

import bowerbird as bb
from bowerbird.data import Interactions, Split

PLAY = bb.EventType("play", hides=False, phrase="played")
SKIP = bb.EventType("skip", weight=0.5, sign="negative", hides=False, phrase="skipped")
BASELINES = [("itemknn", {}), ("itemknn", {"nearest_to": "scored"}), ("ials", {}), ("spectral", {})]
DENSE = [("ease", {"l2": 100.0}), ("ease", {"l2": 300.0})]  # hold a number for each two tracks
DEEP = [("lightgcn", {})]


def made(people: int, rng: np.random.Generator) -> Interactions:
    """Return plays, many of a track that was played before, and a few that were skipped."""
    played, tracks = _story.world(people, 320, 35, rng, makers=8, mood=0.6, again=True)
    event = pl.Series("event", np.where(rng.random(len(played)) < 0.1, "skip", "play"))
    return bb.read(played.with_columns(event), event_types=[PLAY, SKIP], items=tracks.rename({"maker": "artist"}))


def main(words: list[str] | None = None) -> _story.Told:
    """Tell the story."""
    asked = _story.options(__doc__ or "", words)
    name, found = _story.data_of(asked, made, {"play": PLAY, "skip": SKIP})
    parts = found if isinstance(found, Split) else bb.split(found)  # by time where there is one, else at random
    told = _story.Told(name)
    baselines = BASELINES + (DENSE if parts.train.n_items <= 15_000 else [])
    _story.contest(told, asked, _story.Lists(parts, "ndcg@20", asked.seed), baselines, DEEP)
    everything = None if isinstance(found, Split) else found
    _story.slates(told, asked, "music", "podcasts", everything=everything, folder=Path(__file__).parent)
    return told


if __name__ == "__main__":
    main()
