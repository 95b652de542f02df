"""Splits: which events a model may learn from, and which it is then asked to foresee.

The default is the global temporal split (Ji et al. 2023, "A critical study on data leakage in recommender
system offline evaluation"): everything before one moment is known, everything after it is not.

In every split, ids are renumbered so that those of the training part come first, then those that appear with
validation, then those of test. The first `train.n_users` rows are therefore the users a model trained on `train`
can know, and growing to the next part only appends rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, overload

import numpy as np
import polars as pl

from bowerbird.core import ConfigError, DataError, check, did_you_mean, numpy_stream
from bowerbird.core.ids import Ids, encode
from bowerbird.data.interactions import EventType, Interactions

METHODS = ("temporal", "per-user", "leave-one-out", "random", "given")
FEW_USERS = 500  # below this many warm test users an interval is too wide to choose by
TRAIN, VALID, TEST, UNUSED = 0, 1, 2, 3
BARE: dict[str, Any] = {"relations": {}, "users": None, "items": None, "item_content": {}, "user_content": {}}


@dataclass(frozen=True, eq=False)
class Holdout:
    """One cut: what was known before it, and what came after."""

    name: str  # "valid" or "test"
    known: Interactions  # what a model may be trained on
    history: Interactions  # `known`, and the first events that strangers post when they ask
    targets: Interactions  # what they did later
    protocol: str  # how the cut was made

    @property
    def strangers(self) -> np.ndarray:
        """Users with targets whom no model trained on `known` can know, int32."""
        users = np.unique(self.targets.user)
        return users[users >= self.known.n_users]


@dataclass(frozen=True, eq=False)
class Split:
    """Train, validation and test parts of one table."""

    train: Interactions
    valid: Holdout
    test: Holdout
    protocol: str
    warnings: tuple[str, ...]

    @property
    def audit(self) -> pl.DataFrame:
        """What each part holds, and how much of the future leaks into training."""
        return pl.DataFrame(
            [_audit_known("train", self.train), _audit(self.valid), _audit(self.test)],
            infer_schema_length=None,
        )

    def __str__(self) -> str:
        with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, tbl_hide_dataframe_shape=True,
                       tbl_hide_column_data_types=True, tbl_formatting="NOTHING"):  # fmt: skip
            lines = [self.protocol, str(self.audit)]
        return "\n".join(lines + [f"warning: {text}" for text in self.warnings])


@overload
def split(
    events: Interactions, method: str | None = ..., *, valid: float | Interactions = ...,
    test: float | Interactions = ..., warmup: int = ..., folds: None = ..., seed: int = ...,
) -> Split: ...  # fmt: skip
@overload
def split(
    events: Interactions, method: str | None = ..., *, valid: float | Interactions = ...,
    test: float | Interactions = ..., warmup: int = ..., folds: int, seed: int = ...,
) -> list[Split]: ...  # fmt: skip
def split(
    events: Interactions,
    method: str | None = None,
    *,
    valid: float | Interactions = 0.1,
    test: float | Interactions = 0.1,
    warmup: int = 0,
    folds: int | None = None,
    seed: int = 0,
) -> Split | list[Split]:
    """Cut a table into train, validation and test, without leaks by default.

    `method` is one of
      "temporal": the last `test` share of all events, before it the last `valid` share (the default with times);
      "per-user": the same shares of each user's own events, by time; others' futures are visible to training;
      "leave-one-out": each user's last event is test, the one before it validation; futures are visible too;
      "random": shares of each user's events at random (the default without times);
      "given": `test` and perhaps `valid` are Interactions; without `valid`, a share is cut per user from train.

    `warmup=n` gives a stranger's first n events after the cut to their posted history. `folds=n` returns n
    temporal splits with rolling cut-offs, oldest first. Raises `ConfigError` where an option does not fit.
    """
    if isinstance(test, Interactions):
        check(method in (None, "given"), "method", method, 'must be "given" when test is a table')
        if not isinstance(valid, Interactions):
            check(0 < valid < 1, "valid", valid, "must be a share between 0 and 1, or a table", try_instead=0.1)
        return _given(events, valid, test, seed)
    warnings: list[str] = []
    if method is None:
        method = "temporal" if events.time is not None else "random"
        if method == "random":
            columns = events.origin or "no columns are known"
            warnings.append(
                "there is no time column, so each user's pairs are split at random and figures may look better "
                f"than they will live ({columns}). Name the time column with time=… (--time on the command line)."
            )
    if method not in METHODS:
        raise ConfigError(
            f'no split is named "{method}".{did_you_mean(method, METHODS)} Allowed: {", ".join(METHODS)}.'
        )
    check(method != "given", "test", test, 'must be a table of interactions for method "given"')
    check(method == "temporal" or folds is None, "folds", folds, "needs the temporal method")
    check(method == "temporal" or warmup == 0, "warmup", warmup, "needs the temporal method", try_instead=0)
    check(warmup >= 0, "warmup", warmup, "must be 0 or more", try_instead=0)
    check(not isinstance(valid, Interactions), "valid", "a table", "must be a share unless test is a table too")
    shares = float(valid), test  # type: ignore[arg-type]
    for name, share in zip(("valid", "test"), shares, strict=True):
        check(share > 0, name, share, "must be above 0", try_instead=0.1)
    check(sum(shares) < 1, "valid + test", sum(shares), "must leave something to train on")
    if method == "temporal":
        if events.time is None:
            raise ConfigError('a temporal split needs times. Try method="random".')
        if folds is not None:
            check(folds >= 1, "folds", folds, "must be 1 or more", try_instead=3)
            reach = folds * shares[1] + shares[0]
            check(reach < 1, "folds", folds, f"must leave something to train on, and {folds} cuts reach back {reach:g}")
            steps = range(folds - 1, -1, -1)
            return [_temporal(events, *shares, warmup, back * shares[1], tuple(warnings)) for back in steps]
        return _temporal(events, *shares, warmup, 0.0, tuple(warnings))
    parts, protocol = _per_user(events, method, *shares, seed)
    return _assemble(events, parts, protocol, tuple(warnings))


def later(past: Interactions, events: Interactions) -> Holdout:
    """Return the question "what did people do next?" about events that came after everything in `past`.

    Ids of `past` keep their rows; new ones follow.
    """
    user_ids, users = encode(pl.concat([past.user_ids.values, _as(past.user_ids, events.user_ids.names(events.user))]))
    item_ids, items = encode(pl.concat([past.item_ids.values, _as(past.item_ids, events.item_ids.names(events.item))]))
    codes, kinds = _same_events([past, events])
    targets = replace(
        events,
        event=codes[len(past) :],
        events=kinds,
        user=users[past.n_users :],
        item=items[past.n_items :],
        user_ids=user_ids,
        item_ids=item_ids,
        **BARE,
    )
    history = replace(past, events=kinds, user_ids=user_ids, item_ids=item_ids, **BARE)
    return Holdout("later", past, history, targets, f"split=later hash={events.fingerprint[:8]}")


def _as(ids: Ids, column: pl.Series) -> pl.Series:
    """Return caller's ids in the type that `ids` has; raises `DataError` when they are not of that type."""
    try:
        return column.cast(ids.values.dtype)
    except pl.exceptions.PolarsError:
        raise DataError("ids are texts where the run has integers. Is this the same catalogue?") from None


