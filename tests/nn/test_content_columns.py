"""Content in models: what is read of a table, and likeness by hand and by slow loops."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.data import Interactions
from bowerbird.features import media
from bowerbird.nn.content import ContentConfig, Directions, Kernel, content_of, ridge_map, tensors

NAN = math.nan


class Eye:
    """A made-up encoder of pictures: how many bytes one has, and its first; it keeps what it was shown."""

    name, dim = "eye-1", 2

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def decode(self, content: bytes) -> bytes:
        self.seen.append(content)
        return content

    def encode(self, values: Sequence[bytes]) -> np.ndarray:
        return np.array([[len(one), one[0]] for one in values], np.float32)


@pytest.fixture
def eye(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Eye:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(media._loaded, ("image", "eye"), Eye())
    found = media._loaded["image", "eye"]
    assert isinstance(found, Eye)
    return found


# ── directions ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_directions_by_hand() -> None:
    model = Directions({"text": 2, "look": 1})
    content = {
        "text": torch.tensor([[4.0, 1.0], [0.0, 4.0], [NAN, NAN], [2.0, 1.0]]),
        "look": torch.tensor([[NAN]] * 4),
    }
    model.fit(content)
    (text, look), (has_text, has_look) = model(content)
    # the mean is (2, 2): (2, -1), (-2, 2) and (0, -1) are left
    expected = torch.tensor([[2 / 5**0.5, -1 / 5**0.5], [-(0.5**0.5), 0.5**0.5], [0.0, 0.0], [0.0, -1.0]])
    assert torch.allclose(text, expected)
    assert not look.any()
    assert (has_text.tolist(), has_look.tolist()) == ([True, True, False, True], [False] * 4)


def test_a_modality_that_a_question_leaves_out_no_row_has() -> None:
    model = Directions({"text": 2, "look": 1})
    (text, look), (has_text, has_look) = model({"look": torch.tensor([[3.0], [-2.0]])})
    assert look.tolist() == [[1.0], [-1.0]]
    assert (has_text.tolist(), has_look.tolist()) == ([False, False], [True, True])
    assert not text.any()


def test_a_row_with_one_number_missing_is_missing() -> None:
    vectors, there = Directions({"look": 2})({"look": torch.tensor([[1.0, NAN]])})
    assert not there[0].any()
    assert not vectors[0].any()


# ── likeness ──────────────────────────────────────────────────────────────────────────────────────────────────────


def two(weights: Sequence[float] = (1.0,), width: float = 0.5) -> Kernel:
    """Return a kernel of three landmarks: (1, 0), (0, 1), which lacks all modalities but the first, and none."""
    kernel = Kernel({str(n): 2 for n in range(len(weights))}, weights, 3, width)
    marks = torch.eye(2)
    kernel.fit([marks] * len(weights), [torch.tensor([True, not n]) for n in range(len(weights))], torch.arange(2))
    return kernel


def test_likeness_by_hand() -> None:
    found = two().likeness([torch.tensor([[0.6, 0.8]])], [torch.tensor([True])])
    assert found[0].tolist() == pytest.approx([math.exp(-0.4 / 0.5), math.exp(-0.2 / 0.5), 0.0])


def test_what_a_modality_is_worth_and_what_is_missing_by_hand() -> None:
    same, has = torch.tensor([[1.0, 0.0]]), torch.tensor([True])
    found = two(weights=(3.0, 1.0)).likeness([same, same], [has, has])
    # with the first all is the same; to the second ¾ are unrelated, and ¼ it lacks
    assert found[0].tolist() == pytest.approx([1.0, math.exp(-1 / 0.5), 0.0])
    lacking = two(weights=(3.0, 1.0)).likeness([same, 0 * same], [has, ~has])
    assert lacking[0].tolist() == pytest.approx([1.0, math.exp(-1 / 0.5), 0.0])  # what it lacks has no say
    nothing = two(weights=(3.0, 1.0)).likeness([0 * same, 0 * same], [~has, ~has])
    assert nothing[0].tolist() == pytest.approx([math.exp(-1 / 0.5), math.exp(-1 / 0.5), 0.0])


def drawn(seed: int, n: int = 12) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return unit vectors of two modalities, the second of which some items lack."""
    rng = torch.Generator().manual_seed(seed)
    vectors = [torch.nn.functional.normalize(torch.randn(n, size, generator=rng), dim=1) for size in (3, 5)]
    has = torch.rand(n, generator=rng) < 0.6
    return [vectors[0], vectors[1] * has[:, None]], [torch.ones(n, dtype=torch.bool), has]


@given(st.integers(0, 1_000), st.sampled_from([0.3, 1.0]), st.sampled_from([(1.0, 1.0), (1.0, 0.25)]))
def test_likeness_is_that_of_a_slow_loop(seed: int, width: float, weights: tuple[float, float]) -> None:
    vectors, there = drawn(seed)
    kernel = Kernel({"a": 3, "b": 5}, weights, 4, width)
    kernel.fit(vectors, there, torch.tensor([3, 0, 7]))
    found = kernel.likeness(vectors, there)
    for row in range(12):
        for place, mark in enumerate((3, 0, 7)):
            far, heard = 0.0, 0.0
            for weight, one, has in zip(weights, vectors, there, strict=True):
                if has[row]:
                    half = 0.5 * float((one[row] - one[mark]).square().sum()) if has[mark] else 1.0
                    far, heard = far + weight * half, heard + weight
            assert float(found[row, place]) == pytest.approx(math.exp(-far / heard / width), rel=1e-4)
    assert not found[:, 3].any()  # a landmark that is not there


