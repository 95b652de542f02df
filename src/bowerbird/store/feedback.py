"""Feedback: what was shown and what came of it, out of a log; whoever judges or teaches a policy off-line begins here.

An event belongs to the place that its request_id and its item name, whoever sent it and under whatever id: a session
that became a user keeps what it was shown. What was retracted or erased is not there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from bowerbird.store import events
from bowerbird.store.database import Connection
from bowerbird.store.log import MERGE, SLATE
from bowerbird.store.opening import read_only

STEP = 20_000  # events that are read at once; the documents of their slates are the most of what is in memory
WINDOW_S = 86_400
IDS = ("user_id", "item_id", "candidates")  # columns whose type is the caller's
WHOLE: dict[str, Any] = {
    "context_hash": pl.String,
    "experiment": pl.Struct({"name": pl.String, "arm": pl.String}),
}  # of a document
EACH: dict[str, Any] = {"propensity": pl.Float64, "scores": pl.Float64, "sources": pl.List(pl.String)}  # by place
PLACE = (  # the columns of a place, in order
    "request_id", "time", "scenario", "policy_version", "model_version", "user_id", "session_id", "item_id", "position",
    "propensity", "score", "pinned", "context_hash", "experiment", "arm", "candidates", "candidate_propensity",
    "event", "reward", "delay_s", "late",
)  # fmt: skip
ORPHAN = (
    "request_id", "event_id", "time", "event", "weight", "user_id", "session_id", "item_id", "position", "reason",
)  # fmt: skip
UNKNOWN, ELSEWHERE = "unknown_request", "not_in_slate"  # why an event has no place


class Feedback(NamedTuple):
    """What was shown, and what has no place among it."""

    places: pl.DataFrame  # PLACE: a row for each place of each slate, in the order of the log
    orphans: pl.DataFrame  # ORPHAN: a row for each event that names a request, but no place of it


def read_feedback(data: Path, **options: Any) -> Feedback:
    """Return the feedback of a data directory, beside a server that may be writing it; options as of `feedback`."""
    connection = read_only(data)
    try:
        return feedback(_parts(connection), **options)
    finally:
        connection.close()


def _parts(connection: Connection) -> Iterator[pl.DataFrame]:
    end = connection.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()[0]
    return in_parts(lambda start, stop: events.read(connection, start, stop), end)


def in_parts(read: Callable[[int, int], pl.DataFrame], end: int) -> Iterator[pl.DataFrame]:
    """Yield the events of a log before offset `end`, some at a time; `read` returns those between two offsets."""
    for start in range(0, end, STEP):
        yield read(start, min(start + STEP, end))


def feedback(
    log: Iterable[pl.DataFrame],
    *,
    window_s: int = WINDOW_S,
    since: int = 0,
    worth: Mapping[str, float] | None = None,
) -> Feedback:
    """Return what came of the slates of a log, which is given in parts, each as `EventLog.read` returns it.

    The reward of a place is the largest of weight × `worth` over its events of the first `window_s` seconds, and 0
    where there is none; types that `worth` does not name are worth nothing, and without it each is worth 1. `event` is
    the one that was worth most (the first of equals), `delay_s` its seconds after the slate, 0 where its own clock puts
    it before. Events that came after the window are counted as `late`, and not rewarded. Only slates and orphans from
    the moment `since` on are returned.

    The row of the first place that no pin took holds, where the policy explores, what it chose from and the chance of
    each: `candidates` and `candidate_propensity`. Slates whose document cannot be read show nothing.
    """
    slates, shown, deeds = [], [], []
    for part in chain([pl.DataFrame(schema=events.TYPES)], log):
        some = part.filter(pl.col("event") == SLATE)
        slates.append(some.select(request_id="event_id"))
        shown.append(_places(some))
        named = pl.col("request_id").is_not_null() & ~pl.col("event").is_in([SLATE, MERGE])
        deeds.append(part.filter(named).select("offset", *ORPHAN[:-1]))
    places = _together(shown).with_row_index("place")
    done = _with_places(_together(deeds), places, worth)
    return Feedback(
        _rewarded(places, done, window_s).filter(pl.col("time") >= since),
        _orphans(done, pl.concat(slates)).filter(pl.col("time") >= since),
    )


# ── what was shown ────────────────────────────────────────────────────────────────────────────────────────────────────


def _places(slates: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each place of some slates: the columns of PLACE up to `candidate_propensity`."""
    told = slates.drop("request_id", "item_id", "position", "propensity").rename({"event_id": "request_id"})
    told = told.hstack(_documents(slates["context"])).filter(pl.col("items").list.len() > 0)
    n = pl.col("items").list.len()
    each = [  # older documents may lack one
        pl.when(pl.col(name).list.len() == n).then(pl.col(name)).otherwise(pl.lit(None, kind).repeat_by(n)).alias(name)
        for name, kind in EACH.items()
    ]
    rows = (
        told.drop("candidates", "candidate_propensity")
        .with_columns(*each, position=pl.int_ranges(1, n + 1, dtype=pl.Int64))
        .explode("items", "position", *EACH)
        .rename({"items": "item_id", "scores": "score"})
        .with_columns(
            pl.col("experiment").struct.field("name").alias("experiment"),
            pl.col("experiment").struct.field("arm").alias("arm"),
            pinned=pl.col("sources").list.contains("pin").fill_null(False),
        )
    )
    free = pl.col("position").filter(~pl.col("pinned")).min().over("request_id")
    drawn = told.select("request_id", "candidates", "candidate_propensity", first=pl.lit(True))
    return (
        rows.with_columns(first=pl.col("position") == free)
        .join(drawn, on=["request_id", "first"], how="left", maintain_order="left")
        .select(PLACE[: PLACE.index("event")])
    )


