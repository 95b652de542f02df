"""Splits of feature tables: which rows are learned from, which choose the model, and which are asked at the end."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.data import Rows, RowSplit, given_rows, split_rows


def table(n: int, *, time: list[int] | None = None, tasks: tuple[str, ...] = ("label",)) -> Rows:
    labels = np.zeros((n, len(tasks)), np.float32)
    labels[::2] = 1
    return Rows(pl.DataFrame({"row": range(n)}), labels, tasks, time=None if time is None else np.array(time))


def parts(split: RowSplit) -> list[list[int]]:
    return [one.table["row"].to_list() for one in (split.train, split.valid, split.test)]


def everyone(split: RowSplit) -> list[int]:
    return sorted(row for part in parts(split) for row in part)


def test_the_last_shares_by_time_are_validation_and_test() -> None:
    split = split_rows(table(10, time=[9, 1, 2, 3, 4, 5, 6, 7, 8, 0]))
    assert parts(split) == [[1, 2, 3, 4, 5, 6, 7, 9], [8], [0]]
    assert split.protocol.startswith("split=temporal cuts=0.80,0.90 hash=")


def test_rows_of_one_moment_are_never_torn_apart() -> None:
    split = split_rows(table(10, time=[0, 1, 2, 3, 4, 5, 6, 8, 8, 9]), valid=0.2, test=0.1)
    assert parts(split) == [[0, 1, 2, 3, 4, 5, 6], [7, 8], [9]]
    split = split_rows(table(10, time=[0, 1, 2, 3, 4, 5, 5, 5, 8, 9]), valid=0.2, test=0.2)
    assert parts(split) == [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9]]  # the cut would fall between the fives


TIMES = st.lists(st.integers(0, 40), min_size=12, max_size=60)


@given(TIMES, st.sampled_from([0.1, 0.2, 0.3]), st.sampled_from([0.1, 0.2, 0.3]))
def test_a_temporal_split_leaks_nothing_and_loses_nothing(time: list[int], valid: float, test: float) -> None:
    try:
        split = split_rows(table(len(time), time=time), valid=valid, test=test)
    except ConfigError as error:  # so many rows of one moment that nothing is left for a part
        assert "there is no row in the" in str(error)  # noqa: PT017
        return
    moments = [set(np.array(time)[rows].tolist()) for rows in parts(split)]
    assert max(moments[0]) < min(moments[1])
    assert max(moments[1]) < min(moments[2])
    assert everyone(split) == list(range(len(time)))


@given(st.integers(10, 80), st.sampled_from([0.1, 0.2, 0.3]), st.sampled_from([0.1, 0.25]), st.integers(0, 3))
def test_a_random_split_has_the_shares_and_follows_its_seed(n: int, valid: float, test: float, seed: int) -> None:
    one, same = (split_rows(table(n), valid=valid, test=test, seed=seed) for _ in range(2))
    assert parts(one) == parts(same)
    assert everyone(one) == list(range(n))
    assert abs(len(one.test) - test * n) <= 1
    assert abs(len(one.valid) - valid * n) <= 1
    assert one.protocol.startswith(f"split=random valid={valid:g} test={test:g} seed={seed} hash=")


def test_another_seed_is_another_split_and_a_method_that_is_named_is_taken() -> None:
    rows = table(40, time=list(range(40)))
    one, other = (parts(split_rows(rows, "random", seed=seed)) for seed in (0, 1))
    assert one != other
    assert one != parts(split_rows(rows))


def test_what_belongs_to_a_row_goes_with_it() -> None:
    n = 20
    rows = Rows(
        pl.DataFrame({"row": range(n)}), np.arange(n, dtype=np.float32)[:, None], ("label",),
        user=np.arange(n, dtype=np.int32), item=np.arange(n, dtype=np.int32), time=np.arange(n),
    )  # fmt: skip
    for part in (split_rows(rows, "random").valid, split_rows(rows).test):
        for column in (part.labels[:, 0], part.user, part.item, part.time):
            assert column is not None
            assert column.tolist() == part.table["row"].to_list()


def test_the_audit_counts_rows_and_the_share_of_1() -> None:
    rows = [table(4, tasks=("click", "buy")) for _ in range(3)]
    rows[1].labels[1:3, 1] = np.nan  # of 1, 0, 1, 0 the first and the last are left
    rows[2].labels[:, 1] = np.nan
    assert given_rows(*rows).audit.to_dicts() == [
        {"part": "train", "rows": 4, "click": 0.5, "buy": 0.5},
        {"part": "valid", "rows": 4, "click": 0.5, "buy": 0.5},
        {"part": "test", "rows": 4, "click": 0.5, "buy": None},
    ]


def test_given_parts_are_taken_as_they_are_and_their_protocol_knows_them() -> None:
    one, other = (given_rows(table(4), table(2), table(n)) for n in (2, 3))
    assert parts(one) == [[0, 1, 2, 3], [0, 1], [0, 1]]
    assert one.protocol.startswith("split=given hash=")
    assert one.protocol == given_rows(table(4), table(2), table(2)).protocol != other.protocol


def test_parts_of_other_labels_and_empty_ones_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"the test part has labels \('buy',\), train has \('label',\)\. Name the same"
    ):
        given_rows(table(4), table(2), table(2, tasks=("buy",)))
    with pytest.raises(ConfigError, match=r"there is no row in the valid part \(split=given hash=\w+\)"):
        given_rows(table(4), table(0), table(2))
    with pytest.raises(ConfigError, match=r"there is no row in the train part .*Take other shares"):
        split_rows(table(9, time=[5] * 9))


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r'no split of rows is named "tempral"\. Did you mean "temporal"\? Allowed'):
        split_rows(table(9), "tempral")
    with pytest.raises(ConfigError, match=r"a temporal split needs times\. Name their column with time=…"):
        split_rows(table(9), "temporal")
    with pytest.raises(ConfigError, match=r"test is 0; it must be above 0\. Try test = 0\.1\."):
        split_rows(table(9), test=0)
    with pytest.raises(ConfigError, match=r"valid \+ test is 1\.0; it must leave something to train on"):
        split_rows(table(9), valid=0.5, test=0.5)


def test_equal_tables_have_equal_fingerprints() -> None:
    rows = table(5)
    assert rows.fingerprint == table(5).fingerprint
    others = [
        table(6), table(5, tasks=("click",)), rows.take(np.array([1, 0, 2, 3, 4])),
        Rows(rows.table.rename({"row": "line"}), rows.labels, rows.tasks),
        Rows(rows.table, 1 - rows.labels, rows.tasks),
    ]  # fmt: skip
    assert len({one.fingerprint for one in (rows, *others)}) == 6


def test_rows_of_lists_have_a_fingerprint_too() -> None:
    one, other = (Rows(pl.DataFrame({"tags": tags}), np.zeros((2, 1), np.float32), ("label",))
                  for tags in ([["a"], ["b", "c"]], [["a"], ["b", "d"]]))  # fmt: skip
    assert one.fingerprint != other.fingerprint


def test_tables_one_after_another() -> None:
    one, other = table(2, time=[3, 4]), table(1)
    both = Rows.concat([one, other])
    assert both.table["row"].to_list() == [0, 1, 0]
    assert both.labels.tolist() == [[1], [0], [1]]
    assert both.time is None  # where only some have times, the whole has none
    times = Rows.concat([one, one]).time
    assert times is not None
    assert times.tolist() == [3, 4, 3, 4]
