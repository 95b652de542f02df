"""Are the reasons the real ones? Deletion, sufficiency, agreement of seeds, counterfactuals asked again, and the cost.

`--data` is the folder of all data sets, `--tasks` names models with commas (default: all). People are drawn among those
with enough of a past; of each, the first item of the list is explained and its three strongest causes are deleted,
beside ten draws of three others (`bowerbird.explanation.faithfulness`). `deletion.gain` and `sufficiency.gain` are in
standard deviations of a person's scores over all items (of logits over rows, for rankers). Scores are computed anew by
another way than the one that found the reasons:

- models of histories, and factors: a stranger posts what is left of the past;
- lightgcn and ngcf: the person's edges are cut out of the graph, and all vectors travel again;
- rankers on rows: the named columns take values of other rows, five draws;
- content: the named kind of content is that of another item.

Counterfactuals are of lists of ten; `counterfactual.verified` is the share that holds when asked again in this way.
`ms` is the median of explaining ten items for one person.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

import _shared
import bowerbird as bb
from bowerbird.core import RunOptions, numpy_stream
from bowerbird.data import Interactions, Rows, RowSplit, load, load_rows
from bowerbird.explanation import Past, agreement, attribute, counterfactual, faith, trial
from bowerbird.explanation.content import modalities
from bowerbird.explanation.counterfactual import ranks
from bowerbird.explanation.cut import without_edges
from bowerbird.features import Context
from bowerbird.recommender import Predictor, Recommender
from content import movies

K, TIMED, COUNTERED, SHORTEST = 10, 100, 60, 8  # places, people who are timed, asked what it takes, items of a past
REPLACED = 5  # rows that deleted columns take values of
BAR_MS, BAR_AGREEMENT = 20.0, 0.9
FAMILIES = {  # model → family, data, hyper-parameters
    "ease": ("linear", "ml-100k", {}),
    "itemknn": ("linear", "ml-100k", {}),
    "spectral": ("linear", "ml-100k", {}),
    "ials": ("factors", "ml-100k", {}),
    "mf": ("factors", "ml-100k", {}),
    "lightgcn": ("graph", "ml-100k", {}),
    "ngcf": ("graph", "ml-100k", {}),
    "sasrec": ("sequence", "amazon-beauty-s3rec", {"epochs": 20}),
    "gru4rec": ("sequence", "amazon-beauty-s3rec", {"epochs": 10}),
    "deepfm": ("ranker", "frappe", {}),
    "dcnv2": ("ranker", "frappe", {}),
    "vbpr": ("content", "ml-1m", {"epochs": 10}),
    "crossmodal": ("content", "ml-1m", {}),
    "twotower": ("content", "ml-1m", {"epochs": 10}),
}


def main() -> int:
    options = _shared.parser(__doc__.split("\n")[0])
    options.add_argument("--tasks", default=",".join(FAMILIES), help="models, with commas between them")
    options.add_argument("--people", type=int, default=200)
    options.add_argument("--keep", help="a folder that trained models are kept in, and taken from")
    asked = options.parse_args()
    if asked.table:
        return table(asked.json)
    status = 0
    for name in asked.tasks.split(","):
        if name not in FAMILIES:
            print(f"--tasks names {name!r}; there are {', '.join(FAMILIES)}.", file=sys.stderr)
            return 2
        one = argparse.Namespace(**(vars(asked) | {"model": name, "require": [*asked.require, *_bars(name)]}))
        status = max(status, _shared.main(one, measure))
    return status


def _bars(name: str) -> list[str]:
    bars = ["deletion.low>=1e-9", f"ms<={BAR_MS}"]
    family = FAMILIES[name][0]
    if family == "ranker":
        return [*bars, f"agreement>={BAR_AGREEMENT}"]
    if family == "content":
        bars.append("content.deletion.low>=1e-9")
    return [*bars, "counterfactual.verified>=1"]


def table(as_json: bool) -> int:
    """Print the newest row of every model, and return 1 where one is under its bar."""
    newest = {row["model"]: row for row in _shared.kept("explain")}
    missed = [f"{name}: {bar}" for name, row in newest.items() for bar in _bars(name) if not _shared.holds(row, bar)]
    print(f"{'model':<11}{'family':<10}{'data':<21}{'deletion gain':<24}{'sufficiency':<13}{'ms':>6}  asked again")
    for name, row in newest.items():
        m = row["metrics"]
        told = f"{m['deletion.gain']:.3f} [{m['deletion.low']:.3f}, {m['deletion.high']:.3f}]"
        held = f"{m['counterfactual.verified']:.0%} of {m['counterfactual.n']:.0f}" if "counterfactual.n" in m else ""
        held += f"agreement {m['agreement']:.3f}" if "agreement" in m else ""
        figures = f"{told:<24}{m['sufficiency.gain']:<13.3f}{m['ms']:>6.1f}"
        print(f"{name:<11}{row['family']:<10}{row['data']:<21}{figures}  {held}")
    for line in missed:
        print(f"bar not reached: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps({"benchmark": "explain", "rows": list(newest.values()), "missed": missed}))
    return int(bool(missed))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    family, data, settings = FAMILIES[options.model]
    root, seed = Path(options.data), _shared.seeds(options.seeds)[0]
    rng, started = numpy_stream(seed, "explain"), time.perf_counter()
    if family == "ranker":
        metrics = of_rows(options, load_rows(data, data_root=str(root)), settings, rng, seed)
    else:
        events = movies(root / data) if family == "content" else load(data, data_root=str(root))
        if family == "content" and events.item_content == {}:
            events = with_posters(events)
        run = RunOptions(seed=seed, threads=options.threads)
        rec = trained(options.keep, options.model, lambda: bb.fit(bb.split(events), options.model, **settings, run=run))
        metrics = of_content(rec, options.people, rng) if family == "content" else {}
        metrics = of_past(rec, family, options.people, rng) | metrics
    return {
        "benchmark": "explain",
        "data": data,
        "model": options.model,
        "family": family,
        "protocol": f"split=default fitted-on=train people={options.people} item=first-of-list named=3 draws=10",
        "report": "valid",
        "seeds": [seed],
        "config": settings,
        "metrics": metrics,
        "seconds": {"all": round(time.perf_counter() - started, 1)},
    }


def trained(keep: str | None, name: str, fit: Callable[[], Any]) -> Any:
    """Return a model from the folder that keeps it, or trained anew."""
    if keep is None:
        return fit()
    folder = Path(keep) / name
    if not folder.exists():
        fit().save(folder)
    return bb.load(folder) if FAMILIES[name][0] != "ranker" else Predictor.load(folder)


# ── causes in the past ────────────────────────────────────────────────────────────────────────────────────────────────


def of_past(rec: Recommender, family: str, n: int, rng: np.random.Generator) -> dict[str, float]:
    """Return what is to be known of reasons that name past items."""
    again = partial(without_edges, rec.model, rec.past) if family == "graph" else posted(rec)
    people = [user for user in rng.permutation(rec.past.n_users) if len(past_of(rec, user)) >= SHORTEST][:n]
    trials, places, verified, smallest = [], [], [], 0
    for place, user in enumerate(people):
        past = past_of(rec, user)
        with torch.no_grad():
            scores = rec.pipeline.ladder.scores(past.context)[0]
        allowed = torch.ones(scores.shape[1], dtype=torch.bool)
        allowed[past.context.history.item] = False
        item = int(scores[0].masked_fill(~allowed, -torch.inf).argmax())
        said = past.said(rec.model, torch.tensor([item]))[:, 0].numpy()
        finite = scores[0][scores[0].isfinite()]

        def rescored(removed: np.ndarray, past: Past = past, item: int = item) -> np.ndarray:
            found: np.ndarray = again(past, torch.from_numpy(removed))[:, item].numpy()
            return found

        one = trial(said, rescored, rng)
        if one is not None:
            trials.append((one[0] / float(finite.std()), one[1] / float(finite.std())))
        if place < COUNTERED:
            near, true = partial(past.rescored, rec.model), partial(again, past) if family == "graph" else None
            found = counterfactual(near, said, item, K, allowed, confirm=true)
            if found is not None:
                removed = torch.zeros(1, len(past), dtype=torch.bool)
                removed[0, list(found.removed)] = True
                verified.append(ranks(again(past, removed), item, allowed)[0] > K)
                places.append(len(found.removed))
                smallest += found.smallest
    told = faith(trials, rng)
    return {
        **_figures(told),
        "counterfactual.n": len(verified),
        "counterfactual.verified": float(np.mean(verified)) if verified else 1.0,
        "counterfactual.items": float(np.mean(places)) if places else 0.0,
        "counterfactual.smallest": smallest / max(len(verified), 1),
        "ms": cost(rec, people[:TIMED]),
    }


def _figures(told: Any) -> dict[str, float]:
    return {
        "people": told.people,
        "deletion.gain": told.deletion, "deletion.low": told.deletion_interval[0],
        "deletion.high": told.deletion_interval[1], "sufficiency.gain": told.sufficiency,
        "sufficiency.low": told.sufficiency_interval[0], "sufficiency.high": told.sufficiency_interval[1],
    }  # fmt: skip


def past_of(rec: Recommender, user: int) -> Past:
    return Past(Context.of_users(np.array([user], np.int32), rec.past))


Again = Callable[[Past, Tensor], Tensor]  # without some past items, bool (N, P) → scores of all items (N, I)


def posted(rec: Recommender) -> Again:
    """Return what a stranger gets who posts what is left of a past."""

    @torch.no_grad()
    def again(past: Past, removed: Tensor) -> Tensor:
        gone = [set(past.items[one].tolist()) for one in removed]
        item = past.context.history.item.tolist()
        return rec.model.scores(Context.of_histories([[row for row in item if row not in out] for out in gone]))

    return again


def cost(rec: Recommender, people: list[int]) -> float:
    """Return the median milliseconds of explaining ten items for one person."""
    found = []
    for user in people:
        context = Context.of_users(np.array([user], np.int32), rec.past)
        items = rec.pipeline.run(context, K).items[0].numpy()
        started = time.perf_counter()
        rec.explain(context, items)
        found.append(1000 * (time.perf_counter() - started))
    return median(found)


# ── columns ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_rows(
    options: argparse.Namespace, parts: dict[str, Rows], settings: dict[str, Any], rng: np.random.Generator, seed: int
) -> dict[str, float]:
    """Return what is to be known of reasons that name columns."""
    run = RunOptions(seed=seed, threads=options.threads)
    split = RowSplit(**parts, protocol="given")
    made = trained(options.keep, options.model, lambda: bb.fit(split, options.model, run=run, **settings))
    ranking, source, train = made.ranking, made.source(parts["valid"]), made.source(parts["train"])
    schema, model = ranking.encoder.schema, ranking.model
    drawn = torch.from_numpy(rng.choice(len(source), options.people, replace=False))
    logit, trials, orders, milliseconds = ranking.logits(source), [], [list[np.ndarray](), list[np.ndarray]()], []
    scale, references = float(logit.std()), [ranking.average(train, one) for one in (seed, seed + 1)]
    for row in drawn.tolist():
        batch = source.cut(torch.tensor([row]))
        for reference, found in zip(references, orders, strict=True):
            found.append(attribute(model, batch, schema, reference)[1][0].numpy())
        said = orders[0][-1]

        def rescored(removed: np.ndarray, batch: Any = batch) -> np.ndarray:
            others = train.cut(torch.from_numpy(rng.choice(len(train), REPLACED)))
            slots = np.zeros((len(removed), schema.n_slots), bool)
            for place, one in enumerate(schema.fields):
                slots[:, one.slot : one.slot + one.width] = removed[:, place, None]
            mask = torch.from_numpy(slots)[:, None]
            code = torch.where(mask, others.code[None], batch.code[None]).flatten(0, 1)
            value = batch.value
            if value is not None:
                value = torch.where(mask, others.value[None], value[None]).flatten(0, 1)
            with torch.no_grad():
                found: np.ndarray = model(replace(batch, code=code, value=value, label=None))[:, 0].numpy()
            return found.reshape(len(removed), REPLACED).mean(axis=1)

        one = trial(said, rescored, rng)
        assert one is not None
        trials.append((one[0] / scale, one[1] / scale))
    for start in range(0, len(drawn) - K, K):
        batch = source.cut(drawn[start : start + K])
        started = time.perf_counter()
        attribute(model, batch, schema, references[0])
        milliseconds.append(1000 * (time.perf_counter() - started))
    return {**_figures(faith(trials, rng)), "agreement": agreement(*orders), "ms": median(milliseconds)}


# ── content ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_posters(events: Interactions) -> Interactions:
    """Return films whose content is read from their columns: texts, genres, posters."""
    from bowerbird.models.multimodal.vbpr import VBPRConfig

    config = VBPRConfig(text=("title", "plot"), attributes=("genres", "year"), image=("poster",)).settled(events.items)
    return events.with_content(items=config.read(events.items))


def of_content(rec: Recommender, n: int, rng: np.random.Generator) -> dict[str, float]:
    """Return what is to be known of reasons that name a kind of content."""
    content = {name: torch.from_numpy(one).float() for name, one in rec.past.item_content.items()}
    whole = torch.stack([~one.isnan().any(dim=1) for one in content.values()]).all(dim=0)
    full = whole.nonzero()[:, 0].numpy()
    trials = []
    for user in rng.permutation(rec.past.n_users)[:n]:
        context = Context.of_users(np.array([user], np.int32), rec.past)
        with torch.no_grad():
            scores = rec.model.scores(context)[0].masked_fill(~whole, -torch.inf)
            scores[context.history.item] = -torch.inf
            item, query = int(scores.argmax()), rec.model.query(context)[0]
        mine = {name: one[[item]] for name, one in content.items()}
        said = modalities(rec.model, context, torch.tensor([item]), mine)[1][1:, 0].numpy()

        def rescored(removed: np.ndarray, mine: Any = mine, query: Tensor = query) -> np.ndarray:
            other = torch.from_numpy(rng.choice(full, len(removed)))
            mixed = {
                name: torch.where(torch.from_numpy(removed[:, [place]]), one[other], mine[name])
                for place, (name, one) in enumerate(content.items())
            }
            with torch.no_grad():
                found: np.ndarray = (rec.model.embed(mixed) @ query).numpy()
            return found

        one = trial(said, rescored, rng, named=1)
        scale = float(scores[scores.isfinite()].std())
        assert one is not None
        trials.append((one[0] / scale, one[1] / scale))
    told = faith(trials, rng)
    return {f"content.{key}": value for key, value in _figures(told).items()}


if __name__ == "__main__":
    sys.exit(main())
