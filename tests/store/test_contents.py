"""Files whose checksums hold and whose contents do not: each is refused by its path, before it takes memory."""

import io
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from _hostile_bundles import BROKEN_PAGE, claiming
from bowerbird.core import BundleError
from bowerbird.store import contents

PATH = Path("some") / "file"
TENSOR = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def weights(header: object, body: bytes = bytes(8), size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + body


def parquet(table: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    table.write_parquet(out)
    return out.getvalue()


def arrow(table: pa.Table, times: int = 1) -> bytes:
    out = io.BytesIO()
    with pq.ParquetWriter(out, table.schema, compression="zstd") as writer:
        for _ in range(times):
            writer.write_table(table)
    return out.getvalue()


def test_what_is_right_is_read() -> None:
    assert contents.arrays(weights(TENSOR), PATH)["w"].tolist() == [0.0, 0.0]
    table = pl.DataFrame({"a": ["x", None], "tags": [["y"], []]})
    assert contents.table(parquet(table), PATH).equals(table)
    assert contents.table(parquet(table.clear()), PATH).height == 0


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x00" * 7, weights(TENSOR, size=2**40), weights(TENSOR, size=2**64 - 1), weights(TENSOR, size=10**8),
        weights({str(place): TENSOR["w"] | {"shape": [0], "data_offsets": [0, 0]} for place in range(30_000)}),
        weights(b"[" * 100_000), weights({"w": TENSOR["w"] | {"shape": [10**9, 10**9]}}),
        weights({"w": TENSOR["w"] | {"shape": [2**62, 4]}}), weights({"w": TENSOR["w"] | {"dtype": "X"}}),
        weights({"w": TENSOR["w"] | {"data_offsets": [0, 2**62]}}), weights({"w": TENSOR["w"] | {"shape": [-2]}}),
        weights(TENSOR, b""), b"\x80\x04\x95", b"PK\x03\x04" + bytes(60),
    ],
    ids=range(15),
)  # fmt: skip
def test_what_holds_no_weights_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"^some/file"):
        contents.arrays(data, PATH)


def nothing(n: int) -> pa.Table:
    return pa.table(dict.fromkeys(("a", "b", "c", "d"), pa.nulls(n, pa.int64())))


def one_list(n: int) -> pa.Table:
    many = pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), pa.nulls(n, pa.int8()))
    return pa.table({f"tags{turn}": many for turn in range(8)})


BOMBS: dict[str, Callable[[], bytes]] = {
    "rows of nothing": lambda: arrow(nothing(2_000_000), 10),
    "a list of nothing": lambda: arrow(one_list(10_000_000)),
    "2^31 rows that are claimed": lambda: claiming(parquet(pl.DataFrame({"a": range(60)})), 60, 2**31),
    "10^10 rows that are claimed": lambda: claiming(parquet(pl.DataFrame({"a": range(60)})), 60, 10**10),
    "a cut footer": lambda: parquet(pl.DataFrame({"a": range(60)}))[:-9],
    "marks alone": lambda: b"PAR1" + bytes(100) + b"PAR1",
    "a text": lambda: b"user_id\nu1\n",
    "a pickle": lambda: b"\x80\x04\x95",
    "nothing": lambda: b"",
    "a page of a negative number of values": lambda: BROKEN_PAGE,  # Polars ended the process
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_holds_no_table_or_too_much_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match=r"^some/file (holds no table|tells of )"):
        contents.table(BOMBS[name](), PATH)


def test_tables_of_every_type_come_back() -> None:
    moment = datetime(2026, 11, 29, 12, 30, 15, 250, UTC)
    values = {
        "text": "é", "byte": b"\xff", "whole": 2**63 - 1, "real": math.inf, "truth": True, "day": moment.date(),
        "moment": moment, "clock": moment.time(), "span": timedelta(microseconds=1), "exact": Decimal("1.25"),
        "nothing": None, "list": ["a", None], "struct": {"x": 1, "y": ["a"]},
    }  # fmt: skip
    table = pl.DataFrame({name: [value, None] for name, value in values.items()}).with_columns(
        category=pl.col("text").cast(pl.Categorical), enum=pl.col("text").cast(pl.Enum(["é"])),
        unsigned=pl.col("whole").cast(pl.UInt64), short=pl.col("real").cast(pl.Float32),
        local=pl.col("moment").dt.convert_time_zone("Europe/Berlin"),
        array=pl.Series([[1, 2], None], dtype=pl.Array(pl.Int16, 2)),
    )  # fmt: skip
    for part in (table, table.clear()):
        found = contents.table(parquet(part), PATH)
        assert found.schema == part.schema
        assert found.equals(part)


def test_whole_numbers_of_128_bits_are_written_shorter() -> None:
    table = pl.DataFrame({"a": [1, None], "b": [2**100, None]}, schema={"a": pl.Int128, "b": pl.Int128})
    found = contents.table(parquet(contents.plain(table)), PATH)
    assert found.schema == {"a": pl.Int64, "b": pl.Float64}
    assert found.rows() == [(1, float(2**100)), (None, None)]
    with pytest.raises(BundleError, match="holds no table"):
        contents.table(parquet(table), PATH)


def test_many_rows_of_many_bytes_are_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "LEAST", 0)
    table = pl.DataFrame({"user": pl.Series([row * 7919 % 10_007 for row in range(20_000)], dtype=pl.Int32)})
    assert contents.table(parquet(table), PATH).equals(table)
    with pytest.raises(BundleError, match="cannot hold"):
        contents.table(arrow(nothing(2_000_000)), PATH)
