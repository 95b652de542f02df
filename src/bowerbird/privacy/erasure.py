"""Erasure: one person out of a run directory and the data directory of its server, step by step, with a certificate.

    database   rows of the log, of documents and of kept answers are blanked; the file is rewritten, the WAL emptied
    models     the current version without the person, if it knew them; every version that did is retired
    copies     rows of exports and imports, in files that lie in the directories
    backups    those that hold the person give way to one of now
    search     every file is searched for the id, and rows are counted again

Each step can be done again, and what came of it is written down before the next one begins: after a stop, the same
call goes on. What lies elsewhere is named, not touched. A server does the first step when it is asked, and the others
beside its requests.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

import bowerbird
from bowerbird.core import BundleError, DataError, RealWorld, RequestError, UnknownItemError, World
from bowerbird.store import backups, bundles, contents, erasing, erasures, exports, histories, postgres
from bowerbird.store.database import Connection, Database, read_only
from bowerbird.store.erasing import Person, Searched
from bowerbird.store.erasures import FORGET, Begun
from bowerbird.store.opening import opened, there, url_of
from bowerbird.store.opening import read_only as reading
from bowerbird.store.postgres import Postgres

LONG = 6  # letters and digits, not digits alone, of an id that bytes are searched for: shorter ones are everywhere
PREDICTOR = "rows"  # what `bundles.kind_of` says of a version that keeps nobody's history
STEPS = ("database", "models", "copies", "backups")
OUTSIDE = (
    "copies that were made elsewhere: backups outside these directories, files that were exported or downloaded to "
    "other places (those that were noted are listed under elsewhere), logs of proxies and of the process",
    "what the file system keeps of files after they are removed or rewritten, such as snapshots and unused blocks of "
    "a disk",
    "of a database in PostgreSQL its write-ahead log until that is used again, archives of that, and replicas and "
    "backups of the server",
    "figures that are averages over many people, such as the measured quality of a version",
    "events that were sent under a session that never became this person, and histories posted without an id",
    "lists that others were shown, which may hold an item that only this person had chosen",
    "what others wrote that names the person, and items that are this person: items are taken away as items",
    "a digest of each event's id, 16 bytes, which keeps a late retry from bringing the event back",
)


class Nobody(UnknownItemError):
    """Nothing is kept of this person."""


@dataclass(frozen=True)
class Place:
    """Where a person is erased: a run directory, and the data directory of its server, where it has one.

    `database` is that of a server that runs in this process; else it is opened for as long as a step takes.
    """

    run: Path
    data: Path
    database: Database | Postgres | None = None
    world: World = RealWorld()  # noqa: RUF009  it has no state

    @property
    def served(self) -> bool:
        """Whether there is a database."""
        return there(self.data, world=self.world)


# ── the whole of it ───────────────────────────────────────────────────────────────────────────────────────────────


def erase(place: Place, user_id: str | int) -> dict[str, Any]:
    """Erase a person and return the certificate, with the key of its `subject`, which is kept nowhere.

    Goes on where a stop interrupted it. Raises `Nobody` where nothing is kept of the person, `RequestError` for a run
    whose model cannot be trained again, and as the stores do.
    """
    begun = begin(place, user_id)
    for step in STEPS:
        begun = do(place, begun, step)
    return certify(place, begun)


def begin(place: Place, user_id: str | int) -> Begun:
    """Write down that a person is to be erased, or find that it was; raises `Nobody`, and as `erase`."""
    world, run = place.world, place.run
    person = Person(user_id)
    if place.served:
        with closing(reading(place.data, world=world)) as connection:
            person = erasing.find(connection, user_id)
            rows = erasing.count(connection, person)
    else:
        rows = {}
    waiting = [one for one in erasures.going_on(run, world=world) if str(one.user_id) == str(user_id)]
    if waiting:
        return waiting[0]
    knew = _known_by(run, person, world)
    copies = [path for path in _files(place) if _rows_in(path, person, world)]
    if not (any(rows.values()) or knew or copies or _backups_of(place, person)):
        raise Nobody(
            f"nothing is kept of {user_id!r}: no event and no document in {place.data}, no version of {run} that knew "
            "them, no export, no backup. Nothing was changed."
        )
    _check(run, knew, world)
    return erasures.begin(run, person, rows, world=world)


def do(place: Place, begun: Begun, step: str) -> Begun:
    """Do one of `STEPS`, again where it was done, and return the erasure with what came of it altogether."""
    acts: dict[str, Callable[[Place, Begun], Any]] = {
        "database": _database, "copies": _copies, "models": _models, "backups": _backups
    }  # fmt: skip
    result, before = acts[step](place, begun), begun.steps.get(step)
    if isinstance(before, list):
        result = before + result
    elif step == "database" and result is not None:  # a stop may have come before the first count was written down
        held = {what: max(n - result[what], (before or {}).get(what, 0)) for what, n in begun.steps["held"].items()}
        result = {what: n + held.get(what, 0) for what, n in result.items()}
    [newest] = [one for one in erasures.going_on(place.run, world=place.world) if one.id == begun.id]
    return erasures.note(place.run, newest, step, result, world=place.world)


def train(run: str, data: str, erasure_id: str) -> None:
    """Do the step of an erasure that trains: what a running server asks of a process of its own."""
    place = Place(Path(run), Path(data))
    [begun] = [one for one in erasures.going_on(place.run) if one.id == erasure_id]
    do(place, begun, "models")


def certify(place: Place, begun: Begun) -> dict[str, Any]:
    """Look whether anything is left, and put the certificate in the place of the erasure."""
    world, run, steps = place.world, place.run, begun.steps
    with bundles.locked(run, world=world):
        _sweep(place)
    left = _left(place, begun)
    version = bundles.current(run, world=world)
    certificate = {
        "id": begun.id,
        "asked": begun.asked,
        "deadline": begun.deadline,
        "finished": world.now(),
        "bowerbird": bowerbird.__version__,
        "run": run.name,
        "database": steps["database"],
        "copies": steps["copies"],
        "models": steps["models"],
        "backups": steps["backups"],
        "current": {"version": version, "files": _sums(run, version, world)},
        "elsewhere": _elsewhere(place, begun.person),
        "left": left["rows"],
        "search": left["search"],
        "not_covered": list(OUTSIDE),
    }
    if any(left["rows"].values()):
        told = ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in left["rows"].items() if n)
        raise RequestError(
            f"{told} of this person came back while they were erased. Stop what writes them; erase again."
        )
    return erasures.finish(run, begun, certificate, world=world)


# ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _database(place: Place, begun: Begun) -> dict[str, int] | None:
    if not place.served:
        return None
    database = place.database or opened(place.data, world=place.world)

    def blank(connection: Connection) -> dict[str, int]:
        database.tell(connection, FORGET)  # to other servers over the same database
        return erasing.blank(connection, begun.person)

    try:
        found = database.write(blank).result()
        database.scrub()
    finally:
        if place.database is None:
            database.close()
    return found


def _copies(place: Place, begun: Begun) -> list[dict[str, Any]]:
    """Rewrite files of rows without the person, and take away what a stopped training left."""
    items = (begun.steps.get("rebuilt") or {}).get("items", [])
    stripped = [erasing.strip(path, begun.person, items, world=place.world) for path in _files(place)]
    place.world.remove_folder(place.run / "state")
    return [one for one in stripped if one is not None]


def _models(place: Place, begun: Begun) -> dict[str, Any]:
    """Publish the current version without the person, where it knew them, and retire all that did."""
    run, world, person = place.run, place.world, begun.person
    told: dict[str, Any] = {"retired": {}, "graphs": [], "items": []} | dict(begun.steps.get("rebuilt") or {})
    told["retired"] |= {one: _digest_of(run, one, world) for one in _known_by(run, person, world)}
    begun = erasures.note(run, begun, "rebuilt", told, world=world)
    with bundles.locked(run, world=world):  # so that the publication takes none away that never knew the person
        _retire(place, told["retired"])
    if _knew(run, bundles.current(run, world=world), person, world):
        told |= rebuild(place, begun)
    elif "from" in told:  # a stop came between publication and the note of it
        told.setdefault("version", bundles.current(run, world=world))
    with bundles.locked(run, world=world):
        _sweep(place)
        told["retired"] |= {one: _digest_of(run, one, world) for one in _known_by(run, person, world)}
        told["graphs"] += _graphs(place, told["retired"])
        begun = erasures.note(run, begun, "rebuilt", told, world=world)
        _retire(place, told["retired"])
    del told["items"]
    return told | {"kept": bundles.versions(run, world=world)}


def _retire(place: Place, names: Iterable[str]) -> None:
    """Retire versions with their histories, but not the current one; inside `bundles.locked`."""
    run, world = place.run, place.world
    current = bundles.current(run, world=world)
    bundles.retire(run, [one for one in names if one != current], world=world)
    histories.prune(run, bundles.versions(run, world=world), world=world)


def rebuild(place: Place, begun: Begun) -> dict[str, Any]:
    """Publish the current version without the person; return how it was made."""
    from bowerbird.privacy.unlearning import unlearn
    from bowerbird.recommender import load

    run, world = place.run, place.world
    rec = load(run, world=world)
    unlearned = unlearn(rec, begun.person.names, keep=_met(place))
    told = {
        "model": rec.name, "from": rec.version, "method": unlearned.method, "exact": unlearned.exact,
        "detail": unlearned.detail, "seconds": round(unlearned.seconds, 3),
        "events": len(rec.past) - len(unlearned.recommender.past), "items_gone": len(unlearned.items_gone),
        "items": unlearned.items_gone,
    }  # fmt: skip
    erasures.note(run, begun, "rebuilt", begun.steps["rebuilt"] | told, world=world)
    return told | {"version": unlearned.recommender.save(run)}


def _backups(place: Place, begun: Begun) -> list[dict[str, Any]]:
    """Take a backup of now, and then away those that hold the person."""
    world = place.world
    old = _backups_of(place, begun.person)
    if not old:
        return []
    sums = [
        {"backup": one, "sha256": erasing.sha256_of(place.data / "backups" / one / backups.SUMS, world=world)}
        for one in old
        if backups.SUMS in world.names(place.data / "backups" / one)
    ]
    version, name = bundles.current(place.run, world=world), f"{world.now()}-{world.token()[:6]}"
    folder = place.data / "backups" / name
    database = place.database or opened(place.data, world=world)
    try:
        backups.take(database, place.run, version, folder)
    finally:
        if place.database is None:
            database.close()
    for one in old:
        world.remove_folder(place.data / "backups" / one)
    if left := [one for one in old if one in world.names(place.data / "backups")]:
        raise DataError(f"{place.data / 'backups' / left[0]} cannot be removed. Remove it by hand, and erase again.")
    return [*sums, {"backup": name, "sha256": erasing.sha256_of(folder / backups.SUMS, world=world), "new": True}]


# ── what knows a person ───────────────────────────────────────────────────────────────────────────────────────────


def _knew(run: Path, version: str, person: Person, world: World) -> bool:
    """Return whether a version has a person among its users; one that cannot be read may have."""
    folder = run / "bundles" / version
    try:
        if bundles.kind_of(run, version, world=world) == PREDICTOR:
            tables = [name for name in world.names(folder) if name == "vocabulary.parquet"]
            return any(_says(contents.table(world.read(folder / name), folder / name), person) for name in tables)
        users = contents.table(world.read(folder / "users.parquet"), folder / "users.parquet")
    except (BundleError, OSError):
        return True
    shared = version not in world.names(run / histories.FOLDER) and histories.FILE in world.names(run)
    return bool(users["user_id"].cast(pl.String).is_in(list(person.names)).any()) or (
        shared and bool(erasing.rows_in(run / histories.FILE, person, world=world))
    )


def _known_by(run: Path, person: Person, world: World) -> list[str]:
    return [one for one in bundles.versions(run, world=world) if _knew(run, one, person, world)]


def _says(table: Any, person: Person) -> bool:
    """Return whether any text of a table is the name of a person."""
    return any(
        bool(column.cast(pl.String, strict=False).is_in(list(person.names)).any())
        for column in table.iter_columns()
        if not column.dtype.is_nested()
    )


def _check(run: Path, knew: Sequence[str], world: World) -> None:
    """Raise `RequestError` where the current version knows the person and keeps nothing to train it again on."""
    current = bundles.current(run, world=world)
    if current in knew and bundles.kind_of(run, current, world=world) == PREDICTOR:
        raise RequestError(
            f"{run} holds a predictor of feature rows, which keeps no rows to train it again on. Train it from a table "
            "without the person (bowerbird train … --out RUN), and then erase."
        )


def _files(place: Place) -> list[Path]:
    """Return the files of rows in the directories that no version and no table of the database is."""
    folders = (place.run, place.data, place.data / "exports", place.data / "imports")
    found = {
        folder / name
        for folder in folders
        for name in place.world.names(folder)
        if Path(name).suffix in (".parquet", *erasing.LINES) and not name.startswith(".")
    }
    return sorted(found - {place.run / histories.FILE, place.run / "search.jsonl"})


def _rows_in(path: Path, person: Person, world: World) -> int:
    return erasing.rows_in(path, person, world=world)


def _backups_of(place: Place, person: Person) -> list[str]:
    """Return the backups that hold a person, are not whole, or cannot be read."""
    world, found = place.world, []
    for name in world.names(place.data / "backups"):
        folder = place.data / "backups" / name
        try:
            with closing(read_only(folder, still=True, world=world)) as connection:
                mine = erasing.find(connection, person.user_id)
                rows = erasing.count(connection, Person(person.user_id, mine.stretches or person.stretches))
            run = folder / "run"
            whole = backups.SUMS in world.names(folder)
            held = not whole or any(rows.values()) or bool(_known_by(run, person, world))
        except (OSError, BundleError):
            held = True
        if held:
            found.append(name)
    return found


def _met(place: Place) -> set[str]:
    """Return the items of which the catalogue has a document or the log an event."""
    if not place.served:
        return set()
    with closing(reading(place.data, world=place.world)) as connection:
        documents = connection.execute("SELECT key FROM documents WHERE kind = 'item' AND NOT deleted")
        events = connection.execute("SELECT DISTINCT CAST(item_id AS TEXT) FROM events WHERE item_id IS NOT NULL")
        return {one for (one,) in (*documents, *events)}


def _graphs(place: Place, gone: dict[str, str]) -> list[str]:
    """Take away graphs of retired versions that were written into the run directory; return their names."""
    world, found = place.world, []
    trash = place.run / ".graphs.gone"
    for entry in exports.noted(place.run, world=world):
        path = Path(entry["path"])
        if entry["kind"] != "graph" or entry["version"] not in gone or path.parent.resolve() != place.run.resolve():
            continue
        world.make_folder(trash)
        for name in (one for one in world.names(place.run) if one.startswith(path.stem + ".")):
            world.replace(place.run / name, trash / name)
            found.append(name)
    world.remove_folder(trash)
    return found


def _elsewhere(place: Place, person: Person) -> list[dict[str, Any]]:
    """Return what was noted of exports that lie outside, and whether they hold the person, where that can be read."""
    inside = (place.run.resolve(), place.data.resolve())
    found = []
    for entry in (one for folder in (place.run, place.data) for one in exports.noted(folder, world=place.world)):
        path = Path(entry["path"])
        if entry["kind"] != "download" and any(path.resolve().is_relative_to(one) for one in inside):
            continue
        holds: int | None = None
        if entry["kind"] not in ("graph", "download"):
            try:
                holds = _rows_in(path, person, place.world)
            except (OSError, DataError, BundleError):
                holds = None
        found.append({**entry, "rows": holds})
    return found


def _sweep(place: Place) -> None:
    """Take away what a stop left half-written in the run directory; inside `bundles.locked`."""
    world, run = place.world, place.run
    trash = run / ".swept.gone"
    world.remove_folder(trash)
    folders = [run, run / "bundles", *(run / histories.FOLDER / one for one in world.names(run / histories.FOLDER))]
    folders += [place.data / "exports", place.data / "imports", place.data / "backups", run / erasures.FOLDER]
    for folder in folders:
        for name in world.names(folder):
            if not (name.startswith(".") and name.endswith((".part", ".gone"))):
                continue
            if (folder / name).is_dir():
                world.remove_folder(folder / name)
            else:
                world.make_folder(trash)
                world.replace(folder / name, trash / name)
                world.remove_folder(trash)


# ── the certificate ───────────────────────────────────────────────────────────────────────────────────────────────


def _left(place: Place, begun: Begun) -> dict[str, Any]:
    """Return how many rows are left of a person, and what a search of all files for the id found."""
    world, person = place.world, begun.person
    rows: dict[str, int] = {}
    if place.served:
        with closing(reading(place.data, world=world)) as connection:
            rows |= erasing.count(connection, person, begun.steps["database"]["end"])
    rows["versions"] = len(_known_by(place.run, person, world))
    rows["rows_of_copies"] = sum(_rows_in(path, person, world) for path in _files(place))
    rows["backups"] = len(_backups_of(place, person))
    text = str(begun.user_id)
    searched: dict[str, Any] = {"why_not": f"an id of digits alone, or of fewer than {LONG} letters, is found anywhere"}
    if len(text) >= LONG and not text.lstrip("-").isdecimal():
        own = [place.run / erasures.FOLDER / f"{begun.id}.json"]  # which gives way to the certificate next
        found: Searched = erasing.search({place.run, place.data}, text, leave_out=own)
        url = url_of(place.data, world=world)
        hits = (*found.hits, *(() if url is None else postgres.hits(url, text)))
        searched = asdict(replace(found, hits=hits))
    return {"rows": rows, "search": searched}


def _sums(run: Path, version: str, world: World) -> dict[str, str]:
    """Return the sha256 of every file of a version, and of its histories."""
    folders = (run / "bundles" / version, run / histories.FOLDER / version)
    return {
        str((folder / name).relative_to(run)): erasing.sha256_of(folder / name, world=world)
        for folder in folders
        for name in world.names(folder)
    }


def _digest_of(run: Path, version: str, world: World) -> str:
    """Return the sha256 over the sha256 of every file of a version."""
    told = "\n".join(f"{name} {one}" for name, one in sorted(_sums(run, version, world).items()))
    return hashlib.sha256(told.encode()).hexdigest()
