"""Learning from what happened since: a recommender and new events in, a newer one out where it is no worse.

A closed form is fitted again on everything. What the loop trains grows by the new users and items, whose rows follow
the old ones, and goes on from its weights and its optimiser's moments for a few passes over some people: those who did
something new, and others drawn at random against forgetting, each with all they ever did. A ranker of two stages goes
on in the same way over the rows of these people's events, with new moments and the vocabularies that it has.

The newest events are held out first, and the old and the new model foresee them. After a yes they are learnt too, in
the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch

from bowerbird.core import (
    ConfigError,
    DataError,
    RequestError,
    ScoreError,
    TrainedConfig,
    World,
    check,
    entry_of,
    numpy_stream,
)
from bowerbird.core.ids import encode
from bowerbird.data import EventType, Interactions, declared, later
from bowerbird.evaluation import compare, evaluate
from bowerbird.features import ContentRetriever
from bowerbird.nn.content import ContentConfig
from bowerbird.recommender.pasts import table_of
from bowerbird.recommender.recommender import Recommender
from bowerbird.training import Adam, batches_for, grow, seeded, train

METRIC = "ndcg@10"  # by which the old and the new model are compared
LEAST = 50  # events held out, where they are not more than half
GOLDEN = 20  # users, and strangers with one item, who must be answered


@dataclass(frozen=True, kw_only=True)
class UpdateOptions:
    """How much is learnt, and what is good enough."""

    epochs: int = 2  # passes over the people trained on
    replay: float = 0.5  # share of these people who did nothing new
    holdout: float = 0.1  # share of the new events, the newest, on which the old and the new model are compared
    tolerance: float = 0.05  # share of its metric that may be lost; refused is what surely, at 95 %, loses more

    def __post_init__(self) -> None:
        check(self.epochs >= 1, "epochs", self.epochs, "must be 1 or more", try_instead=2)
        check(0 <= self.replay < 1, "replay", self.replay, "must be 0 or more and below 1", try_instead=0.5)
        check(0 <= self.holdout <= 0.5, "holdout", self.holdout, "must be 0 to 0.5", try_instead=0.1)
        check(self.tolerance >= 0, "tolerance", self.tolerance, "must be 0 or more", try_instead=0.05)


@dataclass(frozen=True, eq=False)
class Update:
    """What came of it."""

    recommender: Recommender  # the new one where it was accepted, else the old one
    accepted: bool
    reason: str  # why or why not, in words
    before: float | None  # NDCG@10 of the old model on the held-out events; None where nobody could be asked
    after: float | None  # and of the new one
    n_events: int
    new_users: int
    new_items: int
    seconds: float


def update(
    rec: Recommender,
    events: pl.DataFrame,
    *,
    options: UpdateOptions | None = None,
    items: pl.DataFrame | None = None,
    kinds: Sequence[EventType] = (),
    world: World | None = None,
) -> Update:
    """Return what `rec` becomes with new events; `rec` itself stays as it is.

    `events` has columns user_id and item_id, in the caller's ids, and event, weight and time as far as the past has
    them. `items` describes new items, its ids in the first column. `kinds` are event types that were declared since,
    new ones or old ones with another meaning. The moments of the optimiser are those that `load(…, moments=True)`
    brings; without them they start at 0. Raises `DataError` for events that cannot be learnt, `KeyboardInterrupt`
    where somebody stops it.
    """
    options, world = options or UpdateOptions(), world or rec.pipeline.world
    started, as_it_was = world.monotonic(), rec
    rec = rec.knowing(declared(rec.past.events, kinds))
    new = _read(rec.past, events)
    held = min(max(int(options.holdout * len(new)), LEAST), len(new) // 2) if options.holdout else 0
    order = np.arange(len(new))
    early, late = new.rows(order < len(new) - held), new.rows(order >= len(new) - held)
    candidate = _learnt(rec, *_merged(rec.past, early, items), options)
    reason, before, after = _judged(rec, candidate, late, options)
    if not reason and len(late):
        candidate = _learnt(candidate, *_merged(candidate.past, late, items), options)
        reason = _broken(candidate)
    accepted = not reason
    if accepted:
        candidate.parent = rec.version or rec.parent
        reason = "nobody could be asked about the newest events"
        if before is not None:
            reason = f"{METRIC} on the {held:,} newest events went from {before:.4f} to {after:.4f}"
    return Update(
        recommender=candidate if accepted else as_it_was,
        accepted=accepted,
        reason=reason,
        before=before,
        after=after,
        n_events=len(new),
        new_users=int((rec.user_ids.rows(new.user_ids.values) < 0).sum()),
        new_items=int((rec.item_ids.rows(new.item_ids.values) < 0).sum()),
        seconds=world.monotonic() - started,
    )


def add_items(rec: Recommender, items: pl.DataFrame) -> Recommender:
    """Return a recommender that knows these items too, by their content alone; nothing is trained.

    `items` holds the caller's ids in its first column; those that are known already are left as they are. Raises
    `RequestError` where the model reads no content, `DataError` for ids that cannot be.
    """
    past, key = rec.past, items.columns[0]
    if not isinstance(rec.config, ContentConfig) or not isinstance(rec.model, ContentRetriever):
        raise RequestError(f"{rec.name} knows items by what people choose. Train crossmodal, vbpr or twotower.")
    kind = past.item_ids.values.dtype
    wanted = items[key].cast(kind, strict=False)
    if n_wrong := wanted.null_count():
        what = "integers, as those that are known" if kind == pl.Int64 else "texts"
        raise DataError(f'column "{key}": {n_wrong:,} of {len(items):,} ids are empty or no {what}. Mend or drop them.')
    ids, _ = encode(pl.concat([past.item_ids.values, wanted]))
    whole = replace(past, item_ids=ids, items=None, item_content={})
    whole = rec.config.extended(replace(whole, items=_described(past, whole, items)), past)
    fresh = _grown(rec, whole)
    _go_on(rec, fresh, whole.rows(np.zeros(0, np.int64)), 0)
    fresh.training, fresh.measured = rec.training, rec.measured
    fresh.parent, fresh.log_offset = rec.version or rec.parent, rec.log_offset
    return fresh


def unseen(past: Interactions, events: pl.DataFrame) -> pl.DataFrame:
    """Return the events, in the columns of `update`, that came after those of `past`.

    Those of its newest second are new unless it holds them; without times, so is every one that it does not hold.
    """
    known = table_of(past)
    keys = ["user_id", "item_id", "event"]
    if past.time is not None and len(past) and "time" in events.columns:
        keys, newest = [*keys, "time"], int(past.time.max())
        known, events = (table.filter(pl.col("time") >= newest) for table in (known, events))
    typed = events.with_columns(pl.col(key).cast(known.schema[key], strict=False) for key in keys)
    return events[typed.with_row_index("row").join(known, on=keys, how="anti")["row"]]


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(past: Interactions, events: pl.DataFrame) -> Interactions:
    """Return new events in time order, under ids of their own."""
    kinds, there = [kind.name for kind in past.events], events.columns
    if "event" not in events.columns and len(kinds) == 1:
        events = events.with_columns(pl.lit(kinds[0]).alias("event"))
    for name in ("user_id", "item_id", "event", *(["time"] if past.time is not None else [])):
        if name not in events.columns:
            raise DataError(f'the events have no column "{name}". They have: {", ".join(there)}.')
        if events[name].null_count():
            raise DataError(f'column "{name}": {events[name].null_count():,} of {len(events):,} events are empty.')
    if not len(events):
        raise DataError("there is no new event to learn from.")
    strange = sorted(set(events["event"].unique()) - set(kinds))
    if strange:
        raise DataError(
            f'{(events["event"] == strange[0]).sum():,} events are of the type "{strange[0]}", which the model does '
            f"not know. Declare the type (PUT /v1/schema of a server), leave them out, or train it again. It knows: "
            f"{', '.join(kinds)}."
        )
    return Interactions.of(
        events["user_id"],
        events["item_id"],
        time=None if past.time is None else events["time"].cast(pl.Int64).to_numpy(),
        weight=events["weight"].to_numpy() if "weight" in events.columns else None,
        event=events["event"].replace_strict(kinds, list(range(len(kinds))), return_dtype=pl.UInt8).to_numpy(),
        events=past.events,
    )


def _merged(past: Interactions, new: Interactions, items: pl.DataFrame | None) -> tuple[Interactions, np.ndarray]:
    """Return past and new events in time order, new ids behind the old ones, and which events are new, bool (E,)."""
    ahead = later(past, new)
    both = ahead.history, ahead.targets
    time = None if past.time is None else np.concatenate([past.time, ahead.targets.time])
    whole = replace(
        ahead.history,
        user=np.concatenate([one.user for one in both]),
        item=np.concatenate([one.item for one in both]),
        weight=np.concatenate([one.weight for one in both]),
        event=np.concatenate([one.event for one in both]),
        time=time,
        extra=None,
        relations=past.relations,
    )
    whole = replace(
        whole,
        users=None if past.users is None else pl.concat([past.users, past.users.clear(whole.n_users - past.n_users)]),
        items=_described(past, whole, items),
    )
    is_new = np.arange(len(whole)) >= len(past)
    if time is None:
        return whole, is_new
    order = np.argsort(time, kind="stable")
    return whole.rows(order), is_new[order]


def _described(past: Interactions, whole: Interactions, items: pl.DataFrame | None) -> pl.DataFrame | None:
    """Return the item table of `whole`: old rows as they were, new ones from `items`, nulls where it has none."""
    n_new = whole.n_items - past.n_items
    if items is None or items.width < 2:  # ids alone say nothing
        return None if past.items is None else pl.concat([past.items, past.items.clear(n_new)])
    told = whole.with_tables(items=items).items
    assert told is not None
    old = told.clear(past.n_items) if past.items is None else past.items
    return pl.concat([old, told.tail(n_new)], how="diagonal_relaxed")


# ── learning ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _learnt(rec: Recommender, whole: Interactions, is_new: np.ndarray, options: UpdateOptions) -> Recommender:
    """Return a recommender of `whole` that goes on where `rec` stands; `is_new` are the events to learn, bool (E,)."""
    if rec.source is None and entry_of(rec.config).batches is None:
        return rec.refit(whole)
    if isinstance(rec.config, ContentConfig):
        whole = rec.config.extended(whole, rec.past)
    fresh = _grown(rec, whole)
    which = _people(whole, is_new, options.replay, rec.run.seed)
    if rec.source is not None and rec.stage is not None and fresh.source is not None:
        source = _learnt(rec.source, whole, is_new, options)
        fresh.source.model.load_state_dict(source.model.state_dict())
        fresh.source.moments, fresh.source.training = source.moments, source.training
        stage = rec.stage.grown(whole)
        stage.learn_on(whole, which, options.epochs)
        fresh.take(stage)
    else:
        _go_on(rec, fresh, whole.rows(which), options.epochs)
        fresh.training = rec.training  # for how many epochs a refit trains was chosen then
    fresh.measured, fresh.parent, fresh.log_offset = rec.measured, rec.version or rec.parent, rec.log_offset
    return fresh


def _grown(rec: Recommender, whole: Interactions) -> Recommender:
    """Return a recommender of `whole` whose model is not trained yet."""
    fresh = Recommender(
        rec.config,
        whole,
        run=replace(rec.run, checkpoint=""),
        schema=replace(rec.schema, n_users=whole.n_users, n_items=whole.n_items, events=whole.events),
        ranking=rec.ranking,
        policy=rec.pipeline.policy,
        world=rec.pipeline.world,
    )
    fresh.popularity.fit(whole, numpy_stream(rec.run.seed, "popularity"))
    fresh.popularity.to(fresh.device)
    return fresh


def _people(whole: Interactions, is_new: np.ndarray, replay: float, seed: int) -> np.ndarray:
    """Return which events to train on, bool (E,): all of those who did something new, and of some who did not.

    Whole people, because a history must hold what came before, and what somebody chose must not be drawn against them.
    """
    active = np.unique(whole.user[is_new])
    others = np.setdiff1d(whole.user, active)
    n = min(len(others), round(len(active) * replay / (1 - replay)))
    drawn = numpy_stream(seed, "replay", len(whole)).choice(others, n, replace=False)
    return np.isin(whole.user, np.concatenate([active, drawn]))


def _go_on(rec: Recommender, fresh: Recommender, mixed: Interactions, epochs: int) -> None:
    """Bring the model of `fresh` to where that of `rec` stands, and train it on with `mixed`."""
    config, model, whole = rec.config, fresh.model, fresh.past
    kind = entry_of(config).batches
    assert isinstance(config, TrainedConfig)
    assert kind is not None
    with seeded(fresh.run, fresh.device, "grow", whole.n_users, whole.n_items):
        old = entry_of(config).model(config, rec.schema).to(fresh.device)
        old.load_state_dict(rec.model.state_dict())
        before, optimiser = (Adam(one.parameters(), config.learning_rate) for one in (old, model))
        before.restore(old, rec.moments)
        grow(old, before, whole.n_users, whole.n_items)
    model.load_state_dict(old.state_dict())
    optimiser.restore(model, before.moments(old))
    model.prepare(whole)
    batches = batches_for(kind, mixed, config, seed=fresh.run.seed, device=fresh.device)
    if len(batches):
        if train(model, batches, config, fresh.run, optimiser=optimiser, epochs=epochs).interrupted:
            raise KeyboardInterrupt
    elif hasattr(model, "freeze"):
        model.freeze()
    fresh.moments = optimiser.moments(model)


# ── the gate ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _judged(
    rec: Recommender, candidate: Recommender, late: Interactions, options: UpdateOptions
) -> tuple[str, float | None, float | None]:
    """Return why the candidate is refused, empty where it is not, and the metric of both; the report stays with it."""
    broken = _broken(candidate)
    if broken:
        return broken, None, None
    ahead = later(candidate.past, late)
    try:
        before, after = (evaluate(one, ahead, seed=rec.run.seed) for one in (rec, candidate))
    except ConfigError:  # nobody is left to ask
        return "", None, None
    candidate.measured = after.to_dict() | {"trained_on": "everything before these events, then on them too"}
    old, new = before.metrics[METRIC], after.metrics[METRIC]
    lost = compare(after, before, metrics=[METRIC], seed=rec.run.seed)[0]
    if lost.high < -options.tolerance * old:
        what = f"{METRIC} on the {len(late):,} newest events fell from {old:.4f} to {new:.4f}"
        return f"{what}, by {-lost.high:.4f} to {-lost.low:.4f} with 95 % confidence", old, new
    return "", old, new


def _broken(rec: Recommender) -> str:
    """Return what is wrong with a recommender before anything is measured, empty where nothing is."""
    models: list[Any] = [rec.model, rec.popularity, *([rec.stage.ranking.model] if rec.stage else [])]
    for model in models:
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return f'the weights "{name}" of {type(model).__name__} are not all finite'
    users = rec.user_ids.values.gather_every(max(1, len(rec.user_ids) // GOLDEN)).to_list()
    best = torch.topk(rec.popularity.counts, min(GOLDEN, len(rec.item_ids))).indices.cpu().numpy()
    strangers = [[one] for one in rec.item_ids.names(best)]
    try:
        rec.recommend(users)
        answered = [bool(slate) for slate in (*rec.recommend(histories=strangers).ids, *rec.recommend().ids)]
    except ScoreError as error:
        return f"it cannot answer: {error}"
    return "" if all(answered) or len(rec.item_ids) < 2 else "it has nothing to show to somebody new"
