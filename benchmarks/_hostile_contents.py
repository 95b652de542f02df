"""Spoilt tables and manifests under right checksums; further `KINDS` of `_hostile_bundles`."""

import io
from typing import Any

import polars as pl

from _hostile_bundles import BROKEN_PAGE, JUNK, MANIFEST, Target, claiming, flipped, kind

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
    at.put(
        path,
        at.choose(
            b"user_id\nu1\n", b"", b"PAR1", b"PAR1PAR1", b"PAR1" + bytes(100) + b"PAR1", b"PARE" * 10, BROKEN_PAGE
        ),
    )
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
