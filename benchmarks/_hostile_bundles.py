"""What somebody who may write into a run directory does to a version: each of `KINDS` spoils a copy of one.

"sealed" kinds write the checksums anew, as such a person can: no checksum is a signature. What they make may be read,
as another model; what the others make is refused, or answers as before.
"""

import base64
import hashlib
import io
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
ROWS, LISTED = 400_000_000, 100_000_000  # of a bomb: rows, values of each list
BROKEN_PAGE = zlib.decompress(
    base64.b85decode(  # Parquet with a negative number of values: Polars aborts
        "c-oCq%}(1u5MHmX$W=Ljlv#Nt3t6aGL5(1Bn<ha;V)+x$0I^l6aCBljL=70l0orTD1E4-fpP~=InaAM5o!Pa8a^R4a=l7eLZ"
        "`W&gMNkI=7GbdiB_M=oD4|q6sro>m4CN}kgL%YD_7_^w`j!?VMp5+lRR2I=jyFhYo?FIs7LS22ll{@~aW`Fas$&)&b2gsgB)"
        "*v9xu@=<Hr2xyC`Shc2XjW>NZ4!>4jGO{@1Eu^Q2uq_7^mq33?y5o`GJ;6$Cju{NaiBJOm6e4`(LwXd;#o9hcf%8!xC}->h{"
        "dXVRr^F_8|M%9c89#qAAO*TXP}^PJXOs{qy)Dv>vrJxf(wOu3f2GHyHo&i&&+;36Y6yWqt9ni}>xW%pV9bDC!QRRmm->j=p1"
        "2>+E%CUbnR;ik0IE3QvPkPtomUaw{F_ZmTNQF9Kf;-5ua4Y5kmRrx>-S_Twu^#?k5Vs6P-J#5(S#qi~!#m8;*A^Yn7XxrxWw"
        "FuioV)%t49sr0UgqsVC{?V8t%J|#)yHIt;}MfJ~KvlZ6bq1SFCiI+6PIBI(<yoy&SZ}Azwzb^g-FGxC*e*"
    )
)
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**70, 1e308, float("nan"), "", "x", "../../x", [], {}, [[[]]], {"a": {"b": [1]}}, [None],
    "\ud800", "ﷺ" * 100, -(10**30), 0.5,
)  # fmt: skip


