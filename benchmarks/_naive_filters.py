"""The filter language once more, written from docs/filters.md alone: slow, obvious, a row of values at a time.

It shares nothing with bowerbird.pipeline, so that the two can be held against one another.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]  # numbers, texts, truth values, lists of them, or None; moments as seconds since 1970
BYTES, DEPTH, VALUES, SIGNS, LARGEST = 4_096, 16, 256, 64, 2**63 - 1
UNITS = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}
COMPARE = ("==", "!=", "<=", ">=", "<", ">")
TOKENS = re.compile(
    r"""[ \t\n\r\f\v]*(?:
    (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)(?P<unit>[A-Za-z_][A-Za-z_0-9]*)?
    |(?P<word>[A-Za-z_][A-Za-z_0-9]*)
    |"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>(?:\\.|[^'\\])*)'
    |(?P<sign>==|!=|<=|>=|[<>+*/(),.-]|\[|\]))""",
    re.VERBOSE | re.DOTALL,
)


class Refused(Exception):
    """The text is no filter of these columns."""


@dataclass(frozen=True)
class Column:
    """What the values of a column are: number, text, truth, nothing or other; `many` of them in a list."""

    kind: str
    many: bool = False


@dataclass(frozen=True)
class Term:
    """A part of a filter: what it is, and its value in a row."""

    kind: str
    of: Callable[[Row], Any]
    many: bool = False
    spelt: bool = False  # a value that the filter spells out
    null: bool = False


@dataclass(frozen=True)
class Token:
    kind: str
    value: Any
    duration: bool = False


def tokens_of(text: str) -> list[Token]:
    """Return the words, numbers, texts and signs of a filter."""
    found, place, text = [], 0, text.rstrip(" \t\n\r\f\v")
    while place < len(text):
        match = TOKENS.match(text, place)
        if match is None:
            raise Refused(f"at {place}")
        place = match.end()
        if match["number"] is not None:
            found.append(_number(match["number"], match["unit"]))
        elif match["word"] is not None:
            found.append(Token("word", match["word"]))
        elif match["sign"] is not None:
            found.append(Token("sign", match["sign"]))
        else:
            found.append(Token("text", _plain(match["double"] if match["double"] is not None else match["single"])))
    return [*found, Token("end", "")]


def _number(digits: str, unit: str | None) -> Token:
    if unit is not None and (unit not in UNITS or not digits.isdecimal()):
        raise Refused(f"{digits}{unit} is no duration")
    value = int(digits) * UNITS.get(unit or "", 1) if digits.isdecimal() else float(digits)
    if value > LARGEST:
        raise Refused("too large")
    return Token("number", value, unit is not None)


def _plain(quoted: str) -> str:
    out, letters = "", iter(quoted)
    for letter in letters:
        if letter == "\\":
            letter = next(letters)
            if letter not in "\\\"'nt":
                raise Refused(f"\\{letter} is no escape")
            letter = {"n": "\n", "t": "\t"}.get(letter, letter)
        out += letter
    return out


class Naive:
    """A filter over columns, parsed; `passes` tells of one row."""

    def __init__(
        self, text: str, columns: Mapping[str, Column], now: int, seen: Callable[[Row, str | None, int | None], bool]
    ) -> None:
        """`seen` tells whether whoever asks met a row's item, as what, and within how many seconds."""
        if len(text.encode()) > BYTES:
            raise Refused("too long")
        self.columns, self.now, self.seen = columns, now, seen
        self.tokens, self.depth, self.signs = tokens_of(text), 0, 0
        self.term = truth(self._or())
        if self.tokens[0].kind != "end":
            raise Refused(f"{self.tokens[0].value} is left")

    def passes(self, row: Row) -> bool:
        """Return whether a row passes."""
        return bool(self.term.of(row))

    def _is(self, *values: str, kind: str = "") -> str:
        """Take the next token where it is one of these, and return it."""
        one = self.tokens[0]
        if one.kind in (("word", "sign") if not kind else (kind,)) and one.value in values:
            return str(self.tokens.pop(0).value)
        return ""

    def _must(self, value: str) -> None:
        if not self._is(value):
            raise Refused(f"{value} expected")

    def _deeper(self, part: Callable[[], Term]) -> Term:
        self.depth += 1
        if self.depth > DEPTH:
            raise Refused("too deep")
        term = part()
        self.depth -= 1
        return term

    def _or(self) -> Term:
        terms = [self._and()]
        while self._is("or"):
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else _joined(terms, any)

    def _and(self) -> Term:
        terms = [self._not()]
        while self._is("and"):
            terms.append(self._not())
        return terms[0] if len(terms) == 1 else _joined(terms, all)

    def _not(self) -> Term:
        return _opposite(self._deeper(self._not)) if self._is("not") else self._compared()

    def _compared(self) -> Term:
        left = self._sum()
        if self._is("in"):
            return self._held(left)
        if self._is("not"):
            self._must("in")
            return _opposite(self._held(left))
        sign = self._is(*COMPARE)
        if not sign:
            return left
        right = self._sum()
        if sign in ("==", "!=") and (left.null or right.null):
            one = right if left.null else left
            if one.null:
                raise Refused("null is compared with null")
            return Term("truth", lambda row: (one.of(row) is None) == (sign == "=="))
        return comparison(sign, left, right)

    def _held(self, one: Term) -> Term:
        if self._is("["):
            return one_of(one, self._list())
        return within(one, self._sum())

    def _list(self) -> list[Term]:
        found: list[Term] = []
        while not self._is("]"):
            if found:
                self._must(",")
                if self._is("]"):
                    raise Refused("a comma before the end")
            term = self._signed()
            if not term.spelt or term.kind != (found or [term])[0].kind:
                raise Refused("no list of values")
            found.append(term)
            if len(found) > VALUES:
                raise Refused("too many values")
        return found

    def _sum(self) -> Term:
        term = self._product()
        while sign := self._is("+", "-"):
            term = self._computed(sign, term, self._product)
        return term

    def _product(self) -> Term:
        term = self._signed()
        while sign := self._is("*", "/"):
            term = self._computed(sign, term, self._signed)
        return term

    def _computed(self, sign: str, left: Term, part: Callable[[], Term]) -> Term:
        self.signs += 1
        if self.signs > SIGNS:
            raise Refused("too much arithmetic")
        return arithmetic(sign, left, part())

    def _signed(self) -> Term:
        if not self._is("-"):
            return self._value()
        term = self._deeper(self._signed)
        if term.spelt and term.kind == "number":
            value = term.of({})
            return Term("number", lambda row: -value, spelt=True)
        return arithmetic("-", Term("number", lambda row: 0), term)

    def _value(self) -> Term:
        one = self.tokens.pop(0)
        if one.kind in ("number", "text"):
            return Term(one.kind, lambda row: one.value, spelt=True)
        if one == Token("sign", "("):
            term = self._deeper(self._or)
            self._must(")")
            return term
        if one.kind != "word":
            raise Refused(f"{one.value!r} is no value")
        if one.value in ("true", "false"):
            return Term("truth", lambda row: one.value == "true", spelt=True)
        if one.value == "null":
            return Term("nothing", lambda row: None, null=True)
        named: dict[str, Callable[[], Term]] = {"now": self._now, "seen": self._seen, "item": self._column}
        if one.value not in named:
            raise Refused(f"{one.value} is no word")
        return named[one.value]()

    def _now(self) -> Term:
        self._must("(")
        self._must(")")
        return Term("number", lambda row: self.now)

    def _seen(self) -> Term:
        self._must("(")
        event, window = None, None
        if self.tokens[0].kind == "text":
            event = self.tokens.pop(0).value
            if self._is(","):
                if not self.tokens[0].duration:
                    raise Refused("no duration")
                window = self.tokens.pop(0).value
        self._must(")")
        return Term("truth", lambda row: self.seen(row, event, window))

    def _column(self) -> Term:
        bracket, one = self._is("[", "."), self.tokens.pop(0)
        if one.kind != {"[": "text", ".": "word"}.get(bracket):
            raise Refused("no name of a column")
        if bracket == "[":
            self._must("]")
        if one.value not in self.columns:
            raise Refused(f"no column {one.value}")
        column = self.columns[one.value]
        return Term(column.kind, lambda row: row[one.value], column.many)