def _documents(contexts: pl.Series) -> pl.DataFrame:
    """Return what documents of slates hold, all empty where one cannot be read; items are integers where all are."""
    for kind in (pl.Int64, pl.String):
        try:
            return _decoded(contexts, kind)
        except (
            pl.exceptions.ComputeError
        ):  # Polars refuses a text where it is told to find integers, and what is no JSON
            pass
    return _decoded(pl.Series([one if _readable(one) else None for one in contexts], dtype=pl.String), pl.String)


def _decoded(contexts: pl.Series, kind: Any) -> pl.DataFrame:
    drawn = {"candidates": pl.List(kind), "candidate_propensity": pl.List(pl.Float64)}
    each = {name: pl.List(one) for name, one in EACH.items()}
    told = contexts.str.strip_chars().replace("", None)  # Polars would lose a row
    return told.str.json_decode(pl.Struct({"items": pl.List(kind)} | each | WHOLE | drawn)).struct.unnest()


def _readable(context: str | None) -> bool:
    try:
        _decoded(pl.Series([context], dtype=pl.String), pl.String)
    except pl.exceptions.ComputeError:
        return False
    return True


# ── what came of it ───────────────────────────────────────────────────────────────────────────────────────────────────


def _with_places(deeds: pl.DataFrame, places: pl.DataFrame, worth: Mapping[str, float] | None) -> pl.DataFrame:
    """Return events with the row of their place, null where they have none, and what they are worth there."""
    value = (
        pl.lit(1.0) if worth is None else pl.col("event").replace_strict(worth, default=0.0, return_dtype=pl.Float64)
    )
    item = pl.col("item_id").cast(pl.String).alias("item")
    of = places.select("place", "request_id", item, shown=pl.col("time"))
    return deeds.with_columns(item, reward=pl.col("weight") * value).join(of, on=["request_id", "item"], how="left")


def _rewarded(places: pl.DataFrame, done: pl.DataFrame, window_s: int) -> pl.DataFrame:
    """Return places with the best that came of each."""
    delay = (pl.col("time") - pl.col("shown")).clip(lower_bound=0)
    done = done.filter(pl.col("place").is_not_null()).with_columns(delay_s=delay)
    soon = done.filter(pl.col("delay_s") <= window_s)
    order = soon.sort("reward", "delay_s", "offset", descending=[True, False, False])
    best = order.unique("place", keep="first", maintain_order=True).select("place", "event", "reward", "delay_s")
    late = done.filter(pl.col("delay_s") > window_s).group_by("place").agg(late=pl.len().cast(pl.Int64))
    for found in (best, late):
        places = places.join(found, on="place", how="left", maintain_order="left")
    return places.with_columns(pl.col("reward").fill_null(0.0), pl.col("late").fill_null(0)).select(PLACE)


def _orphans(done: pl.DataFrame, slates: pl.DataFrame) -> pl.DataFrame:
    """Return the events that have no place, and why."""
    lost = done.filter(pl.col("place").is_null()).sort("offset")
    told = slates.with_columns(reason=pl.lit(ELSEWHERE))
    lost = lost.join(told, on="request_id", how="left", maintain_order="left")
    return lost.with_columns(pl.col("reason").fill_null(UNKNOWN)).select(ORPHAN)


def _together(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return parts as one; ids are integers where they are in all of them, else texts."""
    final: dict[Any, Any] = {}
    for name in set(IDS) & set(parts[0].columns):
        kinds = {_inner(one.schema[name]) for one in parts if one[name].null_count() < len(one)}
        inner = pl.Int64 if kinds == {pl.Int64} else pl.String
        final[name] = pl.List(inner) if name == "candidates" else inner
    return pl.concat([one.cast(final) for one in parts])


def _inner(kind: Any) -> Any:
    return kind.inner if isinstance(kind, pl.List) else kind
