"""Spoilt weights, tables and manifests under right checksums; further `KINDS` of `_hostile_bundles`."""

import io
import json
from typing import Any

import numpy as np
import polars as pl

from _hostile_bundles import JUNK, MANIFEST, WEIGHTS, Target, claiming, flipped, kind

# ── weights ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _header(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _with_header(at: Target, header: Any, body: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    at.put(at.folder / WEIGHTS, len(text).to_bytes(8, "little") + text + body)


def _one_tensor(at: Target, header: dict[str, Any]) -> str:
    return str(at.choose(*(name for name in header if name != "__metadata__")))


@kind
def weights_flipped(at: Target) -> str:
    path = at.folder / WEIGHTS
    at.put(path, flipped(path.read_bytes(), at.rng, int(at.rng.integers(1, 65))))
    return "anywhere"


@kind
def header_flipped(at: Target) -> str:
    data = (at.folder / WEIGHTS).read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    at.put(at.folder / WEIGHTS, flipped(data[:size], at.rng, int(at.rng.integers(1, 4))) + data[size:])
    return "header"


@kind
def header_huge(at: Target) -> str:
    data, size = (at.folder / WEIGHTS).read_bytes(), int(at.choose(2**40, 2**63, 2**64 - 1, 100_000_000, 10**8 + 1))
    at.put(at.folder / WEIGHTS, size.to_bytes(8, "little") + data[8:])
    return f"{size:,}"


@kind
def header_crowded(at: Target) -> str:
    """A million tensors without a number."""
    n = int(at.choose(20_000, 1_000_000))

    def make() -> bytes:
        one = '"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
        return ("{" + ",".join(one % place for place in range(n)) + "}").encode()

    _with_header(at, at.bombs.get(f"crowded {n}", make), b"")
    return f"{n:,} tensors"


@kind
def header_deep(at: Target) -> str:
    depth = int(at.choose(100, 10_000, 1_000_000))
    _with_header(at, b'{"a":' + b"[" * depth + b"]" * depth + b"}", b"")
    return f"{depth:,} deep"


