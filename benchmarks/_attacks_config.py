"""Hostile and mistyped settings: recipes, scenarios, columns, and what the environment says."""

import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import _breaking
from _attacks_data import Reading, caged
from _breaking import Effort, Found, Progress
from _hostile_tables import mutated
from bowerbird.core.toml import LONGEST

stages = _breaking.Stages()

NAMED = {"ConfigError", "UnknownModelError", "RequestError", "DataError"}
RECIPE = """
[data]
path = "events.csv"
user = "uid"
items = "items.csv"

[split]
method = "temporal"
valid = 0.1
warmup = 3

[model]
name = "lightgcn"
dim = 16
hops = 2
learning_rate = 0.01
loss = "bpr"

[ranking]
candidates = 50
negatives = 4

[search]
tries = 3

[run]
seed = 4
device = "cpu"
threads = 2
"""
SCENARIO = """
k = 10
sources = [{ name = "model", n = 300 }, { name = "latest", weight = 0.5 }]
where = "item.price < 100"
hides = ["purchase"]
hide_served_s = 60
candidates = 50
boosts = [{ where = "item.new == true", factor = 2 }]
diversity = 0.25
timeout_ms = 20
pins = [{ item = "7", position = 1 }]

[freshness]
half_life_days = 1

[caps]
category = 3

[event_weights]
view = 1
"""
COLUMNS = """
[[item]]
name = "price"
kind = "numeric"
knots = 16

[[item]]
name = "tags"
kind = "bag"
separator = "|"
most = 5

[[user]]
name = "age"
kind = "numeric"
buckets = 4
"""
FILES = {"recipe": ("recipe.toml", RECIPE), "scenario": ("shop.toml", SCENARIO), "columns": ("columns.toml", COLUMNS)}
VALUES = (
    "9" * 5_000, "9" * 30, "1e400", "-1e400", "nan", "inf", "-inf", "-1", "0x" + "f" * 40, '""', '"x"', "[]", "[[]]",
    "[1, 'a']", "{}", "{a = {b = {}}}", "true", "1979-05-27T07:32:00Z", "07:32:00", '"' + "x" * 100_000 + '"',
    '"' + "x" * 10_000 + '"', '"\\u0000"', "'''\n'''", "[" * 5_000 + "]" * 5_000, "{a=" * 3_000 + "1" + "}" * 3_000,
    "1_000", '"../../etc/passwd"', "0x" + "f" * 5_000,
)  # fmt: skip
WHOLE = (
    b"", b"\xff\xfe", b"\0", b"[" * 100_000, b"a" * 1_000_000, b"a." * 100_000 + b"b = 1", b'x = """', b"= 1",
    b"[a]\n[a]\n", b"a = 1\na = 2\n", b"[model]\nname = 7\n", b"[model]\n[model.name]\nx = 1\n", b"name: mf", b"{}",
    b"[[model]]\nname = 'mf'\n", b"[model\nname", b"\xef\xbb\xbf[model]\nname = 'mf'\n", b"[m\xf6del]\nname = 1\n",
    "[model]\nname = 'mf'\n".encode("utf-16"), b"a = " + b"[" * 200_000, b"'''" * 100_000, b"\r" * 1000,
    b"[model]\rname = 'mf'\r", b"#" * (16 << 20), b"a = " + b"[\n" * 2_000, b"a = {b = " * 2_000, b"a.\n" * 1_000,
    b"\n".join(b"k%d = 1" % n for n in range(80_000)), b"a = [" + b"1,\n" * 300_000 + b"]",
    b"\n".join(b"[" + b".".join([b"a"] * n) + b"]" for n in range(1, 500)),
)  # fmt: skip
ENVIRONMENT: tuple[tuple[dict[str, str], tuple[str, ...], str], ...] = (  # what is set, what is called, what is said
    ({"BOWERBIRD_DATA": "/nowhere"}, ("data", "get", "gowalla"), "/nowhere"),
    ({"BOWERBIRD_DATA": "\udcff"}, ("data", "list"), ""),
    ({"BOWERBIRD_DATA": "x" * 10_000}, ("data", "get", "gowalla"), "gowalla"),
    ({"BOWERBIRD_DATA": ""}, ("data", "list"), ""),
    ({"BOWERBIRD_KEY": "a\nb"}, ("import", "--items", "ITEMS", "--server", "http://127.0.0.1:9"), "key"),
    ({"BOWERBIRD_KEY": "é"}, ("import", "--items", "ITEMS", "--server", "http://127.0.0.1:9"), "key"),
    ({"BOWERBIRD_KEY": "x" * 100_000}, ("import", "--items", "ITEMS", "--server", "http://127.0.0.1:9"), "key"),
    ({"BOWERBIRD_DATA": "/dev/null"}, ("data", "get", "gowalla"), "gowalla"),
    ({"XDG_CACHE_HOME": "/dev/null"}, ("data", "list"), ""),
    ({"COLUMNS": "x", "TERM": "\x1b"}, ("models",), ""),
)


