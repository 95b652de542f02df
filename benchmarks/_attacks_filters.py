"""Filters: made-up expressions, right ones and mangled ones, against an evaluator that shares nothing with ours."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

import _breaking
import bowerbird as bb
from _attacks_shop import Clock, Shop, shop
from _breaking import Effort, Found, Progress
from _naive_filters import Column, Naive, Refused
from bowerbird.core import RequestError, RunOptions
from bowerbird.pipeline import filters as language
from bowerbird.recommender import Recommender
from bowerbird.testing import halves

stages = _breaking.Stages()

NOW, ROWS, USER = 1_600_050_000, 40, "u1"
EPOCH = datetime(1970, 1, 1)
NUMBERS: list[Any] = [
    None,
    math.nan,
    math.inf,
    -math.inf,
    0.0,
    -0.0,
    1.5,
    12.0,
    -3.0,
    1e308,
    5e-324,
    2.0**53,
    0.1,
    49.0,
    98.0,
]
WHOLE: list[Any] = [None, 0, 1, -1, 7, 12, 2**53, 2**53 + 1, 2**63 - 1, -(2**63) + 1, 1_600_000_000, 49, 98]
TEXTS: list[Any] = [
    None,
    "",
    "a",
    "b",
    "a|b",
    "war|drama",
    "|",
    "A",
    "é",
    "e\u0301",
    "🐦",
    "x\\y",
    "it's",
    'say "so"',
    "a\nb",
]
DAYS = [None, date(2020, 9, 14), date(1970, 1, 1), date(2300, 1, 1), date(1600, 2, 29)]
MOMENTS = [None, *(EPOCH + timedelta(seconds=one) for one in (0, NOW, NOW - 86_400, NOW + 0.25, -1, 16_000_000_000))]
DTYPES: dict[str, tuple[Any, list[Any], Column]] = {
    "price": (pl.Float64, NUMBERS, Column("number")),
    "price in €": (pl.Float32, [None, math.nan, 1.5, 0.25, -2.0], Column("number")),
    "count": (pl.Int64, WHOLE, Column("number")),
    "small": (pl.Int8, [None, 0, 1, -7, 100], Column("number")),
    "big": (pl.UInt64, [None, 0, 7, 2**63 - 1, 2**63 + 5], Column("number")),
    "title": (pl.String, TEXTS, Column("text")),
    "brand": (pl.Categorical, [None, "ara", "bolt", "a|b"], Column("text")),
    "fresh": (pl.Boolean, [None, True, False], Column("truth")),
    "tags": (pl.List(pl.String), [None, [], ["a"], ["a", None, "b"], ["drama", "a|b"], [None]], Column("text", True)),
    "sizes": (pl.List(pl.Int64), [None, [], [1, 7], [None, 12], [2**53 + 1]], Column("number", True)),
    "rates": (pl.List(pl.Float64), [None, [math.nan], [1.5, 7.0], [None, 12.0]], Column("number", True)),
    "flags": (pl.List(pl.Boolean), [None, [True], [False, None]], Column("truth", True)),
    "day": (pl.Date, DAYS, Column("number")),
    "at": (pl.Datetime("us", "UTC"), [one and one.replace(tzinfo=UTC) for one in MOMENTS], Column("number")),
    "local": (pl.Datetime("ms"), MOMENTS, Column("number")),
    "empty": (pl.Null, [None], Column("nothing")),
    "what": (pl.Struct({"a": pl.Int64}), [{"a": 1}], Column("other")),
    "nest": (pl.List(pl.List(pl.Int64)), [None, [[1]]], Column("other", True)),
}
COLUMNS = {"item_id": Column("text")} | {name: column for name, (_, _, column) in DTYPES.items()}
Draw = np.random.Generator


def table_of(rng: Draw, n: int) -> pl.DataFrame:
    """Return a table of items with all kinds of values."""
    drawn = {
        name: pl.Series(name, [values[rng.integers(len(values))] for _ in range(n)], dtype=dtype, strict=False)
        for name, (dtype, values, _) in DTYPES.items()
    }
    return pl.DataFrame({"item_id": [f"i{row}" for row in range(n)]} | drawn)


def _plain(value: Any) -> Any:
    """Return a value of a table as the naive evaluator knows it."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return (value.replace(tzinfo=None) - EPOCH) / timedelta(seconds=1)
    if isinstance(value, date):
        return float((value - EPOCH.date()).days * 86_400)
    return None if isinstance(value, float) and math.isnan(value) else value


# ── made-up filters ───────────────────────────────────────────────────────────────────────────────────────────────


