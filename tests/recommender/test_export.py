"""Exported graphs run by ONNX Runtime, and what lies beside them read by a server that knows nothing of bowerbird."""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

import bowerbird as bb
import bowerbird.models
from bowerbird.core import BundleError, ConfigError, MissingExtraError, RequestError, build, entries, lookup
from bowerbird.features import (
    Bag,
    Categorical,
    Cross,
    Encoder,
    FeatureBatch,
    FeatureSchema,
    Field,
    History,
    Numeric,
    Vector,
)
from bowerbird.features.fields import Crossing
from bowerbird.recommender import export
from bowerbird.recommender.export import Exported, agreement, made_up, to_onnx
from bowerbird.recommender.ranking import Ranking

RANKERS = [entry.name for entry in entries() if "ranker" in entry.tags]
FIELDS = (
    Field("a", "categorical", start=1, rows=4, slot=0),
    Field("mean", "bag", start=5, rows=5, slot=1, width=3, pooling="mean"),
    Field("x", "numeric", start=10, rows=2, slot=4),
    Field("look", "bag", start=12, rows=5, slot=5, width=3, pooling="attention"),
    Field("v", "vector", slot=0, width=3),
    Field("b", "categorical", start=17, rows=4, slot=8),
    Field("past", "history", start=17, rows=4, slot=9, width=4, of="b"),
)
CROSSES = (Crossing(("a", "b"), 8),)
Ranker = Callable[..., Ranking]


def ranker(name: str, fields: tuple[Field, ...] = FIELDS, crosses: tuple[Crossing, ...] = CROSSES) -> Ranking:
    """Return a ranker with random weights, of two labels where it can learn two."""
    for tasks in (("click", "buy"), ("label",)):
        with suppress(ConfigError):
            schema = FeatureSchema(fields, crosses, tasks)
            made = Ranking(build(lookup(name).config, {}), Encoder({}, schema, {}, {}), bb.RunOptions(seed=1))
            break
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in made.model.parameters():
            if float(one.abs().max()) < 0.1:  # tables and biases; matrices have their size
                one += 0.3 * torch.randn(one.shape, generator=generator)
    made.calibration = torch.tensor([[1.5, -0.5], [0.5, 0.25]])[: len(tasks)]
    return made


def run(path: Path, batch: FeatureBatch) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and probabilities (N, T) of a graph."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = {"code": batch.code, "value": batch.value, "vector": batch.vector}
    return session.run(["logit", "probability"], {one.name: given[one.name].numpy() for one in session.get_inputs()})


def rows(ranking: Ranking, n: int, seed: int = 5) -> FeatureBatch:
    return made_up(ranking.encoder.schema, n, np.random.default_rng(seed))


@pytest.mark.parametrize("name", RANKERS)
def test_every_ranker_gives_the_same_in_onnx_runtime_for_any_number_of_rows(name: str, tmp_path: Path) -> None:
    ranking = ranker(name)
    done = to_onnx(ranking, tmp_path / "model.onnx")
    assert done.model == name
    assert done.difference < 1e-4
    for n in (1, 2, 300):
        batch = rows(ranking, n)
        with torch.no_grad():
            mine = ranking.model(batch)
        logit, probability = run(done.path, batch)
        np.testing.assert_allclose(logit, mine, atol=1e-4)
        calibrated = torch.sigmoid(mine * ranking.calibration[:, 0] + ranking.calibration[:, 1])
        np.testing.assert_allclose(probability, calibrated, atol=1e-5)
        assert n == 1 or np.ptp(logit[:, 0]) > 0.01