@dataclass
class Target:
    """One version of a run that is about to be spoilt."""

    run: Path
    version: str
    rng: np.random.Generator
    outside: Path  # a folder beside the run, with what must not be opened
    marker: Path  # the file that a pickle would make
    bombs: "Bombs"

    @property
    def folder(self) -> Path:
        """Where the version lies."""
        return self.run / "bundles" / self.version

    @property
    def past(self) -> Path:
        """Where its histories lie; a predictor has none."""
        return self.run / "histories" / self.version

    def files(self) -> list[Path]:
        """Return every file of it."""
        there = [*self.folder.iterdir(), *(self.past.iterdir() if self.past.exists() else ())]
        return sorted(one for one in there if one.is_file())

    def any_file(self) -> Path:
        """Return one of its files."""
        files = self.files()
        return files[int(self.rng.integers(len(files)))]

    def any_table(self) -> Path:
        """Return one of its tables."""
        tables = [one for one in self.files() if one.suffix == ".parquet"]
        return tables[int(self.rng.integers(len(tables)))]

    def choose(self, *things: Any) -> Any:
        """Return one of some things."""
        return things[int(self.rng.integers(len(things)))]

    @property
    def manifest(self) -> dict[str, Any]:
        """What the manifest says."""
        document: dict[str, Any] = json.loads((self.folder / MANIFEST).read_bytes())
        return document

    def write(self, manifest: dict[str, Any]) -> None:
        """Write a manifest with the digest that it needs."""
        manifest.pop("sha256", None)
        text = json.dumps(manifest, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
        manifest["sha256"] = hashlib.sha256(text).hexdigest()
        whole = json.dumps(manifest, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")
        (self.folder / MANIFEST).write_bytes(whole)

    def seal(self, path: Path) -> None:
        """Write the checksum of a file of the version anew."""
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.parent == self.past:
            (self.past / "histories.sha256").write_text(sha256)
        elif path.name != MANIFEST:
            manifest = self.manifest
            manifest["files"][path.name] = sha256
            self.write(manifest)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the weights."""
        return load((self.folder / WEIGHTS).read_bytes())

    def put_tensors(self, tensors: dict[str, np.ndarray]) -> None:
        """Write other weights."""
        self.put(self.folder / WEIGHTS, save({name: np.asarray(one, order="C") for name, one in tensors.items()}))

    def put(self, path: Path, data: bytes) -> None:
        """Write another content of a file, and its checksum."""
        path.write_bytes(data)
        self.seal(path)


class Bombs:
    """Large things that are made once: a few bytes that say much."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale  # of their size
        self._made: dict[str, bytes] = {}

    def rows(self) -> bytes:
        """Return Parquet of many rows."""
        return self.get("rows", lambda: rows_bomb(int(self.scale * ROWS)))

    def lists(self) -> bytes:
        """Return Parquet of long lists."""
        return self.get("lists", lambda: lists_bomb(int(self.scale * LISTED)))

    def get(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return what was made, or make it."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]


def rows_bomb(n: int = ROWS) -> bytes:
    """Return Parquet of a megabyte and many rows, all of them empty."""
    import pyarrow as pa

    step = 10_000_000
    nothing = pa.nulls(step, pa.int64())
    return _written(pa.table(dict.fromkeys(("item_id", "user_id", "user", "item"), nothing)), n // step)


def lists_bomb(n: int = LISTED) -> bytes:
    """Return Parquet of a kilobyte with one row, of four lists of many empty values."""
    import pyarrow as pa

    many = pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), pa.nulls(n, pa.int8()))
    return _written(pa.table({"item_id": ["i1"], "user_id": ["u1"]} | {f"tags{turn}": many for turn in range(4)}), 1)


def _written(table: Any, times: int) -> bytes:
    import pyarrow.parquet as pq

    out = io.BytesIO()
    with pq.ParquetWriter(out, table.schema, compression="zstd") as writer:
        for _ in range(times):
            writer.write_table(table)
    return out.getvalue()


def varint(number: int) -> bytes:
    """Return a number as Thrift's compact protocol writes an i64."""
    number, found = number << 1, bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def claiming(data: bytes, n_rows: int, claimed: int) -> bytes:
    """Return a Parquet file whose footer tells of more rows than there are."""
    size = int.from_bytes(data[-8:-4], "little")
    body, footer = data[: -8 - size], data[-8 - size : -8]
    footer = footer.replace(b"\x16" + varint(n_rows), b"\x16" + varint(claimed))
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


class _Payload:
    """A pickle that makes a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)


def pickled(marker: Path) -> bytes:
    """Return a pickle that leaves a mark."""
    return pickle.dumps({"state_dict": _Payload(marker)})


def archived(marker: Path) -> bytes:
    """Return what `torch.save` makes: a zip of a pickle, here with a payload."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", pickled(marker))
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return out.getvalue()


Spoil = Callable[[Target], str]  # spoils a version; returns what was done
KINDS: dict[str, Spoil] = {}
SEALED: set[str] = set()
OF_RUN: set[str] = set()  # what is done to a run, not to a version: it cannot be done while another version serves


def kind(spoil: Spoil | None = None, *, sealed: bool = True, of_run: bool = False) -> Any:
    """Enter a function into `KINDS` under its name."""

    def enter(spoil: Spoil) -> Spoil:
        KINDS[spoil.__name__] = spoil
        if sealed:
            SEALED.add(spoil.__name__)
        if of_run:
            OF_RUN.add(spoil.__name__)
        return spoil

    return enter if spoil is None else enter(spoil)


def flipped(data: bytes, rng: np.random.Generator, bits: int = 1) -> bytes:
    """Return bytes with some bits turned."""
    changed = bytearray(data)
    for at in rng.integers(0, max(8 * len(changed), 1), bits if changed else 0):
        changed[at // 8] ^= 1 << (at % 8)
    return bytes(changed)


# ── bytes, without new checksums ──────────────────────────────────────────────────────────────────────────────────


@kind(sealed=False)
def flip(at: Target) -> str:
    path = at.any_file()
    path.write_bytes(flipped(path.read_bytes(), at.rng, int(at.rng.integers(1, 9))))
    return path.name


@kind(sealed=False)
def cut(at: Target) -> str:
    path = at.any_file()
    data = path.read_bytes()
    size = int(at.rng.integers(0, len(data)))
    path.write_bytes(data[:size])
    return f"{path.name} at {size}"


@kind(sealed=False)
def lengthened(at: Target) -> str:
    path = at.any_file()
    path.write_bytes(path.read_bytes() + at.rng.bytes(int(at.rng.integers(1, 100))))
    return path.name


@kind(sealed=False)
def gone(at: Target) -> str:
    path = at.any_file()
    path.unlink()
    return path.name


@kind(sealed=False)
def zeroed(at: Target) -> str:
    path = at.any_file()
    data = bytearray(path.read_bytes())
    start = int(at.rng.integers(0, len(data)))
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    path.write_bytes(data)
    return f"{path.name} from {start}"


@kind(sealed=False)
def exchanged(at: Target) -> str:
    first, second = at.any_file(), at.any_file()
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    return f"{first.name} and {second.name}"


@kind(sealed=False)
def another_hash(at: Target) -> str:
    manifest = at.manifest
    name = at.choose(*manifest["files"])
    if name == "optimiser.safetensors":
        name = WEIGHTS
    manifest["files"][name] = hashlib.sha256(at.rng.bytes(8)).hexdigest()
    at.write(manifest)
    return str(name)


@kind(sealed=False)
def pickle_unsealed(at: Target) -> str:
    path = at.any_file()
    path.write_bytes(at.choose(pickled, archived)(at.marker))
    return path.name


# ── code ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@kind
def pickle_sealed(at: Target) -> str:
    path = at.any_file()
    at.put(path, pickled(at.marker))
    return path.name


@kind
def archive_sealed(at: Target) -> str:
    path = at.any_file()
    at.put(path, archived(at.marker))
    return path.name


@kind
def pickle_named(at: Target) -> str:
    name = str(
        at.choose("model.pkl", "model.pt", "weights.bin", "optimiser.safetensors", "vocabulary.parquet", "x.pt2")
    )
    at.put(at.folder / name, at.choose(pickled, archived)(at.marker))
    return name
