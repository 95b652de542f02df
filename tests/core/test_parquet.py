import io
from pathlib import Path

import polars as pl
import pytest

from bowerbird.core import RequestError
from bowerbird.core.parquet import check_name, overfull


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.tsv", "a.json", "a.xlsx", "a.parquet.csv"])
def test_parquet_is_not_called_as_another_format(name: str) -> None:
    with pytest.raises(RequestError, match=rf"^{name}: what is written is Parquet\. Call it a.*\.parquet"):
        check_name(Path(name))


@pytest.mark.parametrize("name", ["a.parquet", "a.pq", "a", "a.v2"])
def test_any_other_name_will_do(name: str) -> None:
    check_name(Path(name))


def test_a_table_that_fits_is_not_overfull() -> None:
    out = io.BytesIO()
    pl.DataFrame({"a": range(100), "b": ["x"] * 100}).write_parquet(out)
    assert overfull(io.BytesIO(out.getvalue()), 100 * 3 * 8) == ""
    assert overfull(io.BytesIO(out.getvalue()), 100 * 3 * 8 - 1) == "it tells of 100 rows and 200 values"
    with pytest.raises(OSError, match="the footer cannot be read"):
        overfull(io.BytesIO(b"PAR1"), 10**9)
