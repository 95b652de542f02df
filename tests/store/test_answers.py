import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from staged_disk import Stage

from bowerbird.core import RealWorld
from bowerbird.store.answers import KEPT_S, Answers, Kept, Running, Used
from bowerbird.store.database import DiskFull
from bowerbird.store.opening import opened


class Clock(RealWorld):
    time = 1_000_000

    def now(self) -> int:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def answers(tmp_path: Path, clock: Clock) -> Iterator[Answers]:
    with closing(opened(tmp_path, world=clock)) as database:
        yield Answers(database)


def test_the_first_answer_comes_back_for_the_same_body(answers: Answers) -> None:
    assert answers.begin("k", "body") is None
    answers.finish("k", 201, '{"id": "é"}')
    for _ in range(2):
        assert answers.begin("k", "body") == Kept(201, '{"id": "é"}')
    assert answers.begin("other", "body") is None


def test_another_body_under_the_same_key_is_refused_before_and_after_the_answer(answers: Answers) -> None:
    answers.begin("k", "body")
    with pytest.raises(Used, match="came with another body before"):
        answers.begin("k", "other")
    answers.finish("k", 200, "")
    with pytest.raises(Used):
        answers.begin("k", "other")
    assert answers.begin("k", "body") == Kept(200, "")


def test_one_acts_at_a_time(answers: Answers) -> None:
    answers.begin("k", "body")
    with pytest.raises(Running, match="not answered yet"):
        answers.begin("k", "body")


def test_what_came_to_nothing_can_be_sent_again(answers: Answers) -> None:
    answers.begin("k", "body")
    answers.forget("k")
    assert answers.begin("k", "other") is None


def test_answers_outlive_the_process_and_what_ran_does_not(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        answers = Answers(database)
        answers.begin("done", "body")
        answers.finish("done", 200, "first")
        answers.begin("running", "body")
    with closing(opened(tmp_path)) as database:
        answers = Answers(database)
        assert answers.begin("done", "body") == Kept(200, "first")
        assert answers.begin("running", "body") is None


def test_an_answer_is_kept_for_a_day_and_removed_after_it(tmp_path: Path, clock: Clock) -> None:
    with closing(opened(tmp_path, world=clock)) as database:
        answers = Answers(database)
        answers.begin("k", "body")
        answers.finish("k", 200, "first")
        clock.time += KEPT_S - 1
        assert answers.begin("k", "body") == Kept(200, "first")
        clock.time += 1
        assert answers.begin("k", "other") is None
        answers.finish("k", 200, "second")
        clock.time += KEPT_S
        answers.begin("l", "body")
        answers.finish("l", 200, "third")
        with database.reader() as connection:
            assert connection.execute("SELECT key, body FROM answers").fetchall() == [("l", "third")]


@pytest.mark.file
def test_an_answer_that_cannot_be_kept_holds_nobody_up(tmp_path: Path) -> None:
    stage = Stage()
    with closing(opened(tmp_path, world=stage.on())) as database:
        answers = Answers(database)
        answers.begin("k", "body")
        stage.errors["COMMIT"] = [sqlite3.SQLITE_FULL]
        with pytest.raises(DiskFull):
            answers.finish("k", 200, "first")
        assert answers.begin("k", "body") is None