@stages(
    "config", "settings that are wrong are refused by the file and the key or line, with the key that was meant", n=600
)
def config(effort: Effort) -> Found:
    found, progress, said = Found(), Progress(effort), Counter[str]()
    kinds: list[Callable[..., str]] = [_mistyped, _of_another_type, _bytes, _mutation]
    with caged(effort) as cage:
        reading = Reading(effort, cage, found)
        for job, (name, text) in FILES.items():
            path = reading.file(name, text.encode())
            assert reading.asked(job, path).kind == "done", f"the good {job} is refused: the stage is blind"
        for turn in range(effort.n):
            if turn % 60 == 59:
                what = _environment(effort, found, turn // 60)
            else:
                what = kinds[turn % 4](reading, effort.rng(turn), turn)
            said[what] += 1
            progress(turn + 1)
    found.figures |= dict(said)
    return found


def _tried(
    reading: Reading,
    rng: np.random.Generator,
    turn: int,
    data: bytes,
    job: str,
    *must: str,
    refused: bool | None = None,
) -> str:
    """Read settings; `must` stands in a refusal, and `refused` says whether there must be one."""
    name, _ = FILES[job]
    path = reading.file(name, data)
    outcome = reading.asked(job, path)
    faults = [
        f"the refusal says not {one!r}: {outcome.said}"
        for one in must
        if outcome.kind == "refused" and one not in outcome.said
    ]
    if outcome.kind == "refused" and outcome.error not in NAMED:
        faults.append(f"refused by {outcome.error}: {outcome.said}")
    if refused and outcome.kind == "done":
        faults.append(f"it was read as {outcome.answer}")
    if len(outcome.said) > 990:
        faults.append("the refusal is longer than a page")
    reading.note(outcome, path, f"try {turn}, {job}", *faults)
    return outcome.kind


def _mistyped(reading: Reading, rng: np.random.Generator, turn: int) -> str:
    """Mistype a key: it is named, and what was meant is said."""
    job = str(rng.choice(list(FILES)))
    text = FILES[job][1]
    keys = [one for one in re.findall(r"^([a-z_]{4,}) =", text, re.MULTILINE) if one != "name"]
    key = str(rng.choice(keys))
    at = int(rng.integers(1, len(key) - 1))
    wrong = [key[:at] + key[at + 1 :], key[:at] + key[at] + key[at:], key[:at] + key[at + 1] + key[at] + key[at + 2 :]]
    other = str(rng.choice(wrong))
    if other == key:
        other = f"{key}s"
    places = [one.start() for one in re.finditer(rf"^{key} =", text, re.MULTILINE)]
    place = int(rng.choice(places))
    changed = text[:place] + other + text[place + len(key) :]
    if "[caps]" in text and text.rfind("[", 0, place) >= text.index("[caps]"):
        return _tried(reading, rng, turn, changed.encode(), job)  # keys of these tables are anybody's
    needed = job == "columns" and key == "kind"  # it is said that kind is needed, and what is not it
    meant = f"{other} is not it" if needed else 'Did you mean "'  # of user, item and items the nearest
    return _tried(reading, rng, turn, changed.encode(), job, other, meant, refused=True)


def _of_another_type(reading: Reading, rng: np.random.Generator, turn: int) -> str:
    """Give a key a value of another kind: the refusal names the file, and of what can be parsed the key."""
    job = str(rng.choice(list(FILES)))
    text, value = FILES[job][1], str(rng.choice(VALUES))
    found = list(re.finditer(r"^([a-z_]+) = (.*)$", text, re.MULTILINE))
    one = found[int(rng.integers(len(found)))]
    changed = text[: one.start(2)] + value + text[one.end(2) :]
    return _tried(reading, rng, turn, changed.encode(), job, *([one[1]] if _parses(changed) else []))


def _parses(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return max(map(len, text.split("\n"))) <= LONGEST


def _bytes(reading: Reading, rng: np.random.Generator, turn: int) -> str:
    job = str(rng.choice(list(FILES)))
    return _tried(reading, rng, turn, WHOLE[turn // 4 % len(WHOLE)], job)


def _mutation(reading: Reading, rng: np.random.Generator, turn: int) -> str:
    job = str(rng.choice(list(FILES)))
    return _tried(reading, rng, turn, mutated(FILES[job][1].encode(), rng), job)


def _environment(effort: Effort, found: Found, place: int) -> str:
    """Call a command in an odd environment: it works, or says what is wrong; never a traceback, never the secret."""
    values, words, says = ENVIRONMENT[place % len(ENVIRONMENT)]
    items = effort.folder / "items.jsonl"
    items.write_text('{"id": "a"}\n')
    command = [sys.executable, "-m", "bowerbird", *(str(items) if one == "ITEMS" else one for one in words)]
    env = os.environ | {"HOME": str(effort.folder), "XDG_CACHE_HOME": str(effort.folder)} | values
    ran = subprocess.run(command, capture_output=True, env=env, timeout=120, check=False)
    text = (ran.stdout + ran.stderr).decode("utf-8", "replace")
    faults = ["a traceback"] * ("Traceback" in text)
    faults += ["exit status 1: a mistake of ours"] * (ran.returncode == 1)
    faults += [f"it says not {says!r}: {text[-300:]}"] * (says not in text)
    secret = values.get("BOWERBIRD_KEY", "")
    faults += ["the key is told"] * (len(secret) > 1 and secret in text)
    found.note(*(f"environment {list(values)}, {words[:2]}: {one}: {text[-300:]}" for one in faults))
    return "environment"


def replay(text: bytes, job: str, folder: Path) -> Any:
    """Read settings here and now, for a look at what became of a try."""
    import _data_jobs

    (folder / FILES[job][0]).write_bytes(text)
    return _data_jobs.JOBS[job](str(folder / FILES[job][0]))
