from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.features import (
    Bag,
    Categorical,
    Content,
    Context,
    Cross,
    Encoder,
    FeatureBatch,
    FeatureTable,
    History,
    Numeric,
    Pairs,
    Ragged,
    Vector,
    Windows,
    crossed,
    join,
)
from bowerbird.features.batches import last

USERS = pl.DataFrame({"user_id": ["ann", "bob"], "age": [20.0, 40.0]})
ITEMS = pl.DataFrame(
    {
        "item_id": [10, 20, 30],
        "tags": ["red|new", "red", None],
        "image": [[0.5, 1.0], [0.25, -1.0], None],
    }
)
REQUESTS = pl.DataFrame({"hour": [8, 9, None], "place": ["home", "work", "home"]})
PARTS = {"user": USERS, "item": ITEMS, "request": REQUESTS}
COLUMNS = {
    "user": (Categorical(name="user_id"), Numeric(name="age")),
    "item": (Categorical(name="item_id"), Bag(name="tags", separator="|"), Vector(name="image", size=2)),
    "request": (
        Numeric(name="hour"),
        Categorical(name="place"),
        Cross(columns=("user.user_id", "item.item_id"), buckets=101),
    ),
}
WIDTH = 3


def nobody(part: str) -> pl.DataFrame:
    return pl.concat([PARTS[part], PARTS[part].clear(1)])


def table_of(encoder: Encoder) -> FeatureTable:
    request = encoder.encode(REQUESTS.clear(1), "request")
    return FeatureTable(
        encoder.schema, encoder.encode(nobody("user"), "user"), encoder.encode(nobody("item"), "item"), request
    )


ENCODER = Encoder.fit(PARTS, COLUMNS).with_history("item.item_id", WIDTH)
TABLE = table_of(ENCODER)


def asking(users: list[int], requests: pl.DataFrame | None = None, past: list[list[int]] | None = None) -> Context:
    columns = None if requests is None else ENCODER.encode(requests, "request")
    return Context(torch.tensor(users), Ragged.of(past or [[] for _ in users]), columns=columns)


def same(left: FeatureBatch, right: FeatureBatch) -> bool:
    pairs = [(left.code, right.code), (left.value, right.value), (left.vector, right.vector)]
    return all(one is not None and other is not None and torch.equal(one, other) for one, other in pairs)


