"""Files whose checksums hold and whose contents do not: each is refused by its path, before it takes memory."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from _hostile_bundles import claiming
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
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_holds_no_table_or_too_much_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match=r"^some/file (holds no table|tells of )"):
        contents.table(BOMBS[name](), PATH)


def test_many_rows_of_many_bytes_are_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "LEAST", 0)
    table = pl.DataFrame({"user": pl.Series([row * 7919 % 10_007 for row in range(20_000)], dtype=pl.Int32)})
    assert contents.table(parquet(table), PATH).equals(table)
    with pytest.raises(BundleError, match="cannot hold"):
        contents.table(arrow(nothing(2_000_000)), PATH)
