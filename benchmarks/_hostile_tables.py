"""Tables as they come from elsewhere, or from somebody who means harm: by name, by mutation, and as bombs."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from _hostile_bundles import BROKEN_PAGE, claiming, flipped, lists_bomb, rows_bomb

T = 1_700_000_000
HEAD = "user,item,time\n"


@dataclass(frozen=True)
class Case:
    """A table, what is done with it, and what must come of it."""

    name: str  # of the file
    content: bytes | Callable[[], bytes]
    job: str = "read"
    values: dict[str, Any] = field(default_factory=dict)
    says: str = ""  # what a refusal must say; it must be refused then
    rows: int | None = None  # how many rows it must have; it must be read then

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self.content if isinstance(self.content, bytes) else self.content()


def _lines(*lines: str, head: str = HEAD) -> bytes:
    return (head + "".join(f"{line}\n" for line in lines)).encode()


def _many(n: int, user: Callable[[int], Any], item: Callable[[int], Any], time: Callable[[int], Any] = int) -> bytes:
    return _lines(*(f"{user(row)},{item(row)},{time(T + row)}" for row in range(n)))


def parquet(table: pl.DataFrame) -> bytes:
    """Return a table as Parquet."""
    out = io.BytesIO()
    table.write_parquet(out)
    return out.getvalue()


def zipped(**files: bytes) -> bytes:
    """Return a zip of files; two underscores in a name stand for a dot."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name.replace("__", "."), data)
    return out.getvalue()


# ── data sets ─────────────────────────────────────────────────────────────────────────────────────────────────────

USERS = (
    "../../etc", "%2e%2e", "\u202eabc", "😀", "\u00e9", "e\u0301", "{{7*7}}", "<script>", "__proto__", "=1+1", "-0",
)  # fmt: skip
ITEMS = ("i1", "i2", "'; drop table items; --", "NaN", "null", "007", "1e3")
MODELS = {"models": ["popularity", "itemknn"]}
SHAPES = {  # of data sets: read, cut, and learnt from
    "one user": _many(30, lambda row: "u1", lambda row: f"i{row}"),
    "one item": _many(30, lambda row: f"u{row}", lambda row: "i1"),
    "one row": _lines(f"u1,i1,{T}"),
    "two rows": _lines(f"u1,i1,{T}", f"u2,i2,{T}"),
    "the same row": _lines(*[f"u1,i1,{T}"] * 50),
    "pairs repeated": _many(100, lambda row: f"u{row % 5}", lambda row: f"i{row % 5}"),
    "no times": b"user,item\n" + b"".join(b"u%d,i%d\n" % (row % 9, row % 7) for row in range(60)),
    "future times": _many(60, lambda row: row % 9, lambda row: row % 7, lambda time: time + 10**10),
    "times at the edge": _lines("u1,i1,0", f"u2,i2,{2**63 - 1}", "u1,i2,1", "u2,i1,5"),
    "times beyond": _lines("u1,i1,0", f"u2,i2,{2**63}"),
    "times of 1e400": _lines("u1,i1,1e400", "u2,i2,1"),
    "one time": _many(60, lambda row: row % 9, lambda row: row % 7, lambda time: T),
    "one user has 90 %": _many(200, lambda row: "big" if row % 10 else f"u{row}", lambda row: f"i{row % 40}"),
    "no overlap": _many(80, lambda row: f"u{row}", lambda row: f"i{row}"),
    "unsorted": _many(80, lambda row: row % 9, lambda row: row % 7, lambda time: T + (time * 7919) % 1000),
    "CRLF": _many(60, lambda row: row % 9, lambda row: row % 7).replace(b"\n", b"\r\n"),
    "CR alone": _many(60, lambda row: row % 9, lambda row: row % 7).replace(b"\n", b"\r"),
    "quoted newlines": _many(60, lambda row: f'"u\n{row % 9}"', lambda row: f'"i,{row % 7}"'),
    "quotes within": _many(60, lambda row: f'"u""{row % 9}"', lambda row: row % 7),
    "two separators": b"user;item,time\n" + b"".join(b"u%d;i%d,%d\n" % (row % 9, row % 7, T) for row in range(60)),
    "latin-1": _many(60, lambda row: f"é{row % 9}", lambda row: row % 7).decode().encode("latin-1"),
    "UTF-16": _many(60, lambda row: row % 9, lambda row: row % 7).decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + _many(60, lambda row: row % 9, lambda row: row % 7),
    "no header": _many(60, lambda row: row % 9, lambda row: row % 7)[len(HEAD) :],
    "extra columns": b"user,item,time,a,b,c\n" + b"".join(
        b"%d,%d,%d,x,,\n" % (row % 9, row % 7, T + row) for row in range(60)
    ),
    "the same column twice": b"user,user,item,time\n" + b"".join(
        b"%d,%d,%d,%d\n" % (row % 9, row, row % 7, T + row) for row in range(60)
    ),
    "columns without a name": b"user,item,,\n" + b"".join(b"%d,%d,1,2\n" % (row % 9, row % 7) for row in range(60)),
    "weights of zero": b"user,item,weight\n" + b"".join(b"%d,%d,0\n" % (row % 9, row % 7) for row in range(60)),
    "weights beyond float32": b"user,item,weight\n" + b"0,1,1e300\n1,0,1e300\n2,1,1e300\n",
    "many kinds of event": b"user,item,event\n" + b"".join(b"%d,%d,e%d\n" % (row % 9, row, row) for row in range(300)),
    "odd ids": "".join(["user,item\n", *(f"{user},{item}\n" for user in USERS for item in ITEMS)]).encode(),
}  # fmt: skip