def _temporal(
    events: Interactions, valid: float, test: float, warmup: int, back: float, warnings: tuple[str, ...]
) -> Split:
    """Cut at moments, so that events of the same second stay together; `back` moves both cuts earlier."""
    times = events.time
    assert times is not None
    n = len(times)
    edges = [1 - back - test - valid, 1 - back - test]
    cuts = [times[min(int(round(n * edge, 6)), n - 1)] for edge in edges]  # rounded: 20 * (1 - 0.9) is 1.99…
    parts = np.searchsorted(np.array(cuts), times, side="right").astype(np.int8)
    if back > 0:
        parts[times >= times[int(round(n * (1 - back), 6))]] = UNUSED
    protocol = f"split=temporal cuts={edges[0]:.2f},{edges[1]:.2f}" + (f" warmup={warmup}" if warmup else "")
    return _assemble(events, parts, protocol, warnings, warmup=warmup)


def _per_user(
    events: Interactions, method: str, valid: float, test: float, seed: int, *, least: int = 1
) -> tuple[np.ndarray, str]:
    """Return the part of every event, cut within each user; at least one event stays for training.

    Users of three events and more give at least `least` to each part, however small its share.
    """
    offsets, order = events.by_user
    if method == "random":
        shuffle = numpy_stream(seed, "split").permutation(len(events))
        order = shuffle[np.argsort(events.user[shuffle], kind="stable")]
    counts = np.diff(offsets)
    if method == "leave-one-out":
        n_test, n_valid = (counts >= 2).astype(np.int64), (counts >= 3).astype(np.int64)
        protocol = "split=leave-one-out"
    else:
        floor = np.where(counts >= 3, least, 0)
        n_test = np.minimum(np.maximum((counts * test).astype(np.int64), floor), np.maximum(counts - 1, 0))
        rest = np.maximum(counts - 1 - n_test, 0)
        n_valid = np.minimum(np.maximum((counts * valid).astype(np.int64), floor), rest)
        protocol = f"split={method} valid={valid:g} test={test:g}"
        protocol += f" seed={seed}" if method == "random" else ""
    place = np.arange(len(events)) - np.repeat(offsets[:-1], counts)  # of each event within its user
    from_end = np.repeat(counts, counts) - place
    part = np.where(
        from_end <= np.repeat(n_test, counts),
        TEST,
        np.where(from_end <= np.repeat(n_test + n_valid, counts), VALID, TRAIN),
    )
    parts = np.empty(len(events), np.int8)
    parts[order] = part
    return parts, protocol