class Maker:
    """Makes filters up: mostly sensible ones, of values that the tables hold."""

    def __init__(self, rng: Draw) -> None:
        self.rng = rng

    def pick(self, options: Sequence[Any]) -> Any:
        """Return one of some."""
        return options[self.rng.integers(len(options))]

    def column(self, kind: str, many: bool = False) -> str:
        """Return a column of a kind, now and then of any."""
        names = [name for name, one in COLUMNS.items() if (one.kind, one.many) == (kind, many)] or ["empty"]
        name = self.pick(names if self.rng.random() < 0.97 else [*COLUMNS, "nothing"])
        plain = re.fullmatch("[a-z_]+", name) and self.rng.random() < 0.9
        return f"item.{name}" if plain else f"item[{self.quoted(name)}]"

    def quoted(self, text: str) -> str:
        """Return a text as it is spelt in a filter."""
        mark = self.pick("\"'")
        escaped = text.replace("\\", "\\\\").replace(mark, f"\\{mark}")
        return mark + (escaped.replace("\n", "\\n") if self.rng.random() < 0.5 else escaped) + mark

    def literal(self, kind: str) -> str:
        """Return a value of a kind."""
        if kind == "text":
            return self.quoted(self.pick([one for one in TEXTS if one is not None] + ["drama", "ara", "i7"]))
        if kind == "truth":
            return str(self.pick(["true", "false"]))
        few = [one for one in [*NUMBERS, *WHOLE] if one is not None and math.isfinite(one) and abs(one) < 2**63]
        return str(self.pick([*map(_spelt, few), "7", "12", "1.5", "30d", "1w", f"{NOW}", "1e3", "0.10"]))

    def number(self, depth: int) -> str:
        """Return a number."""
        if depth <= 0 or self.rng.random() < 0.5:
            return str(self.pick([self.literal("number"), self.column("number"), self.column("number"), "now()"]))
        one, other = self.number(depth - 1), self.number(depth - 1)
        return str(
            self.pick(
                [f"{one} {self.pick('+-*/')} {other}", f"({one})", f"-{one}", f"({one}) {self.pick('*/')} -{other}"]
            )
        )

    def value(self, kind: str, depth: int) -> str:
        """Return a single value of a kind, now and then of another."""
        if self.rng.random() < 0.02:
            return str(self.pick(["null", self.column("text", True), self.column("other"), self.column("nothing")]))
        if kind == "number":
            return self.number(depth)
        return self.literal(kind) if self.rng.random() < 0.4 else self.column(kind)

    def truth(self, depth: int) -> str:
        """Return what is true or false."""
        if depth > 0 and self.rng.random() < 0.55:
            one, other = self.truth(depth - 1), self.truth(depth - 1)
            return str(
                self.pick(
                    [f"{one} and {other}", f"{one} or {other}", f"not {one}", f"({one})", f"not ({one} or {other})"]
                )
            )
        kind = self.pick(["number", "number", "text", "text", "truth"])
        one, ways = self.value(kind, 2), self.rng.random()
        if ways < 0.05:
            return f"{self.column('number')} {self.pick('*/')} {self.literal('number')} == {self.pick('12')}"
        if ways < 0.4:
            signs = ("==", "!=") if kind == "truth" else ("==", "!=", "<", "<=", ">", ">=")
            return f"{one} {self.pick(signs)} {self.value(kind, 2)}"
        word = self.pick(["in", "in", "not in"])
        if ways < 0.55:
            values = ", ".join(self.literal(kind) for _ in range(self.rng.integers(0, 5)))
            return f"{one} {word} [{values}]"
        if ways < 0.7:
            held = self.column(kind, True) if kind != "text" or self.rng.random() < 0.5 else self.column("text")
            return f"{one} {word} {held}"
        if ways < 0.8:
            anything = self.column(self.pick(["number", "text", "truth", "nothing"]), self.rng.random() < 0.3)
            return str(self.pick([f"{anything} {self.pick(['==', '!='])} null", f"null != {one}"]))
        if ways < 0.9:
            asked = self.pick(
                ["", "", "'interaction'", '"interaction", 7h', "'interaction', 1w", "'other'", "'interaction', 7"]
            )
            return f"seen({asked})"
        return self.column("truth")

    def filter(self) -> str:
        """Return a filter."""
        text = self.truth(int(self.rng.integers(0, 4)))
        return (
            re.sub(" ", lambda _: self.pick([" ", " ", " ", "  ", "\n", "\t"]), text)
            if self.rng.random() < 0.1
            else text
        )

    def mangled(self) -> str:
        """Return a filter that is hardly one, or one at the edge of what is allowed."""
        text, n = self.filter(), int(self.rng.integers(13, 20))
        place = int(self.rng.integers(len(text) + 1))
        words = re.split(r"(\W)", text)
        words[self.rng.integers(len(words))] = self.pick(
            ["", "and", "not", "in", "item", "==", "[", ")", "null", "1", '"a"']
        )
        letter = self.pick(list("()[]\"'\\.,=<>!&|-+*/%;#$@`~ \x00\n\u00a0é0aA{}^?:_"))
        values = ", ".join("7" * int(self.rng.integers(1, 3)) for _ in range(self.rng.integers(250, 262)))
        many = " + ".join(["item.count"] * int(self.rng.integers(62, 69)))
        padding = int(self.rng.integers(4_085, 4_105)) - len(text.encode())
        long = self.quoted("é" * int(self.rng.integers(2_030, 2_046)))
        ways = [
            text[:place] + text[place + 1 :], text[:place] + letter + text[place:], "".join(words), text[:place],
            f"{text} {self.filter()}", f"{'(' * n}{text}{')' * n}", "not " * n + f"({text})", f"{text} or true or",
            f"item.count == {'-' * n}7", f"item.count in [{values}]", f"{many} > 1", f"item.title == {long}",
            text + " " * padding, "", " ", letter * n, f"{{{{{text}}}}}", f"item.__class__ == {n}",
            f"__import__('os').system('{text}')", f"{text}; DROP TABLE items",
        ]  # fmt: skip
        return str(self.pick(ways))


