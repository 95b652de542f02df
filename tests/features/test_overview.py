import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.data import Interactions, Rows
from bowerbird.features import Bag, Categorical, Numeric, Vector
from bowerbird.features.overview import base_rates, overview, tables_of


def test_what_stands_out_of_each_column() -> None:
    nan, inf = float("nan"), float("inf")
    table = pl.DataFrame(
        {
            "age": [20, 30, None, 30],
            "price": [nan, inf, -1.5, None],
            "tags": ["a|b", "b", None, "b|"],
            "image": [[1.0, 2.0], [3.0], None, []],
            "odd": [{"a": 1}] * 4,
        }
    )
    columns = (
        Numeric(name="age"),
        Numeric(name="price"),
        Bag(name="tags", separator="|"),
        Vector(name="image", size=2),
    )
    rows = overview(table, columns)
    assert [tuple(row.values()) for row in rows] == [
        ("age", "numeric", "Int64", 2, 0.25, 20, 30),
        ("price", "numeric", "Float64", 2, 0.5, -1.5, -1.5),
        ("tags", "bag", "String", 2, 0.25, None, None),
        ("image", "vector", "List(Float64)", 3, 0.25, 1.0, 3.0),
        ("odd", None, "Struct({'a': Int64})", 0, 0.0, None, None),
    ]


def test_a_table_without_rows_has_nothing_that_stands_out() -> None:
    [row] = overview(pl.DataFrame({"a": pl.Series([], dtype=pl.Int64)}), (Categorical(name="a"),))
    assert row == {
        "column": "a", "kind": "categorical", "type": "Int64", "distinct": 0, "empty": 0.0, "lowest": None,
        "highest": None,
    }  # fmt: skip


def test_base_rates_are_those_of_observed_rows() -> None:
    nan = np.nan
    labels = np.array([[1, nan, nan], [0, 1, nan], [0, nan, nan], [0, 1, nan]], np.float32)
    rows = Rows(pl.DataFrame({"a": range(4)}), labels, ("click", "buy", "none"))
    assert base_rates(rows) == {
        "click": {"observed": 4, "rate": 0.25},
        "buy": {"observed": 2, "rate": 1.0},
        "none": {"observed": 0, "rate": None},
    }


@given(st.lists(st.sampled_from([0.0, 1.0, float("nan")]), min_size=1, max_size=30))
def test_a_base_rate_is_the_mean_of_what_is_there(labels: list[float]) -> None:
    rows = Rows(pl.DataFrame({"a": labels}), np.array(labels, np.float32)[:, None], ("label",))
    there = [label for label in labels if label == label]
    expected = pytest.approx(sum(there) / len(there)) if there else None
    assert base_rates(rows) == {"label": {"observed": len(there), "rate": expected}}


def test_tables_of_users_and_items_begin_with_their_ids(two_by_two: Interactions) -> None:
    ids = two_by_two.item_ids.values
    described = two_by_two.with_tables(items=pl.DataFrame({"item": ids, "price": [1, 2]}))
    tables = tables_of(described)
    assert tables["user"].columns == ["user_id"]
    assert tables["user"]["user_id"].to_list() == two_by_two.user_ids.values.to_list()
    assert tables["item"].to_dict(as_series=False) == {"item_id": ids.to_list(), "price": [1, 2]}
