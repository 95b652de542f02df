"""The filter language: which items a request, a scenario, a board or an export means.

    item.price < 30 and "drama" in item.tags and item.published_at > now() - 7d and not seen("purchase", 30d)

A text is parsed to a tree, and the tree is bound to a table of items, which gives one Polars expression. No part of a
filter is run as Python, as SQL or as a regular expression. The grammar, loosest first:

    or         = and ("or" and)*
    and        = not ("and" not)*
    not        = "not" not | comparison
    comparison = sum [("==" | "!=" | "<" | "<=" | ">" | ">=") sum | ["not"] "in" (list | sum)]
    sum        = product (("+" | "-") product)*
    product    = sign (("*" | "/") sign)*
    sign       = "-" sign | value
    value      = number | duration | text | "true" | "false" | "null" | column | "now()" | seen | "(" or ")"
    column     = "item" ("." word | "[" text "]")
    seen       = "seen" "(" [text ["," duration]] ")"
    list       = "[" [literal ("," literal)*] "]"

A comparison with an empty value is false, so that `not` of it is true. NaN is empty, and so is what is divided by 0.

Shapes: I items.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
import polars as pl

from bowerbird.core import RequestError, did_you_mean
from bowerbird.pipeline import conditions
from bowerbird.pipeline.conditions import COMPARE, Literal, Node, Scope

MAX_BYTES, MAX_DEPTH, MAX_VALUES = 4096, 16, 256
MAX_SIGNS = 64  # of arithmetic: Polars takes time that grows with the square of how deep they lie in one another
LARGEST = 2**63 - 1
WORDS = ("and", "or", "not", "in", "true", "false", "null", "item", "now", "seen")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t"}
INSTEAD = {"=": "==", "&": "and", "|": "or", "!": "not"}  # of what other languages write
VALUE = 'a value, such as 30, "drama", 7d, item.price, now() or seen()'
TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?P<unit>[A-Za-z_]\w*)?)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<sign>==|!=|<=|>=|[-+*/<>()\[\],.])
    |(?P<end>\Z)|(?P<wrong>.))""",
    re.ASCII | re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True)
class Seen:
    """A question about a person: which items they met."""

    event: str | None = None  # the event type; None is any
    window_s: int | None = None  # how far back; None is ever


