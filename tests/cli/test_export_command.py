"""`bowerbird export`, from a saved run to ONNX Runtime."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pytest
from typer.testing import CliRunner, Result

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import BundleError, RequestError
from bowerbird.data import Interactions, Rows
from bowerbird.features import Context, FeatureBatch, join

QUIET = bb.RunOptions(progress=False)


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, words)], catch_exceptions=False)


def fails(*words: object) -> Exception:
    found = CliRunner().invoke(app, ["export", *map(str, words)]).exception
    assert isinstance(found, Exception)
    return found


def run(path: Path, batch: FeatureBatch) -> np.ndarray:
    """Return the probabilities (N, T) that a graph gives."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = {"code": batch.code, "value": batch.value, "vector": batch.vector}
    fed = {one.name: given[one.name].numpy() for one in session.get_inputs()}
    found: np.ndarray = session.run(["probability"], fed)[0]
    return found


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """300 people: the old in Oslo click."""
    rng = np.random.default_rng(0)
    age, city = rng.integers(18, 80, 300), rng.choice(["Oslo", "Rome", "Lima"], 300)
    tags = rng.choice(["red", "blue|red", "green|blue", ""], 300)
    return pl.DataFrame({"age": age.astype(float), "city": city, "tags": tags}).with_columns(
        label=((pl.col("age") > 50) & (pl.col("city") == "Oslo")).cast(pl.Float32)
    )


@pytest.fixture(scope="module")
def rows(table: pl.DataFrame) -> Rows:
    return Rows(table.drop("label"), table["label"].to_numpy(writable=True)[:, None], ("label",))


