from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.core import DataError, RealWorld, UnknownItemError
from bowerbird.store import catalogue as module
from bowerbird.store.catalogue import Catalogue, Kind, Stale, Stored, merged
from bowerbird.store.opening import opened


class Clock(RealWorld):
    time = 100

    def now(self) -> int:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalogue(tmp_path: Path, clock: Clock) -> Iterator[Catalogue]:
    with closing(opened(tmp_path, world=clock)) as database:
        yield Catalogue(database)


def ids(catalogue: Catalogue, after: str | int | None = None, limit: int = 100) -> list[str | int]:
    return [one.id for one in catalogue.page("item", after, limit)]


# ── one document ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_document_comes_back_as_it_was_put(catalogue: Catalogue) -> None:
    said = {"title": "Bücher 😀", "price": 3.5, "tags": ["a", None, {"b": True}], "n": 2**60}
    stored = catalogue.put("item", "x", said, available=False, expires=200)
    assert stored == Stored("x", said, False, 200, since=100, deleted=False, change=1, created=True)
    assert catalogue.get("item", "x") == Stored("x", said, False, 200, since=100, deleted=False, change=1)
    assert (catalogue.get("user", "x"), catalogue.get("item", "y")) == (None, None)


def test_putting_again_replaces_all_of_it_and_keeps_since_when_it_is_there(catalogue: Catalogue, clock: Clock) -> None:
    first = catalogue.put("item", "x", {"title": "old", "price": 1}, expires=200)
    clock.time = 300
    second = catalogue.put("item", "x", {"title": "new"})
    assert second == Stored("x", {"title": "new"}, True, None, since=100, deleted=False, change=2, created=False)
    assert first.etag != second.etag