def test_features_have_the_likeness_of_landmarks_as_their_inner_products() -> None:
    vectors, _ = drawn(1)
    there = [torch.ones(12, dtype=torch.bool)] * 2  # what lacks nothing has a likeness that is one
    kernel = Kernel({"a": 3, "b": 5}, (1.0, 0.5), 8, 0.6)
    kernel.fit(vectors, there, torch.arange(6))
    likeness = kernel.likeness(vectors, there)
    features = likeness @ kernel.whitening()
    assert torch.allclose(features @ features[:6].T, likeness[:, :6], atol=1e-4)
    assert not kernel.whitening()[6:].any()


def test_features_of_items_that_lack_a_modality_are_finite() -> None:
    vectors, there = drawn(2, n=40)
    kernel = Kernel({"a": 3, "b": 5}, (1.0, 1.0), 40, 2.0)
    kernel.fit(vectors, there, torch.arange(40))
    features = kernel.likeness(vectors, there) @ kernel.whitening()
    assert features.isfinite().all()
    assert float(features.square().sum(dim=1).max()) < 2  # about 1 each, though some eigenvalues are below 0


def test_the_map_is_that_of_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.standard_normal((20, 4)), rng.standard_normal((20, 3))
    wide = np.vstack([features, np.sqrt(0.7) * np.eye(4)])  # a penalty is as many rows more
    expected = np.linalg.lstsq(wide, np.vstack([targets, np.zeros((4, 3))]), rcond=None)[0]
    found = ridge_map(torch.from_numpy(features).float(), torch.from_numpy(targets).float(), 0.7)
    assert np.allclose(found.numpy(), expected, atol=1e-5)


# ── columns ───────────────────────────────────────────────────────────────────────────────────────────────────────


def things() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "title": ["Red lamp", "Blue lamp", None],
            "about": ["gives light", None, None],
            "kind": ["lamp", "lamp", "sofa"],
            "look": [[0.5, 1.0], [0.25, 2.0], [0.0, 1.0]],
        }
    )


def test_columns_and_encoders_are_decided_once() -> None:
    config = ContentConfig(text_encoder="words").settled(things())
    # "about" names one of two rows at most: what is seen once among so few is a category
    assert config.named() == {"text": ("title",), "vector": ("look",), "attributes": ("about", "kind")}
    assert config.text_encoder == "words"
    assert config.image_encoder == "auto"  # nothing is there for it
    assert config.settled(things()) == config
    auto = ContentConfig(text=("title",)).settled(things())
    assert auto.text_encoder != "auto"
    assert auto.named() == {"text": ("title",)}  # what is named is all that is read


def test_an_unknown_column_is_refused_with_the_closest_one() -> None:
    with pytest.raises(ConfigError) as caught:
        ContentConfig(text=("titel",)).settled(things())
    assert str(caught.value) == (
        'the item table has no column "titel". Did you mean "title"? Columns: title, about, kind, look.'
    )
    with pytest.raises(ConfigError, match=r"Columns: none\."):
        ContentConfig(text=("title",)).settled(None)


def test_items_without_content_are_refused(two_by_two: Interactions) -> None:
    assert ContentConfig().settled(None).named() == {}
    with pytest.raises(ConfigError, match=r"the items have no content: .* Give one with --items"):
        content_of(two_by_two)


@pytest.mark.parametrize("senses", [0.0, -1.0])
def test_senses_must_count(senses: float) -> None:
    with pytest.raises(ConfigError, match=rf"^senses is {senses}; it must be above 0. Try senses = 0.25"):
        ContentConfig(senses=senses)


def test_pictures_and_sounds_count_less_than_texts() -> None:
    config = ContentConfig(text=("title",), image=("front", "back"), audio=("noise",), senses=0.5)
    assert config.weights(["text", "front", "noise", "attributes"]) == [1.0, 0.5, 0.5, 1.0]


def test_what_is_read_of_a_table() -> None:
    config = ContentConfig(text=("title", "about"), vector=("look",), attributes=("kind",), text_encoder="words")
    found = config.read(things())
    assert {name: one.shape for name, one in found.items()} == {
        "text": (3, 512), "look": (3, 2), "attributes": (3, 256),
    }  # fmt: skip
    assert np.isnan(found["text"]).all(axis=1).tolist() == [False, False, True]
    joined = config.read(pl.DataFrame({"title": ["Red lamp. gives light"], "about": [None]}))
    assert np.array_equal(found["text"][:1], joined["text"])  # all texts are one
    assert found["look"].tolist() == [[0.5, 1.0], [0.25, 2.0], [0.0, 1.0]]
    assert np.array_equal(found["attributes"][0], found["attributes"][1])


