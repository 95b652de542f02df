import numpy as np
import polars as pl
import pytest

from bowerbird.core import DataError
from bowerbird.data import Rows


@pytest.fixture
def rows() -> Rows:
    labels = np.array([[1, 0], [0, np.nan], [1, 1]], np.float32)
    return Rows(pl.DataFrame({"age": [10, 20, 30]}), labels, ("click", "buy"), user=np.array([2, 1, 0], np.int32))


def test_rows_are_counted(rows: Rows) -> None:
    assert len(rows) == 3


@pytest.mark.parametrize("keep", [np.array([True, False, True]), np.array([0, 2])])
def test_rows_are_taken_by_mask_or_by_index(rows: Rows, keep: np.ndarray) -> None:
    taken = rows.take(keep)
    assert taken.table["age"].to_list() == [10, 30]
    assert taken.labels.tolist() == [[1, 0], [1, 1]]
    assert taken.user is not None
    assert taken.user.tolist() == [2, 0]
    assert taken.item is None


def test_rows_may_be_taken_in_another_order(rows: Rows) -> None:
    assert rows.take(np.array([2, 0])).table["age"].to_list() == [30, 10]


def test_labels_of_another_shape_are_refused_with_the_shape_needed(rows: Rows) -> None:
    with pytest.raises(DataError, match=r"labels have shape \(3, 2\); \(3, 1\) \(rows, tasks\) is needed"):
        Rows(rows.table, rows.labels, ("click",))
