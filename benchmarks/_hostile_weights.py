"""Spoilt weights under right checksums; further `KINDS` of `_hostile_bundles`."""

import json
from typing import Any

import numpy as np

from _hostile_bundles import WEIGHTS, Target, flipped, kind


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
