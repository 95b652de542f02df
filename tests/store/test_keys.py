import hashlib
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from staged_disk import Stage

from bowerbird.core import RealWorld, RequestError
from bowerbird.store.database import DatabaseBroken, Store
from bowerbird.store.keys import FLUSH_S, SCOPES, Key, Keys
from bowerbird.store.opening import opened


class Clock(RealWorld):
    time = 100

    def now(self) -> int:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with closing(opened(tmp_path, world=clock)) as database:
        yield database


@pytest.fixture
def keys(database: Store) -> Keys:
    return Keys(database)


def test_a_secret_is_known_again_and_another_is_not(keys: Keys) -> None:
    key, secret = keys.create("shop", ["recommend", "events:write"], expires=500, limit_per_s=2.5)
    _, other = keys.create("jobs", ["jobs"])
    assert key == Key(key.id, "shop", ("recommend", "events:write"), 100, 500, 2.5, None)
    assert [keys.check(one).name for one in (other, secret) if keys.check(one)] == ["jobs", "shop"]  # type: ignore[union-attr]
    for wrong in ("", "bb_", secret[:-1], secret + "x", secret.swapcase(), "é\ud800"):
        assert keys.check(wrong) is None


def test_a_secret_has_43_signs_that_never_come_again(keys: Keys) -> None:
    secrets = [keys.create("a", ["recommend"])[1] for _ in range(20)]
    assert all(re.fullmatch(r"bb_[A-Za-z0-9_-]{43}", one) for one in secrets)
    assert len(set(secrets)) == 20


def test_a_secret_needs_three_tokens_since_two_are_not_256_bits(tmp_path: Path) -> None:
    class Counting(RealWorld):
        tokens = 0

        def token(self) -> str:
            self.tokens += 1
            return super().token()

    world = Counting()
    assert len(world.token()) * 4 * 2 < 256 < len(world.token()) * 4 * 3  # a hex digit is 4 bits
    with closing(opened(tmp_path, world=world)) as database:
        world.tokens = 0
        Keys(database).create("a", ["recommend"])
    assert world.tokens == 4  # and one is the key's id


@pytest.mark.file
def test_the_secret_is_in_no_file_and_its_digest_is(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        _, secret = Keys(database).create("a", ["recommend"])
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.removeprefix("bb_").encode() not in data
    assert hashlib.sha256(secret.encode()).digest() in data


def test_opened_again_the_keys_are_as_they_were(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        keys = Keys(database)
        made = [keys.create(name, ["recommend"], limit_per_s=5) for name in "abc"]
        keys.revoke(made[1][0].id)
    with closing(opened(tmp_path)) as database:
        keys = Keys(database)
        assert keys.all() == [made[0][0], made[2][0]]
        assert [bool(keys.check(secret)) for _, secret in made] == [True, False, True]


def test_a_key_ends_when_it_expires_and_stays_in_the_list(keys: Keys, clock: Clock) -> None:
    key, secret = keys.create("a", ["recommend"], expires=200)
    clock.time = 199
    assert keys.check(secret) is not None
    clock.time = 200
    assert keys.check(secret) is None
    assert [one.id for one in keys.all()] == [key.id]


def test_a_revoked_key_is_gone_at_once_and_only_once(keys: Keys) -> None:
    key, secret = keys.create("a", ["recommend"])
    assert keys.revoke(key.id)
    assert (keys.check(secret), keys.all()) == (None, [])
    assert not keys.revoke(key.id)


def test_admin_may_do_all_and_others_what_they_may(keys: Keys) -> None:
    admin, _ = keys.create("root", ["admin"])
    shop, _ = keys.create("shop", ["recommend", "events:write"])
    assert [scope for scope in SCOPES if admin.allows(scope)] == list(SCOPES)
    assert [scope for scope in SCOPES if shop.allows(scope)] == ["events:write", "recommend"]


@pytest.mark.parametrize(
    ("scopes", "said"),
    [(["recomend"], 'Did you mean "recommend"'), (["jobs", ""], 'no scope is named ""'), ([], "needs")],
)
def test_a_key_without_a_known_scope_is_refused(keys: Keys, scopes: list[str], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        keys.create("a", scopes)
    assert keys.all() == []


def test_when_a_key_was_used_is_told_at_once_and_written_down_now_and_then(database: Store, clock: Clock) -> None:
    keys = Keys(database)
    _, secret = keys.create("a", ["recommend"])

    def written() -> list[int | None]:
        database.write(lambda _: None).result()  # after what waits
        return [one.last_used for one in Keys(database).all()]

    clock.time = 110
    used = keys.check(secret)
    assert used is not None
    assert used.last_used == keys.all()[0].last_used == 110
    assert written() == [None]
    clock.time = 100 + FLUSH_S
    keys.check(secret)
    assert written() == [100 + FLUSH_S]
    clock.time += 1
    keys.check(secret)
    assert written() == [100 + FLUSH_S]


@pytest.mark.file
def test_a_key_is_known_while_nothing_can_be_written(tmp_path: Path, clock: Clock) -> None:
    stage = Stage()
    with closing(opened(tmp_path, world=stage.on(clock))) as database:
        keys = Keys(database)
        _, secret = keys.create("a", ["recommend"])
        stage.errors["COMMIT"] = [sqlite3.SQLITE_IOERR]
        with pytest.raises(DatabaseBroken):
            keys.create("b", ["recommend"])
        assert [one.name for one in keys.all()] == ["a"]
        clock.time += FLUSH_S
        assert keys.check(secret) is not None
