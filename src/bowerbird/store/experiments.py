"""Experiments that are kept: what they are, whether they run, and what the log says units did in them.

What an experiment's document means is not for this module, and neither is what follows from the sums.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from bowerbird.core import BowerbirdError, UnknownItemError
from bowerbird.store.database import Connection, Store
from bowerbird.store.log import MERGE, SLATE

State = Literal["draft", "running", "stopped"]
_COLUMNS = "name, document, state, salt, created, started, stopped, start, stop, reason"
_END = "(SELECT coalesce(max(number), 0) FROM events)"
_OWNER = f"""
    owner AS (  -- whom a session became last
        SELECT session, who AS became FROM (
            SELECT session_id AS session, 'u' || CAST(user_id AS TEXT) AS who,
                row_number() OVER (PARTITION BY session_id ORDER BY number DESC) AS place
            FROM events WHERE event = '{MERGE}' AND session_id IS NOT NULL AND user_id IS NOT NULL
        ) AS merges WHERE place = 1
    )
"""
_WHO = "coalesce('u' || CAST(user_id AS TEXT), owner.became, 's' || session_id)"
_JOIN = "LEFT JOIN owner ON user_id IS NULL AND owner.session = session_id"
_MET = f"""
    met AS MATERIALIZED (
        SELECT {_WHO} AS who, number, time, json_extract(context, '$.experiment.arm') AS arm
        FROM events {_JOIN}
        WHERE event = '{SLATE}' AND NOT retracted AND number > :start AND number <= :stop
            AND CASE WHEN json_valid(context) THEN json_extract(context, '$.experiment.name') END = :name
    ),
    units AS MATERIALIZED (  -- what each met first
        SELECT who, number, time, arm, mixed FROM (
            SELECT who, number, time, arm, row_number() OVER (PARTITION BY who ORDER BY number) AS place,
                CASE WHEN min(arm) OVER arms <> max(arm) OVER arms THEN 1 ELSE 0 END AS mixed
            FROM met WHERE who IS NOT NULL WINDOW arms AS (PARTITION BY who)
        ) AS slates WHERE place = 1
    )
"""
_OUTCOME = f"""
    WITH {_OWNER}, {_MET},
    deed AS MATERIALIZED (
        SELECT {_WHO} AS who, event, number, time FROM events {_JOIN}
        WHERE event IN (EVENTS) AND NOT retracted AND number > :start AND number <= :stop
    ),
    deeds AS (
        SELECT units.arm AS arm, event, count(*) AS n
        FROM deed CROSS JOIN units  -- CROSS: units are looked up, and not the deeds of each
        WHERE units.who = deed.who AND deed.number > units.number AND deed.time >= units.time
        GROUP BY deed.who, units.arm, event
    )
    SELECT arm, NULL, count(*), sum(mixed), NULL FROM units GROUP BY arm
    UNION ALL SELECT arm, event, count(*), CAST(sum(n) AS BIGINT), CAST(sum(n * n) AS BIGINT)
    FROM deeds GROUP BY arm, event
