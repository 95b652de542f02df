"""Splits of feature tables: by time where rows have one, else at random; or as they were given."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import polars as pl

from bowerbird.core import ConfigError, check, did_you_mean, numpy_stream
from bowerbird.data.rows import Rows

METHODS = ("temporal", "random")


@dataclass(frozen=True, eq=False)
class RowSplit:
    """Train, validation and test rows of the same columns."""

    train: Rows
    valid: Rows
    test: Rows
    protocol: str

    @property
    def audit(self) -> pl.DataFrame:
        """What each part holds: rows, and the share of 1 of every label where it was observed, null where nowhere."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        sizes = pl.DataFrame({"part": list(parts), "rows": [len(rows) for rows in parts.values()]})
        labels = [pl.DataFrame(rows.labels.astype(np.float64), schema=list(rows.tasks)) for rows in parts.values()]
        return sizes.hstack(pl.concat([one.fill_nan(None).mean() for one in labels]))


def split_rows(
    rows: Rows, method: str | None = None, *, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> RowSplit:
    """Cut a feature table: the last shares by time ("temporal", the default with times), or random ones.

    Rows of one moment are never torn apart. Raises `ConfigError` where an option does not fit.
    """
    method = method or ("temporal" if rows.time is not None else "random")
    if method not in METHODS:
        allowed = ", ".join(METHODS)
        raise ConfigError(f'no split of rows is named "{method}".{did_you_mean(method, METHODS)} Allowed: {allowed}.')
    for name, share in (("valid", valid), ("test", test)):
        check(share > 0, name, share, "must be above 0", try_instead=0.1)
    check(valid + test < 1, "valid + test", valid + test, "must leave something to train on")
    n, edges = len(rows), np.array([1 - valid - test, 1 - test])
    if method == "temporal":
        if rows.time is None:
            raise ConfigError('a temporal split needs times. Name their column with time=…, or take method="random".')
        ordered = np.sort(rows.time, kind="stable")
        cuts = ordered[np.minimum(np.round(edges * n).astype(int), n - 1)]
        part = np.searchsorted(cuts, rows.time, side="right")
        protocol = f"split=temporal cuts={edges[0]:.2f},{edges[1]:.2f} hash={rows.fingerprint[:8]}"
    else:
        place = np.empty(n, np.int64)
        place[numpy_stream(seed, "split").permutation(n)] = np.arange(n)
        part = np.searchsorted(np.round(edges * n), place, side="right")
        protocol = f"split=random valid={valid:g} test={test:g} seed={seed} hash={rows.fingerprint[:8]}"
    return given_rows(*(rows.take(part == number) for number in range(3)), protocol=protocol)


def given_rows(train: Rows, valid: Rows, test: Rows, *, protocol: str = "") -> RowSplit:
    """Return parts that were cut elsewhere; raises `ConfigError` where one is empty or has other labels."""
    if not protocol:
        digest = sha256("".join(part.fingerprint for part in (train, valid, test)).encode())
        protocol = f"split=given hash={digest.hexdigest()[:8]}"
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        if not len(part):
            raise ConfigError(f"there is no row in the {name} part ({protocol}). Take other shares, or other parts.")
        if part.tasks != train.tasks:
            raise ConfigError(f"the {name} part has labels {part.tasks}, train has {train.tasks}. Name the same ones.")
    return RowSplit(train, valid, test, protocol)