def test_what_a_table_lacks_its_items_have_not() -> None:
    config = ContentConfig(text=("title",), vector=("look",), attributes=("kind",), text_encoder="words")
    assert set(config.read(pl.DataFrame({"kind": ["lamp"]}))) == {"text", "attributes"}
    found = config.read(pl.DataFrame({"kind": ["lamp"]}), sizes={"text": 512, "attributes": 256, "look": 2})
    assert {name: bool(np.isnan(one).all()) for name, one in found.items()} == {
        "text": True, "attributes": False, "look": True,
    }  # fmt: skip
    assert found["look"].shape == (1, 2)


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([None, [1.0, 2.0], [3.0]]),
        pl.Series([[1.0], [1.0, 2.0], [NAN, 1.0]]),
        pl.Series([[], [1.0, 2.0], [1.0, None]]),
        pl.Series([[math.inf, 1.0], [1.0, 2.0], None]),
        pl.Series([["a", "b"], ["1", "2"], None]),
    ],
)
def test_a_vector_of_another_size_or_with_a_hole_is_none(values: pl.Series) -> None:
    table = pl.DataFrame({"look": values})
    found = ContentConfig(vector=("look",)).read(table, sizes={"look": 2})["look"]
    assert found[1].tolist() == [1.0, 2.0]
    assert np.isnan(found[[0, 2]]).all()


@pytest.mark.parametrize("values", [pl.Series([None, None]), pl.Series(["a", "b"]), pl.Series([1.0, 2.0])])
def test_a_column_without_a_vector_is_refused_in_training_and_nothing_later(values: pl.Series) -> None:
    config, table = ContentConfig(vector=("look",)), pl.DataFrame({"look": values})
    with pytest.raises(ConfigError, match="look is 0; it must hold lists of numbers"):
        config.read(table)
    assert np.isnan(config.read(table, sizes={"look": 3})["look"]).all()


def test_pictures_are_read_from_their_folder_and_from_bytes(
    eye: Eye, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    config = ContentConfig(image=("front",), image_encoder="eye", folder=str(tmp_path))
    found = config.read(pl.DataFrame({"front": ["a.png", "b.png", None]}))["front"]
    assert caplog.messages == ['column "front": 1 of 3 cannot be read: no such file, such as b.png']
    assert found[0].tolist() == [3.0, ord("a")]
    assert np.isnan(found[1:]).all()
    assert config.read(pl.DataFrame({"front": [b"xy"]}), paths=False)["front"].tolist() == [[2.0, ord("x")]]


@pytest.mark.parametrize("sizes", [None, {"front": 2}])
def test_without_paths_no_file_is_opened(eye: Eye, tmp_path: Path, sizes: dict[str, int] | None) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    config = ContentConfig(image=("front",), image_encoder="eye", folder=str(tmp_path))
    found = config.read(pl.DataFrame({"front": ["a.png"]}), paths=False, sizes=sizes)["front"]
    assert np.isnan(found).all()
    assert found.shape == (1, 2)
    assert eye.seen == []


def test_an_encoder_is_not_asked_for_where_there_is_nothing_to_read() -> None:
    config = ContentConfig(image=("front",), image_encoder="no-such-encoder")
    sizes = {"front": 7}
    for table in (pl.DataFrame({"front": ["a.png"]}), pl.DataFrame({"front": [None]}), pl.DataFrame({"x": [1]})):
        assert config.read(table, paths=False, sizes=sizes)["front"].shape == (1, 7)


def test_new_items_follow_the_old_with_what_is_read_of_them(two_by_two: Interactions) -> None:
    config = ContentConfig(vector=("look",), attributes=("kind",))
    own = {"look": np.array([[1.0, 2.0], [NAN, NAN]], np.float32), "taste": np.array([[5.0], [6.0]], np.float32)}
    past = two_by_two.with_content(items=own)
    whole = Interactions.of(pl.Series(["ann", "bob", "bob", "bob"]), pl.Series(["x", "x", "y", "z"]))
    table = pl.DataFrame({"item_id": ["x", "z"], "look": [[9.0, 9.0], [3.0, 4.0]], "kind": ["a", "b"]})
    found = config.extended(whole.with_tables(items=table), past).item_content
    assert np.array_equal(found["look"][:2], own["look"], equal_nan=True)  # the old are as they were
    assert found["look"][2].tolist() == [3.0, 4.0]
    assert found["taste"].tolist()[:2] == [[5.0], [6.0]]
    assert np.isnan(found["taste"][2]).all()  # ready vectors, which no column tells
    assert set(found) == {"look", "taste"}
    bare = config.extended(whole, past).item_content
    assert np.isnan(bare["look"][2]).all()
    assert config.extended(two_by_two, past).item_content["look"].shape == (2, 2)


def test_content_becomes_tensors_of_single_precision() -> None:
    found = tensors({"look": np.array([[1, 2], [3, 4]], np.float64).T})
    assert found["look"].dtype == torch.float32
    assert found["look"].tolist() == [[1.0, 3.0], [2.0, 4.0]]
