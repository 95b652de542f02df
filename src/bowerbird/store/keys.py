"""API keys: who may ask a server for what. Of a secret only its SHA-256 is kept, which is enough to know it again."""

import hmac
import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from bowerbird.core import RequestError, did_you_mean
from bowerbird.store.database import Connection, DatabaseBroken, Overloaded, Store

SCOPES = (
    "events:write", "recommend", "catalog:read", "catalog:write", "models:read", "models:write", "jobs", "experiments",
    "privacy", "admin",
)  # fmt: skip
KEYS = "keys"  # what those who follow are told of a change
FLUSH_S = 60  # between two notes of when keys were used
_COLUMNS = "id, name, scopes, created, expires, limit_per_s, last_used"


@dataclass(frozen=True)
class Key:
    """What is known of a key; times are seconds since 1970 UTC."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None
    limit_per_s: float | None  # requests
    last_used: int | None  # to the minute across restarts

    def allows(self, scope: str) -> bool:
        """Return whether the key may do what needs a scope; `admin` may do all."""
        return scope in self.scopes or "admin" in self.scopes


class Keys:
    """The keys of a data directory, held in memory; the table follows."""

    def __init__(self, database: Store) -> None:
        self._database, self._world = database, database.world
        self._changing = threading.Lock()
        self._used: dict[str, int] = {}  # when keys were used, by id, since the last note
        self._noted = self._world.now()
        self._table: dict[str, tuple[bytes, Key]] = {}  # replaced whole, so that readers need no lock
        self.look()

    def look(self) -> None:
        """Find the keys anew, where another process writes."""
        with self._database.reader() as connection:
            rows = connection.execute(f"SELECT digest, {_COLUMNS} FROM keys ORDER BY rowid").fetchall()
        self._table = {row[1]: (row[0], _key(row[1:])) for row in rows}

    def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        expires: int | None = None,
        limit_per_s: float | None = None,
    ) -> tuple[Key, str]:
        """Make a key; return it and its secret, which is nowhere kept. Raises `RequestError` for unknown scopes."""
        for scope in scopes:
            if scope not in SCOPES:
                raise RequestError(
                    f'no scope is named "{scope}".{did_you_mean(scope, SCOPES)} There are {", ".join(SCOPES)}.'
                )
        if not scopes:
            raise RequestError(f"a key needs a scope. There are {', '.join(SCOPES)}.")
        secret = _secret("".join(self._world.token() for _ in range(3)))
        now = self._world.now()
        key = Key(self._world.token(), name, tuple(dict.fromkeys(scopes)), now, expires, limit_per_s, None)
        digest = _digest(secret)
        values = (digest, key.id, name, json.dumps(key.scopes), key.created, expires, limit_per_s, None)
        sql = f"INSERT INTO keys (digest, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

        def follow(_: object) -> None:
            self._table = self._table | {key.id: (digest, key)}

        def work(connection: Connection) -> None:
            connection.execute(sql, values)
            self._database.tell(connection, KEYS)

        self._database.write(work, follow).result()
        return key, secret

    def check(self, secret: str) -> Key | None:
        """Return the key that a secret belongs to; None for a wrong one and after its end.

        It compares with every key in the same time, whichever fits.
        """
        digest, now = _digest(secret), self._world.now()
        fit = [key for one, key in self._table.values() if hmac.compare_digest(one, digest)]
        if not fit or (fit[0].expires is not None and fit[0].expires <= now):
            return None
        self._use(fit[0].id, now)
        return replace(fit[0], last_used=now)

    def all(self) -> list[Key]:
        """Return all keys that were not revoked, oldest first; those after their end are among them."""
        table, used = self._table, self._used
        return [replace(key, last_used=used.get(key.id, key.last_used)) for _, key in table.values()]

    def revoke(self, id: str) -> bool:
        """End a key; return whether there was one."""

        def follow(_: object) -> None:
            self._table = {name: one for name, one in self._table.items() if name != id}

        def work(connection: Connection) -> bool:
            self._database.tell(connection, KEYS)
            return connection.execute("DELETE FROM keys WHERE id = ?", (id,)).rowcount == 1

        return self._database.write(work, follow).result()

    def _use(self, id: str, now: int) -> None:
        """Remember that a key was used, and rarely write it down: a request does not wait for that, nor fail of it."""
        with self._changing:
            self._used[id] = now
            if now - self._noted < FLUSH_S:
                return
            self._noted = now
            values = [(used, name) for name, used in self._used.items()]
        sql = "UPDATE keys SET last_used = ? WHERE id = ?"
        with suppress(Overloaded, DatabaseBroken):
            self._database.write(lambda connection: connection.executemany(sql, values))


def _secret(random: str) -> str:
    """Return the secret made of three tokens of 26 hex digits: 312 random bits, of which SHA-256 keeps 256."""
    return "bb_" + urlsafe_b64encode(sha256(random.encode()).digest()).decode().rstrip("=")


def _digest(secret: str) -> bytes:
    return sha256(secret.encode(errors="surrogatepass")).digest()


def _key(row: Sequence[Any]) -> Key:
    id, name, scopes, *rest = row
    return Key(id, name, tuple(json.loads(scopes)), *rest)
