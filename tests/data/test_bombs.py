"""Small files that tell of more than memory: each is refused before it is taken in, and none ends the process."""

import gzip
import io
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from _hostile_bundles import BROKEN_PAGE, claiming
from bowerbird.core import DataError
from bowerbird.data import load, read, read_rows
from bowerbird.data.conversion import convert

ROW = b"u1,i1,1700000000\n"
TEXT = b"user,item,time\n" + ROW * 200_000  # 3.4 MB, of which zip makes 15 KB


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bombs are small here, and so is what any file may hold."""
    for module in ("places", "archives"):
        monkeypatch.setattr(f"bowerbird.data.{module}.LEAST", 1 << 20)
        monkeypatch.setattr(f"bowerbird.data.{module}.TIMES", 20)
    monkeypatch.setattr("bowerbird.data.files.BUDGET", 1 << 20)


def packed(path: Path, text: bytes = TEXT) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text, mtime=0))
    elif path.suffix == ".zst":
        path.write_bytes(pa.compress(text, codec="zstd", asbytes=True))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("ratings.csv", text)
    return path


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.zip", "a.txt.gz", "a.dat.gz", "a.libsvm.gz"])
def test_a_text_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / name)
    for reader in (read, load) if "libsvm" not in name else (read_rows,):
        with pytest.raises(DataError, match="unpacked it has more than 20 times its size, as no table has"):
            reader(path)
    if name.startswith("a.csv"):
        with pytest.raises(DataError, match="unpacked it has more than 20 times its size"):
            convert(path, tmp_path / "out.parquet")
        assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.zip"])
def test_a_text_that_unpacks_to_a_few_times_its_size_is_read(tmp_path: Path, name: str) -> None:
    text = b"user,item,time\n" + b"".join(
        b"u%d,i%d,%d\n" % (row % 97, row * 7 % 89, 10**9 + row) for row in range(2_000)
    )
    assert len(read(packed(tmp_path / name, text))) == 2_000


def test_a_zip_of_many_tables_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for place in range(1_001):
            archive.writestr(f"{place}.csv", "user,item\n1,2\n")
    with pytest.raises(DataError, match="more than 1,000 tables"):
        read(tmp_path / "a.zip")


@pytest.mark.parametrize("change", ["method", "offset"])
def test_a_zip_whose_directory_lies_is_refused(tmp_path: Path, change: str) -> None:
    data = bytearray(packed(tmp_path / "a.zip", TEXT[:1000]).read_bytes())
    start = data.rindex(b"PK\x01\x02")
    data[start + 10 if change == "method" else start + 45] = 0x7B
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match="this zip is damaged, or none"):
        read(tmp_path / "a.zip")


def arrow(table: pa.Table, path: Path) -> Path:
    pq.write_table(table, path, compression="zstd")
    return path


def test_parquet_of_many_rows_of_nothing_is_refused(tmp_path: Path) -> None:
    nothing = pa.nulls(2_000_000, pa.int64())
    path = arrow(pa.table({"user": nothing, "item": nothing}), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match="it tells of 2,000,000 rows and 4,000,000 values, as no file of this size does"
    ):
        read(path)


def test_parquet_of_a_long_list_is_refused(tmp_path: Path) -> None:
    many = pa.ListArray.from_arrays(pa.array([0, 5_000_000], pa.int32()), pa.nulls(5_000_000, pa.int8()))
    path = arrow(pa.table({"user": ["u"], "item": ["i"], "tags": many}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="it tells of 1 rows and 5,000,002 values"):
        read(path)


@pytest.mark.parametrize("claimed", [2**31 - 5, 10**10, 2**62])
def test_parquet_that_claims_more_rows_than_it_has_is_refused(tmp_path: Path, claimed: int) -> None:
    out = io.BytesIO()
    pl.DataFrame({"user": range(60), "item": range(60)}).write_parquet(out)
    (tmp_path / "a.parquet").write_bytes(claiming(out.getvalue(), 60, claimed))
    with pytest.raises(DataError, match=r"it tells of|cannot be read as parquet"):
        read(tmp_path / "a.parquet")


def test_parquet_whose_page_is_broken_is_refused_before_it_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(BROKEN_PAGE)
    for reader in (read, lambda path: read_rows(path, labels="user")):
        with pytest.raises(DataError, match="its pages are broken: Invalid page header"):
            reader(tmp_path / "a.parquet")


def test_what_another_package_says_of_a_file_is_not_told_at_length(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"user,item\n" + b'"' * 4_000_001)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.csv")
    assert len(str(caught.value)) < 600
