"""Links, pipes, devices and names that lead elsewhere; further `KINDS` of `_hostile_bundles`."""

import hashlib
import os
import shutil
from pathlib import Path

from _hostile_bundles import Target, kind


def _linked(path: Path, to: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    path.symlink_to(to)


@kind
def link_out(at: Target) -> str:
    """Read from elsewhere, what would even be right."""
    path = at.any_file()
    there = at.outside / path.name
    there.write_bytes(path.read_bytes())
    _linked(path, there)
    return path.name


@kind
def folder_out(at: Target) -> str:
    folder = at.folder if not at.past.exists() else at.choose(at.folder, at.past)
    there = at.outside / "folder"
    shutil.copytree(folder, there)
    _linked(folder, there)
    return folder.parent.name


@kind
def endless(at: Target) -> str:
    path = at.any_file()
    _linked(path, Path("/dev/zero"))
    return path.name


@kind
def pipe(at: Target) -> str:
    path = at.any_file()
    path.unlink()
    os.mkfifo(path)
    return path.name


@kind
def a_folder(at: Target) -> str:
    path = at.any_file()
    path.unlink()
    path.mkdir()
    return path.name


@kind
def sparse(at: Target) -> str:
    path = at.any_file()
    os.truncate(path, 1 << int(at.rng.integers(33, 42)))
    return f"{path.name} of {path.stat().st_size:,}"


@kind
def names_out(at: Target) -> str:
    """A file outside, by its name in the manifest, with the right checksum of it."""
    secret = at.outside / "secret.parquet"
    shutil.copy(next(one for one in at.files() if one.suffix == ".parquet"), secret)
    near = os.path.relpath(secret, at.folder)
    name = str(at.choose(str(secret), near, f"x/../{near}", f"./{near}", near.replace("/", "//")))
    manifest = at.manifest
    manifest["files"][name] = hashlib.sha256(secret.read_bytes()).hexdigest()
    at.write(manifest)
    return name


@kind
def names_odd(at: Target) -> str:
    name = str(
        at.choose("", ".", "..", "/", "a\0b", "x" * 5000, "\ud800", "con", "*", "weights.safetensors/x", "é" * 90)
    )
    manifest = at.manifest
    manifest["files"] = {name: hashlib.sha256(b"").hexdigest()} | (manifest["files"] if at.rng.random() < 0.5 else {})
    at.write(manifest)
    return repr(name[:40])


@kind(sealed=False, of_run=True)
def pointer(at: Target) -> str:
    there = at.outside / "000001"
    shutil.copytree(at.folder, there)
    near = os.path.relpath(there, at.run / "bundles")
    texts = (
        near, str(there), f"../bundles/{at.version}", f"{at.version}/.", "..", ".", "", "/", "000009",
        f"{at.version}\n", f" {at.version} ", "a\0b", "\ud800", "9" * 5000, "x" * 2**20, "-1", "*", "~",
    )  # fmt: skip
    text = str(at.choose(*texts))
    (at.run / "current").write_bytes(text.encode("utf-8", "surrogatepass"))
    return repr(text[:60])


@kind(sealed=False, of_run=True)
def pointer_odd(at: Target) -> str:
    path, what = at.run / "current", str(at.choose("folder", "link", "pipe", "gone"))
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "link":
        there = at.outside / "pointer"
        there.write_text(at.version)
        path.symlink_to(there)
    elif what == "pipe":
        os.mkfifo(path)
    return what
