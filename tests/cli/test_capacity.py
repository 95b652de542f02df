"""What a shop needs, by sums done by hand."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from bowerbird.cli.capacity import count
from bowerbird.cli.main import app
from bowerbird.core import RequestError


def told(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["capacity", *words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("text", "n"), [("50M", 50_000_000), ("10k", 10_000), ("2.5k", 2_500), ("7", 7), ("1_000", 1000)]
)
def test_numbers_are_read(text: str, n: int) -> None:
    assert count(text) == n


@pytest.mark.parametrize("text", ["", "M", "five", "-3", "1,000", "nan"])
def test_what_is_no_number_is_told(text: str) -> None:
    with pytest.raises(RequestError, match="Write 50M, 10k or digits"):
        count(text)


def test_the_bytes_of_a_large_shop() -> None:
    found = told("--users", "50M", "--items", "10M", "--dim", "64", "--rps", "5000")
    gb = {one["what"]: one["bytes"] / 1e9 for one in found["bytes"]}
    assert gb["vectors of users"] == 12.8  # 50 M x 64 x 4
    assert gb["vectors in training"] == pytest.approx(46.08)  # 60 M x 64 x 4 x 3
    assert gb["events in the database"] == 265.0
    server = 0.45 + 12.8 + 2.56 + 0.4 + 75.0 + 4.0 + 2.8
    assert found["total_bytes"]["server"] / 1e9 == pytest.approx(server)
    [answering] = [one for one in found["machines"] if one["what"] == "answering"]
    assert answering["n"] == 48  # one process of 98 GB fits into 70 % of 256; 5,000 / (150 x 0.7)


def test_the_step_that_carries_it_and_what_is_outgrown_first() -> None:
    small, large, huge = (
        told("--users", users, "--items", items, "--rps", rps)["steps"]
        for users, items, rps in (("1M", "100k", "100"), ("50M", "10M", "5k"), ("500M", "10M", "5k"))
    )
    assert [(one["step"], one["carries"], one["first"]) for one in small] == [("1 embedded", True, "rps")]
    assert [(one["carries"], one["first"]) for one in large] == [(False, "rps"), (True, "users")]
    assert [one["carries"] for one in huge] == [False, False, None]  # of the last step no limit was measured


def test_a_process_that_fits_into_no_machine_is_told_and_not_divided() -> None:
    found = told("--users", "500M", "--items", "10M", "--memory", "64")
    [answering] = [one for one in found["machines"] if one["what"] == "answering"]
    assert (answering["n"], answering["why"][:4]) == (0, "none")