def _given(train: Interactions, valid: float | Interactions, test: Interactions, seed: int) -> Split:
    """Join tables that were split elsewhere; a missing validation part is cut per user from train.

    Relations are those of train: they are known throughout.
    """
    tables = [train, test] if not isinstance(valid, Interactions) else [train, valid, test]
    parts = [np.full(len(table), part, np.int8) for table, part in zip(tables, (TRAIN, TEST), strict=False)]
    protocol = "split=given"
    if isinstance(valid, Interactions):
        parts = [np.full(len(table), part, np.int8) for part, table in enumerate(tables)]
    else:
        parts[0] = _per_user(train, "random", valid, 0.0, seed, least=0)[0]
        protocol += f" valid={valid:g}-of-train seed={seed}"
    users = encode(pl.concat([_as(train.user_ids, table.user_ids.names(table.user)) for table in tables]))
    items = encode(pl.concat([_as(train.item_ids, table.item_ids.names(table.item)) for table in tables]))
    codes, kinds = _same_events(tables)
    timed = all(table.time is not None for table in tables)
    sizes = {"user": len(users[0]), "item": len(items[0])}
    moved = {"user": users[0].rows(train.user_ids.values), "item": items[0].rows(train.item_ids.values)}  # −1: gone
    whole = Interactions(
        user=users[1], item=items[1],
        weight=np.concatenate([table.weight for table in tables]),
        event=codes,
        time=np.concatenate([table.time for table in tables if table.time is not None]) if timed else None,
        user_ids=users[0], item_ids=items[0], events=kinds, origin=train.origin, extra=_extra(tables),
        relations={name: edges.renamed(moved).within(sizes) for name, edges in train.relations.items()},
    ).with_tables(
        users=_described([(table.user_ids, table.users) for table in tables]),
        items=_described([(table.item_ids, table.items) for table in tables]),
    ).with_content(
        users=_content(users[0], [(table.user_ids, table.user_content) for table in tables]),
        items=_content(items[0], [(table.item_ids, table.item_content) for table in tables]),
    )  # fmt: skip
    order = np.arange(len(whole)) if whole.time is None else np.argsort(whole.time, kind="stable")
    return _assemble(whole.rows(order), np.concatenate(parts)[order], protocol, ())


def _extra(tables: list[Interactions]) -> pl.DataFrame | None:
    """Return the other columns that all tables have, of one type in all."""
    frames = [table.extra for table in tables if table.extra is not None]
    if len(frames) < len(tables):
        return None
    kinds = frames[0].schema.items()
    shared = [name for name, kind in kinds if all(one.schema.get(name) == kind for one in frames)]
    return pl.concat([one.select(shared) for one in frames]) if shared else None


def _described(sides: list[tuple[Ids, pl.DataFrame | None]]) -> pl.DataFrame | None:
    """Return one table of all that is known about ids, keyed by them; the first table that names an id counts."""
    keyed = [ids.values.to_frame().hstack(table) for ids, table in sides if table is not None]
    return pl.concat(keyed, how="diagonal_relaxed") if keyed else None


