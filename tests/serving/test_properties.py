"""Properties: a column keeps its type, whatever documents say, and a server goes on whatever they say."""

import math
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shop import NOW, Start, client_of, ids

import bowerbird as bb
from bowerbird.serving.properties import column_of

MOMENT = datetime(2024, 1, 2, 3)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([10**400, "7", "2.5", 2**63, 10**30, -(10**20)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)
TYPES = [
    None, pl.Int64(), pl.Int8(), pl.UInt64(), pl.Float32(), pl.String(), pl.Boolean(), pl.Date(), pl.Datetime("ms"),
    pl.Datetime("us", "Asia/Tokyo"), pl.List(pl.String()), pl.List(pl.Int64()), pl.Array(pl.Float64(), 2),
    pl.Categorical(), pl.Time(), pl.Struct({"a": pl.Int64()}), pl.Null(),
]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "old", "expected"),
    [
        ([1, 2.5, "3", "x", True, None, [4]], pl.Int64(), [1, 2.5, 3, None, None, None, None]),
        ([1, -(2**62)], pl.Float64(), [1, -(2**62)]),
        ([2**70, 10**400], pl.Int64(), [float(2**70), None]),
        (["a", 1, 2.5, True, ["b", 7]], pl.String(), ["a", "1", "2.5", "True", "b|7"]),
        ([True, 1, "true", False], pl.Boolean(), [True, None, None, False]),
        ([1_704_164_400, "2024-01-02T03:00:00", "2024-01-02T12:00:00+09:00", "soon", True, 10**30],
         pl.Datetime("ms"), [MOMENT, MOMENT, MOMENT, None, None, None]),
        ([1_704_164_400], pl.Datetime("us", "UTC"), [MOMENT.replace(tzinfo=UTC)]),
        ([1_704_164_400, "2024-01-02"], pl.Date(), [date(2024, 1, 2)] * 2),
        ([["a", 1], "b", None, []], pl.List(pl.String()), [["a", "1"], ["b"], None, []]),
        ([[1, "x"], 2], pl.List(pl.Int64()), [[1, None], [2]]),
        ([1, 2, "x", "3", 4], None, [1, 2, None, 3, 4]),
        (["a", 1, "b"], None, ["a", "1", "b"]),
        ([["a"], "b", ["c", 2]], None, [["a"], ["b"], ["c", "2"]]),
        ([[1], 2, "x"], None, [[1], [2], [None]]),
        ([{"w": 1}, 3, {"w": 2, "h": 3}], None, [{"w": 1, "h": None}, None, {"w": 2, "h": 3}]),
        ([{"w": 10**30}, {"w": [2**63, 1]}, {"w": 10**400}], None, [None, None, None]),
        ([{"w": [10**30]}, {"w": [1, 2.5]}], None, [{"w": [1e30]}, {"w": [1.0, 2.5]}]),
        ([None, None], None, [None, None]),
    ],
)  # fmt: skip
def test_values_are_of_the_columns_type_or_empty(said: list[Any], old: pl.DataType | None, expected: list[Any]) -> None:
    assert column_of(said, "x", old).to_list() == expected


@pytest.mark.parametrize(
    "of",
    [lambda n: {f"n{n}": 1}, lambda n: [{f"n{n}": 1}], lambda n: {"a": {f"n{n}": 1}}, lambda n: {"a": [{f"n{n}": 1}]}],
)
def test_objects_that_share_no_names_are_no_column(of: Any) -> None:
    few, many = column_of([of(n) for n in range(200)], "x", None), column_of([of(n) for n in range(300)], "x", None)
    assert few.null_count() == 0
    assert set(map(str, many.to_list())) <= {"None", "[None]"}


@settings(max_examples=300, deadline=None)
@example([[{"a\0": 1}]], None)
@given(st.lists(JSON, min_size=1, max_size=5), st.sampled_from(TYPES))
def test_whatever_is_said_makes_a_column(said: list[Any], old: pl.DataType | None) -> None:
    column = column_of(said, "x", old)
    assert len(column) == len(said)
    assert column.dtype != pl.Object
    if old is not None and old.is_temporal() and old != pl.Time:
        assert column.dtype == old
    if old is not None and old.is_numeric():
        assert column.dtype in (pl.Int64, pl.Float64)
    if old is None:
        numbers = [type(one) in (int, float) for one in said if one is not None]
        if numbers and all(numbers):
            assert all(one is None or math.isnan(one) or isinstance(one, int | float) for one in column.to_list())


ODD = ["soon", [NOW], {"at": NOW}, True, 10**400, "", None, {"at": 10**30}, {"a": [1, 10**30]}, [{"a": {"b": 2**64}}]]
ODD += [[{"a\0": 1}]]  # a name that ends Arrow


@pytest.mark.parametrize(
    "moments", [[NOW - 9, NOW - 8, NOW - 7], [datetime(2023, 1, 2)] * 3, None], ids=["numbers", "moments", "none"]
)
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:9])
def test_no_document_stops_the_catalogue_or_the_next_start(odd: Any, moments: list[Any] | None, start: Start) -> None:
    frame = pl.DataFrame({"user_id": ["a", "a", "b", "b"], "item_id": ["x", "y", "x", "z"]})
    items = pl.DataFrame({"item_id": ["x", "y", "z"], "brand": ["one", "two", None]})
    if moments is not None:
        items = items.with_columns(published_at=pl.Series(moments))
    rec = bb.fit(bb.read(frame, items=items), "itemknn")

    def put(client: TestClient, name: str, at: Any) -> None:
        assert client.put(f"/v1/items/{name}", json={"properties": {"published_at": at, "brand": at}}).is_success
        client.app.state.engine.tend()  # type: ignore[attr-defined]

    with client_of(start(rec)) as client:
        if odd == 10**400:
            document = '{"properties": {"published_at": 1' + "0" * 400 + "}}"
            client.put("/v1/items/odd", content=document, headers={"content-type": "application/json"})
            client.app.state.engine.tend()  # type: ignore[attr-defined]
        else:
            put(client, "odd", odd)
        put(client, "new", NOW)
        assert ids(client.get("/v1/lists/latest", params={"k": 2}).json())[0] in ("new", "odd")
        assert client.get("/v1/lists/latest", params={"where": f"item.published_at >= {NOW}"}).json()["items"] != []
        assert client.post("/v1/recommendations", json={"scenario": "news"}).status_code == 200
    with client_of(start(rec)) as client:
        assert client.post("/v1/recommendations", json={"scenario": "goods"}).status_code == 200