def truth(term: Term) -> Term:
    """Return a term that is true or false, never empty."""
    if term.null or term.many or term.kind not in ("truth", "nothing"):
        raise Refused("neither true nor false")
    return Term("truth", lambda row: bool(term.of(row)))


def _joined(terms: Sequence[Term], join: Callable[[Sequence[bool]], bool]) -> Term:
    parts = [truth(one) for one in terms]
    return Term("truth", lambda row: join([part.of(row) for part in parts]))


def _opposite(term: Term) -> Term:
    one = truth(term)
    return Term("truth", lambda row: not one.of(row))


def _alike(one: Term, kind: str) -> None:
    """Raise where a single value cannot be compared with values of a kind."""
    if one.null or one.many or "other" in (one.kind, kind):
        raise Refused("no single value")
    if "nothing" not in (one.kind, kind) and one.kind != kind:
        raise Refused(f"{one.kind} beside {kind}")


def _same(one: Any, other: Any) -> tuple[Any, Any]:
    """Return two numbers as they are compared: whole ones exactly, others as floats."""
    if isinstance(one, float) or isinstance(other, float):
        return float(one), float(other)
    return one, other


def comparison(sign: str, left: Term, right: Term) -> Term:
    """Return whether a comparison holds; false where a side is empty."""
    if right.many or right.null:
        raise Refused("no single value")
    _alike(left, right.kind)
    if "truth" in (left.kind, right.kind) and sign not in ("==", "!="):
        raise Refused("truth has no order")

    def holds(row: Row) -> bool:
        one, other = left.of(row), right.of(row)
        if one is None or other is None:
            return False
        one, other = _same(one, other)
        return bool({"==": one == other, "!=": one != other, "<": one < other, "<=": one <= other,
                     ">": one > other, ">=": one >= other}[sign])  # fmt: skip

    return Term("truth", holds)


