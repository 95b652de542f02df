"""Where a database is, and what SQL is there: as far as no server is needed to say."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bowerbird.core import BowerbirdError
from bowerbird.store.database import Database, DatabaseError
from bowerbird.store.opening import place, there, url_of
from bowerbird.store.postgres import translated

pytestmark = pytest.mark.file


def test_an_address_is_remembered_and_not_changed(tmp_path: Path) -> None:
    assert (there(tmp_path), url_of(tmp_path)) == (False, None)
    for _ in range(2):
        place(tmp_path, "postgresql:///shop")
    assert (there(tmp_path), url_of(tmp_path)) == (True, "postgresql:///shop")
    with pytest.raises(DatabaseError, match="works with postgresql:///shop"):
        place(tmp_path, "postgresql:///other")


def test_a_directory_with_a_file_of_its_own_keeps_it(tmp_path: Path) -> None:
    Database(tmp_path).close()
    with pytest.raises(DatabaseError, match="holds a database of its own"):
        place(tmp_path, "postgresql:///shop")
    assert url_of(tmp_path) is None


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT a FROM t WHERE b = ? AND c LIKE 'x%'", "SELECT a FROM t WHERE b = %s AND c LIKE 'x%%'"),
        ("SELECT 1 WHERE n > :start AND '$.a.b' = x", "SELECT 1 WHERE n > %(start)s AND '$.a.b' = x"),
        ("x WHERE user_id IN (?, ?) AND k = ?", "x WHERE user_id IN (id(%s), id(%s)) AND k = %s"),
        ("'u' || CAST(user_id AS TEXT)", "'u' || (user_id #>> '{}')"),
        ("INSERT INTO events (key, user_id) VALUES (?, ?)", "INSERT INTO events (key, user_id) VALUES (%s, id(%s))"),
        ("INSERT INTO keys (digest, id) VALUES (?, ?)", "INSERT INTO keys (digest, id) VALUES (%s, %s)"),
    ],
)
def test_sql_is_said_anew_by_hand(sql: str, said: str) -> None:
    assert translated(sql) == said


def test_an_address_that_gives_a_password_away_is_refused(tmp_path: Path) -> None:
    said: list[Callable[[], None]] = [
        lambda: place(tmp_path, "postgresql://ann:secret@host/shop"),
        lambda: place(tmp_path, "postgresql://host/shop?password=secret"),
        lambda: place(tmp_path, "mysql://host/shop"),
    ]
    for act in said:
        with pytest.raises(BowerbirdError) as caught:
            act()
        assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())