def test_opened_again_it_is_as_it_was(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        catalogue = Catalogue(database)
        catalogue.put("item", 7, {"a": 1})
        catalogue.put("item", 8, {})
        catalogue.delete("item", 8)
        before = catalogue.changes("item", 0)
    with closing(opened(tmp_path)) as database:
        catalogue = Catalogue(database)
        assert catalogue.changes("item", 0) == before
        assert catalogue.put("item", 9, {}).change == 4


def test_an_id_and_the_text_that_spells_it_are_one_document_which_stays_an_integer(catalogue: Catalogue) -> None:
    catalogue.put("item", "7", {"n": 1})
    assert ids(catalogue) == ["7"]
    assert not catalogue.put("item", 7, {"n": 2}).created
    assert not catalogue.put("item", "7", {"n": 3}).created
    assert ids(catalogue) == [7]
    found = catalogue.get("item", "7")
    assert found is not None
    assert (found.id, found.properties) == (7, {"n": 3})
    assert catalogue.get("item", "07") is None


@pytest.mark.parametrize("wrong", [{"a": float("nan")}, {"a": {1, 2}}, {"a": "\ud800"}, ["a"], None])
def test_properties_that_are_no_json_are_refused(catalogue: Catalogue, wrong: Any) -> None:
    with pytest.raises(DataError, match="'x': "):
        catalogue.put("item", "x", wrong)
    assert catalogue.get("item", "x") is None


def test_an_etag_guards_against_what_somebody_else_changed(catalogue: Catalogue) -> None:
    old = catalogue.put("item", "x", {"n": 1}).etag
    new = catalogue.put("item", "x", {"n": 2}, if_match=old).etag
    for change in (
        lambda: catalogue.put("item", "x", {"n": 3}, if_match=old),
        lambda: catalogue.patch("item", "x", {"available": False}, if_match=old),
        lambda: catalogue.delete("item", "x", if_match=old),
    ):
        with pytest.raises(Stale, match=f"was to be {old}; it is {new} now"):
            change()
    found = catalogue.get("item", "x")
    assert found is not None
    assert (found.properties, found.etag) == ({"n": 2}, new)
    assert catalogue.delete("item", "x", if_match=new)
    with pytest.raises(Stale, match="there is none"):
        catalogue.put("item", "x", {}, if_match=new)


def test_a_star_matches_whatever_is_there(catalogue: Catalogue) -> None:
    with pytest.raises(Stale):
        catalogue.put("item", "x", {}, if_match="*")
    catalogue.put("item", "x", {})
    assert catalogue.put("item", "x", {"n": 1}, if_match="*").properties == {"n": 1}


def test_a_deleted_document_is_gone_and_comes_back_as_a_new_one(catalogue: Catalogue, clock: Clock) -> None:
    catalogue.put("item", 7, {"n": 1}, expires=9)
    assert catalogue.delete("item", 7)
    assert not catalogue.delete("item", 7)
    assert not catalogue.delete("item", "never")
    assert (catalogue.get("item", 7), ids(catalogue)) == (None, [])
    clock.time = 300
    assert catalogue.put("item", "7", {}) == Stored("7", {}, True, None, 300, False, change=3, created=True)


# ── patches ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_patch_changes_what_it_names(catalogue: Catalogue) -> None:
    catalogue.put("item", "x", {"a": 1, "b": {"c": 2, "d": 3}}, expires=9)
    after = catalogue.patch("item", "x", {"properties": {"a": None, "b": {"c": 5}, "e": [1]}, "available": False})
    assert (after.properties, after.available, after.expires) == ({"b": {"c": 5, "d": 3}, "e": [1]}, False, 9)
    assert (after.created, after.change) == (False, 2)
    after = catalogue.patch("item", "x", {"properties": None, "available": None, "expires": None})
    assert (after.properties, after.available, after.expires) == ({}, True, None)


def test_only_what_is_there_can_be_patched(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownItemError, match="the catalogue has no item 'x'"):
        catalogue.patch("item", "x", {"available": False})
    catalogue.put("item", "x", {})
    catalogue.delete("item", "x")
    with pytest.raises(UnknownItemError):
        catalogue.patch("item", "x", {"available": False})


@pytest.mark.parametrize(
    ("target", "change", "result"),
    [  # the cases of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_is_that_of_the_standard(target: Any, change: Any, result: Any) -> None:
    assert merged(target, change) == result


# ── many documents ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_many_are_kept_in_order_and_one_that_comes_twice_counts_as_new_once(catalogue: Catalogue) -> None:
    catalogue.put("item", "b", {})
    rows = [(id, {"n": n}, True, None) for n, id in enumerate(["a", "b", "a"])]
    stored = catalogue.put_many("item", rows)
    assert [(one.id, one.properties, one.created, one.change) for one in stored] == [
        ("a", {"n": 0}, True, 2), ("b", {"n": 1}, False, 3), ("a", {"n": 2}, False, 4),
    ]  # fmt: skip
    assert catalogue.put_many("item", []) == []


def test_one_wrong_row_of_many_is_told_and_the_others_are_kept(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP", 2)
    rows: list[module.Row] = [(id, {"n": float("nan") if id == "c" else 1}, True, None) for id in "abcdef"]
    outcomes = catalogue.put_many("item", rows, whole=False)
    assert [isinstance(one, DataError) for one in outcomes] == [False, False, True, False, False, False]
    assert [one.id for one in outcomes if isinstance(one, Stored)] == ["a", "b", "d", "e", "f"]
    assert ids(catalogue) == ["a", "b", "d", "e", "f"]


def test_one_wrong_row_of_a_whole_keeps_all_of_it_out(catalogue: Catalogue) -> None:
    rows: list[module.Row] = [("a", {}, True, None), ("b", {"n": float("inf")}, True, None)]
    with pytest.raises(DataError, match="'b'"):
        catalogue.put_many("item", rows)
    assert (ids(catalogue), catalogue.last) == ([], 0)


def test_pages_follow_one_another_in_the_order_of_the_ids_as_texts(catalogue: Catalogue) -> None:
    catalogue.put_many("item", [(id, {}, True, None) for id in ["b", 10, "a", 9, "é"]])
    catalogue.put("user", "c", {})
    assert ids(catalogue) == [10, 9, "a", "b", "é"]
    assert ids(catalogue, None, 2) == [10, 9]
    assert ids(catalogue, 9, 2) == ids(catalogue, "9", 2) == ["a", "b"]  # a URL sends a text
    assert ids(catalogue, "é") == []


NAMES = st.integers(0, 30)


@settings(max_examples=10, deadline=None)  # each change is a sync
@given(st.lists(st.tuples(st.booleans(), NAMES), max_size=15), st.integers(1, 4))
def test_what_is_there_during_a_whole_walk_is_met_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[bool, int]], limit: int
) -> None:
    with closing(opened(tmp_path_factory.mktemp("walk"))) as database:
        catalogue = Catalogue(database)
        catalogue.put_many("item", [(id, {}, True, None) for id in range(0, 30, 3)])
        met, always, coming = [], set(range(0, 30, 3)), iter(changes)
        while page := catalogue.page("item", met[-1] if met else None, limit):
            met += [one.id for one in page]
            for puts, id in [one for one in [next(coming, None)] if one is not None]:
                if puts:
                    catalogue.put("item", id, {})
                else:
                    catalogue.delete("item", id)
                    always.discard(id)
        assert len(met) == len(set(met))
        assert always <= set(met)


def test_changes_tell_everything_since_a_number_once_as_it_is_now(catalogue: Catalogue) -> None:
    for id in "abc":
        catalogue.put("item", id, {"n": 1})
    catalogue.put("user", "u", {})
    assert [one.id for one in catalogue.changes("item", 0)] == ["a", "b", "c"]
    seen = catalogue.last
    catalogue.patch("item", "b", {"properties": {"n": 2}})
    catalogue.delete("item", "a")
    catalogue.put("item", "b", {"n": 3})
    assert [(one.id, one.deleted, one.available, one.properties) for one in catalogue.changes("item", seen)] == [
        ("a", True, False, {}), ("b", False, True, {"n": 3}),
    ]  # fmt: skip
    assert catalogue.changes("user", seen) == []
    assert catalogue.changes("item", catalogue.last) == []


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "delete", "look"]), st.sampled_from("abc")), max_size=15))
def test_a_view_that_follows_the_changes_is_what_the_catalogue_is(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    kind: Kind = "item"
    with closing(opened(tmp_path_factory.mktemp("view"))) as database:
        catalogue, view, followed = Catalogue(database), {}, 0
        for n, (what, id) in enumerate([*steps, ("look", "")]):
            if what == "put":
                catalogue.put(kind, id, {"n": n})
            elif what == "delete":
                catalogue.delete(kind, id)
            else:
                for one in catalogue.changes(kind, followed):
                    followed = one.change
                    view[one.id] = None if one.deleted else one.properties
        there = {one.id: one.properties for one in catalogue.page(kind)}
        assert {id: said for id, said in view.items() if said is not None} == there


def nested(levels: int, one: Any) -> Any:
    for _ in range(levels):
        one = [one] if isinstance(one, list) else {"a": one}
    return one


@pytest.mark.parametrize(
    ("properties", "kept"),
    [
        (nested(15, {"a": 1}), True),
        (nested(16, {"a": 1}), False),
        ({"a": nested(14, [1])}, True),
        ({"a": nested(15, [1])}, False),
        ({f"n{n}": n for n in range(256)}, True),
        ({f"n{n}": n for n in range(257)}, False),
        ({"a": [{f"n{n}": n for n in range(257)}]}, False),
        ({"a": list(range(9_999))}, True),
        ({"a": list(range(10_000))}, False),
        ({"a": [[n] for n in range(5_000)]}, False),
        ({"a": "x" * 1_000_000}, True),
    ],
)
def test_a_document_that_would_be_thousands_of_columns_is_refused(
    catalogue: Catalogue, properties: Any, kept: bool
) -> None:
    if kept:
        catalogue.put("item", "x", properties)
    else:
        with pytest.raises(DataError, match="at most"):
            catalogue.put("item", "x", properties)


def test_patches_do_not_grow_a_document_beyond_what_may_be_put(catalogue: Catalogue) -> None:
    catalogue.put("item", "x", {f"a{n}": n for n in range(200)})
    with pytest.raises(DataError, match="256"):
        catalogue.patch("item", "x", {"properties": {f"b{n}": n for n in range(200)}})
