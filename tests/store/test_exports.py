"""Notes of exports: the same place once, and nothing else is taken for them."""

from pathlib import Path

import pytest

from bowerbird.core import BundleError
from bowerbird.store import exports


def test_a_place_is_noted_once_by_its_last(tmp_path: Path) -> None:
    assert exports.noted(tmp_path / "none") == []
    for kind, path, version in (("lists", "a", "000001"), ("graph", "a", None), ("lists", "a", "000002")):
        exports.note(tmp_path, kind, path, version=version)
    found = exports.noted(tmp_path)
    assert [(one["kind"], one["path"], one["version"]) for one in found] == [
        ("graph", "a", None),
        ("lists", "a", "000002"),
    ]
    assert all(one["time"] > 1_700_000_000 for one in found)


@pytest.mark.parametrize("text", ["", "{}", '[{"kind": 1}]', "[1]"])
def test_what_is_no_list_of_exports_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / exports.FILE).write_text(text)
    with pytest.raises(BundleError, match="no list of exports"):
        exports.noted(tmp_path)
