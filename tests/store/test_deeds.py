"""What is learnt from the log of a server: what people did, under the names that they have by now."""

from pathlib import Path

from bowerbird.store.deeds import read_deeds
from bowerbird.store.events import TableLog
from bowerbird.store.log import MERGE, SLATE, LogEvent
from bowerbird.store.opening import opened


def deed(event_id: str, **more: object) -> LogEvent:
    return LogEvent(event_id, "like", item_id="i1", time=5, **more)  # type: ignore[arg-type]


def test_slates_and_merges_are_no_deeds_and_sessions_get_their_users(tmp_path: Path) -> None:
    database = opened(tmp_path)
    end = TableLog(database).append(
        [
            deed("a", user_id="u1"),
            LogEvent("slate-1", SLATE, user_id="u1"),
            deed("b", session_id="s1"),
            LogEvent("merge-1", MERGE, user_id="u2", session_id="s1"),
            deed("c", session_id="s2"),
        ]
    )
    frame, told = read_deeds(tmp_path, 0)  # beside the server that holds the directory
    assert frame["user_id"].to_list() == ["u1", "u2", "session:s2"]
    assert set(frame.columns) == {"user_id", "item_id", "event", "weight", "time"}
    assert told == end == 5
    assert read_deeds(tmp_path, 4)[0]["user_id"].to_list() == ["session:s2"]
    assert len(read_deeds(tmp_path, end)[0]) == 0
    assert read_deeds(tmp_path, end)[1] == end
    database.close()


def test_integer_ids_stay_integers_where_there_are_no_sessions(tmp_path: Path) -> None:
    database = opened(tmp_path)
    TableLog(database).append([LogEvent("a", "like", user_id=7, item_id=3)])
    assert read_deeds(tmp_path, 0)[0].row(0)[:2] == (7, 3)
    database.close()


def test_a_session_is_the_user_that_it_was_or_else_the_first_that_it_became(tmp_path: Path) -> None:
    database = opened(tmp_path)
    TableLog(database).append(
        [
            deed("a", session_id="s"),
            LogEvent("m1", MERGE, user_id=7, session_id="s"),
            deed("b", session_id="s"),
            LogEvent("m2", MERGE, user_id="v", session_id="s"),
            deed("c", session_id="s"),
            deed("d", user_id="w"),
        ]
    )
    assert read_deeds(tmp_path, 0)[0]["user_id"].to_list() == ["7", "7", "v", "w"]
    assert read_deeds(tmp_path, 2)[0]["user_id"].to_list() == ["7", "v", "w"]  # the first merge lies before
    database.close()
