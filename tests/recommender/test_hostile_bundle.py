"""Bundles under right checksums that somebody else wrote: each was once loaded, or ended in a traceback."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import bowerbird as bb
from bowerbird.core import BowerbirdError, BundleError, ConfigError, RunOptions, ScoreError, UnknownModelError
from bowerbird.data import Interactions
from bowerbird.testing import halves, halves_as_rows

QUIET = RunOptions(progress=False)
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    bb.fit(halves(), "itemknn", run=QUIET).save(folder / "itemknn")
    bb.fit(halves(), "mf", run=QUIET, epochs=1, dim=4).save(folder / "mf")
    bb.fit(halves(), "deepfm", run=QUIET, epochs=1, dim=4, hidden=(4,)).save(folder / "deepfm")
    bb.fit(halves_as_rows(), "logistic", run=QUIET, epochs=1).save(folder / "rows")
    return folder


class Run:
    """A copy of a run, and the pen of who may write into it."""

    def __init__(self, source: Path, target: Path) -> None:
        self.path = shutil.copytree(source, target)
        self.folder, self.past = target / "bundles" / "000001", target / "histories" / "000001"
        self.whole = (self.folder / "manifest.json").read_bytes()

    def manifest(self, change: Callable[[dict[str, Any]], object]) -> None:
        path = self.folder / "manifest.json"
        document = json.loads(path.read_text())
        del document["sha256"]
        change(document)
        text = json.dumps(document, sort_keys=True, ensure_ascii=False)
        document["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False))

    def seal(self, path: Path) -> None:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.parent == self.past:
            (self.past / "histories.sha256").write_text(sha256)
        else:
            self.manifest(lambda document: document["files"].update({path.name: sha256}))

    def weights(self, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        path = self.folder / "weights.safetensors"
        tensors = load_file(path)
        save_file(tensors | {name: np.ascontiguousarray(change(tensors[name]))}, path)
        self.seal(path)

    def table(self, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        path = (self.past if name == "histories" else self.folder) / f"{name}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)
        self.seal(path)

    def refused(self, match: str, kind: type[BowerbirdError] = BundleError) -> None:
        with pytest.raises(kind, match=match):
            bb.Predictor.load(self.path) if self.path.name == "rows" else bb.load(self.path)


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Callable[[str], Run]:
    return lambda name: Run(runs / name, tmp_path / name)


def test_a_copy_that_is_sealed_again_is_whole(run: Callable[[str], Run]) -> None:
    for name in ("itemknn", "mf", "deepfm"):
        one = run(name)
        one.weights("popularity.counts", lambda array: array)
        one.table("items", lambda table: table)
        one.table("histories", lambda table: table)
        assert bb.load(one.path).recommend(["u1"], k=2).to_polars().height == 2


def first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.reshape(-1)[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "weight", "change", "match"),
    [
        ("mf", "model.items", first(NAN), "items, of the weights of mf, holds what is no number"),
        ("mf", "popularity.counts", first(INF), "counts, of the weights of popularity, holds what is no number"),
        ("mf", "model.items", lambda one: one.view(np.int32), r"the weights do not fit mf: items is torch\.int32"),
        ("mf", "model.items", lambda one: one.T, "the weights do not fit mf"),
        ("itemknn", "model.neighbour", first(40), "neighbour, of the weights of itemknn, points to items that"),
        ("itemknn", "model.neighbour", first(-1), "neighbour, of the weights of itemknn, points to items that"),
        ("deepfm", "user.code", first(10**6), "the columns of the user do not fit the ranker"),
        ("deepfm", "user.code", lambda one: one[:, :1], "the columns of the user do not fit the ranker"),
        ("deepfm", "user.value", first(NAN), "the columns of the user do not fit the ranker"),
        ("deepfm", "calibration", first(NAN), "the weights do not fit deepfm: 'calibration'"),
        ("rows", "ranker.out.bias", first(NAN), "holds what is no number|KeyError"),
    ],
)
def test_weights_are_the_models_own_and_numbers(
    run: Callable[[str], Run], name: str, weight: str, change: Any, match: str
) -> None:
    one = run(name)
    if name == "rows":
        weight = next(key for key in load_file(one.folder / "weights.safetensors") if key.startswith("ranker."))
    one.weights(weight, change)
    one.refused(match)


@pytest.mark.parametrize(
    ("name", "table", "change", "match"),
    [
        ("mf", "histories", lambda t: t.with_columns(pl.col("time").cast(pl.String).cast(pl.Binary)), "no rows of"),
        ("mf", "histories", lambda t: t.with_columns(pl.col("weight").cast(pl.String)), "no rows of events"),
        ("mf", "histories", lambda t: t.with_columns(pl.struct("user").alias("user")), "no rows of events"),
        ("mf", "histories", lambda t: t.with_columns(weight=pl.lit(NAN, pl.Float32)), "weights that are no numbers"),
        ("mf", "histories", lambda t: t.with_columns(user=pl.lit(60, pl.Int32)), "not those of this version"),
        ("mf", "histories", lambda t: t.drop("weight"), "does not hold together"),
        ("mf", "items", lambda t: t.with_columns(item_id=pl.lit(0).cast(pl.Datetime)), "the table of item_ids holds"),
        ("mf", "items", lambda t: t.with_columns(pl.struct("item_id").alias("item_id")), "the table of item_ids holds"),
        ("mf", "users", lambda t: t.with_columns(user_id=pl.lit(None, pl.String)), "the table of user_ids holds"),
        ("mf", "items", lambda t: t.with_columns(pl.col("title").reshape((-1, 1))), "titles that are no texts"),
        ("mf", "items", lambda t: t.with_columns(pl.col("title").cast(pl.Binary)), "titles that are no texts"),
        ("mf", "users", lambda t: t.head(-1), "histories are not those|tells of 60 users"),
        ("mf", "items", lambda t: pl.concat([t, t]), "tells of 60 users and 40 items"),
        ("mf", "users", lambda t: t.rename({"user_id": "id"}), "does not hold together"),
        ("rows", "vocabulary", lambda t: t.head(-1), "what is kept of it does not hold together"),
    ],
)
def test_tables_are_those_of_the_model(
    run: Callable[[str], Run], name: str, table: str, change: Any, match: str
) -> None:
    one = run(name)
    one.table(table, change)
    one.refused(match)


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("mf", put("schema", "n_users", value=10**12), "tells of 1,000,000,000,000 users"),
        ("mf", put("config", "dim", value=10**9), "a model far larger than the weights beside it"),
        ("mf", put("config", "dim", value=10**6), "a model far larger than the weights beside it"),
        ("deepfm", put("ranking", "config", "hidden", value=[10**6, 10**6]), "a model far larger than the weights"),
        ("deepfm", put("ranking", "config", "hidden", value=[1] * 50_000), "a model far larger than the weights"),
        ("rows", put("ranking", "encoder", "schema", "fields", 3, "width", value=10**6), "does not hold together"),
        ("rows", put("ranking", "encoder", "numbers", value=[]), "does not hold together"),
        ("mf", put("files", value=NAN), "files is of type float"),
        ("mf", put("events", value=[{"name": "x", "y": 1}]), "does not hold together"),
        ("mf", put("log_offset", value="x"), "log_offset is of type str"),
        ("mf", put("versions", value=[]), "versions is of type list"),
        ("mf", put("format", value=True), "format is of type bool"),
        ("mf", lambda document: document.pop("format"), "says nothing of format"),
        ("mf", lambda document: document.pop("config"), r"does not hold together \(KeyError"),
        ("mf", put("health", value={"users": 1}), r"does not hold together \(TypeError"),
        ("mf", put("training", value={"x": 1}), r"does not hold together \(TypeError"),
        ("mf", put("files", "../../x", value="00"), r"names '\.\./\.\./x', which no bundle has"),
        ("mf", put("files", "/etc/passwd", value="00"), r"names '/etc/passwd', which no bundle has"),
        ("mf", put("files", "model.pkl", value="00"), r"names 'model\.pkl', which no bundle has"),
        ("mf", put("files", "a\0.parquet", value="00"), "which no bundle has"),
        ("mf", put("files", value={}), r"names no weights\.safetensors"),
    ],
)
def test_a_manifest_says_what_manifests_say(run: Callable[[str], Run], name: str, change: Any, match: str) -> None:
    one = run(name)
    one.manifest(change)
    one.refused(match)


def test_a_wrong_setting_in_a_manifest_names_the_key(run: Callable[[str], Run]) -> None:
    one = run("mf")
    one.manifest(put("config", "dim", value=-1))
    one.refused("dim is -1; it must be 1 or more", ConfigError)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"format": ' + "9" * 10_000 + "}", "null", "\ufeff{}"]
)
def test_a_manifest_that_is_no_json_is_refused(run: Callable[[str], Run], text: str) -> None:
    one = run("mf")
    (one.folder / "manifest.json").write_text(text)
    one.refused("manifest.json cannot be read")


@pytest.mark.parametrize(
    "where", ["weights.safetensors", "manifest.json", "histories.parquet", "000001", "past", "current"]
)
@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_what_is_no_file_is_neither_followed_nor_waited_for(
    run: Callable[[str], Run], where: str, what: str, tmp_path: Path
) -> None:
    one = run("mf")
    places = {
        "000001": one.folder,
        "past": one.past,
        "current": one.path / "current",
        "histories.parquet": one.past / where,
    }
    path = places.get(where, one.folder / where)
    if what == "folder" and path.is_dir():
        pytest.skip("it is one")
    path.rename(tmp_path / "elsewhere")
    if what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    one.refused("is a link|cannot be read|is missing|is gone|nobody's past")


def test_a_publication_that_was_cut_off_is_no_version_to_point_to(run: Callable[[str], Run]) -> None:
    one = run("mf")
    one.folder.rename(one.folder.with_name(".000001.part"))
    (one.path / "current").write_text(".000001.part")
    one.refused("version .000001.part is gone")


def test_a_folder_whose_name_is_another_digit_is_no_version(run: Callable[[str], Run], shop: Interactions) -> None:
    one = run("mf")
    (one.path / "bundles" / "²").mkdir()
    assert bb.fit(shop, "popularity").save(one.path) == "000002"


def test_scores_beyond_all_numbers_are_no_answer(run: Callable[[str], Run]) -> None:
    one = run("itemknn")
    one.weights("model.similarity", lambda array: np.full_like(array, 3e38))
    with pytest.raises(ScoreError, match="a score is infinite"):
        bb.load(one.path).recommend(["u1"], k=5)


def test_vectors_that_are_all_zero_expect_of_a_stranger_what_is_expected_of_anyone(run: Callable[[str], Run]) -> None:
    one = run("mf")
    one.weights("model.items", np.zeros_like)
    assert bb.load(one.path).recommend(histories=[["i1", "i3"]], k=2).to_polars().height == 2


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats(allow_nan=False) | st.text("a./\\é", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_any_json_in_a_manifest_is_a_model_or_refused(hostile: Run, data: st.DataObject) -> None:
    def change(document: Any) -> None:
        while True:
            key = data.draw(st.sampled_from(list(document) if isinstance(document, dict) else range(len(document))))
            if not isinstance(document[key], dict | list) or not document[key] or data.draw(st.booleans()):
                break
            document = document[key]
        document[key] = data.draw(JSON)

    (hostile.folder / "manifest.json").write_bytes(hostile.whole)
    hostile.manifest(change)
    with suppress(BundleError, ConfigError, UnknownModelError):
        assert bb.load(hostile.path).recommend(["u1"], k=2).to_polars().height <= 2


@pytest.fixture(scope="module")
def hostile(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(runs / "deepfm", tmp_path_factory.mktemp("hostile") / "deepfm")
