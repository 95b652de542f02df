"""The benchmark of what content costs on a few hundred made-up items."""

import json
from argparse import Namespace

import pytest

import _shared
import content_cost


def options(**changes: object) -> Namespace:
    row = {
        "data": "made-up",
        "threads": 1,
        "require": [],
        "report": "valid",
        "save": False,
        "json": True,
        "table": False,
    }
    return Namespace(**(row | {"items": [200, 300], "requests": 5} | changes))


def test_every_number_of_items_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert _shared.main(options(require=["p50_ms>=0"]), content_cost.measure) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["n_items"] for one in row["cells"]] == [200, 300]
    assert row["metrics"]["p50_ms"] == row["cells"][1]["p50_ms"] > 0


def test_a_bar_that_is_not_reached_is_told() -> None:
    assert _shared.main(options(require=["p50_ms<=0"]), content_cost.measure) == 1