def _content(ids: Ids, sides: list[tuple[Ids, Mapping[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """Return the ready vectors of ids, NaN where there are none; the first table that names an id counts."""
    found: dict[str, np.ndarray] = {}
    for own, content in reversed(sides):
        place = ids.rows(own.values)
        for name, vectors in content.items():
            whole = found.setdefault(name, np.full((len(ids), vectors.shape[1]), np.nan, np.float32))
            whole[place[place >= 0]] = vectors[place >= 0]
    return found


def _same_events(tables: list[Interactions]) -> tuple[np.ndarray, tuple[EventType, ...]]:
    """Return the event codes of all tables in one numbering, and its types; a type means what the first table says."""
    kinds: dict[str, EventType] = {}
    for table in tables:
        kinds |= {kind.name: kind for kind in table.events if kind.name not in kinds}
    names = list(kinds)
    codes = [np.array([names.index(kind.name) for kind in table.events], np.uint8)[table.event] for table in tables]
    return np.concatenate(codes), tuple(kinds.values())


def _assemble(
    events: Interactions, parts: np.ndarray, protocol: str, warnings: tuple[str, ...], *, warmup: int = 0
) -> Split:
    """Renumber ids by the first part they appear in, and cut the parts out."""
    if not (parts == TRAIN).any():
        raise ConfigError(
            f"{protocol} leaves no event to train on. Take smaller shares, fewer folds, or another method."
        )
    used = parts != UNUSED
    events, parts = events.rows(used), parts[used]
    orders, sizes = [], []
    for rows, n in ((events.user, events.n_users), (events.item, events.n_items)):
        first = np.full(n, UNUSED, np.int8)
        np.minimum.at(first, rows, parts)
        orders.append(np.argsort(first, kind="stable"))
        sizes.append([int((first <= part).sum()) for part in (TRAIN, VALID, TEST)])
    events = events.reorder_ids(*orders)
    (u0, u1, u2), (i0, i1, i2) = sizes
    posted = _posted(events, parts, u1, warmup)
    everything = events.head_ids(u2, i2)
    train = everything.rows(parts == TRAIN).head_ids(u0, i0)
    digest = sha256(everything.fingerprint.encode() + parts.tobytes() + posted.tobytes())
    protocol += f" hash={digest.hexdigest()[:8]}"
    holdouts = {}
    for name, part, n_users, n_items in (("valid", VALID, u0, i0), ("test", TEST, u1, i1)):
        mine = posted if part == TEST else _posted(events, parts, u0, warmup, part=VALID)
        holdouts[name] = Holdout(
            name=name,
            known=everything.rows(parts < part).head_ids(n_users, n_items),
            history=everything.rows((parts < part) | mine),
            targets=everything.rows((parts == part) & ~mine),
            protocol=protocol,
        )
    for name, holdout in holdouts.items():
        if not len(holdout.targets):
            warnings = (*warnings, f"the {name} part is empty: give it a larger share, or bring more events.")
    warm = np.unique(holdouts["test"].targets.user)
    n_warm = int((warm < u1).sum())
    if n_warm < FEW_USERS:
        warnings = (*warnings, f"only {n_warm} users have both a past and a test part: read the intervals.")
    return Split(train, holdouts["valid"], holdouts["test"], protocol, warnings)


def _posted(events: Interactions, parts: np.ndarray, n_known: int, warmup: int, *, part: int = TEST) -> np.ndarray:
    """Mark the first `warmup` events after the cut of every user whom training cannot know, bool (E,)."""
    mask = np.zeros(len(events), bool)
    mine = np.flatnonzero((parts == part) & (events.user >= n_known))
    mine = mine[np.argsort(events.user[mine], kind="stable")]
    users = events.user[mine]
    starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(users)])
    place = np.arange(len(users)) - np.repeat(starts, lengths)
    mask[mine[place < warmup]] = True
    return mask


def _audit_known(name: str, part: Interactions) -> dict[str, Any]:
    return {
        "part": name,
        "users": len(np.unique(part.user)),
        "items": len(np.unique(part.item)),
        "pairs": len(part.positives),
        "before others' training": None,
        "cold users": None,
        "cold items": None,
    }


def _audit(holdout: Holdout) -> dict[str, Any]:
    known, targets = holdout.known, holdout.targets
    users, items = np.unique(targets.user), np.unique(targets.item)
    return _audit_known(holdout.name, targets) | {
        "before others' training": _leak(known, targets),
        "cold users": int((users >= known.n_users).sum()),
        "cold items": int((items >= known.n_items).sum()),
    }


def _leak(known: Interactions, targets: Interactions) -> float | None:
    """Return the share of targets that precede a known event of another user; None without times."""
    if known.time is None or targets.time is None or not len(known) or not len(targets):
        return None
    last_user = known.user[-1]  # events are in time order
    others = known.time[known.user != last_user]
    limit = np.where(targets.user == last_user, others[-1] if len(others) else np.iinfo(np.int64).min, known.time[-1])
    return round(float((targets.time < limit).mean()), 4)
