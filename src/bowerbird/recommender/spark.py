"""What users of Spark ML have: ratings as a folder of Parquet parts, and the factor tables of ALS. No Spark is needed.

    RATINGS/_SUCCESS, part-00000-….snappy.parquet …      user, item, rating, and timestamp where times are known
    ALS/userFactors, ALS/itemFactors                     id int, features array<float>: what `ALSModel.save` writes

`bb.read(RATINGS, weight="rating")` reads ratings: it leaves out names that start with _ or a dot, as Spark does.
"""

import uuid
from pathlib import Path

import numpy as np
import polars as pl
import torch

from bowerbird.core import DataError, RealWorld, RunOptions, World
from bowerbird.core.ids import Ids
from bowerbird.data import Interactions
from bowerbird.data.files import open_files
from bowerbird.models.baselines.mf import MFConfig
from bowerbird.recommender.recommender import Recommender

SUCCESS = "_SUCCESS"
USERS, ITEMS = "userFactors", "itemFactors"


def write_ratings(
    events: Interactions, folder: str | Path, *, parts: int = 1, world: World | None = None
) -> list[Path]:
    """Write events into a new folder as Spark lays ratings out; return its parts.

    Ids keep their types; ALS takes integers of 32 bits. The rating is the weight. _SUCCESS comes last, so that a folder
    without it is not whole.
    """
    folder, world, run = Path(folder), world or RealWorld(), uuid.uuid4()
    if world.names(folder):
        raise DataError(f"{folder} holds something already. Name a new folder.")
    world.make_folder(folder)
    columns = {
        "user": events.user_ids.values.gather(events.user),
        "item": events.item_ids.values.gather(events.item),
        "rating": pl.Series(events.weight),
    }
    if events.time is not None:
        columns["timestamp"] = pl.Series(events.time)
    table = pl.DataFrame(columns)
    for name in ("user", "item"):
        if table[name].dtype == pl.Int64 and len(table) and table[name].max() < 2**31 and table[name].min() >= -(2**31):  # type: ignore[operator]
            table = table.with_columns(pl.col(name).cast(pl.Int32))
    paths, edges = [], np.linspace(0, len(table), parts + 1).astype(int)
    for number in range(parts):
        path = folder / f"part-{number:05}-{run}-c000.snappy.parquet"
        table[edges[number] : edges[number + 1]].write_parquet(path, compression="snappy", statistics=True)
        paths.append(path)
    world.write(folder / SUCCESS, b"")
    return paths


def read_factors(folder: str | Path) -> tuple[Ids, np.ndarray]:
    """Return the ids (N,) and vectors float32 (N, D) of a factor table; raises `DataError`."""
    table = open_files(str(folder), "parquet").frame.collect()
    if not {"id", "features"} <= set(table.columns):
        raise DataError(f"{folder}: the columns are {', '.join(table.columns)}; a factor table has id and features.")
    table = table.sort("id")
    lengths = table["features"].list.len().unique().to_list() if table["features"].dtype == pl.List else []
    if len(lengths) != 1 or lengths[0] in (None, 0):
        raise DataError(f'{folder}, column "features": lists of one length are needed. Save the model again.')
    vectors = table["features"].list.explode().cast(pl.Float32).to_numpy().reshape(len(table), lengths[0])
    if not np.isfinite(vectors).all():
        raise DataError(f'{folder}, column "features": a number is not finite. Train the model again.')
    return Ids.of(table["id"]), vectors


def from_als(folder: str | Path, ratings: Interactions | None = None, *, run: RunOptions | None = None) -> Recommender:
    """Return a retriever whose scores are those of an ALS model that Spark saved into a folder.

    With `ratings`, items that a user rated are left out of their lists, and popularity is known; ratings of users or
    items without a factor raise `DataError`, for they are not what the model was trained on. Strangers are answered by
    the ridge regression of `mf` in their history.
    """
    (user_ids, users), (item_ids, items) = (read_factors(Path(folder) / name) for name in (USERS, ITEMS))
    if users.shape[1] != items.shape[1]:
        raise DataError(f"{folder}: users have {users.shape[1]} numbers a vector, items {items.shape[1]}.")
    past = _past(ratings, user_ids, item_ids, folder)
    recommender = Recommender(MFConfig(dim=users.shape[1], cosine=False), past, run=run)
    model = recommender.model
    with torch.no_grad():
        model.user.copy_(torch.tensor(users))
        model.item.copy_(torch.tensor(items))
    model.shaped_user.fill_(True)
    model.shaped_item.fill_(True)
    model.freeze()
    recommender.popularity.fit(past, np.random.default_rng(recommender.run.seed))
    return recommender


def _past(ratings: Interactions | None, user_ids: Ids, item_ids: Ids, folder: str | Path) -> Interactions:
    """Return ratings in the rows of the factor tables."""
    nobody = pl.Series([], dtype=pl.Int64)
    ratings = Interactions.of(nobody, nobody) if ratings is None else ratings
    users = np.array([user_ids.row(one) for one in ratings.user_ids.values.to_list()], np.int32)
    items = np.array([item_ids.row(one) for one in ratings.item_ids.values.to_list()], np.int32)
    for name, rows in (("users", users), ("items", items)):
        if (strange := int((rows < 0).sum())) > 0:
            raise DataError(
                f"{strange:,} {name} of the ratings have no factor in {folder}. Give what it was trained on."
            )
    return Interactions(
        user=users[ratings.user] if len(users) else ratings.user,
        item=items[ratings.item] if len(items) else ratings.item,
        weight=ratings.weight,
        event=ratings.event,
        time=ratings.time,
        user_ids=user_ids,
        item_ids=item_ids,
        events=ratings.events,
    )
