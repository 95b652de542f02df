"""The doors `bb.fit` and `bb.load`: from data and a configuration to what answers, and from a run directory back."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import polars as pl
import torch

from bowerbird.core import (
    BundleError,
    ConfigError,
    ModelConfig,
    RunOptions,
    TrainedConfig,
    World,
    build,
    entry_of,
    lookup,
)
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions, Rows, RowSplit, Schema, Split
from bowerbird.data.readers import is_title
from bowerbird.evaluation import Health
from bowerbird.features import Column
from bowerbird.recommender import weights
from bowerbird.recommender.pasts import past_of
from bowerbird.recommender.predictor import ROWS, Predictor
from bowerbird.recommender.ranking import restored
from bowerbird.recommender.recipe import Recipe
from bowerbird.recommender.recommender import Recommender
from bowerbird.recommender.two_stage import RankingOptions, TwoStage
from bowerbird.store import bundles, histories


def load(
    run: str | Path,
    *,
    version: str | None = None,
    options: RunOptions | None = None,
    moments: bool = False,
    world: World | None = None,
) -> Recommender:
    """Return the recommender saved in a run directory; raises `BundleError` unless every byte is as written.

    With `moments`, twice as large as the weights, comes what the optimiser needs for training to go on.
    """
    folder = Path(run)
    bundle = bundles.read(folder, version=version, moments=moments, world=world)
    if bundle.manifest.get("kind") == ROWS:
        raise BundleError(f"{folder} holds a predictor of feature rows. Load it with bb.Predictor.load({str(run)!r}).")
    events = histories.recall(folder, bundle.version, world=world)
    with weights.whole(folder / "bundles" / bundle.version):
        return _recommender(bundle, events, options, world, where=str(folder))


def _recommender(
    bundle: bundles.Bundle, events: pl.DataFrame, options: RunOptions | None, world: World | None, *, where: str
) -> Recommender:
    """Return what a bundle and its histories were made from."""
    manifest = bundle.manifest
    kinds = tuple(EventType(**kind) for kind in manifest["events"])
    users, items = bundle.tables["users"], bundle.tables["items"]
    past = past_of(events, _ids(users["user_id"]), _ids(items["item_id"]), kinds)
    if not is_title(items.schema.get("title", pl.String())):
        raise BundleError("the table of items has titles that are no texts. Restore the bundle or train again.")
    if items.width > 1:
        past = replace(past, items=items.drop("item_id"))
    config = build(lookup(manifest["model"]).config, manifest["config"], where=where)
    options = options or RunOptions(seed=manifest["seed"])
    sizes = manifest["schema"]
    content, people = (  # bundles of 0.1.0 have none
        tuple((name, size) for name, size in sizes.get(side, ())) for side in ("item_content", "user_content")
    )
    past = past.with_content(items={name: bundle.tensors[f"content.{name}"].astype(np.float32) for name, _ in content})
    schema = Schema(sizes["n_users"], sizes["n_items"], kinds, tuple(sizes["relations"]), content, people)
    if (schema.n_users, schema.n_items) != (past.n_users, past.n_items):
        told = f"{schema.n_users:,} users and {schema.n_items:,} items, and its tables have other numbers of rows"
        raise BundleError(f"the bundle tells of {told}. Restore it or train again.")
    stage = None
    if manifest.get("ranking"):  # bundles of 0.1.0 have none
        stage = TwoStage.of(manifest["ranking"], bundle.tensors, bundle.tables["vocabulary"], options, kinds)
    with weights.small(bundle.tensors):
        rec = Recommender(
            config, replace(past, origin=manifest["origin"]), run=options, schema=schema,
            ranking=stage.options if stage else None, world=world,
        )  # fmt: skip
    tensors = {name: torch.from_numpy(array) for name, array in bundle.tensors.items()}
    state = {name.removeprefix("model."): one for name, one in tensors.items() if name.startswith("model.")}
    weights.put(rec.popularity, {"counts": tensors["popularity.counts"]}, "popularity")
    weights.put(rec.model, state, manifest["model"])
    rec.version, rec.measured = bundle.version, manifest["measured"]
    rec.parent, rec.log_offset = manifest["parent"], manifest["log_offset"]
    rec.shards = manifest.get("shards")  # bundles of 0.1.0 have none
    (rec.source or rec).moments = {name: torch.from_numpy(array) for name, array in bundle.moments.items()}
    if manifest.get("health"):  # bundles of 0.1.0 have none
        rec.health = Health.from_dict(manifest["health"])
    rec.training = restored(manifest["training"])  # a refit trains for the epochs that were chosen then
    if stage is not None and rec.source is not None:
        rec.source.training = restored(manifest.get("retriever_training"))
        rec.take(stage)
    return rec


def _ids(column: pl.Series) -> Ids:
    """Return the ids that a bundle keeps."""
    if column.dtype not in (pl.Int64, pl.String) or column.null_count():
        raise BundleError(f"the table of {column.name}s holds what is none. Restore the bundle or train again.")
    return Ids(column)


@overload
def fit(
    data: Split | Interactions, model: str | ModelConfig | Recipe, *, run: RunOptions | None = ...,
    ranking: RankingOptions | None = ..., **settings: Any,
) -> Recommender: ...  # fmt: skip
@overload
def fit(
    data: RowSplit | Rows, model: str | ModelConfig | Recipe, *, run: RunOptions | None = ...,
    columns: Sequence[Column] | None = ..., **settings: Any,
) -> Predictor: ...  # fmt: skip
def fit(
    data: Split | Interactions | RowSplit | Rows,
    model: str | ModelConfig | Recipe,
    *,
    run: RunOptions | None = None,
    ranking: RankingOptions | None = None,
    columns: Sequence[Column] | None = None,
    **settings: Any,
) -> Recommender | Predictor:
    """Return what is trained on a split's train part and chosen on its validation part.

    `model` is a name (with `settings` for its config), a config, or a recipe. With a bare table there is nothing to
    choose on: the model is trained for all its epochs. Of interactions comes a recommender; where the model is a
    ranker, `ranking` says who finds candidates for it and which events count as 1. Of a feature table comes a
    predictor; `columns` say what it holds, inferred where left out.
    """
    if isinstance(model, Recipe):
        config, run, ranking = model.model, run or model.run, ranking or model.ranking
    elif isinstance(model, ModelConfig):
        config = model
    else:
        config = build(lookup(model).config, settings)
        settings = {}
    if settings:
        raise ConfigError(f"{', '.join(settings)} cannot be given beside a config. Put them into it.")
    if isinstance(data, RowSplit | Rows):
        entry = entry_of(config)
        if "ranker" not in entry.tags:
            raise ConfigError(
                f"{entry.name} learns from interactions, not from a feature table. Take deepfm, or another ranker."
            )
        assert isinstance(config, TrainedConfig)
        rows, later = (data.train, data.valid) if isinstance(data, RowSplit) else (data, None)
        return Predictor.fit(rows, later, config, columns=columns, run=run)
    train = data.train if isinstance(data, Split) else data
    rec = Recommender(config, train, run=run, ranking=ranking)
    rec.learn(valid=data.valid if isinstance(data, Split) else None)
    return rec
