"""Any bytes are a table, or are refused by the name of their file; never another error."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import DataError
from bowerbird.data import read, read_rows
from bowerbird.data.checks import find_problems

NAMES = ("a.csv", "a.tsv", "a.inter", "ratings.dat", "a.txt", "a.csv.gz", "a.zip", "a.parquet")
LIKELY = st.text('user,item\ntime;\t"12.5e-::u\r\0é', max_size=200).map(str.encode)
HEADS = ("user,item\n", "user\titem\ttime\n", "user_id:token\titem_id:token\tr:float\n", "user;item;weight\n")
LINES = st.lists(st.text('u1,;\t"\n.e-5\r', max_size=12), max_size=8).map("\n".join)
HEADED = st.tuples(st.sampled_from(HEADS), LINES).map(lambda parts: "".join(parts).encode())


@given(st.sampled_from(NAMES), st.binary(max_size=200) | LIKELY | HEADED)
def test_any_bytes_are_events_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes) -> None:
    path = written(tmp_path_factory, name, data)
    try:
        events = read(path)
    except DataError as error:
        refused = str(error)
    else:
        assert len(events) > 0
        refused = ""
    problems, found = find_problems(path, now=1_700_000_000)
    assert (found is None) == bool(refused)
    assert not refused or (name in refused and refused in {one.message for one in problems})


@given(
    st.sampled_from(("a.libsvm", "a.libffm")),
    st.binary(max_size=100) | st.text("01:. -#\ne9", max_size=100).map(str.encode),
)
def test_any_bytes_are_rows_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes) -> None:
    path = written(tmp_path_factory, name, data)
    refused = ""
    try:
        found = read_rows(path)
    except DataError as error:
        refused = str(error)
    assert name in refused if refused else len(found) > 0


def written(factory: pytest.TempPathFactory, name: str, data: bytes) -> Path:
    path = factory.getbasetemp() / name
    path.write_bytes(data)
    return path
