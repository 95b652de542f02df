"""What columns add to logits: by hand for a linear model, complete for all, and as Captum finds it."""

import numpy as np
import polars as pl
import pytest
import torch
from captum.attr import IntegratedGradients

import bowerbird as bb
from bowerbird.core import entries
from bowerbird.data import RowSplit, read_rows
from bowerbird.explanation import attribute
from bowerbird.explanation.features import STEPS, _hooked
from bowerbird.features import Bag, Categorical, Cross, FeatureBatch, Numeric
from bowerbird.features import Vector as VectorColumn
from bowerbird.recommender import Predictor

RANKERS = [one.name for one in entries() if "ranker" in one.tags and one.name != "din"]


def table(n: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    colour, size = rng.integers(0, 4, n), rng.normal(size=n)
    tags = [[f"t{one}" for one in rng.integers(0, 5, rng.integers(0, 4))] for _ in range(n)]
    logit = (colour == 2) * 2.0 + size + np.array(["t1" in one for one in tags]) - 1
    return pl.DataFrame(
        {
            "colour": [f"c{one}" for one in colour],
            "size": size,
            "tags": tags,
            "ready": rng.normal(size=(n, 3)).tolist(),
            "noise": [f"n{one}" for one in rng.integers(0, 3, n)],
            "label": (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int),
        }
    )


COLUMNS = (
    Categorical(name="colour"), Numeric(name="size"), Bag(name="tags"), VectorColumn(name="ready", size=3),
    Categorical(name="noise"), Cross(columns=("colour", "noise"), buckets=50),
)  # fmt: skip


def fitted(name: str, epochs: int = 2) -> Predictor:
    rows = read_rows(table(), labels="label")
    half = np.arange(len(rows)) < 300
    split = RowSplit(rows.take(half), rows.take(~half), rows.take(~half), "")
    return bb.fit(split, name, columns=COLUMNS, epochs=epochs)


@pytest.mark.parametrize("name", RANKERS)
def test_what_columns_add_sums_to_what_sets_a_row_apart(name: str) -> None:
    made = fitted(name)
    source, schema = made.source(read_rows(table(50), labels="label")), made.encoder.schema
    batch, reference = source.cut(torch.arange(20)), made.ranking.reference
    assert reference is not None
    names, added, _ = attribute(made.ranking.model, batch, schema, reference, steps=200)
    assert names == ["colour", "size", "tags", "ready", "noise", "colour × noise"]
    starts = iter(reference.given)
    value = torch.where(batch.value == batch.value, reference.value, batch.value)
    bags = torch.zeros_like(value, dtype=torch.bool)
    tags = schema.field("tags")
    bags[:, tags.slot : tags.slot + tags.width] = True
    point = FeatureBatch(batch.code, torch.where(bags, batch.value, value), reference.vector.expand_as(batch.vector))
    with torch.no_grad(), _hooked(made.ranking.model, lambda _, out: next(starts).expand_as(out)):
        begun = made.ranking.model(point)[:, 0]
    apart = made.ranking.model(batch)[:, 0].detach() - begun
    assert torch.allclose(added.sum(dim=1), apart, atol=0.02 + 0.02 * float(apart.abs().max()))


def test_a_linear_model_adds_its_weights_by_hand() -> None:
    made = fitted("logistic")
    source, schema = made.source(read_rows(table(50), labels="label")), made.encoder.schema
    batch, reference = source.cut(torch.arange(5)), made.ranking.reference
    assert reference is not None
    _, added, _ = attribute(made.ranking.model, batch, schema, reference)
    weight, slot = made.ranking.model.linear.table.weight[:, 0].detach(), schema.field("colour").slot
    mean = made.ranking.average(made.source(read_rows(table(), labels="label").take(np.arange(400) < 300)), 0)
    assert torch.allclose(added[:, 0], weight[batch.code[:, slot]] - mean.given[0][slot, 0], atol=1e-5)


def test_captum_finds_the_same() -> None:
    made = fitted("deepfm")
    model, schema, reference = made.ranking.model, made.encoder.schema, made.ranking.reference
    assert reference is not None
    batch = made.source(read_rows(table(50), labels="label")).cut(torch.arange(8))
    caught: list[torch.Tensor] = []
    with torch.no_grad(), _hooked(model, lambda _, out: caught.append(out.clone())):
        model(batch)

    def forward(*inputs: torch.Tensor) -> torch.Tensor:
        *given, value, vector = inputs
        parts = iter(given)
        times = len(value) // len(batch)
        with _hooked(model, lambda _, out: next(parts)):
            return model(FeatureBatch(batch.code.repeat(times, 1), value, vector))[:, 0]

    several = torch.zeros(schema.n_slots, dtype=torch.bool)
    tags = schema.field("tags")
    several[tags.slot : tags.slot + tags.width] = True
    ends = (*caught, batch.value, batch.vector)
    starts = (
        *(one.expand_as(end) for one, end in zip(reference.given, caught, strict=True)),
        torch.where(several, batch.value, reference.value),
        reference.vector.expand_as(batch.vector),
    )
    found = IntegratedGradients(forward).attribute(ends, starts, n_steps=STEPS, method="gausslegendre")
    _, added, _ = attribute(model, batch, schema, reference)
    whole = sum(one.flatten(1).sum(dim=1) for one in found)
    assert torch.allclose(added.sum(dim=1), whole.float(), atol=1e-4)
    slot = schema.field("colour").slot
    colour = found[0][:, slot].sum(dim=1) + found[1][:, slot].sum(dim=1)
    assert torch.allclose(added[:, 0], (colour + found[3][:, slot]).float(), atol=1e-4)


def test_what_decides_is_named_before_noise() -> None:
    made = fitted("fm", epochs=8)
    batch = made.source(read_rows(table(200), labels="label")).cut(torch.arange(200))
    names, added, _ = attribute(made.ranking.model, batch, made.encoder.schema, made.ranking.reference)
    mean = dict(zip(names, added.abs().mean(dim=0).tolist(), strict=True))
    assert mean["size"] > 2 * mean["noise"]
    assert mean["colour"] > 2 * mean["noise"]


def test_a_reference_comes_back_with_its_bundle(tmp_path) -> None:
    made = fitted("fm")
    made.save(tmp_path / "run")
    again = Predictor.load(tmp_path / "run").ranking.reference
    assert again is not None
    assert made.ranking.reference is not None
    assert all(torch.equal(a, b) for a, b in zip(again.given, made.ranking.reference.given, strict=True))
