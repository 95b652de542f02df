"""The schema that is kept: what was declared last, by number, also after a restart and beside the server."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bowerbird.store import database as module
from bowerbird.store.catalogue import Stale
from bowerbird.store.opening import opened
from bowerbird.store.schema import Declared, Schemas, read_declared

WISH = {"name": "wish", "weight": 0.5, "sign": "positive", "hides": False, "phrase": "wished for"}
BLOCK = {"name": "block", "weight": 1.0, "sign": "negative", "hides": True, "phrase": "blocked"}


def test_the_last_one_is_in_force_also_after_a_restart(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        schemas = Schemas(database)
        assert schemas.current == Declared(0, ())
        assert schemas.put([WISH]) == Declared(1, (WISH,))
        assert schemas.put([BLOCK, WISH]) == schemas.current == Declared(2, (BLOCK, WISH))
        assert read_declared(tmp_path) == (BLOCK, WISH)  # beside the one that holds it
    with closing(opened(tmp_path)) as database:
        assert Schemas(database).current == Declared(2, (BLOCK, WISH))


def test_the_same_once_more_is_no_change(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        schemas = Schemas(database)
        assert [schemas.put(one).number for one in ([], [WISH], [WISH], [])] == [0, 1, 1, 2]


def test_a_change_upon_an_old_state_is_refused(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        schemas = Schemas(database)
        schemas.put([WISH], if_match='"0"')
        with pytest.raises(Stale, match='was to be "0"; it is "1" now'):
            schemas.put([], if_match='"0"')
        assert schemas.put([BLOCK], if_match='"1"').number == 2
        assert schemas.put([], if_match="*").number == 3


@pytest.mark.file
def test_a_database_of_an_older_version_declares_nothing_and_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "MIGRATIONS", module.MIGRATIONS[:1])
        opened(tmp_path).close()
    assert read_declared(tmp_path) == ()
    with closing(opened(tmp_path)) as database:
        assert Schemas(database).put([WISH]).number == 1
    with closing(sqlite3.connect(tmp_path / module.FILE)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(module.MIGRATIONS),)