@dataclass(frozen=True)
class Filter:
    """A filter that was parsed by `parse`."""

    text: str
    columns: tuple[str, ...]  # the item columns that it names, each once, in order
    seen: tuple[Seen, ...]  # what it asks about a person, each once, in order
    _tree: Node = field(repr=False, compare=False)

    def mask(self, items: pl.DataFrame, *, now: int, seen: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Return which items pass, bool (I,); `now` is in seconds since 1970.

        `seen` holds, for each of `self.seen`, which items the person met, bool (I,). Raises `RequestError` for a column
        that items do not have, or whose type does not suit what it is compared with.
        """
        assert [one.shape for one in seen] == len(self.seen) * [(len(items),)]
        passes = conditions.truth(self._tree, Scope(items.schema, now, seen))
        table = items.with_columns(item_id=passes)  # not select: a constant becomes as long as the table
        mask: np.ndarray = table["item_id"].to_numpy()
        return mask


@lru_cache(maxsize=128)  # requests repeat their filters
def parse(text: str) -> Filter:
    """Return a filter; raises `RequestError` that says at which character, counted from 1, what was expected."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise _wrong(error.start, "half of a character. Write the filter in UTF-8.") from None
    if size > MAX_BYTES:
        raise RequestError(f"the filter has {size:,} bytes; {MAX_BYTES:,} are allowed. Shorten it.")
    parser = _Parser(text)
    tree = parser.whole()
    empty = Scope(dict.fromkeys(parser.columns, pl.Null()), 0, [np.zeros(0, bool) for _ in parser.seen])
    conditions.truth(tree, empty)  # what suits no table is refused now
    return Filter(text, tuple(parser.columns), tuple(parser.seen), tree)


@dataclass(frozen=True)
class _Token:
    text: str  # as written; "" at the end
    kind: str  # a group of TOKEN
    at: int  # place in the filter, from 0
    unit: str  # behind a number


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the parts of a text, then an end."""
    for match in TOKEN.finditer(text):
        kind = match.lastgroup or ""
        token = _Token(match[kind], kind, match.start(kind), match["unit"] or "")
        if kind == "wrong":
            raise _stray(token)
        yield token


def _stray(token: _Token) -> RequestError:
    if token.text in "\"'":
        return _wrong(token.at, f"the text that begins here does not end. Close it with {token.text}.")
    instead = INSTEAD.get(token.text)
    mend = f"Write {instead}." if instead else 'Quote texts, and the names of columns: item["the name"].'
    return _wrong(token.at, f"{token.text!r} is no part of a filter. {mend}")


def _wrong(place: int, what: str) -> RequestError:
    return RequestError(f"the filter is wrong at character {place + 1}: {what}")


class _Parser:
    """Recursive descent: a method for each line of the grammar."""

    def __init__(self, text: str) -> None:
        self.tokens, self.place = list(_tokens(text)), 0
        self.depth, self.signs = 0, 0
        self.columns: dict[str, None] = {}
        self.seen: dict[Seen, int] = {}  # to its place

    def whole(self) -> Node:
        """Return the tree of the whole text."""
        tree = self._or()
        self._expect("", "an operator such as <, and, or, or the end")
        return tree

    @property
    def _next(self) -> _Token:
        return self.tokens[self.place]

    def _take(self, *texts: str) -> str:
        """Return the next token's text and step behind it where it is one of these, else return nothing."""
        text = self._next.text
        if text not in texts:
            return ""
        self.place += 1
        return text

    def _expect(self, text: str, expected: str = "") -> None:
        if self._next.text != text:
            raise self._unexpected(expected or text)
        self.place += 1

    def _unexpected(self, expected: str) -> RequestError:
        token = self._next
        if token.kind == "word" and token.text not in WORDS:
            meant, words = did_you_mean(token.text, WORDS), ", ".join(WORDS)
            mend = f'Columns are written item.{token.text}, texts "{token.text}"; the words are {words}.'
            return _wrong(token.at, f'"{token.text}" is no word of filters.{meant} {mend}')
        return _wrong(token.at, f"found {token.text or 'the end'}, expected {expected}.")

    def _nested(self, part: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            too_deep = f"more than {MAX_DEPTH} parentheses, nots and minus signs in one another. Write it flatter."
            raise _wrong(self._next.at, too_deep)
        node = part()
        self.depth -= 1
        return node

    def _or(self) -> Node:
        return self._joined("or", self._and)

    def _and(self) -> Node:
        return self._joined("and", self._not)

    def _joined(self, word: str, part: Callable[[], Node]) -> Node:
        nodes = [part()]
        while self._take(word):
            nodes.append(part())
        return nodes[0] if len(nodes) == 1 else partial(conditions.joined, word, nodes)

    def _not(self) -> Node:
        return partial(conditions.negated, self._nested(self._not)) if self._take("not") else self._comparison()

    def _comparison(self) -> Node:
        left = self._sum()
        if self._take("in"):
            return self._in(left)
        if self._take("not"):
            self._expect("in")
            return partial(conditions.negated, self._in(left))
        sign = self._take(*COMPARE)
        if not sign:
            return left
        right = self._sum()
        if self._next.text in COMPARE:
            raise _wrong(self._next.at, "comparisons make no chain. Write 1 < item.price and item.price < 5.")
        if sign in ("==", "!=") and (left is conditions.null or right is conditions.null):
            present = partial(conditions.present, right if left is conditions.null else left)
            return present if sign == "!=" else partial(conditions.negated, present)
        return partial(conditions.compared, sign, left, right)

    def _in(self, node: Node) -> Node:
        if self._take("["):
            return partial(conditions.one_of, node, self._list())
        return partial(conditions.within, node, self._sum())

    def _list(self) -> list[Literal]:
        """Return the values up to the bracket that closes a list."""
        values: list[Literal] = []
        while not self._take("]"):
            if values:
                self._expect(",", ", or ]")
            at, value = self._next.at, self._sign()
            if not isinstance(value, Literal) or value.kind != (values or [value])[0].kind:
                raise _wrong(at, "a list spells out numbers, or texts, or true and false.")
            if len(values) == MAX_VALUES:
                raise _wrong(at, f"a list has {MAX_VALUES} values at most.")
            values.append(value)
        return values

    def _sum(self) -> Node:
        return self._computed(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._computed(("*", "/"), self._sign)

    def _computed(self, signs: tuple[str, str], part: Callable[[], Node]) -> Node:
        node = part()
        while sign := self._take(*signs):
            self.signs += 1
            if self.signs > MAX_SIGNS:
                raise _wrong(self._next.at, f"a filter has {MAX_SIGNS} of + - * and / at most.")
            node = partial(conditions.computed, sign, node, part())
        return node

    def _sign(self) -> Node:
        if not self._take("-"):
            return self._value()
        node = self._nested(self._sign)
        if isinstance(node, Literal) and not isinstance(node.value, str | bool):
            return Literal(f"-{node.said}", -node.value)
        return partial(conditions.computed, "-", Literal("0", 0), node)

    def _value(self) -> Node:
        token = self._next
        if self._take("("):
            node = self._nested(self._or)
            self._expect(")")
            return node
        if word := self._take("true", "false"):
            return Literal(word, word == "true")
        if self._take("null"):
            return conditions.null
        if self._take("now"):
            self._expect("(")
            self._expect(")")
            return conditions.now
        if self._take("seen"):
            return self._met()
        if self._take("item"):
            return self._column()
        return Literal(token.text, self._number() if token.kind == "number" else self._text(VALUE))

    def _column(self) -> Node:
        if self._take("["):
            name = self._text('the name of a column, such as "price"')
            self._expect("]")
        else:
            self._expect(".", "the name of a column: item.price")
            name = self._next.text
            if self._next.kind != "word":
                raise self._unexpected('a word. Other names are written item["the name"]')
            self.place += 1
        self.columns[name] = None
        return partial(conditions.column, name)

    def _met(self) -> Node:
        event, window_s = None, None
        self._expect("(")
        if self._next.text != ")":
            event = self._text('an event type such as "purchase"')
            if self._take(","):
                if not self._next.unit:
                    raise self._unexpected("a duration such as 30d")
                window_s = int(self._number())
        self._expect(")")
        place = self.seen.setdefault(Seen(event, window_s), len(self.seen))
        return partial(conditions.seen, place)

    def _number(self) -> int | float:
        token = self._next
        digits = token.text.removesuffix(token.unit)
        whole = digits.isdigit()
        if token.unit and not (whole and token.unit in SECONDS):
            raise _wrong(token.at, f"{token.text} is no duration. Write a whole number and s, m, h, d or w: 30d.")
        value = int(digits) * SECONDS.get(token.unit, 1) if whole else float(digits)
        if value > LARGEST:
            raise _wrong(token.at, f"a number is {LARGEST:,} at most.")
        self.place += 1
        return value

    def _text(self, expected: str) -> str:
        token = self._next
        if token.kind != "text":
            raise self._unexpected(expected)

        def plain(escape: re.Match[str]) -> str:
            if escape[1] not in ESCAPES:
                raise _wrong(token.at + 1 + escape.start(), f"{escape[0]} is no escape. Write \\\\ for a backslash.")
            return ESCAPES[escape[1]]

        self.place += 1
        return re.sub(r"\\(.)", plain, token.text[1:-1], flags=re.DOTALL)
