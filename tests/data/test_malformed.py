"""Files as they come from elsewhere: each is refused with a mend, or read and remarked upon; never a traceback."""

import gzip
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bowerbird.cli.main import app
from bowerbird.core import DataError
from bowerbird.data import read

T = 1_700_000_000  # 2023-11-14 22:13:20
HEADER = "user,item,time\n"
UNTIMED = "there is no time: splits are at random, and figures may look better than they will live."


@dataclass(frozen=True)
class Case:
    """A file, and what is said about it: the errors that stop it, else its warnings and its number of rows."""

    name: str
    content: str | bytes | None  # None: the file is not there, or is a folder
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    n_rows: int = 0


CASES = {
    "empty": Case("a.csv", "", errors=("PATH: the file is empty.",)),
    "header only": Case(
        "a.csv", HEADER, errors=("PATH: there is a header and no row. Give a table with at least one interaction.",)
    ),
    "missing column": Case(
        "a.csv", "user,time\nu1,3\n",
        errors=(
            "PATH: no column is recognised as the item. It has: user, time. "
            "Name it with item=… (--item on the command line).",
        ),
    ),
    "ragged rows": Case(
        "a.csv", f"{HEADER}u1,a,{T}\nu2,b,c,{T}\n",
        errors=(
            "PATH: cannot be read as csv. Line 3 has 4 fields where the header has 3. "
            "Quote the field that holds the separator, or mend the line.",
        ),
    ),
    "NaN": Case(
        "a.csv", f"user,item,time,weight\nu1,a,{T},1\nu2,b,NaN,nan\n",
        errors=(
            'PATH, column "time": 1 of 2 rows are not times after 1970 (first: line 3). Mend or drop them.',
            'PATH, column "weight": 1 of 2 rows are not numbers of 0 or more (first: line 3). Mend or drop them.',
        ),
    ),
    "negative times": Case(
        "a.csv", f"{HEADER}u1,a,{T}\nu2,b,-5\n",
        errors=('PATH, column "time": 1 of 2 rows are not times after 1970 (first: line 3). Mend or drop them.',),
    ),
    "future times": Case(
        "a.csv", f"{HEADER}u1,a,{T}\nu1,b,32503680000\nu2,b,{T}\n", n_rows=3,
        warnings=("1 of 3 times are in the future (last: 3000-01-01 00:00:00). Is the unit right?",),
    ),
    "seconds against milliseconds": Case(
        "a.csv", f"{HEADER}u1,a,{T}\nu2,b,{T}000\nu2,a,{T}001\n",
        errors=(
            'PATH, column "time": 1 of 3 rows look like seconds among milliseconds (first: line 2). '
            "Write all of them in seconds.",
        ),
    ),
    "duplicate rows": Case(
        "a.csv", f"{HEADER}u1,a,{T}\nu1,a,{T}\nu2,b,{T + 1}\n", n_rows=3,
        warnings=("1 of 3 rows repeat an earlier one of the same user, item and time.",),
    ),
    "latin-1": Case(
        "a.csv", f"{HEADER}u1,café,{T}\n".encode("latin-1"),
        errors=(
            "PATH: cannot be read as csv. Line 2 is not UTF-8; it may be latin-1. "
            "Convert it: iconv -f latin1 -t utf-8 FILE.",
        ),
    ),
    "CRLF": Case("a.csv", f"{HEADER}u1,a,{T}\nu1,b,{T}\nu2,b,{T}\n\n".replace("\n", "\r\n"), n_rows=3,
                 warnings=("all times are 2023-11-14 22:13:20: they order nothing.",)),
    "quoted newlines": Case(
        "a.csv", f'{HEADER}u1,"two\n\nlines",{T}\nu1,c,soon\nu2,c,{T}\n',
        errors=('PATH, column "time": 1 of 3 rows are not times after 1970 (first: line 5). Mend or drop them.',),
    ),
    "one user": Case(
        "a.csv", f"{HEADER}u1,a,{T}\nu1,b,{T + 1}\n", n_rows=2,
        warnings=("there is only one user (u1): nothing can be compared. Is it the right column?",),
    ),
    "one item": Case(
        "a.csv", f"{HEADER}u1,a,{T}\nu1,a,{T + 1}\nu2,a,{T + 2}\n", n_rows=3,
        warnings=("there is only one item (a): nothing can be compared. Is it the right column?",),
    ),
    "all identical rows": Case(
        "a.csv", HEADER + f"u1,a,{T}\n" * 5, n_rows=5,
        warnings=(
            "there is only one user (u1): nothing can be compared. Is it the right column?",
            "there is only one item (a): nothing can be compared. Is it the right column?",
            "4 of 5 rows repeat an earlier one of the same user, item and time.",
            "all times are 2023-11-14 22:13:20: they order nothing.",
        ),
    ),
    "ids of 300 bytes": Case(
        "a.csv", f"user,item\nu1,a\n{'u' * 300},b\n",
        errors=('PATH, column "user": 1 of 2 rows are over 256 bytes (first: line 3). Shorten or hash these ids.',),
    ),
    "NUL bytes": Case(
        "a.csv", "user,item\nu1,a\nu\0,b\n",
        errors=(
            'PATH, column "user": 1 of 2 rows hold NUL bytes (first: line 3). Is this a text file? Write it again.',
        ),
    ),
    "a directory": Case(
        "folder", None,
        errors=("PATH: this is a folder without parts (.parquet, .csv or .tsv). Name one file in it.",),
    ),
    "a missing file": Case("gone.csv", None, errors=("PATH: there is no such file.",)),
    "a gzip cut short": Case(
        "a.csv.gz", gzip.compress(f"{HEADER}{f'u1,a,{T}' * 3000}".encode(), mtime=0)[:-20],
        errors=(
            "PATH: cannot be read as csv. It is damaged or cut short (Compressed file ended before the end-of-stream "
            "marker was reached). Copy or pack it again.",
        ),
    ),
    "a text called .parquet": Case(
        "a.parquet", f"{HEADER}u1,a,{T}\n",
        errors=(
            "PATH: cannot be read as parquet. It is no Parquet file; if it is text, say which: "
            'format="csv" (--format csv).',
        ),
    ),
    "no header": Case(
        "a.csv", f"u1,a,{T}\nu2,b,{T}\n",
        errors=(
            f"PATH: no column is recognised as the user. It has: u1, a, {T}. The first line looks like a row: "
            "put a line of names above it. Name it with user=… (--user on the command line).",
        ),
    ),
    "a blank line within": Case(
        "a.csv", "user,item\nu1,a\n\nu2,b\n",
        errors=(
            'PATH, column "user": 1 of 3 rows are empty (first: line 3). Fill them or drop them.',
            'PATH, column "item": 1 of 3 rows are empty (first: line 3). Fill them or drop them.',
        ),
    ),
    "UTF-16": Case(
        "a.csv", f"{HEADER}u1,a,{T}\n".encode("utf-16"),
        errors=("PATH: the text is UTF-16. Convert it: iconv -f utf-16 -t utf-8 FILE.",),
    ),
    "carriage returns alone": Case(
        "a.csv", f"{HEADER}u1,a,{T}\n".replace("\n", "\r"),
        errors=(r"PATH: lines end in carriage returns alone. Convert them: tr '\r' '\n' < FILE.",),
    ),
    "a quote that never ends": Case(
        "a.csv", f'{HEADER}u1,a,{T}\nu2,"b,{T}\nu3,c,{T}\n',
        errors=(
            "PATH: cannot be read as csv. A quote that begins on line 3 is not closed, or the text in it is too long.",
        ),
    ),
    "a quote within a field": Case(
        "a.csv", f'{HEADER}u1,a,{T}\nu2,"b"c,{T}\n',
        errors=(
            "PATH: cannot be read as csv. Line 3 has a quote that neither begins nor ends a field. Write two for one.",
        ),
    ),
    "a time of 2^63": Case(
        "a.csv", f"{HEADER}u1,a,0\nu2,b,{2**63}\n",
        errors=('PATH, column "time": 1 of 2 rows are not times after 1970 (first: line 3). Mend or drop them.',),
    ),
    "a weight of 1e39": Case(
        "a.csv", "user,item,weight\nu1,a,1\nu2,b,1e39\n",
        errors=(
            'PATH, column "weight": 1 of 2 rows are not numbers of 0 or more (first: line 3). Mend or drop them.',
        ),
    ),
    "10,001 columns": Case(
        "a.csv", "user,item" + ",c" * 9_999 + "\n1,2" + "," * 9_999 + "\n",
        errors=("PATH: the first line names 10,001 columns; 10,000 are allowed. Leave some out.",),
    ),
    "a first line without an end": Case(
        "a.csv", "user,item" + "x" * (1 << 22),
        errors=("PATH: the first line has 4,194,304 bytes or more. Put a line of names above the rows.",),
    ),
    "a zip that is none": Case(
        "a.zip", b"PK\x03\x04", errors=("PATH: this zip is damaged, or none. (File is not a zip file)",)
    ),
    "ids that spell nothing": Case(
        "a.csv", "user,item\nu1,a\nnan,b\nu1 ,c\nu1,c\n", n_rows=4,
        warnings=(
            UNTIMED,
            '1 of 3 user ids have spaces around them (such as "u1 "). Strip them: with and without are two.',
            '1 of 3 user ids spell that there is none (such as "nan"). Drop these rows.',
        ),
    ),
}  # fmt: skip


