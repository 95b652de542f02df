"""TOML that people write, or somebody who means harm: what is wrong is told with its line."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core.toml import read_toml


def put(folder: Path, data: bytes) -> Path:
    path = folder / "a.toml"
    path.write_bytes(data)
    return path


def test_what_is_right_is_read(tmp_path: Path) -> None:
    assert read_toml(put(tmp_path, b"[a]\nb = 1\n")) == {"a": {"b": 1}}
    assert read_toml(put(tmp_path, b"\xef\xbb\xbfa = 1\r\n")) == {"a": 1}
    assert read_toml(put(tmp_path, b"")) == {}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a = 1\n[m\xf6del]\n", "line 2 is not UTF-8"),
        ("a = 1".encode("utf-16"), "line 1 is not UTF-8"),
        (b"\n\na = " + b"[" * 20_000, "line 3 has more than 16,384 letters"),
        (b"a." * 100_000 + b"b = 1", "line 1 has more than 16,384 letters"),
        (b"a = " + b"[\n" * 5_000, "values are nested too deeply"),
        (b"a = " + b"{b = " * 3_000, "values are nested too deeply"),
        (b"a = " + b"9" * 5_000, "a value cannot be read"),
        (b"#" * ((1 << 20) + 1), "more than 1,048,576 bytes"),
        (b"a = 1\na = 2\n", "line 2"),
        (b"a = \n", "line 1"),
        (b"a\0 = 1", "line 1"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_toml(put(tmp_path, data))


def test_what_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(ValueError, match="more than 1,048,576 bytes"):
        read_toml(Path("/dev/zero"))


@given(st.binary(max_size=300) | st.text("[]{}=.,\"'\n #a1-", max_size=300).map(str.encode))
def test_any_bytes_are_a_table_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = put(tmp_path_factory.getbasetemp(), data)
    with suppress(ValueError):
        assert isinstance(read_toml(path), dict)
