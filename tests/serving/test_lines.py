"""Files of JSON lines: any bytes are rows, each told by its place where it is none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import DataError
from bowerbird.data import EventType
from bowerbird.serving.intake import json_lines, put_rows, sensible
from bowerbird.store.catalogue import Row

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    "id",
    "properties",
    "available",
    "expires",
    "event_id",
    "event",
    "item_id",
    "user_id",
    "time",
    "weight",
    "context",
)
ROWS = st.lists(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=8), max_size=4)


class Nobody:
    """Keeps nothing."""

    def put_many(self, kind: str, rows: list[Row], *, whole: bool) -> list[DataError]:
        return [DataError("not kept")] * len(rows)


@given(st.binary(max_size=300) | ROWS.map(lambda rows: "\n".join(map(json.dumps, rows)).encode()))
def test_any_bytes_are_lines_and_every_line_has_its_place(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.jsonl"
    path.write_bytes(data)
    rows = list(json_lines(path))
    assert [number for number, _ in rows] == list(range(len(rows)))
    values = [row for _, row in rows]
    good, rejected = sensible(values, [EventType("view")], 1_700_000_000)
    assert len(good) + len(rejected) == len(rows)
    kept, wrong = put_rows(Nobody(), "item", values)
    assert not kept
    assert len(wrong) == len(rows)
    json.dumps([rejected, wrong], allow_nan=False).encode()  # what is told of them can be sent
