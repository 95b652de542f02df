"""Erasures: a file for each in the run directory, which says what was done of it, so that a stop loses nothing.

    RUN/erasures/ID.json

While one goes on, the file names the person. Once it is done, the file is the certificate, which knows the person by a
digest whose key was given out with it and is kept nowhere: whoever holds a certificate can show whom it is about, and
whoever holds the directory cannot find out.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bowerbird.core import BundleError, RealWorld, UnknownItemError, World
from bowerbird.store.erasing import Person, Stretch

FOLDER = "erasures"
DAYS = 30  # until it has to be done: a month, as Article 12(3) of the GDPR has it
DAY_S = 86_400
FORGET = "forget"  # what those who follow are told, when somebody is being erased, and when that is done


@dataclass(frozen=True)
class Begun:
    """An erasure that goes on."""

    id: str
    user_id: str | int
    stretches: tuple[Stretch, ...]
    asked: int  # seconds since 1970 UTC
    deadline: int
    steps: Mapping[str, Any] = field(default_factory=dict)  # what came of those that are done

    @property
    def person(self) -> Person:
        """Whom it is about."""
        return Person(self.user_id, self.stretches)


def begin(run: Path, person: Person, held: Mapping[str, int], *, world: World | None = None) -> Begun:
    """Return an erasure that was just begun, or the one of this person that a stop interrupted.

    `held` says how many rows of the database are the person's, by what they are.
    """
    world = world or RealWorld()
    for one in going_on(run, world=world):
        if str(one.user_id) == str(person.user_id):
            return one
    now = world.now()
    begun = Begun(world.token(), person.user_id, person.stretches, now, now + DAYS * DAY_S, {"held": dict(held)})
    _write(run, begun.id, {"state": "running", **asdict(begun)}, world)
    return begun


def note(run: Path, begun: Begun, step: str, result: Any, *, world: World | None = None) -> Begun:
    """Write down what came of a step, and return the erasure with it."""
    begun = replace(begun, steps={**begun.steps, step: result})
    _write(run, begun.id, {"state": "running", **asdict(begun)}, world or RealWorld())
    return begun


def finish(run: Path, begun: Begun, certificate: Mapping[str, Any], *, world: World | None = None) -> dict[str, Any]:
    """Put a certificate in the place of an erasure; return it with the key of its `subject`, which is kept nowhere."""
    world = world or RealWorld()
    key = world.token() + world.token()
    kept: dict[str, Any] = {"state": "done", **certificate, "subject": subject_of(begun.user_id, key)}
    kept["sha256"] = digest_of(kept)
    _write(run, begun.id, kept, world)
    return {**kept, "key": key}


def subject_of(user_id: str | int, key: str) -> str:
    """Return how a certificate calls a person: HMAC-SHA256 of the id, in hexadecimal digits."""
    return hmac.new(key.encode(), str(user_id).encode(), hashlib.sha256).hexdigest()


def digest_of(certificate: Mapping[str, Any]) -> str:
    """Return the sha256 of a certificate without its own digest and without its key."""
    told = {name: value for name, value in certificate.items() if name not in ("sha256", "key")}
    return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def all_of(run: Path, *, world: World | None = None) -> list[dict[str, Any]]:
    """Return what is written of every erasure of a run, the newest first."""
    world = world or RealWorld()
    names = [name for name in world.names(run / FOLDER) if name.endswith(".json") and not name.startswith(".")]
    found = [_read(run / FOLDER / name, world) for name in names]
    return sorted(found, key=lambda one: (one["asked"], one["id"]), reverse=True)


def get(run: Path, erasure_id: str, *, world: World | None = None) -> dict[str, Any]:
    """Return what is written of one erasure; raises `UnknownItemError`."""
    for one in all_of(run, world=world):
        if one["id"] == erasure_id:
            return one
    raise UnknownItemError(f"no erasure has the id {erasure_id!r}.")


def going_on(run: Path, *, world: World | None = None) -> list[Begun]:
    """Return the erasures that are not done, the oldest first."""
    return [_begun(one) for one in reversed(all_of(run, world=world)) if one["state"] == "running"]


def names_of(run: Path, *, world: World | None = None) -> list[str]:
    """Return what those who are being erased are called as users."""
    return sorted({name for one in going_on(run, world=world) for name in one.person.names})


def _begun(written: Mapping[str, Any]) -> Begun:
    stretches = tuple(Stretch(*one) for one in written["stretches"])
    names = ("id", "user_id", "asked", "deadline", "steps")
    return Begun(stretches=stretches, **{name: written[name] for name in names})


def _read(path: Path, world: World) -> dict[str, Any]:
    try:
        found = json.loads(world.read(path))
        if isinstance(found, dict) and {"state", "id", "asked"} <= found.keys():
            return found
    except (OSError, ValueError, RecursionError):
        pass
    raise BundleError(f"{path} is no erasure that bowerbird wrote. Restore it, or take it away and erase again.")


def _write(run: Path, erasure_id: str, document: Mapping[str, Any], world: World) -> None:
    folder = run / FOLDER
    world.make_folder(folder)
    scratch = folder / f".{erasure_id}.part"
    world.write(scratch, json.dumps(document, indent=1, ensure_ascii=False).encode())
    world.replace(scratch, folder / f"{erasure_id}.json")
