"""Inference: what the columns of a table seem to be, as a person would write them down who sees names and values."""

import re
from collections.abc import Iterable

import polars as pl

from bowerbird.data.rows import PROPENSITY
from bowerbird.features.columns import Bag, Categorical, Column, Numeric, Vector
from bowerbird.features.values import empty, inner

LOOK = 100_000  # rows looked at
FEW = 12  # distinct whole numbers up to which a column of them holds categories
MANY = 24  # rows from which distinct values all over say something
OFTEN = 10  # times that codes are there, on average
SEPARATORS = ("|", ";", ",", " ")  # of a text that holds several values
MARKS = "|;"  # those that language does not make by itself
WORDS = 1_000  # distinct parts there may be where language could have made the separator,
FOLD = 4  # and how often as many distinct texts there must be
SEVERAL = 0.2  # share of texts with a separator from which they are lists
REPEATED = 0.5  # share of distinct texts of several words above which they are titles
SINGLE = 0.9  # … of distinct texts of one word above which they name rows
FAMILY = 3  # columns named alike that agree on their kind
SECONDS = 100_000_000  # whole numbers from here on, in a column named after time, are moments
CODES = {
    "brand", "category", "city", "class", "code", "country", "currency", "device", "gender", "hour", "id", "ip",
    "item", "kind", "language", "month", "occupation", "postcode", "product", "region", "sex", "sku", "state", "type",
    "user", "weekday", "zip", "zipcode",
}  # fmt: skip
AMOUNTS = {
    "age", "amount", "cost", "count", "days", "distance", "duration", "height", "hours", "income", "length",
    "minutes", "num", "number", "price", "rate", "rating", "salary", "score", "seconds", "size", "sum", "total",
    "weight", "width", "year", "years",
}  # fmt: skip
TITLE = "title"
ENDINGS = {"image": "jpe?g|png|webp|gif|bmp|tiff?", "audio": "wav|flac|ogg|oga|opus|mp3|aiff?"}  # of names of files
TIMES = {"date", "datetime", "time", "timestamp", "ts"}


def infer(table: pl.DataFrame, *, ids: Iterable[str] = ()) -> tuple[Column, ...]:
    """Return what each column seems to be; what only names a row is left out.

    `ids` are columns whose values stand for someone or something, whatever their type: they are categories. Others:

    - Lists are a vector where they hold fractions and have one length, else a bag. So are texts of which a fifth or
      more hold a separator and whose parts come back far more often than the whole.
    - Texts are categories. Left out are titles (several words, mostly seen once) and what is seen once nearly always.
    - Fractions are numbers. Whole numbers are categories where the name says so ("zip_code", "device"), where there
      are 12 distinct ones or fewer, or where they begin far from zero and each comes back often, which amounts do not
      ("year" and its like are spared by name); else they are numbers. Columns named alike but for a numeral, such as
      I1 to I13, are of one kind: what most of them are.
    - Times, propensities, columns without any value, and ids of the rows themselves are left out.

    Where a rule is wrong, write the columns down (`to_toml`) and change them.
    """
    named = set(ids)
    look = table.head(LOOK)
    found = {name: Categorical(name=name) if name in named else _guess(look[name]) for name in table.columns}
    _agree(look, found, named)
    return tuple(column for column in found.values() if column is not None)


