"""TOML: settings that people write, read with limits; what is wrong is told with its line."""

import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

MOST, LONGEST = 1 << 20, 16_384  # bytes of a file, and letters of a line: parts of a key are looked up one by one


def read_toml(file: Path | Traversable) -> dict[str, Any]:
    """Return what a TOML file says; raises `OSError`, and `ValueError` that says what is wrong with it."""
    with file.open("rb") as opened:
        data = opened.read(MOST + 1)
    if len(data) > MOST:
        raise ValueError(f"it has more than {MOST:,} bytes")
    for number, line in enumerate(data.split(b"\n"), 1):
        if len(line) > LONGEST:
            raise ValueError(f"line {number:,} has more than {LONGEST:,} letters")
        if not _is_text(line):
            raise ValueError(f"line {number:,} is not UTF-8")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("values are nested too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # of a number with thousands of digits
        raise ValueError(f"a value cannot be read: {error}") from None


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
