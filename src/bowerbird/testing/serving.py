"""Checks of serving: that everyone gets a full slate of what they have not seen, from the right rung, with reasons."""

import polars as pl

from bowerbird.features import Context
from bowerbird.testing.halves import halves
from bowerbird.testing.subject import Subject, expect, personal, promise, retriever

OF_ITEMS = ("history", "neighbours", "path")  # kinds of reasons whose causes are past items


def last_rung(subject: Subject) -> str:
    """Return who answers nobody in particular: the model where it can, else popularity."""
    return "model" if bool(subject.fitted.model.can(Context.nobody()).all()) else "popularity"


@promise("features/contracts.py, Retriever.can", of=retriever)
def serves_everyone(subject: Subject) -> None:
    """A known user and a stranger with a history are answered by the model, everybody else by popularity if need be."""
    rec, last = subject.fitted, last_rung(subject)
    known = rec.recommend(["u3"], k=5).rungs
    expect(known == ["model"], f"A known user is answered by {known[0]}.")
    posted = rec.recommend(histories=[["i0", "i2"], []], k=5).rungs
    expect(posted == ["model", last], f"A stranger with a history and one without are answered by {posted}.")
    nobody = rec.recommend(k=5)
    expect(nobody.rungs == [last], f"Nobody in particular is answered by {nobody.rungs[0]}.")
    expect(nobody.to_polars().height == 5, f"Nobody in particular gets {nobody.to_polars().height} of 5 items.")


@promise("recommender/recommender.py, Recommender.recommend", of=retriever)
def takes_unknown_ids(subject: Subject) -> None:
    """Unknown users and items never raise: they are counted, and the others of the call are answered as ever."""
    rec, last = subject.fitted, last_rung(subject)
    slates = rec.recommend(["who", "u3", 17], k=4)
    expect(slates.rungs == [last, "model", last], f"Unknown, known, unknown are answered by {slates.rungs}.")
    expect(slates.to_polars().height == 12, f"Three slates of 4 have {slates.to_polars().height} rows.")
    posted = rec.recommend(histories=[["i0", "what", "nothing"], ["what"], ["i1"]], k=4)
    expect(posted.unknown_items == [2, 1, 0], f"2, 1 and 0 unknown items are counted as {posted.unknown_items}.")
    expect(posted.rungs == ["model", last, "model"], f"Histories with unknown items are answered by {posted.rungs}.")
    expect(posted.to_polars().height == 12, f"Three slates of 4 have {posted.to_polars().height} rows.")


@promise("features/contracts.py, Retriever", of=personal)
def hears_strangers(subject: Subject) -> None:
    """A stranger who chose odd items gets odd items: at least 7 of 8."""
    frame = subject.fitted.recommend(histories=[["i1", "i5", "i9", "i13"]], k=8).to_polars()
    odd = sum(int(item[1:]) % 2 for item in frame["item_id"])
    expect(odd >= 7, f"{odd} of 8 are odd.")


@promise("features/contracts.py, Retriever.scores", of=retriever)
def fills_slates_with_what_is_new(subject: Subject) -> None:
    """Every place of every slate is filled, ranked from 1, once, with an item that its user has not chosen."""
    past = halves().train
    frame = subject.fitted.recommend(past.user_ids.values.to_list(), k=10).to_polars()
    seen = pl.DataFrame({"user_id": past.user_ids.names(past.user), "item_id": past.item_ids.names(past.item)})
    again = frame.join(seen, on=["user_id", "item_id"]).height
    expect(again == 0, f"{again} of {frame.height} places hold what was chosen before.")
    expect(frame.height == 10 * past.n_users, f"{frame.height} of {10 * past.n_users} places are filled.")
    twice = frame.height - frame.n_unique(["user_id", "item_id"])
    expect(twice == 0, f"{twice} places hold an item that the slate has already.")
    expect(frame["rank"].to_list() == list(range(1, 11)) * past.n_users, "Ranks are not 1 to 10 for each user.")


@promise("explanation/explainer.py, Explainer.reasons", of=retriever)
def gives_reasons(subject: Subject) -> None:
    """Each place has a reason; it names items of the person's own past, unless the model tells nobody apart."""
    rec, past = subject.fitted, halves().train
    users = [past.user_ids[row] for row in (0, 1)]
    for asked in (users, None):
        slates = rec.recommend(asked, k=5, explain=True)
        lengths = [len(reasons) for reasons in slates.reasons]
        expect(slates.to_polars()["reason"].null_count() == 0, "Some places have no reason.")
        expect(lengths == [5] * len(slates), f"Slates of 5 have {lengths} reasons.")
    own = set(past.item_ids.names(past.item[past.user == 0]))
    reasons = [one for place in rec.recommend(users[:1], k=5, explain=True).reasons[0] for one in place]
    named = {cause.id for one in reasons if one.kind in OF_ITEMS for cause in one.causes}
    expect(named <= own, f"{', '.join(sorted(named - own))} were never chosen by {users[0]}.")
    hears = not bool(rec.model.can(Context.nobody()).all())
    expect(bool(named) == hears, f"Reasons name {len(named)} items of the past of {users[0]}.")