def one_of(one: Term, values: Sequence[Term]) -> Term:
    """Return whether a value is one of those that are spelt out."""
    if one.null:
        raise Refused("null is no value")
    for value in values:
        _alike(one, value.kind)
    spelt = [value.of({}) for value in values]
    exact = not any(isinstance(value, float) for value in spelt)

    def holds(row: Row) -> bool:
        said = one.of(row)
        if said is None or not spelt:
            return False
        if one.kind == "number" and not (exact and isinstance(said, int)):
            return float(said) in [float(value) for value in spelt]
        return said in spelt

    return Term("truth", holds)


def within(one: Term, held: Term) -> Term:
    """Return whether a list, or a text with bars in it, holds a value."""
    if held.null or not (held.many or held.kind in ("text", "nothing")):
        raise Refused("holds nothing")
    _alike(one, held.kind)

    def holds(row: Row) -> bool:
        said, values = one.of(row), held.of(row)
        if said is None or values is None:
            return False
        values = values if held.many else values.split("|")
        return any(a == b for a, b in (_same(said, value) for value in values if value is not None))

    return Term("truth", holds)


def arithmetic(sign: str, left: Term, right: Term) -> Term:
    """Return a sum, difference, product or ratio; empty where it is no number, or divides by zero."""
    for one in (left, right):
        if one.null or one.many or one.kind not in ("number", "nothing"):
            raise Refused(f"{sign} of {one.kind}")

    def value(row: Row) -> float | None:
        one, other = left.of(row), right.of(row)
        if one is None or other is None or (sign == "/" and other == 0):
            return None
        one, other = float(one), float(other)
        result = one / other if sign == "/" else {"+": one + other, "-": one - other, "*": one * other}[sign]
        return None if math.isnan(result) else result

    return Term("number", value)