"""


class ExperimentError(BowerbirdError, RuntimeError):
    """An experiment is not in a state in which that can be done."""


@dataclass(frozen=True)
class Kept:
    """An experiment; times are seconds since 1970 UTC, places are offsets of the log."""

    name: str
    document: Mapping[str, Any]
    state: State
    salt: str  # of the split; drawn when it starts
    created: int
    started: int | None
    stopped: int | None
    start: int  # where in the log it began
    stop: int | None  # and where it ended
    reason: str  # why it was stopped

    @property
    def scenario(self) -> str:
        """The scenario whose answers differ by arm."""
        return str(self.document["scenario"])


class Done(NamedTuple):
    """What the units of an arm did of one kind of event."""

    some: int  # units that did it at all
    total: int  # events
    squares: int  # the sum over units of the square of their number


class Outcome(NamedTuple):
    """What came of an experiment so far; arms by name."""

    units: Mapping[str, int]  # by the arm that each met first
    mixed: int  # units that met another arm later: sessions that became users
    done: Mapping[tuple[str, str], Done]  # by arm and event, after each unit's first slate; absent where nothing was


class Experiments:
    """The experiments of a data directory. Writes return when they are on the disk."""

    def __init__(self, database: Store) -> None:
        self._database, self._world = database, database.world

    def all(self) -> list[Kept]:
        """Return all experiments, oldest first."""
        return self._found("TRUE")

    def running(self) -> list[Kept]:
        """Return those that run, oldest first."""
        return self._found("state = 'running'")

    def salts(self) -> frozenset[str]:
        """Return the salts of those that run: they tell each start from every other."""
        with self._database.reader() as connection:
            rows = connection.execute("SELECT salt FROM experiments WHERE state = 'running'")
            return frozenset(salt for (salt,) in rows)

    def get(self, name: str) -> Kept:
        """Return one; raises `UnknownItemError` where there is none of that name."""
        with self._database.reader() as connection:
            return _get(connection, name)

    def create(self, document: Mapping[str, Any]) -> Kept:
        """Keep a draft and return it; the same once more changes nothing.

        Raises `ExperimentError` where another one has its name.
        """
        name, now = document["name"], self._world.now()
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)

        def work(connection: Connection) -> Kept:
            known = connection.execute("SELECT document FROM experiments WHERE name = ?", (name,)).fetchone()
            if known is not None and json.loads(known[0]) != json.loads(text):
                raise ExperimentError(f'there is another experiment "{name}". Delete it, or take another name.')
            if known is None:
                sql = "INSERT INTO experiments (name, document, state, created) VALUES (?, ?, 'draft', ?)"
                connection.execute(sql, (name, text, now))
            return _get(connection, name)

        return self._database.write(work).result()

    def start(self, name: str) -> Kept:
        """Let a draft run from the next event of the log on, and return it; one that runs goes on.

        Raises `ExperimentError` where it was stopped, or another one of its scenario runs.
        """
        now, salt = self._world.now(), self._world.token()

        def work(connection: Connection) -> Kept:
            known = _get(connection, name)
            if known.state == "running":
                return known
            if known.state == "stopped":
                raise ExperimentError(f'"{name}" was stopped, and people saw its arms. Create another one.')
            for other in _all(connection, "state = 'running'"):
                if other.scenario == known.scenario:
                    raise ExperimentError(
                        f'"{other.name}" runs on the scenario "{known.scenario}", and one at a time may. Stop it first.'
                    )
            sql = f"UPDATE experiments SET state = 'running', salt = ?, started = ?, start = {_END} WHERE name = ?"
            connection.execute(sql, (salt, now, name))
            return _get(connection, name)

        return self._database.write(work).result()

    def stop(self, name: str, reason: str) -> Kept:
        """End one with the last event of the log, and return it; one that was stopped stays as it is.

        Raises `ExperimentError` for a draft.
        """
        now = self._world.now()

        def work(connection: Connection) -> Kept:
            known = _get(connection, name)
            if known.state == "draft":
                raise ExperimentError(f'"{name}" does not run. Start it, or delete it.')
            sql = f"UPDATE experiments SET state = 'stopped', stopped = ?, stop = {_END}, reason = ? WHERE name = ?"
            if known.state == "running":
                connection.execute(sql, (now, reason, name))
            return _get(connection, name)

        return self._database.write(work).result()

    def delete(self, name: str) -> None:
        """Forget one; what the log says of it stays. Raises `ExperimentError` while it runs."""

        def work(connection: Connection) -> None:
            if _get(connection, name).state == "running":
                raise ExperimentError(f'"{name}" runs. Stop it first.')
            connection.execute("DELETE FROM experiments WHERE name = ?", (name,))

        self._database.write(work).result()

    def outcome(self, one: Kept, events: Iterable[str]) -> Outcome:
        """Return what units did of these events between an experiment's start and its end, or now.

        A session that became a user is that user, from its first slate on.
        """
        place = {"name": one.name, "start": one.start, "stop": 2**63 - 1 if one.stop is None else one.stop}
        named = {f"event_{number}": event for number, event in enumerate(events)}
        sql = _OUTCOME.replace("EVENTS", ", ".join(f":{name}" for name in named) or "NULL")
        with self._database.reader() as connection:
            rows = connection.execute(sql, place | named).fetchall()
        units = [row for row in rows if row[1] is None]
        return Outcome(
            {arm: n for arm, _, n, *_ in units},
            sum(mixed for *_, mixed, _ in units),
            {(arm, event): Done(*done) for arm, event, *done in rows if event is not None},
        )

    def _found(self, where: str) -> list[Kept]:
        with self._database.reader() as connection:
            return _all(connection, where)


def _all(connection: Connection, where: str, values: Sequence[Any] = ()) -> list[Kept]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM experiments WHERE {where} ORDER BY rowid", values)
    return [Kept(name, json.loads(document), *rest) for name, document, *rest in rows]


def _get(connection: Connection, name: str) -> Kept:
    found = _all(connection, "name = ?", (name,))
    if not found:
        raise UnknownItemError(f'no experiment is named "{name}".')
    return found[0]
