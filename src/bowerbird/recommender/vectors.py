"""Vectors of a recommender as Parquet: the dot product of a user's and an item's orders items as the model does.

    FOLDER/item_vectors.parquet    item_id, vector
    FOLDER/user_vectors.parquet    user_id, vector

Items that nobody chose, and that the model cannot tell by their content, have none, and neither have users of whom it
knows nothing. Who is new has no row here: ask the model.

Shapes: U users, I items, D vector size.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from bowerbird.core import BundleError, RequestError
from bowerbird.features import Context
from bowerbird.nn.vectors import DotProduct
from bowerbird.recommender.recommender import Recommender

BLOCK = 1_000  # users whose vectors are made at once
ASKED = 100  # users whose scores are compared with the model's
NOISE = 1e-4  # by which they may differ, as a share of the largest


@dataclass(frozen=True)
class Vectors:
    """What was written, and how far dot products are from the model's scores."""

    item_file: Path
    user_file: Path
    items: int
    users: int
    dim: int
    difference: float  # the largest, as a share of the largest score

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return asdict(self) | {"item_file": str(self.item_file), "user_file": str(self.user_file)}


@torch.inference_mode()
def to_vectors(rec: Recommender, folder: Path) -> Vectors:
    """Write the vectors of users and items into a folder.

    Raises `RequestError` for a model whose score is no dot product, and `BundleError` where the vectors do not give its
    scores.
    """
    model = rec.model
    if rec.source is not None or not isinstance(model, DotProduct):
        raise RequestError(f"{rec.name} scores by no dot product. Train mf, ials, lightgcn, sasrec or twotower.")
    vectors, there = model.item_vectors(), model.shaped_item.cpu().numpy()
    found, known, difference, compared = [], [], 0.0, 0
    for start in range(0, len(rec.user_ids), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(rec.user_ids)), dtype=np.int32)
        context = Context.of_users(rows, rec.past).to(rec.device)
        can = model.can(context).cpu().numpy()
        query = model.query(context)
        found.append(query.cpu().numpy()[can])
        known.append(rows[can])
        if compared < ASKED and can.any():
            few = np.flatnonzero(can)[: ASKED - compared]
            scores = model.scores(Context.of_users(rows[few], rec.past).to(rec.device))
            gap = (query[few] @ vectors.T - scores)[:, model.shaped_item].abs().max()
            difference = max(difference, float(gap / scores[:, model.shaped_item].abs().max().clamp(min=1e-12)))
            compared += len(few)
    if difference > NOISE:
        raise BundleError(f"dot products of the vectors of {rec.name} miss its scores by {difference:.1g}. Tell us.")
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "item_vectors.parquet", folder / "user_vectors.parquet"
    of_items, of_users = vectors.cpu().numpy()[there], np.concatenate(found)
    _write(files[0], "item_id", rec.item_ids.names(np.flatnonzero(there)), of_items)
    _write(files[1], "user_id", rec.user_ids.names(np.concatenate(known)), of_users)
    return Vectors(*files, len(of_items), len(of_users), of_items.shape[1], difference)


def _write(path: Path, name: str, ids: pl.Series, vectors: np.ndarray) -> None:
    pl.DataFrame({name: ids, "vector": np.ascontiguousarray(vectors, np.float32)}).write_parquet(path)