def said(table: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return which columns of an item table seem to be content, by kind: text, image, audio, vector, attributes.

    Texts that name pictures or sounds by their endings are those; other texts, mostly of several words and seen once,
    and whatever is called title, are texts. Categories, tags and numbers are attributes, lists of fractions vectors.
    """
    look = table.head(LOOK)
    found: dict[str, list[str]] = {kind: [] for kind in ("text", "image", "audio", "vector", "attributes")}
    guessed = {column.name: column for column in infer(look)}
    for name in look.columns:
        column, there = guessed.get(name), look[name].filter(~empty(look[name]))
        if there.dtype == pl.String and not there.is_empty():
            ends = {kind: there.str.contains(rf"(?i)\.({endings})$").mean() for kind, endings in ENDINGS.items()}
            kind = max(ends, key=lambda one: float(ends[one] or 0))  # type: ignore[arg-type]
            several = float(there.str.contains(" ").mean() or 0)  # type: ignore[arg-type]
            if float(ends[kind] or 0) > SINGLE:  # type: ignore[arg-type]
                found[kind].append(name)
                continue
            if name == TITLE or (column is None and several > REPEATED):
                found["text"].append(name)
                continue
        if isinstance(column, Vector):
            found["vector"].append(name)
        elif column is not None:
            found["attributes"].append(name)
    return {kind: tuple(names) for kind, names in found.items()}


def _guess(values: pl.Series) -> Column | None:
    there, kind = values.filter(~empty(values)), values.dtype
    if values.name == PROPENSITY or there.is_empty() or kind.is_temporal() or kind in (pl.Object, pl.Binary, pl.Struct):
        return None
    if isinstance(kind, pl.List | pl.Array):
        return _guess_lists(there)
    if kind == pl.Boolean:
        return Categorical(name=values.name)
    if kind.is_numeric():
        return _guess_whole(there) if _whole(values) else Numeric(name=values.name)
    return _guess_text(there.cast(pl.String))


def _guess_lists(lists: pl.Series) -> Column | None:
    lists = lists.arr.to_list() if isinstance(lists.dtype, pl.Array) else lists
    lengths = lists.list.len().unique()
    if inner(lists.dtype).is_nested():
        return None
    if inner(lists.dtype).is_float() and len(lengths) == 1 and lengths[0]:
        return Vector(name=lists.name, size=lengths[0])
    return Bag(name=lists.name)


def _whole(values: pl.Series) -> bool:
    """Return whether values are whole numbers; empty cells may have turned these into fractions."""
    if not values.dtype.is_float():
        return values.dtype.is_integer()
    there = values.filter(~empty(values))
    return len(there) < len(values) and bool((there == there.floor()).all())


def _guess_whole(numbers: pl.Series) -> Column | None:
    name, distinct, last = numbers.name, numbers.n_unique(), _last_word(numbers.name)
    positive = numbers.filter(numbers >= 0)
    lowest = float(positive.min()) if len(positive) else 0.0  # type: ignore[arg-type]
    if last in TIMES and lowest >= SECONDS:
        return None
    if last in CODES:
        return None if distinct == len(numbers) >= MANY else Categorical(name=name)
    far = lowest > distinct and len(numbers) >= OFTEN * distinct
    if distinct <= FEW or (far and last not in AMOUNTS):
        return Categorical(name=name)
    return Numeric(name=name)


def _last_word(name: str) -> str:
    """Return the last word of a name that is no numeral: "id" of "user_id", "userId" and "id_2"."""
    words = re.findall(r"[A-Z]*[a-z]+|[A-Z]+", name)
    return words[-1].lower() if words else ""


def _guess_text(texts: pl.Series) -> Column | None:
    name, distinct, many = texts.name, texts.n_unique(), len(texts) >= MANY
    for separator in SEPARATORS:
        if _holds(texts, separator):
            parts = texts.str.split(separator).explode().n_unique()
            if parts <= (distinct if separator in MARKS else min(WORDS, distinct / FOLD)):
                return Bag(name=name, separator=separator)
    if _last_word(name) in CODES:
        return None if many and distinct == len(texts) else Categorical(name=name)
    most = REPEATED if _holds(texts, " ") else SINGLE
    return None if many and distinct > most * len(texts) else Categorical(name=name)


def _holds(texts: pl.Series, separator: str) -> bool:
    return texts.str.contains(separator, literal=True).sum() > SEVERAL * len(texts)


def _agree(table: pl.DataFrame, found: dict[str, Column | None], named: set[str]) -> None:
    """Make one kind of whole numbers in columns that are named alike but for a numeral."""
    families: dict[str, list[Column]] = {}
    for name, column in found.items():
        if column is not None and name not in named and table[name].dtype.is_numeric() and re.search(r"\d", name):
            families.setdefault(re.sub(r"\d+", "0", name), []).append(column)
    for family in families.values():
        numeric = 2 * sum(isinstance(one, Numeric) for one in family) > len(family)
        for one in family if len(family) >= FAMILY else ():
            if _whole(table[one.name]):
                found[one.name] = Numeric(name=one.name) if numeric else Categorical(name=one.name)