@kind
def shape_changed(at: Target) -> str:
    header, body = _header((at.folder / WEIGHTS).read_bytes())
    name = _one_tensor(at, header)
    shape = header[name]["shape"]
    n = int(np.prod(shape))
    header[name]["shape"] = at.choose(
        shape[::-1], [n], [*shape, 1], [1, *shape], [2**62, 4], [10**9, 10**9], [-1], [0], [], [1.5], ["3"],
        [n // 2, 2], [2**64], None,
    )  # fmt: skip
    _with_header(at, header, body)
    return f"{name} {shape} to {header[name]['shape']}"


@kind
def type_changed(at: Target) -> str:
    header, body = _header((at.folder / WEIGHTS).read_bytes())
    name = _one_tensor(at, header)
    shape = header[name]["shape"]
    new = str(at.choose("I32", "F32", "U32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "X", "C64"))
    old = header[name]["dtype"]
    header[name]["dtype"] = new
    if new in ("F64", "I64", "C64") and shape and shape[-1] % 2 == 0:
        header[name]["shape"] = [*shape[:-1], shape[-1] // 2]
    elif new in ("F16", "BF16") and shape:
        header[name]["shape"] = [*shape[:-1], shape[-1] * 2]
    _with_header(at, header, body)
    return f"{name} {old} to {new}"


@kind
def offsets_changed(at: Target) -> str:
    header, body = _header((at.folder / WEIGHTS).read_bytes())
    name = _one_tensor(at, header)
    header[name]["data_offsets"] = at.choose([0, 2**62], [-4, 0], [8, 4], [0, len(body)], [2**64, 2**64], [0], "x")
    _with_header(at, header, body)
    return f"{name} {header[name]['data_offsets']}"


@kind
def not_finite(at: Target) -> str:
    tensors = at.tensors()
    name = at.choose(*(key for key, one in tensors.items() if one.dtype.kind == "f" and one.size))
    value = at.choose(np.nan, np.inf, -np.inf)
    one = tensors[name].copy()
    one.reshape(-1)[int(at.rng.integers(one.size)) if at.rng.random() < 0.7 else slice(None)] = value
    at.put_tensors(tensors | {name: one})
    return f"{name} {value}"


@kind
def extreme(at: Target) -> str:
    tensors = at.tensors()
    name = at.choose(*(key for key, one in tensors.items() if one.dtype.kind == "f" and one.size))
    value = float(at.choose(3e38, -3e38, 1e30, 1e-45, -0.0))
    one = tensors[name].copy()
    with np.errstate(over="ignore"):
        one.reshape(-1)[:] = np.nan_to_num(np.float64(value).astype(one.dtype))
    at.put_tensors(tensors | {name: one})
    return f"{name} {value}"


@kind
def rows_elsewhere(at: Target) -> str:
    """Whole numbers that point outside of what they point into."""
    tensors = at.tensors()
    whole = [key for key, one in tensors.items() if one.dtype.kind in "iu" and one.size]
    if not whole:
        return shape_changed(at)
    name = at.choose(*whole)
    one = tensors[name].copy()
    one.reshape(-1)[int(at.rng.integers(one.size))] = at.choose(-1, one.max() + 1, 10**6, 2**31 - 1, -(2**31))
    at.put_tensors(tensors | {name: one})
    return str(name)


@kind
def a_stranger(at: Target) -> str:
    """Other finite weights: a model in its own right, that somebody put there."""
    tensors = at.tensors()
    found = {
        name: at.rng.permutation(one.reshape(-1)).reshape(one.shape) if one.dtype.kind == "f" else one
        for name, one in tensors.items()
    }
    at.put_tensors(found)
    return "weights in another order"


@kind
def tensors_changed(at: Target) -> str:
    tensors = at.tensors()
    name, what = at.choose(*tensors), str(at.choose("gone", "renamed", "more", "short", "long", "all gone"))
    one = tensors.pop(name)
    if what == "renamed":
        tensors[f"{name}2"] = one
    elif what == "more":
        tensors |= {name: one, "model.more": np.ones((3, 3), np.float32), "x\0": one}
    elif what == "short":
        tensors[name] = one[:-1] if one.ndim else one.reshape(1)
    elif what == "long":
        tensors[name] = np.concatenate([one, one]) if one.ndim else one.reshape(1)
    elif what == "all gone":
        tensors = {}
    at.put_tensors(tensors)
    return f"{name} {what}"


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _parquet(table: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    table.write_parquet(out)
    return out.getvalue()


@kind
def table_flipped(at: Target) -> str:
    path = at.any_table()
    at.put(path, flipped(path.read_bytes(), at.rng, int(at.rng.integers(1, 9))))
    return path.name


@kind
def footer_flipped(at: Target) -> str:
    path = at.any_table()
    data = path.read_bytes()
    size = 8 + int.from_bytes(data[-8:-4], "little")
    at.put(path, data[:-size] + flipped(data[-size:], at.rng, int(at.rng.integers(1, 4))))
    return path.name


@kind
def table_cut(at: Target) -> str:
    path = at.any_table()
    data = path.read_bytes()
    at.put(path, data[: int(at.rng.integers(0, len(data)))])
    return path.name


@kind
def table_of_many(at: Target) -> str:
    path = at.any_table()
    at.put(path, at.bombs.rows())
    return path.name


@kind
def table_of_lists(at: Target) -> str:
    path = at.any_table()
    at.put(path, at.bombs.lists())
    return path.name


@kind
def table_claims(at: Target) -> str:
    path, claimed = at.any_table(), int(at.choose(0, 1, 2**31, 10**10, 2**62))
    data = path.read_bytes()
    at.put(path, claiming(data, pl.read_parquet(data).height, claimed))
    return f"{path.name} {claimed:,}"


@kind
def table_columns(at: Target) -> str:
    path = at.any_table()
    table = pl.read_parquet(path)
    name = at.choose(*table.columns)
    what = str(at.choose("renamed", "gone", "text", "float", "list", "null", "binary", "time", "struct"))
    column = pl.col(name)
    changed = {
        "renamed": lambda: table.rename({name: f"{name} 2"}),
        "gone": lambda: table.drop(name),
        "text": lambda: table.with_columns(column.cast(pl.String)),
        "float": lambda: table.with_columns(column.cast(pl.Float64, strict=False)),
        "list": lambda: table.with_columns(column.reshape((-1, 1))),
        "null": lambda: table.with_columns(pl.lit(None).alias(name)),
        "binary": lambda: table.with_columns(column.cast(pl.String).cast(pl.Binary)),
        "time": lambda: table.with_columns(pl.lit(0).cast(pl.Datetime("us")).alias(name)),
        "struct": lambda: table.with_columns(pl.struct(name).alias(name)),
    }[what]()
    at.put(path, _parquet(changed))
    return f"{path.name} {name} {what}"


@kind
def table_rows(at: Target) -> str:
    path = at.any_table()
    table = pl.read_parquet(path)
    what = str(at.choose("none", "short", "twice", "reversed", "one"))
    changed = {
        "none": table.clear(),
        "short": table.head(-1),
        "twice": pl.concat([table, table]),
        "reversed": table.reverse(),
        "one": pl.concat([table.head(1)] * table.height),
    }[what]
    at.put(path, _parquet(changed))
    return f"{path.name} {what}"


@kind
def table_values(at: Target) -> str:
    """Numbers that are out of range, texts of a megabyte."""
    path = at.any_table()
    table = pl.read_parquet(path)
    name = at.choose(*table.columns)
    dtype = table[name].dtype
    if dtype.is_float():
        value: Any = at.choose(float("nan"), float("inf"), -1.0, 3e38)
    elif dtype.is_integer():
        value = at.choose(-1, 2**31 - 1, 255, 10**6)
    else:
        value = at.choose("x" * 2**20, "", "\0", "-", "=1+1", None)
    row = int(at.rng.integers(table.height))
    chosen = pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(pl.col(name))
    at.put(path, _parquet(table.with_columns(chosen.cast(dtype, strict=False).alias(name))))
    return f"{path.name} {name} {str(value)[:20]!r}"


@kind
def table_of_text(at: Target) -> str:
    path = at.any_table()
    at.put(path, at.choose(b"user_id\nu1\n", b"", b"PAR1", b"PAR1PAR1", b"PAR1" + bytes(100) + b"PAR1", b"PARE" * 10))
    return path.name


# ── manifests ─────────────────────────────────────────────────────────────────────────────────────────────────────


@kind
def raw_manifest(at: Target) -> str:
    path = at.folder / MANIFEST
    text = path.read_text()
    deep = int(at.choose(1_000, 100_000))
    what, raw = at.choose(
        ("deep lists", "[" * deep + "]" * deep),
        ("deep objects", '{"a":' * deep + "1" + "}" * deep),
        ("many digits", '{"format": ' + "9" * 100_000 + "}"),
        ("1e400", text.replace('"seed": 0', '"seed": 1e400')),
        ("twice", text.replace('"seed": 0', '"seed": 1,\n "seed": 0')),
        ("a list", "[]"),
        ("null", "null"),
        ("spaces", text + " " * (1 << 24)),
        ("a mark", "\ufeff" + text),
        ("comments", "// x\n" + text),
        ("nothing", ""),
    )
    path.write_text(raw)
    return str(what)


@kind
def manifest_in_utf16(at: Target) -> str:
    path = at.folder / MANIFEST
    path.write_bytes(path.read_text().encode(str(at.choose("utf-16", "utf-32", "utf-7", "cp037"))))
    return "another encoding"


@kind
def key_gone(at: Target) -> str:
    manifest = at.manifest
    name = at.choose(*manifest)
    del manifest[name]
    at.write(manifest)
    return str(name)


@kind
def key_changed(at: Target) -> str:
    manifest = at.manifest
    name, value = at.choose(*(key for key in manifest if key != "sha256")), at.choose(*JUNK)
    manifest[name] = value
    at.write(manifest)
    return f"{name} {value!r}"[:80]


@kind
def value_changed(at: Target) -> str:
    """Anything within, at any depth."""
    manifest = at.manifest
    places = list(_places(manifest))
    holder, key = places[int(at.rng.integers(len(places)))]
    value = at.choose(*JUNK)
    holder[key] = value
    at.write(manifest)
    return f"{key} {value!r}"[:80]


def _places(document: Any) -> Any:
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(pairs):
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


@kind
def sizes_changed(at: Target) -> str:
    """Whole numbers that make a model far larger than its weights, or none."""
    manifest = at.manifest
    ints = [(holder, key) for holder, key in _places(manifest) if type(holder[key]) is int]
    holder, key = ints[int(at.rng.integers(len(ints)))]
    holder[key] = at.choose(10**4, 10**6, 10**9, 10**12, 2**63, -1, -(10**9))
    at.write(manifest)
    return f"{key} {holder[key]:,}"


@kind
def grown_model(at: Target) -> str:
    """Hyper-parameters and counts by which a model would take all memory."""
    manifest = at.manifest
    holders = [holder for holder, key in _places(manifest) if key in ("dim", "hidden", "n_users", "n_items", "layers")]
    if not holders:
        return sizes_changed(at)
    chosen = at.choose(*holders)
    for key in ("dim", "n_users", "n_items", "layers", "neighbours"):
        if key in chosen:
            chosen[key] = int(at.choose(10**5, 10**7, 10**9, 10**11))
    if "hidden" in chosen:
        chosen["hidden"] = at.choose([10**6, 10**6], [10**9], [1] * 100_000)
    at.write(manifest)
    return ", ".join(
        f"{key} {str(chosen[key])[:20]}" for key in chosen if key in ("dim", "n_users", "n_items", "hidden")
    )


@kind
def another_model(at: Target) -> str:
    manifest = at.manifest
    manifest["model"] = at.choose(
        "ease", "lightgcn", "sasrec", "deepfm", "torch.nn.Linear", "os.system", "", "../mf", 7
    )
    at.write(manifest)
    return repr(manifest["model"])


@kind
def another_format(at: Target) -> str:
    manifest = at.manifest
    manifest["format"] = at.choose(1, 0, 3, -1, "2", None, True, 2.0, [], {}, 10**30)
    manifest["versions"] = at.choose(manifest.get("versions"), None, "x", {"bowerbird": "9.9; rm -rf /"}, [])
    at.write(manifest)
    return repr(manifest["format"])


@kind
def another_kind(at: Target) -> str:
    manifest = at.manifest
    manifest["kind"] = "recommender" if manifest.get("kind") == "rows" else at.choose("rows", "x", None, 7)
    at.write(manifest)
    return repr(manifest["kind"])