def _of_rows(**columns: list[Any]) -> bytes:
    return parquet(pl.DataFrame(columns, strict=False))


def _labelled(column: list[Any]) -> bytes:
    return _of_rows(label=[row % 2 for row in range(len(column))], x=column, kind=["a", "b"] * (len(column) // 2))


NUMBERS = {  # in features: fitted on the first, asked about the second
    "NaN": (_labelled([float("nan"), 1.0] * 30), _labelled([float("nan")] * 4)),
    "infinite": (_labelled([float("inf"), -float("inf"), 1.0, 2.0] * 15), _labelled([float("inf")] * 4)),
    "1e38": (_labelled([1e38, -1e38, 3.4e38, 0.0] * 15), _labelled([3e38] * 4)),
    "1e308": (_labelled([1e308, -1e308, 1.7e308, 0.0] * 15), _labelled([1.7e308] * 4)),
    "tiny": (_labelled([5e-324, 0.0, -5e-324, 1e-300] * 15), _labelled([5e-324] * 4)),
    "negative prices": (_labelled([-1.0, -2.0] * 30), _labelled([-1e9] * 4)),
    "constant": (_labelled([7.0] * 60), _labelled([8.0] * 4)),
    "all missing": (_labelled([None] * 60), _labelled([None] * 4)),
    "one value": (_labelled([None] * 59 + [1.0]), _labelled([1e30] * 4)),
    "whole numbers at the edge": (_labelled([2**63 - 1, -(2**63)] * 30), _labelled([2**63 - 1] * 4)),
    "unseen categories": (_labelled(["a", "b"] * 30), _labelled(["z", ""] * 2)),
    "another type later": (_labelled([1.0, 2.0] * 30), _labelled(["one", "two"] * 2)),
    "texts that were numbers": (_labelled(["1", "2"] * 30), _labelled([1, 2] * 2)),
    "truth values": (_labelled([True, None] * 30), _labelled([1, 0] * 2)),
    "lists": (_labelled([["a"], []] * 30), _labelled([["z"] * 1000, None] * 2)),
    "a list of 10^6": (_labelled([["a", "b"], ["c"]] * 30), _labelled([["a"] * 10**6, ["b"]])),
    "long texts": (_labelled(["x" * 10_000, "y"] * 30), _labelled(["z" * 10**6, "y"])),
    "labels that are none": (
        _of_rows(label=[0, 1, 2, 5] * 15, x=[1.0] * 60), _of_rows(label=[0] * 4, x=[1.0] * 4),
    ),
    "labels that are infinite": (
        _of_rows(label=[0.0, 1.0, float("inf")] * 20, x=[1.0] * 60), _of_rows(label=[0] * 4, x=[1.0] * 4),
    ),
    "one label": (_of_rows(label=[1] * 60, x=[float(row) for row in range(60)]), _of_rows(label=[0] * 4, x=[1.0] * 4)),
}  # fmt: skip


# ── bombs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _packed_zeros(n: int, start: bytes = HEAD.encode()) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6, mtime=0) as file:
        file.write(start)
        block = b"u1,i1,1700000000\n" * (1 << 16)
        for _ in range(n // len(block)):
            file.write(block)
    return out.getvalue()


def _one_line(n: int) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6, mtime=0) as file:
        file.write(HEAD.encode() + b"u1,")
        for _ in range(n >> 20):
            file.write(b"i" * (1 << 20))
        file.write(b",1700000000\n")
    return out.getvalue()


def _zstd(start: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(start)
        for _ in range(1000):
            file.write(b"u1,i1,1700000000\n" * (1 << 16))
    found: bytes = sink.getvalue().to_pybytes()
    return found


def _zip_bomb(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as file:
        file.write(HEAD.encode())
        for _ in range(1500):
            file.write(b"u1,i1,1700000000\n" * (1 << 16))
    return out.getvalue()


def _deep(n: int) -> bytes:
    return b'{"id": "a", "properties": ' + b"[" * n + b"]" * n + b"}\n"


BOMBS = {
    "gzip of 2 GB": Case("a.csv.gz", lambda: _packed_zeros(2 << 30)),
    "gzip of one line of 1 GB": Case("a.csv.gz", lambda: _one_line(1 << 30)),
    "zstd of 1 GB": Case("a.csv.zst", lambda: _zstd(HEAD.encode())),
    "zip of 1.6 GB": Case("a.zip", lambda: _zip_bomb("ratings.csv")),
    "zip of 1.6 GB, loaded": Case("a.zip", lambda: _zip_bomb("u.data"), "loaded"),
    "zip of 3,000 tables": Case(
        "a.zip", lambda: zipped(ratings__csv=b"user,item\n1,2\n", **{f"t{n}__csv": HEAD.encode() for n in range(3000)})
    ),
    "a line of 64 MB": Case("a.csv", lambda: _lines("u1," + "i" * (64 << 20) + ",1")),
    "a header of 64 MB": Case("a.csv", lambda: b"user,item," + b"x" * (64 << 20) + b"\n1,2,3\n"),
    "300,000 columns": Case(
        "a.csv", lambda: b"user,item" + b"".join(b",c%d" % n for n in range(300_000)) + b"\n1,2" + b"," * 300_000
    ),
    "a quote that never ends": Case("a.csv", lambda: _lines('u1,"i' + "x\n" * 2_000_000)),
    "quotes": Case("a.csv", lambda: _lines('"' * 4_000_001)),
    "separators": Case("a.csv", lambda: _lines("," * 4_000_000)),
    "blank lines": Case("a.csv", lambda: _lines("u1,i1,1") + b"\n" * 300_000),
    "Parquet of 400 million rows": Case("a.parquet", rows_bomb),
    "Parquet of a list of 100 million": Case("a.parquet", lists_bomb),
    "Parquet of a list of 100 million, as rows": Case("a.parquet", lists_bomb, "rows", {"labels": "item_id"}),
    "Parquet that claims": Case("a.parquet", lambda: claiming(parquet(_events(60)), 60, 10**10)),
    "Parquet that claims less": Case("a.parquet", lambda: claiming(parquet(_events(60)), 60, 2**31 - 5)),
    "Parquet with a broken page": Case("a.parquet", lambda: BROKEN_PAGE),
    "a line of 10 million items": Case("a.txt", lambda: b"u1" + b" 7" * 10_000_000 + b"\n"),
    "libsvm of one long line": Case("a.libsvm", lambda: b"1" + b" 1:1" * 3_000_000 + b"\n", "rows"),
    "libsvm of wide indices": Case("a.libsvm", lambda: b"1 9223372036854775807:1\n1 99999999999999999999:1\n", "rows"),
    "JSON a million deep": Case("a.jsonl", lambda: _deep(1_000_000), "imported", {"what": "items"}),
    "JSON of many digits": Case(
        "a.jsonl", lambda: b'{"id": ' + b"9" * 10_000_000 + b"}\n", "imported", {"what": "items"}
    ),
    "a JSON line of 64 MB": Case(
        "a.jsonl", lambda: b'{"id": "' + b"x" * (64 << 20) + b'"}\n', "imported", {"what": "items"}
    ),
    "a million keys": Case(
        "a.jsonl", lambda: json.dumps({f"k{n}": n for n in range(10**6)}).encode(), "imported", {"what": "items"}
    ),
}  # fmt: skip


# ── mutations ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _events(n: int = 60) -> pl.DataFrame:
    row = np.arange(n)
    return pl.DataFrame(
        {
            "user": [f"u{one % 9}" for one in row],
            "item": row * 7 % 11,
            "time": T + row,
            "weight": 0.5 + row % 3,
            "event": ["view", "buy"] * (n // 2),
            "tags": [["a", "b"], []] * (n // 2),
        }
    )


def _bases() -> dict[str, tuple[bytes, tuple[str, ...]]]:
    """Return good files, and what may be done with each."""
    events = _events()
    plain = events.drop("tags")
    csv = plain.write_csv().encode()
    tsv = plain.write_csv(separator="\t").encode()
    quoted = plain.write_csv(quote_style="always").encode()
    inter = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + b"".join(
        b"u%d\ti%d\t%d\t%d\n" % (row % 9, row % 7, row % 5, T + row) for row in range(60)
    )
    films = b"userId,movieId,rating,timestamp\n" + b"".join(
        b"%d,%d,%d,%d\n" % (row % 9, row % 7, row % 5, T + row) for row in range(60)
    )
    titles = b"movieId,title,genres\n" + b"".join(b'%d,"Film, %d",Drama|War\n' % (row, row) for row in range(7))
    lines = b"".join(
        json.dumps({"id": f"i{row}", "properties": {"price": row, "tags": ["é"]}}).encode() + b"\n" for row in range(30)
    )
    import pyarrow as pa

    packed = pa.compress(csv, codec="zstd", asbytes=True)
    tables = ("read", "checked", "converted", "rows")
    return {
        "a.csv": (csv, (*tables, "imported")),
        "b.csv": (quoted, tables),
        "a.tsv": (tsv, tables),
        "a.csv.gz": (gzip.compress(csv, mtime=0), tables),
        "a.csv.zst": (packed, tables),
        "a.parquet": (parquet(events), tables),
        "a.inter": (inter, tables),
        "a.txt": (b"".join(b"%d %d %d\n" % (row, row + 1, row * 2) for row in range(40)), ("read", "checked")),
        "ratings.dat": (
            b"".join(b"%d::%d::5::%d\n" % (row % 9, row % 7, T + row) for row in range(60)),
            ("read", "checked"),
        ),
        "a.libsvm": (b"".join(b"%d 1:%d 2:0.5 # x\n" % (row % 2, row) for row in range(30)), ("rows",)),
        "a.libffm": (b"".join(b"%d 0:%d:1 1:7:1\n" % (row % 2, row) for row in range(30)), ("rows",)),
        "a.zip": (zipped(ratings__csv=films, movies__csv=titles), ("read", "loaded", "checked")),
        "a.jsonl": (lines, ("imported",)),
        "items.csv": (
            b"item,title,price,available\n" + b"".join(b"i%d,T,%d,true\n" % (n, n) for n in range(30)),
            ("imported",),
        ),
    }


BASES = _bases()
TOKENS = (
    b"\0", b'"', b'""', b"\r", b"\n", b"\r\n", b",", b"\t", b";", b"::", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\xe9",
    b"9" * 400, b"-", b"1e400", b"NaN", b"inf", b"-inf", b"null", b"\x1f", b" ", b"{", b"[", b"}", b"=1+1", b"#", b":",
    b"2026-02-31", b"2026-11-24T08:00:00Z", b"9223372036854775808", b"-9223372036854775809", b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80", b"true", b"%s%n", b"../", b"\x1a", b"\\", b"'", b"PAR1", b"PK\x03\x04", b"user", b"item", b"label",
)  # fmt: skip


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes with a few changes of any kind."""
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(data) + 1))
        size = int(rng.integers(1, 40))
        what = int(rng.integers(0, 7))
        if what == 0:
            data = flipped(data, rng, int(rng.integers(1, 5)))
        elif what == 1:
            data = data[:at]
        elif what == 2:
            data = data[:at] + data[at + size :]
        elif what == 3:
            data = data[:at] + data[at : at + size] * int(rng.integers(2, 6)) + data[at + size :]
        elif what == 4:
            data = data[:at] + rng.bytes(size) + data[at:]
        else:
            data = data[:at] + TOKENS[int(rng.integers(len(TOKENS)))] * int(rng.integers(1, 4)) + data[at:]
    return data