def _spelt(number: float) -> str:
    return repr(number).replace("e+", "e")


# ── held against one another ──────────────────────────────────────────────────────────────────────────────────────


Seen = Callable[[Mapping[str, Any], str | None, int | None], bool]


def expected(text: str, rows: Sequence[Mapping[str, Any]], seen: Seen) -> set[str] | None:
    """Return the items that pass, by the naive evaluator; None where it refuses the filter."""
    try:
        naive = Naive(text, COLUMNS, NOW, seen)
    except Refused:
        return None
    return {row["item_id"] for row in rows if naive.passes(row)}


def direct(text: str, table: pl.DataFrame, seen: Seen) -> set[str] | None:
    """Return the items that pass, by the language itself; None where it refuses the filter."""
    try:
        parsed = language.parse(text)
        names = table["item_id"].to_list()
        met = [
            np.array([seen({"item_id": one}, asked.event, asked.window_s) for one in names]) for asked in parsed.seen
        ]
        return set(table["item_id"].filter(pl.Series(parsed.mask(table, now=NOW, seen=met))).to_list())
    except RequestError:
        return None


def recommender(table: pl.DataFrame) -> Recommender:
    """Return a model of a shop with these items."""
    return bb.fit(halves().train.with_tables(items=table), "itemknn", run=RunOptions(progress=False))


def history(rec: Recommender) -> dict[str, int]:
    """Return which items `USER` chose, and when."""
    past, user = rec.past, rec.user_ids.row(USER)
    assert past.time is not None
    mine = np.flatnonzero(past.user == user)
    return {rec.item_ids[past.item[one]]: int(past.time[one]) for one in mine}


def asked(place: Shop, text: str) -> tuple[set[str] | None, list[str]]:
    """Return the items that pass, by the API, and what is wrong with the answer."""
    question = {"user_id": USER, "k": 1000, "where": text}
    answer = place.ask(
        "POST", "/v1/recommendations", json.dumps(question).encode(), {"content-type": "application/json"}
    )
    if answer.status != 200:
        return None, answer.faults() or ([] if answer.status == 422 else [f"answered {answer.status}"])
    return {one["item_id"] for one in answer.json()["items"]}, answer.faults()


@stages("filters", "a filter passes what a naive evaluator passes, or is refused; it never becomes no filter", n=5_000)
def filters(effort: Effort) -> Found:
    """Hold made-up filters against the naive evaluator, directly and over the API."""
    found, step = Found(), Progress(effort, "filters")
    fixed = table_of(effort.rng(), ROWS)
    with shop(effort.folder, recommender(fixed), world=_clock()) as place:
        place.ask("PUT", "/v1/schema", {"events": [{"name": "interaction", "hides": False}]})  # else not all is seen
        chosen = history(place.engine.view.recommender)
        known = [dict(zip(fixed.columns, map(_plain, row), strict=True)) for row in fixed.rows()]

        def met(row: Mapping[str, Any], event: str | None, window: int | None) -> bool:
            then = chosen.get(row["item_id"])
            return then is not None and event in (None, "interaction") and (window is None or then >= NOW - window)

        for number in range(effort.n):
            rng = effort.rng(number)
            maker = Maker(rng)
            mangled = rng.random() < 0.35
            text, faults = maker.mangled() if mangled else maker.filter(), list[str]()
            if number % 3:
                table = table_of(rng, 12)
                rows = [dict(zip(table.columns, map(_plain, row), strict=True)) for row in table.rows()]
                right = expected(text, rows, met)
                try:
                    told = direct(text, table, met)
                except Exception as error:  # anything but a refusal is a fault
                    told, faults = None, [f"{type(error).__name__}: {error}"[:200]]
            else:
                right, (told, faults) = expected(text, known, met), asked(place, text) if text else (None, [])
                right = right if text else None
            if told != right:
                faults.append(f"it passes {_short(told)}, not {_short(right)}")
            found.note(*(f"filter {number} {text[:300]!r}: {fault}" for fault in faults))
            found.add("refused" if right is None else "mangled_and_right" if mangled else "right", 1)
            found.add("over_http", number % 3 == 0)
            if right is not None and 0 < len(right) < (ROWS if number % 3 == 0 else 12):
                found.add("some_pass", 1)
            step(number)
    return found


def _clock() -> Clock:
    clock = Clock()
    clock.at = NOW
    return clock


def _short(items: set[str] | None) -> str:
    return "nothing: it is refused" if items is None else str(sorted(items)[:12])
