"""Friends: the items are people, nobody is proposed to themselves, and what friends have in common is a path.

python examples/friends/run.py [--data lastfm-2k|yelp-hin|FOLDER|follows.csv] [--out runs/friends]
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
import _story

import bowerbird as bb
from bowerbird.data import Edges, Interactions, Split

FOLLOW = bb.EventType("follow", weight=3.0, phrase="befriended")
BLOCK = bb.EventType("block", sign="negative", phrase="blocked")  # oneself: a block only hides
BASELINES = [("itemknn", {}), ("ease", {"l2": 30.0}), ("ease", {"l2": 300.0}), ("spectral", {})]
DEEP = [("hetero", {"temperature": temperature}) for temperature in (0.1, 0.3)]


def made(people: int, rng: np.random.Generator) -> Interactions:
    """Return what people chose, and friendships: more among those who live in one place and chose alike."""
    chosen, things = _story.world(people, 160, 20, rng)
    events = bb.read(chosen, items=things)
    place = rng.integers(max(people // 25, 2), size=events.n_users)
    taste = np.zeros((events.n_users, things["topic"].n_unique()))
    np.add.at(taste, (events.user, events.items["topic"].rank("dense").to_numpy()[events.item] - 1), 1)
    taste /= np.linalg.norm(taste, axis=1, keepdims=True)
    odds = 3.0 * (place[:, None] == place) + 2.0 * taste @ taste.T + rng.gumbel(size=(len(place), len(place)))
    np.fill_diagonal(odds, -np.inf)
    friends = np.argsort(-odds, axis=1)[:, :8].astype(np.int32)
    ends = np.repeat(np.arange(len(place), dtype=np.int32), 8), friends.ravel()
    who = pl.DataFrame({"user_id": events.user_ids.values, "community": place}).cast({"community": pl.String})
    return replace(
        events.with_tables(users=who),
        relations={"friend": Edges("user", "user", *ends, np.ones(len(ends[0]), np.float32))},
    )


def befriended(events: Interactions) -> Split:
    """Return who befriends whom, pairs in three parts, both directions in one; what people chose becomes a relation."""
    edges, n = events.relations["friend"], events.n_users
    pairs = np.unique(np.sort(np.stack([edges.source, edges.target], axis=1), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    pairs = pairs[np.random.default_rng(0).permutation(len(pairs))]
    people = None if events.users is None else events.users.with_columns(item_id=events.user_ids.values)

    def follows(user: np.ndarray, item: np.ndarray, code: np.ndarray) -> Interactions:
        ids, ones = events.user_ids, np.ones(len(user), np.float32)
        found = Interactions(user.astype(np.int32), item.astype(np.int32), ones, code, None, ids, ids, (FOLLOW, BLOCK))
        return found if people is None else found.with_tables(items=people.select("item_id", pl.exclude("item_id")))

    def both(part: np.ndarray, own: np.ndarray) -> Interactions:
        code = np.r_[np.ones(len(own)), np.zeros(2 * len(part))].astype(np.uint8)
        return follows(np.r_[own, part[:, 0], part[:, 1]], np.r_[own, part[:, 1], part[:, 0]], code)

    train, valid, test = np.split(pairs, [int(0.8 * len(pairs)), int(0.9 * len(pairs))])
    ones = np.ones(len(events), np.float32)
    chose = {f"{side} chose": Edges(side, "thing", events.user, events.item, ones) for side in ("user", "item")}
    known, none = replace(both(train, np.arange(n)), relations=chose), np.arange(0)
    return bb.split(known, valid=both(valid, none), test=both(test, none))


def main(words: list[str] | None = None) -> _story.Told:
    """Tell the story."""
    asked = _story.options(__doc__ or "", words)
    name, events = _story.data_of(asked, made, {"follow": FOLLOW, "block": BLOCK})
    parts = befriended(events) if "friend" in events.relations else bb.split(events)  # a table of who follows whom
    told = _story.Told(name)
    _story.contest(told, asked, _story.Lists(parts, "ndcg@20", asked.seed), BASELINES, DEEP)
    _story.slates(told, asked, "friends")
    return told


if __name__ == "__main__":
    main()