def place(case: Case, folder: Path) -> Path:
    path = folder / case.name
    if case.content is not None:
        path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    elif "." not in case.name:
        path.mkdir()
    return path


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_reading_it_gives_its_rows_or_the_first_error(case: Case, tmp_path: Path) -> None:
    path = place(case, tmp_path)
    if not case.errors:
        assert len(read(path)) == case.n_rows
        return
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value) == case.errors[0].replace("PATH", str(path))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_checking_it_prints_every_problem_and_exits_by_them(case: Case, tmp_path: Path) -> None:
    path = place(case, tmp_path)
    ran = CliRunner().invoke(app, ["data", "check", str(path), "--json"])
    assert ran.exit_code == (2 if case.errors else 0)
    document = json.loads(ran.stdout)
    assert document["ok"] is not bool(case.errors)
    assert document.get("events", 0) == case.n_rows
    said = [(one["level"], one["message"]) for one in document["problems"]]
    wanted = [("error", text.replace("PATH", str(path))) for text in case.errors]
    assert said == (wanted or [("warning", text) for text in case.warnings])


def test_a_check_for_people_shows_marks_and_no_traceback(tmp_path: Path) -> None:
    path = place(CASES["NaN"], tmp_path)
    command = [sys.executable, "-m", "bowerbird", "data", "check", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stdout.splitlines() == [f"error: {text.replace('PATH', str(path))}" for text in CASES["NaN"].errors]
    assert ran.stderr == ""


def test_what_is_quoted_over_lines_is_one_id(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'{HEADER}u1,"two\nlines",{T}\nu2,b,{T + 1}\n')
    events = read(path)
    assert events.item_ids.values.to_list() == ["two\nlines", "b"]


def test_carriage_returns_are_no_part_of_ids(tmp_path: Path) -> None:
    path = place(CASES["CRLF"], tmp_path)
    assert read(path).item_ids.values.to_list() == ["a", "b"]