def test_user_item_request_and_history_meet_request_after_request() -> None:
    encoder = Encoder.fit(
        {"item": ITEMS, "user": USERS, "request": REQUESTS},
        {
            "user": (Categorical(name="user_id"),),
            "item": (Categorical(name="item_id"),),
            "request": (Categorical(name="place"),),
        },
    ).with_history("item.item_id", 2)
    columns = encoder.encode(REQUESTS[:2], "request")
    context = Context(torch.tensor([1, -1]), Ragged.of([[0, 1, 2], []]), columns=columns)
    batch = join(context, torch.tensor([[0, 2], [1, -1]]), table_of(encoder))
    # padding 0; user: unknown 1, empty 2, ann 3, bob 4; item: 5, 6, then 7, 8, 9; place: 10, 11, home 12, work 13
    assert batch.code.tolist() == [
        [4, 7, 12, 8, 9],
        [4, 9, 12, 8, 9],
        [2, 8, 13, 0, 0],
        [2, 6, 13, 0, 0],
    ]
    assert batch.value is not None
    assert batch.value.tolist() == [[1.0] * 5, [1.0] * 5, [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    assert batch.code.dtype == torch.int64
    assert batch.label is None
    assert len(batch) == 4


def test_columns_that_are_all_categories_need_no_value() -> None:
    encoder = Encoder.fit(
        {"user": USERS, "item": ITEMS, "request": REQUESTS},
        {"user": (Categorical(name="user_id"),), "item": (Categorical(name="item_id"),), "request": ()},
    )
    batch = join(asking([0]), torch.tensor([[1, 2]]), table_of(encoder))
    assert batch.value is None
    assert batch.code.tolist() == [[3, 8], [3, 9]]


def test_a_request_that_says_nothing_is_empty_in_every_column() -> None:
    told = join(asking([0], REQUESTS.clear(1)), torch.tensor([[1]]), TABLE)
    assert same(join(asking([0]), torch.tensor([[1]]), TABLE), told)


ASKED = st.tuples(
    st.integers(0, 1),
    st.integers(0, 2),
    st.one_of(st.none(), st.floats(-100, 100)),
    st.sampled_from(["home", "work", "moon", None]),
    st.lists(st.integers(0, 2), max_size=6),
)


def wide(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Return users, items, requests and pasts in one table."""
    users = USERS[[user for user, *_ in rows]]
    items = ITEMS[[item for _, item, *_ in rows]]
    requests = pl.DataFrame({"hour": [row[2] for row in rows], "place": [row[3] for row in rows]}, schema=HOURS)
    past = [[ITEMS["item_id"][item] for item in row[4]] for row in rows]
    return pl.concat([users, items, requests], how="horizontal").with_columns(
        past=pl.Series(past, dtype=pl.List(pl.Int64))
    )


HOURS = {"hour": pl.Float64, "place": pl.String}


WIDE = pl.concat(
    [
        nobody("user"),  # each user and item once, as in the parts
        ITEMS,
        REQUESTS,
        pl.DataFrame({"past": [[10] * WIDTH, [], []]}),
    ],
    how="horizontal",
)
WIDE_COLUMNS = (
    *COLUMNS["user"],
    *COLUMNS["item"],
    *COLUMNS["request"][:2],
    History(name="past", of="item_id", most=WIDTH),
    Cross(columns=("user_id", "item_id"), buckets=101),
)


@given(st.lists(ASKED, min_size=1, max_size=5))
def test_tables_that_meet_are_one_wide_table(rows: list[tuple[Any, ...]]) -> None:
    """What a server joins at the moment of asking is bit for bit what one table of the same columns is encoded to."""
    encoder = Encoder.fit({"": WIDE}, {"": WIDE_COLUMNS})
    one = encoder.encode(wide(rows))
    users, items, _, _, past = (list(column) for column in zip(*rows, strict=True))
    requests = wide(rows).select("hour", "place")
    batch = join(asking(users, requests, past), torch.tensor(items)[:, None], TABLE)
    assert torch.equal(batch.code, one.code.long())
    assert batch.value is not None
    assert torch.equal(batch.value, one.values)
    assert batch.vector is not None
    assert torch.equal(batch.vector, one.vector)
    assert torch.equal(crossed(batch.code, TABLE.schema), crossed(one.code.long(), encoder.schema))


@given(
    st.lists(
        st.tuples(
            st.integers(-1, 1), st.lists(st.integers(-1, 2), min_size=2, max_size=2), st.lists(st.integers(-1, 2))
        ),
        min_size=1,
    )
)
def test_joining_at_once_is_joining_one_by_one(requests: list[tuple[int, list[int], list[int]]]) -> None:
    users, candidates, past = (list(column) for column in zip(*requests, strict=True))
    together = join(asking(users, past=past), torch.tensor(candidates), TABLE)
    singly = [join(asking([user], past=[before]), torch.tensor([items]), TABLE) for user, items, before in requests]
    parts = [torch.cat([getattr(one, name) for one in singly]) for name in ("code", "value", "vector")]
    assert same(together, FeatureBatch(*parts))
    taken = asking(users, past=past).take(torch.tensor([0]))
    assert same(join(taken, torch.tensor(candidates)[:1], TABLE), singly[0])


def test_unknown_users_and_items_take_the_last_row() -> None:
    batch = join(asking([-1]), torch.tensor([[-1, 1]]), TABLE)
    schema = TABLE.schema
    assert batch.code[:, 0].tolist() == [schema.field("user.user_id").start + 1] * 2  # empty
    assert batch.code[0, schema.field("item.item_id").slot] == schema.field("item.item_id").start + 1


def test_an_item_beyond_the_table_is_an_error_not_another_item() -> None:
    with pytest.raises(IndexError):
        join(asking([0]), torch.tensor([[4]]), TABLE)


def test_a_table_goes_to_a_device_whole() -> None:
    counts = torch.tensor([True, False])
    moved = FeatureTable(TABLE.schema, TABLE.user, TABLE.item, TABLE.request, counts).to("cpu")
    assert moved.counts is not None
    assert moved.counts.tolist() == [True, False]
    assert same(join(asking([0]), torch.tensor([[1]]), moved), join(asking([0]), torch.tensor([[1]]), TABLE))


def test_the_last_items_stand_oldest_first() -> None:
    assert last(Ragged.of([[1, 2, 3], [], [4]]), 2).tolist() == [[2, 3], [-1, -1], [4, -1]]


def test_only_what_was_liked_and_counts_is_remembered() -> None:
    past = Ragged(
        torch.tensor([0, 4]),
        torch.tensor([5, 6, 7, 8]),
        event=torch.tensor([0, 1, 0, 0], dtype=torch.uint8),
        weight=torch.tensor([1.0, 1.0, -1.0, 0.5]),
    )
    assert last(past, 4).tolist() == [[5, 6, 8, -1]]
    assert last(past, 4, torch.tensor([True, False])).tolist() == [[5, 8, -1, -1]]


@given(st.lists(st.lists(st.integers(0, 9)), max_size=5), st.integers(1, 4))
def test_the_last_items_are_those_of_a_slice(lists: list[list[int]], most: int) -> None:
    expected = [items[-most:] + [-1] * (most - len(items)) for items in lists]
    assert last(Ragged.of(lists), most).tolist() == expected


def test_a_batch_is_as_long_as_its_rows() -> None:
    three, none = torch.arange(3), torch.zeros(0, dtype=torch.int64)
    assert len(Pairs(three, three, torch.ones(3), none)) == 3
    assert len(Windows(three[:2], torch.tensor([0, 1, 3]), three, three, torch.ones(2), none)) == 2
    assert len(FeatureBatch(torch.zeros(3, 5, dtype=torch.int64))) == 3
    assert len(Content(three, {"text": torch.zeros(3, 5)}, torch.ones(3))) == 3
