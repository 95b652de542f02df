import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.core import RealWorld, World


@pytest.fixture
def world() -> World:
    return RealWorld()


def test_what_was_written_is_read(world: World, tmp_path: Path) -> None:
    world.write(tmp_path / "a", b"\x00one\r\n")
    assert world.read(tmp_path / "a") == b"\x00one\r\n"


def test_a_second_writing_leaves_nothing_of_the_first(world: World, tmp_path: Path) -> None:
    world.write(tmp_path / "a", b"a long text")
    world.write(tmp_path / "a", b"short")
    assert world.read(tmp_path / "a") == b"short"


def test_an_absent_file_is_not_found(world: World, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        world.read(tmp_path / "absent")


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "device"])
def test_what_is_no_file_is_not_read_and_not_waited_for(world: World, tmp_path: Path, what: str) -> None:
    world.write(tmp_path / "a", b"secret")
    path = Path("/dev/zero") if what == "device" else tmp_path / "b"
    {"link": lambda: path.symlink_to(tmp_path / "a"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}.get(
        what, lambda: None
    )()
    with pytest.raises(OSError, match=r"Errno|this is no file"):
        world.read(path)


def test_replacing_moves_a_file_over_another(world: World, tmp_path: Path) -> None:
    world.write(tmp_path / "old", b"old")
    world.write(tmp_path / "new", b"new")
    world.replace(tmp_path / "new", tmp_path / "old")
    assert world.read(tmp_path / "old") == b"new"
    assert world.names(tmp_path) == ["old"]


def test_replacing_moves_a_whole_folder(world: World, tmp_path: Path) -> None:
    world.make_folder(tmp_path / ".part")
    world.write(tmp_path / ".part" / "file", b"x")
    world.replace(tmp_path / ".part", tmp_path / "000001")
    assert world.names(tmp_path) == ["000001"]
    assert world.names(tmp_path / "000001") == ["file"]


def test_names_are_sorted_and_an_absent_folder_has_none(world: World, tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        world.write(tmp_path / name, b"")
    assert world.names(tmp_path) == ["a", "b", "c"]
    assert world.names(tmp_path / "absent") == []


def test_making_a_folder_makes_its_parents_and_may_be_repeated(world: World, tmp_path: Path) -> None:
    for _ in range(2):
        world.make_folder(tmp_path / "a" / "b")
    assert world.names(tmp_path / "a") == ["b"]


def test_removing_a_folder_removes_what_is_in_it_and_may_be_repeated(world: World, tmp_path: Path) -> None:
    world.make_folder(tmp_path / "a" / "b")
    world.write(tmp_path / "a" / "b" / "file", b"x")
    for _ in range(2):
        world.remove_folder(tmp_path / "a")
    assert world.names(tmp_path) == []


def test_tokens_are_26_characters_and_never_repeat(world: World) -> None:
    tokens = [world.token() for _ in range(100)]
    assert {len(token) for token in tokens} == {26}
    assert len(set(tokens)) == 100


def test_the_monotonic_clock_never_goes_back(world: World) -> None:
    moments = [world.monotonic() for _ in range(100)]
    assert moments == sorted(moments)


def test_now_is_whole_seconds_after_this_test_was_written(world: World) -> None:
    assert isinstance(world.now(), int)
    assert world.now() > 1_700_000_000


@settings(max_examples=20)
@given(st.binary())
def test_any_bytes_survive_the_disk(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    RealWorld().write(path, data)
    assert RealWorld().read(path) == data


def test_a_lock_is_one_holders_until_they_let_go(world: World, tmp_path: Path) -> None:
    let_go = world.lock(tmp_path / "lock")
    assert let_go is not None
    assert world.lock(tmp_path / "lock") is None
    let_go()
    again = world.lock(tmp_path / "lock")
    assert again is not None
    again()
