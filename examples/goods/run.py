"""Goods: a shop learns from looks, carts and purchases, and is judged by the purchases that follow.

python examples/goods/run.py [--data retailrocket-mb|FOLDER|events.csv --items items.csv] [--out runs/goods]
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
import _story

import bowerbird as bb
from bowerbird.data import Holdout, Interactions

LOOK = bb.EventType("view", weight=1.0, hides=False, phrase="looked at")
CART = bb.EventType("cart", weight=3.0, hides=False, phrase="put into the cart")
BUY = bb.EventType("purchase", weight=5.0, phrase="bought")
BASELINES = [("itemknn", {}), ("itemknn", {"shrink": 1.0}), ("ials", {}), ("spectral", {})]
DENSE = [("ease", {"l2": 100.0}), ("ease", {"l2": 300.0})]  # hold a number for each two goods
DEEP = [("sasrec", {"dropout": 0.5, "epochs": 12, "patience": 3})]


def made(people: int, rng: np.random.Generator) -> Interactions:
    """Return looks, of which some end in a cart, and some of these in a purchase."""
    looks, goods = _story.world(people, 320, 30, rng, makers=4, mood=0.4)
    chance = rng.random(len(looks))
    kinds = [
        looks.filter(pl.Series(chance < share)).with_columns(pl.col("time") + later, event=pl.lit(kind.name))
        for kind, share, later in ((LOOK, 1.0, 0), (CART, 0.4, 300), (BUY, 0.25, 900))
    ]
    goods = goods.rename({"topic": "category", "maker": "brand"})
    return bb.read(pl.concat(kinds), event_types=[LOOK, CART, BUY], items=goods)


def bought(holdout: Holdout) -> Holdout:
    """Return the question by what people bought later, whatever else they looked at."""
    purchase = [kind.name for kind in holdout.targets.events].index("purchase")
    return replace(holdout, targets=holdout.targets.rows(holdout.targets.event == purchase))


def main(words: list[str] | None = None) -> _story.Told:
    """Tell the story."""
    asked = _story.options(__doc__ or "", words)
    name, events = _story.data_of(asked, made, {"view": LOOK, "cart": CART, "purchase": BUY, "buy": BUY})
    told = _story.Told(name)
    parts = bb.split(events, "leave-one-out" if events.time is None else "temporal")
    if BUY in events.events:
        parts = replace(parts, valid=bought(parts.valid), test=bought(parts.test))
    baselines = BASELINES + (DENSE if events.n_items <= 15_000 else [])
    _story.contest(told, asked, _story.Lists(parts, "ndcg@10", asked.seed), baselines, DEEP)
    _story.slates(told, asked, "goods", everything=events)
    return told


if __name__ == "__main__":
    main()