@pytest.fixture(scope="module")
def clicks(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of feature rows."""
    folder = tmp_path_factory.mktemp("clicks") / "run"
    bb.fit(rows, "widedeep", epochs=1, learning_rate=0.01, batch_size=50, run=QUIET).save(folder)
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of interactions whose candidates are ranked: even users like even items, odd users odd ones."""
    user, turn = (column.ravel() for column in np.meshgrid(np.arange(40), np.arange(5), indexing="ij"))
    item = 2 * ((user // 2 + turn) % 6) + user % 2
    events = Interactions.of(pl.Series(user), pl.Series(item), time=1_000 * turn + user)
    folder = tmp_path_factory.mktemp("shop") / "run"
    bb.fit(events, "fm", epochs=2, run=QUIET).save(folder)
    return folder


def test_a_run_of_rows_gives_the_same_probabilities_in_onnx_runtime(clicks: Path, rows: Rows) -> None:
    done = call(clicks, "--onnx")
    assert done.exit_code == 0, done.output
    assert f"widedeep in {clicks / 'model.onnx'}; logits differ from the model's by" in done.stdout
    assert f"how its inputs are made: {clicks / 'model.onnx.columns.json'}" in done.stdout
    predictor = bb.Predictor.load(clicks)
    encoded = predictor.encoder.encode(rows.table)
    found = run(clicks / "model.onnx", FeatureBatch(encoded.code.long(), encoded.value, encoded.vector))
    np.testing.assert_allclose(found, predictor.predict(rows), atol=1e-5)
    assert np.ptp(found) > 0.01


def test_a_run_of_interactions_gives_the_ranker_of_its_candidates(shop: Path, tmp_path: Path) -> None:
    done = call(shop, "--onnx", "--out", tmp_path / "fm.onnx", "--json")
    told = json.loads(done.stdout)
    assert told["model"] == "fm"
    assert told["difference"] < 1e-4
    rec = bb.load(shop)
    assert rec.stage is not None
    context, items = Context.of_users(np.array([3, 4], np.int32), rec.past), np.arange(24).reshape(2, 12) % 12
    batch = join(context, rec.stage.table.item.code.new_tensor(items).long(), rec.stage.table)
    found = run(tmp_path / "fm.onnx", batch)[:, 0].reshape(2, 12)
    np.testing.assert_allclose(found, rec.stage.rank(context, batch.code.new_tensor(items)), atol=1e-5)


def test_int8_is_compared_on_the_rows_of_a_table(clicks: Path, table: pl.DataFrame, tmp_path: Path) -> None:
    table.write_csv(tmp_path / "later.csv")
    out = tmp_path / "model.onnx"
    done = call(clicks, "--onnx", "--int8", "--data", tmp_path / "later.csv", "--out", out, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["int8"]) in [(0, str(tmp_path / "model.int8.onnx")), (1, None)]
    assert (told["tau"] >= 0.99) == (done.exit_code == 0) == (tmp_path / "model.int8.onnx").exists()
    assert told["tau"] > 0.8


def test_int8_that_ranks_otherwise_ends_with_1_and_says_so(clicks: Path, tmp_path: Path) -> None:
    table = pl.DataFrame({"age": [40.0] * 3, "city": ["Oslo"] * 3, "tags": ["red"] * 3})  # all alike: no order
    table.write_parquet(tmp_path / "alike.parquet")
    done = call(clicks, "--onnx", "--int8", "--data", tmp_path / "alike.parquet", "--out", tmp_path / "model.onnx")
    assert done.exit_code == 1
    said = "int8 is not kept: it ranks unlike the model (Kendall's τ 0.0000; 0.99 is needed)"
    assert said in " ".join(done.stderr.split())
    assert (tmp_path / "model.onnx").exists()
    assert not (tmp_path / "model.int8.onnx").exists()


def test_mistakes_say_how_to_mend_them(clicks: Path, shop: Path, tmp_path: Path) -> None:
    error = fails(clicks)
    assert isinstance(error, RequestError)
    assert str(error) == f"as what is {clicks} to be exported? Add --onnx, --vectors or --feedback."
    error = fails(shop, "--onnx", "--data", "later.csv")
    assert isinstance(error, RequestError)
    assert str(error) == "--data is for a run of feature rows; a recommender is compared on its own users."
    bb.fit(bb.load(shop).past, "ease").save(tmp_path / "ease")
    error = fails(tmp_path / "ease", "--onnx")
    assert isinstance(error, RequestError)
    assert str(error) == f"{tmp_path / 'ease'} holds ease, which ranks no rows. Train deepfm, or another ranker."
    assert isinstance(fails(tmp_path / "nothing", "--onnx"), BundleError)


@pytest.mark.parametrize("model", ["mf", "ials", "lightgcn", "sasrec"])
def test_vectors_order_items_as_the_model_does(even_odd: Interactions, tmp_path: Path, model: str) -> None:
    settings = {} if model == "ials" else {"epochs": 1}
    rec = bb.fit(even_odd, model, run=QUIET, **settings)
    rec.save(tmp_path / "run")
    told = json.loads(call(tmp_path / "run", "--vectors", "--json").stdout)
    assert told["difference"] < 1e-4
    items = pl.read_parquet(tmp_path / "run" / "item_vectors.parquet")
    users = pl.read_parquet(tmp_path / "run" / "user_vectors.parquet")
    assert (told["items"], told["users"]) == (len(items), len(users))
    scores = users["vector"].to_numpy() @ items["vector"].to_numpy().T
    for user, row in zip(users["user_id"].head(5), scores, strict=False):
        mine = {rec.item_ids[int(one)] for one in rec.past.item[rec.past.user == rec.user_ids.row(user)]}
        best = [items["item_id"][int(one)] for one in np.argsort(-row, kind="stable")]
        assert next(one for one in best if one not in mine) == rec.recommend([user], k=1).ids[0][0]


def test_what_has_no_vectors_says_so(even_odd: Interactions, clicks: Path, tmp_path: Path) -> None:
    bb.fit(even_odd, "ease").save(tmp_path / "run")
    assert "ease scores by no dot product. Train mf" in str(fails(tmp_path / "run", "--vectors"))
    assert "no vectors of users and items" in str(fails(clicks, "--vectors"))
    assert "Add --onnx, --vectors or --feedback" in str(fails(clicks))
