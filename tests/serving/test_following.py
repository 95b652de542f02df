"""What the engine holds in memory is what the log says, in whatever order things came, twice or were taken back.

So does an engine that only follows, as the workers of a server do.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import NOW, Clock, event

from bowerbird.recommender import Recommender
from bowerbird.serving import Engine

PEOPLE = [{"user_id": "u1"}, {"user_id": "new"}, {"session_id": "s"}, {"session_id": "t"}]
ITEMS = ["i0", "i1", "later", "never"]  # known to the model, or to the catalogue once it was put, or to nobody

happened = st.builds(
    lambda number, who, item, kind, weight, ago: event(
        number, item, event=kind, weight=weight, time=NOW - ago, **PEOPLE[who]
    ),
    st.integers(0, 5),
    st.integers(0, 3),
    st.sampled_from(ITEMS),
    st.sampled_from(["like", "look", "dislike", "wish"]),
    st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    st.integers(0, 100_000),
)
meant = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["wish", "look"]),
        "weight": st.sampled_from([0.5, 2.0]),
        "sign": st.sampled_from(["positive", "neutral", "negative"]),
    }
)
steps = st.one_of(
    st.tuples(st.just("take"), st.lists(happened, min_size=1, max_size=4)),
    st.tuples(st.just("retract"), st.integers(0, 5)),
    st.tuples(st.just("merge"), st.tuples(st.sampled_from("st"), st.sampled_from(["u1", "new"]))),
    st.tuples(st.just("put"), st.none()),
    st.tuples(st.just("slate"), st.integers(0, 3)),
    st.tuples(st.just("declare"), st.lists(meant, unique_by=lambda kind: kind["name"], max_size=2)),
)


def held(engine: Engine) -> dict[str, Any]:
    """Return what an engine holds of people and of counts, by ids."""
    view = engine.view
    rows = view.rows(ITEMS)
    counts = {item: view.tally.waiting.get(item, (0.0, 0.0)) for item in ITEMS}
    counts |= {
        item: (view.tally.chosen[row], view.tally.hot[row])
        for item, row in zip(ITEMS, rows.tolist(), strict=True)
        if row >= 0
    }
    keys = {view.people.key(one.get("user_id"), one.get("session_id")) for one in PEOPLE}
    return {
        "deeds": {key: view.people.deeds(key) for key in keys},
        "shown": {key: sorted(view.people.shown(key, 0)) for key in keys},
        "boards": [sorted(view.item_id(row) for row in board.tolist()) for board in view.tally.boards()],
        "counts": counts,
    }


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(script=st.lists(steps, min_size=6, max_size=20))
def test_memory_equals_a_recount_of_the_log(neighbours: Recommender, script: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "run", Path(folder) / "data"
        live = Engine(*where, recommender=neighbours, world=Clock())
        follower = Engine(*where, recommender=neighbours, world=Clock(), follow=True)
        try:
            for number, (what, given_) in enumerate(script):
                if what == "take":
                    live.take(given_).result()
                elif what == "retract":
                    if (gone := live.retract(f"e{given_}")) is not None:
                        follower.undo(*gone)
                elif what == "merge":
                    session, user = given_
                    merge = event(f"m{number}", None, event="merge", user_id=user, session_id=session)
                    live.take([merge]).result()
                elif what == "put":
                    live.catalogue.put("item", "later", {})
                    live.tend()
                    follower.tend()
                elif what == "declare":
                    live.declare(given_, None)
                else:
                    live.recommend({**PEOPLE[given_], "k": 3}, f"slate{number}")
                    live.take([]).result()
                if number % 2:
                    follower.look()
            live.tend()
            follower.tend()
            told, followed = held(live), held(follower)
        finally:
            follower.close()
            live.close()
        again = Engine(*where, recommender=neighbours, world=Clock())
        try:
            recounted = held(again)
        finally:
            again.close()
    counts = [one.pop("counts") for one in (told, recounted, followed)]
    assert told == recounted == followed
    for other in counts[1:]:
        np.testing.assert_allclose([counts[0][one] for one in ITEMS], [other[one] for one in ITEMS], atol=1e-9)
