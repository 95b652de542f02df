"""`bowerbird export`: a ranker as an ONNX graph, or vectors as Parquet, both checked against the model."""

from pathlib import Path

import numpy as np
import torch
import typer

from bowerbird.cli.output import say, show_json, tell
from bowerbird.core import RequestError
from bowerbird.data.readers import open_table
from bowerbird.features import Context, FeatureBatch, join
from bowerbird.recommender import Predictor, Recommender, load
from bowerbird.recommender.export import CANDIDATES, REQUESTS, SAME, to_onnx
from bowerbird.recommender.predictor import ROWS
from bowerbird.recommender.ranking import Ranking
from bowerbird.recommender.vectors import to_vectors
from bowerbird.store import exports
from bowerbird.store.bundles import current, kind_of


def run_export(run: Path, out_file: Path | None, data: str | None, *, int8: bool, as_json: bool) -> None:
    """Write the graph and how its inputs are made; exit with 1 where int8 was asked for and does not rank the same."""
    ranking, requests = _ranking(run, data)
    done = to_onnx(ranking, out_file or run / "model.onnx", int8=int8, requests=requests)
    exports.note(run, "graph", done.path.resolve(), version=current(run))
    if as_json:
        show_json(done.to_dict())
    else:
        told = f"logits differ from the model's by {done.difference:.1g} at most"
        tell(f"{done.model} in {done.path}; {told}")
        tell(f"how its inputs are made: {done.columns}")
    if not int8:
        return
    if done.int8 is None:
        say(f"int8 is not kept: it ranks unlike the model (Kendall's τ {done.tau:.4f}; {SAME} is needed)")
        raise typer.Exit(1)
    if not as_json:
        tell(f"int8 in {done.int8}; it ranks as the model does (Kendall's τ {done.tau:.4f})")


def run_vectors(run: Path, folder: Path | None, *, as_json: bool) -> None:
    """Write the vectors of users and items."""
    if kind_of(run) == ROWS:
        raise RequestError(f"{run} holds a ranker of feature rows, which has no vectors of users and items.")
    done = to_vectors(load(run), folder or run)
    exports.note(run, "vectors", done.user_file.resolve(), version=current(run))
    if as_json:
        show_json(done.to_dict())
        return
    tell(f"{done.items:,} items in {done.item_file}, {done.users:,} users in {done.user_file}: {done.dim} numbers each")
    tell(f"dot products differ from the model's scores by {done.difference:.1g} of the largest, at most")


def _ranking(run: Path, data: str | None) -> tuple[Ranking, list[FeatureBatch]]:
    """Return the ranker of a run, and real requests where there are any."""
    if kind_of(run) == ROWS:
        predictor = Predictor.load(run)
        return predictor.ranking, [] if data is None else _cut(predictor, data)
    recommender = load(run)
    if recommender.stage is None:
        raise RequestError(f"{run} holds {recommender.name}, which ranks no rows. Train deepfm, or another ranker.")
    if data is not None:
        raise RequestError("--data is for a run of feature rows; a recommender is compared on its own users.")
    return recommender.stage.ranking, _asked(recommender)


def _cut(predictor: Predictor, data: str) -> list[FeatureBatch]:
    """Return the first rows of a table as requests: all of them where there are few."""
    table = open_table(data)
    frame = table.columns(table.names).head(CANDIDATES * REQUESTS)
    whole = frame.head(max(frame.height // CANDIDATES, 1) * CANDIDATES)
    found = [predictor.encoder.encode(part) for part in whole.iter_slices(CANDIDATES)]
    return [FeatureBatch(one.code.long(), one.value, one.vector) for one in found]


@torch.no_grad()
def _asked(recommender: Recommender) -> list[FeatureBatch]:
    """Return the retriever's best for some of the known users."""
    source, stage = recommender.source, recommender.stage
    assert source is not None
    assert stage is not None
    found = []
    for user in np.linspace(0, len(recommender.user_ids) - 1, REQUESTS).astype(np.int32):
        context = Context.of_users(user[None], recommender.past).to(recommender.device)
        scores = source.scores(context)
        best = scores.topk(min(CANDIDATES, scores.shape[1])).indices
        found.append(join(context, best, stage.table))
    return found
