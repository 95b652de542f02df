"""Rows for ranking: label columns of any table, and libsvm and libffm files."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import DataError
from bowerbird.data import read_rows


def put(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_rows(source, **options)
    return str(caught.value)


def test_labels_leave_the_table_and_ids_are_encoded_beside_it(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "click,user_id,item_id,ts,age\n1,u2,b,20,30\n0,u1,a,10,\n1,u2,a,30,50\n")
    rows = read_rows(path)
    assert rows.tasks == ("click",)
    assert rows.labels.tolist() == [[1.0], [0.0], [1.0]]
    assert rows.labels.dtype == np.float32
    assert rows.table.columns == ["user_id", "item_id", "ts", "age"]
    assert rows.table["age"].to_list() == [30, None, 50]
    assert rows.user is not None
    assert rows.item is not None
    assert rows.time is not None
    assert (rows.user.tolist(), rows.item.tolist(), rows.time.tolist()) == ([0, 1, 0], [0, 1, 1], [20, 10, 30])


def test_several_labels_may_be_partly_unobserved() -> None:
    rows = read_rows({"ctr": [1, 0], "cvr": [1, None], "x": [5, 6]}, labels=["ctr", "cvr"])
    assert rows.tasks == ("ctr", "cvr")
    assert np.array_equal(rows.labels, np.array([[1, 1], [0, np.nan]], np.float32), equal_nan=True)
    assert rows.user is rows.item is rows.time is None


def test_user_and_item_may_be_named() -> None:
    rows = read_rows({"y": [1, 0], "who": [7, 7], "what": ["a", "b"]}, labels="y", user="who", item="what")
    assert rows.user is not None
    assert rows.item is not None
    assert (rows.user.tolist(), rows.item.tolist()) == ([0, 0], [0, 1])


def test_one_hot_libsvm_becomes_a_column_for_each_field(tmp_path: Path) -> None:
    rows = read_rows(put(tmp_path, "a.libsvm", "1 3:1 17:1.0\n-1 4:1 17:1 # seen twice\n\n0 3:1 18:1\n"))
    assert rows.table.to_dict(as_series=False) == {"field_1": [3, 4, 3], "field_2": [17, 17, 18]}
    assert rows.labels[:, 0].tolist() == [1.0, -1.0, 0.0]
    assert rows.tasks == ("label",)


def test_other_libsvm_becomes_lists(tmp_path: Path) -> None:
    rows = read_rows(put(tmp_path, "a.svm", "1 3:0.5 17:1\n0\n1 4:2\n"))
    assert rows.table["index"].to_list() == [[3, 17], None, [4]]
    assert rows.table["value"].to_list() == [[0.5, 1.0], None, [2.0]]


def test_libffm_names_its_fields(tmp_path: Path) -> None:
    rows = read_rows(put(tmp_path, "a.ffm", "1 0:3:1 2:17:1\n0 2:18:1\n"))
    assert rows.table.to_dict(as_series=False) == {"field_0": [3, None], "field_2": [17, 18]}


def test_libffm_with_values_becomes_lists(tmp_path: Path) -> None:
    rows = read_rows(put(tmp_path, "a.libffm", "1 0:3:1 0:4:1\n0 2:18:0.5\n"))
    assert rows.table.to_dict(as_series=False) == {"field": [[0, 0], [2]], "index": [[3, 4], [18]],
                                                   "value": [[1.0, 1.0], [0.5]]}  # fmt: skip


def test_libsvm_may_be_packed_or_named(tmp_path: Path) -> None:
    packed = put(tmp_path, "a.svm.gz", gzip.compress(b"1 3:1\n"))
    plain = put(tmp_path, "frappe.train", "1 3:1\n")
    assert read_rows(packed).table.equals(read_rows(plain, format="libsvm").table)


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 99), min_size=3, max_size=3)), min_size=1))
def test_one_hot_rows_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bool, list[int]]]) -> None:
    lines = [f"{int(label)} " + " ".join(f"{index}:1" for index in indices) for label, indices in rows]
    read = read_rows(put(tmp_path_factory.getbasetemp(), "rows.libsvm", "\n".join(lines)))
    assert read.table.rows() == [tuple(indices) for _, indices in rows]
    assert read.labels[:, 0].tolist() == [float(label) for label, _ in rows]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 3:1\nyes 3:1\n", 'line 2: "yes" is no number.'),
        ("1 3:1\n\n0 x:1\n", 'line 3: "x:1" is no index:value.'),
        ("1 3:1 4\n", 'line 1: "4" is no index:value.'),
        ("1 3:1 1:4:1\n", 'line 1: "3:1" is no index:value.'),
        ("1 1:2:3:4\n", 'line 1: "1:2:3:4" is no index:value.'),
    ],
)
def test_a_bad_entry_is_named_by_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = put(tmp_path, "a.libsvm", text)
    assert refusal(path) == f"{path}: {says} Write label index:value index:value …"


@pytest.mark.parametrize("text", ["", "\n# nothing\n"])
def test_a_libsvm_file_without_rows_is_refused(tmp_path: Path, text: str) -> None:
    path = put(tmp_path, "a.libsvm", text)
    assert refusal(path) == f"{path}: there is no row. Give a file with at least one."


def test_a_libsvm_file_of_other_letters_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.libsvm", b"1 \xe9:1\n")
    assert "a.libsvm: cannot be read as libsvm. Line 1 is not UTF-8" in refusal(path)


def test_a_label_must_be_found_or_named() -> None:
    assert refusal({"x": [1], "y": [2]}) == (
        "table: no column is recognised as the label. It has: x, y. Name it with labels=…"
    )
    assert refusal({"x": [1], "label": [2]}, labels="lable") == (
        'table: there is no column "lable". Did you mean "label"? It has: x, label.'
    )


def test_a_label_is_a_number(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "label,x\n1,2\nyes,3\n")
    assert refusal(path) == (
        f'{path}, column "label": 1 of 2 rows are not numbers (first: line 3). '
        "Mend them, or leave them empty where unobserved."
    )


def test_a_table_without_rows_is_refused() -> None:
    assert refusal(pl.DataFrame({"label": []})) == (
        "data frame: there is a header and no row. Give a table with at least one row."
    )