@pytest.fixture(scope="module")
def fm(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return to_onnx(ranker("fm"), tmp_path_factory.mktemp("fm") / "fm.onnx")


def test_a_graph_names_its_inputs_its_model_and_no_place_of_this_machine(fm: Exported) -> None:
    session = onnxruntime.InferenceSession(fm.path, providers=["CPUExecutionProvider"])
    told = {one.name: (one.type, one.shape[1]) for one in session.get_inputs()}
    assert told == {"code": ("tensor(int64)", 13), "value": ("tensor(float)", 13), "vector": ("tensor(float)", 3)}
    assert fm.inputs == {"code": 13, "value": 13, "vector": 3}
    about = session.get_modelmeta().custom_metadata_map
    assert about == {"bowerbird": bb.__version__, "model": "fm", "tasks": '["label"]'}
    assert str(Path(bb.__file__).parent).encode() not in fm.path.read_bytes()
    assert sorted(one.name for one in fm.path.parent.iterdir()) == ["fm.onnx", "fm.onnx.columns.json"]


def test_what_was_written_is_told_as_json(fm: Exported) -> None:
    told = json.loads(json.dumps(fm.to_dict()))
    assert told["path"] == str(fm.path)
    assert told["columns"] == f"{fm.path}.columns.json"
    assert (told["int8"], told["tau"]) == (None, None)


def test_categories_alone_need_no_value(tmp_path: Path) -> None:
    ranking = ranker("logistic", (FIELDS[0],), ())
    assert to_onnx(ranking, tmp_path / "new" / "model.onnx").inputs == {"code": 1}
    weight = ranking.model.linear.table.weight[:, 0] + ranking.model.linear.bias
    logit, _ = run(tmp_path / "new" / "model.onnx", FeatureBatch(torch.tensor([[3], [1]])))
    np.testing.assert_allclose(logit[:, 0], weight[[3, 1]].detach(), rtol=1e-6)


def test_a_cross_falls_into_the_bucket_that_64_bits_give_it(tmp_path: Path) -> None:
    fields = tuple(Field(name, "categorical", start=1 + 500 * n, rows=500, slot=n) for n, name in enumerate("abc"))
    ranking = ranker("logistic", fields, (Crossing(("a", "b", "c"), 997),))
    with torch.no_grad():
        for one in ranking.model.parameters():
            one.zero_()
        ranking.model.linear.cross.weight[:, 0] = torch.arange(997)
    batch = rows(ranking, 400)
    logit, _ = run(to_onnx(ranking, tmp_path / "model.onnx").path, batch)
    buckets = []
    for codes in batch.code.tolist():
        mixed = 0
        for code in codes:
            mixed = (mixed + code + 1) * 0x9E3779B97F4A7C15 % 2**64
            mixed ^= mixed >> 32 & 0x7FFFFFFF
        buckets.append((mixed & 0x7FFFFFFF) % 997)
    assert logit[:, 0].tolist() == buckets
    assert len(set(buckets)) > 250


# ── int8 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_agreement_by_hand() -> None:
    one, other = np.array([[1.0, 1], [2, 2], [3, 3], [4, 4]]), np.array([[1.0, 1], [2, 2], [4, 3], [3, 9]])
    assert agreement([one], [other]) == pytest.approx((5 - 1) / 6)  # one of six pairs of the first task is turned
    assert agreement([one, one], [other, one]) == pytest.approx((4 / 6 + 1) / 2)


def test_equal_scores_have_no_order_to_agree_on() -> None:
    assert agreement([np.ones((5, 1))], [np.ones((5, 1))]) == 0


@given(arrays(np.int8, (6, 2)).filter(lambda one: np.ptp(one, axis=0).all()))
def test_a_rising_function_of_scores_agrees_and_a_falling_one_does_not(scores: np.ndarray) -> None:
    one = scores.astype(np.float64)
    assert agreement([one], [3 * one + 1]) == pytest.approx(1)
    assert agreement([one], [-one]) == pytest.approx(-1)


def test_int8_is_kept_where_it_ranks_the_same(tmp_path: Path) -> None:
    ranking = ranker("widedeep")
    with torch.no_grad():  # what whole numbers blur is little beside the linear part
        ranking.model.linear.table.weight *= 100
    done = to_onnx(ranking, tmp_path / "model.onnx", int8=True)
    assert done.int8 == tmp_path / "model.int8.onnx"
    assert done.tau is not None
    assert done.tau >= 0.99
    kinds = [one.op_type for one in onnx.load(done.int8).graph.node]
    assert kinds.count("MatMulInteger") == 4  # a vector's projection and three layers; the last has one column
    batch = rows(ranking, 200)
    float32, int8 = run(done.path, batch)[0], run(done.int8, batch)[0]
    assert 0 < np.abs(float32 - int8).max() < 1


def test_int8_that_ranks_otherwise_is_not_kept_and_one_of_an_earlier_model_goes(tmp_path: Path) -> None:
    (tmp_path / "model.int8.onnx").write_text("of an earlier model")
    ranking = ranker("mlp")
    one, other = ranking.model.deep.layers[:2]
    with torch.no_grad():  # a unit that is far from all others, and means nothing, leaves them few steps of 256
        one.bias[0], other.weight[:, 0] = 1000, 0
    done = to_onnx(ranking, tmp_path / "model.onnx", int8=True)
    assert done.int8 is None
    assert done.tau is not None
    assert done.tau < 0.99
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model.onnx", "model.onnx.columns.json"]


def test_requests_that_are_given_decide_on_int8(tmp_path: Path) -> None:
    ranking = ranker("widedeep")
    far = made_up(ranking.encoder.schema, 2, np.random.default_rng(0))
    while abs(float(np.diff(ranking.model(far)[:, 0].detach().numpy())[0])) < 1:
        far = made_up(ranking.encoder.schema, 2, np.random.default_rng(int(far.code.sum())))
    done = to_onnx(ranking, tmp_path / "model.onnx", int8=True, requests=[far])
    assert done.tau == 1
    assert done.int8 is not None


def test_a_model_without_layers_has_nothing_to_quantise(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        to_onnx(ranker("logistic"), tmp_path / "model.onnx", int8=True)
    assert str(caught.value) == "logistic has no layer that could be quantised. Export it without int8."
    assert list(tmp_path.iterdir()) == []


# ── mistakes ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Drifting(nn.Module):
    """Gives other logits every time, which no graph can."""

    calls = 0

    def forward(self, batch: FeatureBatch) -> Tensor:
        self.calls += 1
        return batch.code[:, :1].float() + 0.1 * self.calls


class Branching(nn.Module):
    """Looks at its numbers to decide what to do."""

    def forward(self, batch: FeatureBatch) -> Tensor:
        code = batch.code[:, :1].float()
        return code if bool(code.sum() > 100) else -code


def test_a_graph_that_gives_other_logits_is_not_kept(tmp_path: Path) -> None:
    ranking = ranker("logistic", (FIELDS[0],), ())
    ranking.model = Drifting()
    with pytest.raises(BundleError) as caught:
        to_onnx(ranking, tmp_path / "model.onnx")
    assert str(caught.value) == (
        "the graph of logistic gives another logit than the model, by 0.1 (0.0001 is allowed); it is not kept. "
        "Install the torch and the onnxruntime that constraints.txt names, and export again."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_no_graph_is_told_by_name(tmp_path: Path) -> None:
    ranking = ranker("logistic", (FIELDS[0],), ())
    ranking.model = Branching()
    with pytest.raises(BundleError, match=r"^logistic cannot be written as an ONNX graph: "):
        to_onnx(ranking, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(MissingExtraError) as caught:
        to_onnx(ranker("logistic"), tmp_path / "model.onnx")
    assert str(caught.value) == 'an export needs onnxscript. Install it with: pip install "bowerbird[onnx]"'


# ── how inputs are made ───────────────────────────────────────────────────────────────────────────────────────────

COLUMNS = (
    Categorical(name="city"),
    Categorical(name="number", min_count=2),
    Categorical(name="hashed", buckets=50),
    Numeric(name="age"),
    Numeric(name="price", transform="log"),
    Numeric(name="plain", transform="none"),
    Numeric(name="same"),
    Numeric(name="cut", buckets=4),
    Bag(name="tags", separator="|", most=2),
    Bag(name="codes", most=3),
    History(name="past", of="number", most=2),
    Vector(name="look", size=2),
    Cross(columns=("city", "number"), buckets=10),
)


def table(seed: int, n: int) -> pl.DataFrame:
    """Return rows with values that are empty, and for any seed but 0 some that training did not see."""
    rng = np.random.default_rng(seed)
    more = 1 if seed == 0 else 2
    texts = ["Zürich", "Oslo", "東京", "", None, "Perth"][: 5 + (more > 1)]
    tags = ["red|blue|red", "blue", "green|green", None, "red|| blue", "black|red"][: 5 + (more > 1)]
    lists = [[1, 2, 3, 4], [2], [], None, [3, None, 3], [9, 2, 9]][: 5 + (more > 1)]
    numbers = rng.standard_normal(n) * 10 * more**9

    def some(values: list[Any]) -> list[Any]:
        return [values[place] for place in rng.integers(0, len(values), n)]

    return pl.DataFrame(
        {
            "city": some(texts),
            "number": some([1, 2, 3, None, *([77] if more > 1 else [])]),
            "hashed": some(["a", "Ωmega", None, "something longer than that"]),
            "age": [None if one > 15 else float(one) for one in numbers],
            "price": np.abs(numbers) * 100,
            "plain": numbers * 1e3,
            "same": [3.0] * n,
            "cut": [None if one < -15 else float(one) for one in numbers],
            "tags": some(tags),
            "codes": some(lists),
            "past": some(lists),
            "look": some([[0.5, -2.0], [3e9, 1.0], None]),
        },
        schema_overrides={"codes": pl.List(pl.Int64), "past": pl.List(pl.Int64), "look": pl.List(pl.Float64)},
    )


class Server:
    """Feeds a graph from FILE.columns.json alone, row by row, as the documentation tells it."""

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        self.schema, self.numbers = document["encoder"]["schema"], document["encoder"]["numbers"]
        self.columns = {one["name"]: one for one in document["encoder"]["columns"][""]}
        self.places = {
            name: {value: place for place, value in enumerate(values)}
            for name, values in document["vocabulary"].items()
        }
        self.fields = {one["name"]: one for one in self.schema["fields"]}
        self.inputs = document["inputs"]

    def row(self, cells: dict[str, Any]) -> tuple[list[int], list[float], list[float]]:
        code, value = [0] * self.inputs["code"], [0.0] * self.inputs["value"]
        vector = [0.0] * self.inputs["vector"]
        for name, field in self.fields.items():
            cell, slot = cells[name], field["slot"]
            if field["kind"] == "vector":
                if cell is not None and len(cell) == field["width"]:
                    vector[slot : slot + field["width"]] = [min(max(one, -1e6), 1e6) for one in cell]
                continue
            for place, (one, weight) in enumerate(self.slots(field, cell)):
                code[slot + place], value[slot + place] = one, weight
        return code, value, vector

    def slots(self, field: dict[str, Any], cell: Any) -> list[tuple[int, float]]:
        start, name, width = field["start"], field["name"], field["width"]
        numbers = self.numbers[name]
        if "edges" in numbers:
            return [(start if cell is None else start + 1 + sum(edge <= cell for edge in numbers["edges"]), 1)]
        if "knots" in numbers:
            return [(start, 1)] if cell is None else self.between(start + 1, numbers["knots"], cell)
        if field["kind"] == "numeric":
            return [(start, 1) if cell is None else (start + 1, self.scaled(name, cell))]
        if field["kind"] == "categorical":
            return [(self.category(field, cell), 1)]
        if isinstance(cell, str):
            cell = [part.strip() or None for part in cell.split(self.columns[name]["separator"])]
        there = [one for one in cell or [] if one is not None]
        if field["kind"] == "bag":
            return [(self.category(field, one), 1) for one in there[:width]]
        seen = [one for one in there if one in self.places[field["of"]]]
        return [(self.category(self.fields[field["of"]], one), 1) for one in seen[-width:]]

    def between(self, first: int, knots: list[float], cell: float) -> list[tuple[int, float]]:
        low = max(min(sum(knot <= cell for knot in knots) - 1, len(knots) - 2), 0)
        high = min(low + 1, len(knots) - 1)
        gap = knots[high] - knots[low] or 1
        part = min(max((min(max(cell, knots[0]), knots[-1]) - knots[low]) / gap, 0), 1)
        return [(first + low, 1 - part), (first + high, part)]

    def category(self, field: dict[str, Any], cell: Any) -> int:
        if cell is None:
            return field["start"] + 1
        if field["name"] in self.places:
            place = self.places[field["name"]].get(cell)
            return field["start"] + (0 if place is None else 2 + place)
        mixed = sum((byte + 1) * 0x100000001B3**place for place, byte in enumerate(cell.encode())) % 2**64
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ mixed >> shift) * factor % 2**64
        return field["start"] + 2 + (mixed ^ mixed >> 31) % (field["rows"] - 2)

    def scaled(self, name: str, cell: float) -> float:
        transform, numbers = self.columns[name]["transform"], self.numbers[name]
        if transform == "none":
            return min(max(cell, -1e6), 1e6)
        x = math.copysign(math.log1p(abs(cell)), cell) if transform == "log" else cell
        return min(max((x - numbers["mean"]) / numbers["deviation"], -10), 10) if numbers["deviation"] else 0


def test_a_server_in_another_language_feeds_the_graph_from_the_file_beside_it(tmp_path: Path) -> None:
    encoder = Encoder.fit({"": table(0, 200)}, {"": COLUMNS})
    ranking = Ranking(build(lookup("fm").config, {}), encoder, bb.RunOptions(seed=1))
    server = Server(to_onnx(ranking, tmp_path / "model.onnx").columns)
    for asked in (table(0, 60), table(1, 60)):
        mine = encoder.encode(asked)
        code, value, vector = (np.array(one) for one in zip(*map(server.row, asked.to_dicts()), strict=True))
        assert np.array_equal(code, mine.code)
        np.testing.assert_allclose(value, mine.values, rtol=1e-6)
        np.testing.assert_allclose(vector, mine.vector, rtol=1e-6)


@given(st.integers(0, 2**32), st.integers(1, 20))
def test_rows_are_made_up_within_the_rows_of_their_fields(seed: int, n: int) -> None:
    schema = FeatureSchema(FIELDS, CROSSES)
    batch = made_up(schema, n, np.random.default_rng(seed))
    assert batch.value is not None
    assert batch.vector is not None
    assert batch.code.shape == batch.value.shape == (n, schema.n_slots)
    assert batch.vector.shape == (n, schema.n_numbers)
    for one in FIELDS:
        if one.kind == "vector":
            continue
        code, value = (part[:, one.slot : one.slot + one.width] for part in (batch.code, batch.value))
        there = value != 0
        assert bool(((code >= one.start) & (code < one.start + one.rows) | ~there).all())
        assert bool((there == (code > 0)).all())
        assert bool((there[:, 1:] <= there[:, :-1]).all())  # nothing behind an empty slot
