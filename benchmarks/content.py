"""Items that nobody chose yet: what content is worth before the first click, and after it.

A folder like `ml-1m` (interactions.csv.gz, movies.dat, text/, images/): five folds, each with a tenth of all items kept
out of training to choose by and a tenth to test on. Ranked for everyone with a choice among them (a) among the cold
items only and (b) among all but what they chose in training. Baselines see the same vectors: content-kNN (items most
like what somebody chose), a ridge map from content to item factors, what is popular in the genres, and chance; each is
tuned on the cold items to choose by. Intervals resample items and users. Texts find posters among cold items, by towers
that saw none of their pairs. Warm: a tenth of everyone's choices is held out instead. `--curve` shows one, two and more
events of cold items, and of people.

A folder with raw_train.txt and raw_test.txt, as `bing-news-dkn`: who reads articles of which only titles are known.

A folder with train.txt, valid.txt, test.txt and *_feat.npy, as `tiktok-diffmm`: the published split, full ranking.
"""

import argparse
import gzip
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

import _shared
from bowerbird import RunOptions, compare, evaluate, split
from bowerbird.core import build, lookup, numpy_stream
from bowerbird.data import Holdout, Interactions, Split, read
from bowerbird.evaluation.binary import auc
from bowerbird.features import Context
from bowerbird.nn.content import ContentConfig, Directions, ridge_map, tensors
from bowerbird.nn.graph import pair_matrix
from bowerbird.recommender import Recommender

FOLDS, PARTS, K = 5, 10, 20
NEIGHBOURS = (10, 20, 50, 100, 200, 400, 800, 1_600, 1_000_000)  # the last: all
RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
WEIGHTS = (0.0625, 0.25, 1.0, 4.0, 16.0)  # of one modality beside the others, squared, in content-kNN
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0)  # of EASE
STEPS = (0, 1, 2, 5, 10, 20)  # events of the curves
REPLICATES = 1_000
PUBLISHED = {
    ("tiktok-diffmm", "crossmodal"): {"recall@20": 0.0957, "ndcg@20": 0.0404},
    ("tiktok-diffmm", "vbpr"): {"recall@20": 0.0380, "ndcg@20": 0.0134},
    ("tiktok-diffmm", "lightgcn"): {"recall@20": 0.0653, "ndcg@20": 0.0282},
}
BARS = {
    ("ml-1m", "crossmodal"): {"cold.gain_over_content_knn": 0.15, "cold.gain_over_ridge": 0.05},
    ("tiktok-diffmm", "lightgcn"): {"recall@20": 0.0928, "gain_over_ease": 0.05},
}


# ── data ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def movies(folder: Path) -> Interactions:
    """Return who saw which film, and what is known of films: title, year, genres, a text, a poster."""
    events = pl.read_csv(gzip.decompress((folder / "interactions.csv.gz").read_bytes()))
    rows = [line.split("::") for line in (folder / "movies.dat").read_text("latin-1").splitlines()]
    texts = json.loads(gzip.decompress((folder / "text" / "dbpedia_abstracts.json.gz").read_bytes()))
    posters = folder / "images" / "posters_64x96.zip"
    names = _members(posters)
    table = pl.DataFrame(
        {
            "movie_id": [int(row[0]) for row in rows],
            "title": [row[1] for row in rows],
            "year": [int(row[1].rstrip()[-5:-1]) for row in rows],
            "genres": [row[2] for row in rows],
            "plot": [texts.get(row[0]) or None for row in rows],
            "poster": [f"{posters}!{name}" if (name := names.get(row[0])) else None for row in rows],
        }
    )
    return Interactions.of(events["user_id"], events["movie_id"]).with_tables(items=table)


def _members(archive: Path) -> dict[str, str]:
    import zipfile

    with zipfile.ZipFile(archive) as members:
        return {Path(name).stem: name for name in members.namelist() if name.endswith(".jpg")}


@dataclass(frozen=True)
class Fold:
    """Training events of warm items, and the cold items of two parts, bool (I,)."""

    number: int
    train: Interactions
    valid: np.ndarray
    test: np.ndarray
    whole: Interactions

    def cold(self, part: str) -> np.ndarray:
        """Return the rows of the cold items of a part."""
        return np.flatnonzero(self.valid if part == "valid" else self.test)


def folds(events: Interactions) -> Iterator[Fold]:
    """Yield the folds."""
    part = numpy_stream(0, "cold items").permutation(events.n_items) % PARTS
    for number in range(FOLDS):
        valid, test = part == 2 * number, part == 2 * number + 1
        yield Fold(number, events.rows(~(valid | test)[events.item]), valid, test, events)


# ── what is measured ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Hits:
    """Choices of cold items: whose, of which item, and whether the item was among the first 20."""

    user: np.ndarray
    item: np.ndarray
    hit: np.ndarray
    group: np.ndarray  # the fold

    @classmethod
    def of(cls, scores: np.ndarray, user: np.ndarray, item: np.ndarray, fold: int) -> "Hits":
        """Return the hits of scores (U, C) for choices, in columns of the scores."""
        top = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        listed = np.zeros(scores.shape, bool)
        np.put_along_axis(listed, top, True, axis=1)
        return cls(user, item, listed[user, item], np.full(len(user), fold))

    @classmethod
    def together(cls, parts: "list[Hits]") -> "Hits":
        """Return the hits of several folds; items of different folds are different."""
        items = [one.item + 1_000_000 * one.group[:1] for one in parts]
        return cls(
            np.concatenate([one.user for one in parts]),
            np.concatenate(items),
            np.concatenate([one.hit for one in parts]),
            np.concatenate([one.group for one in parts]),
        )

    def recall(self, users: np.ndarray | None = None, items: np.ndarray | None = None) -> float:
        """Return the mean recall over everyone in every fold, weighed by `users` (U,) and `items` (distinct items)."""
        weight = np.ones(len(self.user)) if items is None else items
        key = self.group * (self.user.max() + 1) + self.user
        found, there = np.bincount(key, self.hit * weight), np.bincount(key, weight)
        share = np.divide(found, there, out=np.zeros_like(found), where=there > 0)
        who = (there > 0).astype(float)
        if users is not None:
            who *= np.tile(users, FOLDS)[: len(who)]
        return float((share * who).sum() / who.sum())


def gains(mine: Hits, other: Hits, n_users: int) -> tuple[float, float, float]:
    """Return the gain of one over another as a share of the other, and its 95 % interval over items and users."""
    rng = numpy_stream(0, "bootstrap")
    _, place = np.unique(mine.item, return_inverse=True)
    n_items, found = int(place.max()) + 1, []
    for _ in range(REPLICATES):
        users = np.bincount(rng.integers(n_users, size=n_users), minlength=n_users).astype(float)
        items = np.bincount(rng.integers(n_items, size=n_items), minlength=n_items).astype(float)[place]
        found.append(mine.recall(users, items) / other.recall(users, items) - 1)
    low, high = np.percentile(found, (2.5, 97.5))
    return mine.recall() / other.recall() - 1, float(low), float(high)


def choices(fold: Fold, cold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return who chose which of the cold items, in places of `cold`."""
    place = np.full(fold.whole.n_items, -1)
    place[cold] = np.arange(len(cold))
    pairs = fold.whole.positives
    mine = place[pairs.item] >= 0
    return pairs.user[mine], place[pairs.item[mine]]


def everyone(events: Interactions) -> Context:
    """Return a request of every user."""
    return Context.of_users(np.arange(events.n_users, dtype=np.int32), events)


# ── baselines, on the same vectors ────────────────────────────────────────────────────────────────────────────────


class Baselines:
    """What a fold's content and its training events say without any learning of the two together."""

    def __init__(self, fold: Fold, content: dict[str, Tensor], factors: Tensor, people: Tensor) -> None:
        self.fold, self.people, self.factors = fold, people, factors
        directions = Directions({name: one.shape[1] for name, one in content.items()})
        directions.fit(content)
        self.vectors, self.names = directions(content)[0], list(content)
        self.pairs = pair_matrix(fold.train)
        self.warm = torch.from_numpy(np.diff(self.pairs.tocsc().indptr) > 0)

    def joined(self, weights: tuple[float, ...]) -> Tensor:
        """Return all modalities as one vector (I, M)."""
        return torch.cat([w**0.5 * one for w, one in zip(weights, self.vectors, strict=True)], dim=1)

    def knn(self, cold: np.ndarray, weights: tuple[float, ...], k: int) -> np.ndarray:
        """Return scores (U, C): the likeness of each cold item to what somebody chose, of its k nearest."""
        unit = torch.nn.functional.normalize(self.joined(weights), dim=1)
        likeness = unit[cold] @ unit[self.warm].T
        likeness[likeness < likeness.topk(min(k, likeness.shape[1]), dim=1).values[:, -1:]] = 0
        near = csr_matrix(likeness.clamp(min=0).numpy().T)
        found: np.ndarray = (self.pairs[:, self.warm.numpy()] @ near).toarray()
        return found

    def ridge(self, cold: np.ndarray, penalty: float) -> np.ndarray:
        """Return scores (U, C) of vectors that a ridge map from content to item factors gives."""
        told = torch.nn.functional.pad(self.joined((1.0,) * len(self.vectors)), (0, 1), value=1.0)
        weight = ridge_map(told[self.warm], self.factors[self.warm], penalty)
        found: np.ndarray = (self.people @ (told[cold] @ weight).T).numpy()
        return found

    def genres(self, cold: np.ndarray) -> np.ndarray:
        """Return scores (U, C): how often items with a genre of the item are chosen, whoever asks."""
        assert self.fold.whole.items is not None
        genres = self.fold.whole.items["genres"].fill_null("").str.split("|")
        names = genres.explode().unique().sort().to_list()
        table = np.array([[name in row for name in names] for row in genres.to_list()], float)
        chosen = np.asarray(self.pairs.sum(axis=0)).ravel()
        warm = self.warm.numpy()
        mean = table[warm].T @ chosen[warm] / np.maximum(table[warm].sum(axis=0), 1)
        scores = table[cold] @ mean / np.maximum(table[cold].sum(axis=1), 1)
        return np.tile(scores, (self.pairs.shape[0], 1))

    def tuned(self) -> tuple[dict[str, Callable[[np.ndarray], np.ndarray]], dict[str, Any]]:
        """Return what scores cold items, by name, as tuned on those to choose by, and what was chosen."""
        cold = self.fold.cold("valid")
        user, item = choices(self.fold, cold)

        def recall(scores: np.ndarray) -> float:
            return Hits.of(scores, user, item, 0).recall()

        weights, best = (1.0,) * len(self.vectors), (0.0, NEIGHBOURS[0])
        for number in range(len(self.vectors)):
            tries = [(*weights[:number], w, *weights[number + 1 :]) for w in WEIGHTS]
            found = {(recall(self.knn(cold, w, k)), k): w for w in tries for k in NEIGHBOURS}
            if max(found)[0] > best[0]:
                best, weights = max(found), found[max(found)]
        k = best[1]
        penalty = max(RIDGES, key=lambda one: recall(self.ridge(cold, one)))
        told = {"knn": {"k": k, "weights": dict(zip(self.names, weights, strict=True))}, "ridge": penalty}
        rng = numpy_stream(0, "chance", self.fold.number)
        return {
            "content_knn": lambda rows: self.knn(rows, weights, k),
            "ridge": lambda rows: self.ridge(rows, penalty),
            "genres": self.genres,
            "random": lambda rows: rng.random((self.pairs.shape[0], len(rows)), dtype=np.float32),
        }, told


# ── a fold ────────────────────────────────────────────────────────────────────────────────────────────────────────


def fitted(
    config: Any, train: Interactions, options: argparse.Namespace, valid: Callable[[Recommender], float] | None
) -> Recommender:
    """Return the model after the epoch that `valid` likes best."""
    rec = Recommender(config, train, run=RunOptions(seed=options.seed, threads=options.threads, progress=False))
    best, state = -1.0, {}

    def look(training: Any) -> None:
        nonlocal best, state
        assert valid is not None
        rec.model.freeze()
        value = valid(rec)
        print(f"  epoch {training.epochs}, {training.seconds:.0f} s: {value:.4f}", file=sys.stderr, flush=True)
        if value > best:
            best, state = value, {name: one.clone() for name, one in rec.model.state_dict().items()}

    rec.learn(on_epoch=look if valid else None)
    if state:
        rec.model.load_state_dict(state)
        rec.model.freeze()
    return rec


@torch.no_grad()
def cold_scores(rec: Recommender, cold: np.ndarray, context: Context) -> np.ndarray:
    """Return scores of cold items for everyone (U, C)."""
    found: np.ndarray = (rec.model.query(context) @ rec.model.item_vectors()[cold].T).numpy()
    return found


def among_all(rec: Recommender, cold: np.ndarray, context: Context, fold: Fold) -> Hits:
    """Return the hits of cold items where all items but those of training are ranked."""
    user, item = choices(fold, cold)
    with torch.no_grad():
        scores = rec.model.scores(context).numpy()
    pairs = fold.train.positives
    scores[pairs.user, pairs.item] = -np.inf
    other = fold.cold("valid" if (fold.test[cold]).all() else "test")
    scores[:, other] = -np.inf
    return Hits.of(scores, user, cold[item], fold.number)


def one_fold(
    fold: Fold, config: ContentConfig, content: dict[str, np.ndarray], options: argparse.Namespace
) -> dict[str, Any]:
    """Return the hits of every method on a part of a fold, and what texts find."""
    train = fold.train.with_content(items=content)
    context, chosen_by = everyone(train), fold.cold("valid")
    user, item = choices(fold, chosen_by)
    started = time.perf_counter()
    rec = fitted(
        config, train, options, lambda one: Hits.of(cold_scores(one, chosen_by, context), user, item, 0).recall()
    )
    seconds = time.perf_counter() - started
    cold = fold.cold(options.report)
    user, item = choices(fold, cold)
    hits = {"crossmodal": Hits.of(cold_scores(rec, cold, context), user, item, fold.number)}
    people = rec.model.squares.half_step(
        *_offsets(context), rec.model.behaviour, rec.model.behaviour.T @ rec.model.behaviour,
        n := int((rec.model.chosen > 0).sum()), rec.model.squares.alpha(n),
    )  # fmt: skip
    scorers, told = Baselines(fold, tensors(content), rec.model.behaviour, people).tuned()
    for name, scorer in scorers.items():
        hits[name] = Hits.of(scorer(cold), user, item, fold.number)
    hits["all"] = among_all(rec, cold, context, fold)
    print(f"fold {fold.number}: " + ", ".join(f"{name} {one.recall():.4f}" for name, one in hits.items()) + f", {told}",
          file=sys.stderr, flush=True)  # fmt: skip
    return {"hits": hits, "tuned": told, "seconds": seconds, "found": texts_to_images(rec, content, cold)}


def _offsets(context: Context) -> tuple[Tensor, Tensor]:
    request, item = context.history.positive
    return torch.searchsorted(request, torch.arange(len(context) + 1)), item


def texts_to_images(rec: Recommender, content: dict[str, np.ndarray], cold: np.ndarray) -> tuple[int, int, int]:
    """Return how many texts of cold items find their poster among the first 10, how many were tried, of how many."""
    if "poster" not in content or "text" not in content or not rec.model.aligns:
        return 0, 0, 0
    both = cold[~(np.isnan(content["poster"][cold]).any(axis=1) | np.isnan(content["text"][cold]).any(axis=1))]
    texts, posters = (rec.model.place(tensors({name: content[name][both]})) for name in ("text", "poster"))
    place = (texts @ posters.T > (texts * posters).sum(dim=1)[:, None]).sum(dim=1)
    return int((place < 10).sum()), len(both), len(both)


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def cold_items(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all folds; return the row."""
    folder = Path(options.data)
    events = movies(folder)
    config = build(lookup("crossmodal").config, _shared.settings(options.set), where="--set")
    assert isinstance(config, ContentConfig)
    config = config.settled(events.items)
    started = time.perf_counter()
    content = config.read(events.items)
    seconds = {"encode": time.perf_counter() - started}
    print(f"content of {events.n_items:,} items: {seconds['encode']:.1f} s", file=sys.stderr, flush=True)
    parts = [one_fold(fold, config, content, options) for fold in folds(events) if fold.number < options.folds]
    hits = {name: Hits.together([part["hits"][name] for part in parts]) for name in parts[0]["hits"]}
    seconds["train"] = sum(part["seconds"] for part in parts)
    found, tried = (sum(part["found"][number] for part in parts) for number in (0, 1))
    metrics = {f"cold.{name}": one.recall() for name, one in hits.items() if name != "crossmodal"}
    metrics = {"cold.recall@20": hits["crossmodal"].recall()} | metrics
    intervals = {}
    for name in ("content_knn", "ridge"):
        gain, low, high = gains(hits["crossmodal"], hits[name], events.n_users)
        metrics[f"cold.gain_over_{name}"], intervals[f"cold.gain_over_{name}"] = gain, [low, high]
    if tried:
        metrics["text_to_image.recall@10"] = found / tried
    gallery = [part["found"][2] for part in parts]
    if options.folds == FOLDS:
        metrics |= warm_items(events, config, content, options, seconds)
    document = asdict(config) | {"folds": options.folds}
    return _row(options, "crossmodal", document, events, metrics, seconds) | {
        "intervals": intervals,
        "tuned": [part["tuned"] for part in parts],
        "gallery": {"posters": gallery, "chance": float(np.mean([10 / max(n, 1) for n in gallery]))},
        "protocol": f"cold items: {options.folds} folds of 10 % {options.report}, select=valid cold items, ranked "
        f"among them, everyone with a choice; warm: 10 % of everyone's choices; seed={options.seed}",
    }


def warm_items(
    events: Interactions, config: ContentConfig, content: dict[str, np.ndarray], options: argparse.Namespace,
    seconds: dict[str, float],
) -> dict[str, float]:  # fmt: skip
    """Return recall on choices of warm items held out at random, beside that of models of behaviour alone."""
    parts = split(events.with_content(items=content), "random", valid=0.1, test=0.1)
    holdout = parts.valid if options.report == "valid" else parts.test
    known = holdout.known
    found = {}
    for name, settings in (("crossmodal", None), ("ials", {"dim": "128"}), ("ease", {"l2": "500"})):
        made = config if settings is None else build(lookup(name).config, settings)
        started = time.perf_counter()
        rec = fitted(made, known, options, None)
        seconds[f"warm.{name}"] = time.perf_counter() - started
        metric = evaluate(rec, holdout, metrics=["recall@20"], intervals=False).metrics["recall@20"]
        found["warm.recall@20" if settings is None else f"warm.{name}"] = metric
        print(f"warm: {name} {metric:.4f}", file=sys.stderr, flush=True)
    return found


def curves(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what a few events of cold items, and of people, bring on the first fold; return the row."""
    events = movies(Path(options.data))
    config = build(lookup("crossmodal").config, _shared.settings(options.set), where="--set")
    assert isinstance(config, ContentConfig)
    config = config.settled(events.items)
    content, fold = config.read(events.items), next(folds(events))
    train = fold.train.with_content(items=content)
    rec = fitted(config, train, options, None)
    metrics = _items_curve(rec, fold, content, options) | _users_curve(rec, fold, content, options)
    return _row(options, "curve", asdict(config), events, metrics, {}) | {
        "protocol": f"fold 0, {options.report} cold items of more than {max(STEPS)} choices, after n of them, and "
        f"people asked about cold items after n of their choices; recall@20 among cold items; seed={options.seed}",
    }


def _items_curve(
    rec: Recommender, fold: Fold, content: dict[str, np.ndarray], options: argparse.Namespace
) -> dict[str, float]:
    cold = fold.cold(options.report)
    counts = np.bincount(fold.whole.positives.item, minlength=fold.whole.n_items)
    cold = cold[counts[cold] > max(STEPS)]
    user, item = choices(fold, cold)
    order = numpy_stream(0, "curve").permutation(len(user))
    user, item = user[order], item[order]
    first = np.argsort(item, kind="stable")
    nth = np.empty(len(item), np.int64)
    nth[first] = np.arange(len(item)) - np.searchsorted(item[first], item[first])
    asked, found = nth >= max(STEPS), {}
    context, state = everyone(rec.past), {name: one.clone() for name, one in rec.model.state_dict().items()}
    told = Baselines(fold, tensors(content), rec.model.behaviour, rec.model.query(context))
    scorers, _ = told.tuned()
    likeness = scorers["content_knn"](cold)
    for n in STEPS:
        shown = nth < n
        extra = np.concatenate([fold.train.user, user[shown].astype(np.int32)])
        items = np.concatenate([fold.train.item, cold[item[shown]].astype(np.int32)])
        ones = np.ones(len(extra), np.float32)
        more = replace(rec.past, user=extra, item=items, weight=ones, event=np.zeros(len(extra), np.uint8))
        rec.model.load_state_dict(state)
        rec.model.prepare(more)
        rec.model.freeze()
        popular = np.bincount(item[shown], minlength=len(cold)) + 1e-3 * numpy_stream(0, "ties").random(len(cold))
        mine = {
            "crossmodal": cold_scores(rec, cold, context),
            "behaviour": (rec.model.query(context) @ rec.model.behaviour[cold].T).numpy(),
            "content_knn": likeness,
            "popularity": np.tile(popular, (len(likeness), 1)),
        }
        for name, scores in mine.items():
            if n or name != "behaviour":
                found[f"items.{n}.{name}"] = Hits.of(scores, user[asked], item[asked], 0).recall()
    rec.model.load_state_dict(state)
    rec.model.prepare(rec.past)
    rec.model.freeze()
    return found


def _users_curve(
    rec: Recommender, fold: Fold, content: dict[str, np.ndarray], options: argparse.Namespace
) -> dict[str, float]:
    cold, past = fold.cold(options.report), fold.train
    user, item = choices(fold, cold)
    offsets, order = past.by_user
    rng = numpy_stream(0, "users")
    shuffled = [rng.permutation(order[offsets[row] : offsets[row + 1]]) for row in range(past.n_users)]
    whole = Baselines(fold, tensors(content), rec.model.behaviour, rec.model.query(everyone(past)))
    counts = np.bincount(past.positives.item, minlength=past.n_items)
    popular = whole.genres(cold)
    found = {}
    for n in STEPS:
        first = np.concatenate([rows[:n] for rows in shuffled])
        histories = [past.item[rows[:n]] for rows in shuffled]
        people = torch.zeros(past.n_users, 1)
        base = Baselines(replace(fold, train=past.rows(first)), tensors(content), rec.model.behaviour, people)
        base.warm = torch.from_numpy(counts > 0)
        mine = {"popularity": popular}
        if n:
            mine["crossmodal"] = cold_scores(rec, cold, Context.of_histories(histories))
            mine["content_knn"] = base.knn(cold, (1.0,) * len(content), 50)
        for name, scores in mine.items():
            found[f"users.{n}.{name}"] = Hits.of(scores, user, item, 0).recall()
    return found


def published(options: argparse.Namespace) -> dict[str, Any]:
    """Measure a model on a published split with ready vectors; return the row."""
    folder = Path(options.data)
    tables = {part: read(folder / f"{part}.txt", format="lists") for part in ("train", "valid", "test")}
    vectors = {path.stem.removesuffix("_feat"): np.load(path).astype(np.float32) for path in folder.glob("*_feat.npy")}
    train = tables["train"]
    n_items = len(next(iter(vectors.values())))
    rows = train.item_ids.values.cast(pl.Int64).to_numpy()
    assert rows.max() < n_items
    train = train.with_content(items={name: one[rows] for name, one in sorted(vectors.items())})
    parts = split(train, valid=tables["valid"], test=tables["test"])
    known = parts.train
    config = build(lookup(options.model).config, _shared.settings(options.set), where="--set")
    limit = _shared.Limit(options.limit_seconds)
    rec = Recommender(config, known, run=RunOptions(seed=options.seed, threads=options.threads, progress=False))
    started = time.perf_counter()
    rec.learn(valid=parts.valid if lookup(options.model).batches else None, on_epoch=limit)
    holdout = parts.valid
    if options.report == "test":  # as published: nothing of validation is trained on, or left out of the lists
        holdout = split(train, valid=tables["test"], test=tables["valid"]).valid
    seconds = {"train": time.perf_counter() - started}
    report, other = (evaluate(one, holdout, metrics=["recall@20", "ndcg@20"]) for one in (rec, ease(parts, holdout)))
    found = compare(report, other, metrics=["recall@20"])[0]
    base = other.metrics["recall@20"]
    metrics = {name: report.metrics[name] for name in ("recall@20", "ndcg@20")}
    metrics |= {"ease.recall@20": base, "ease.ndcg@20": other.metrics["ndcg@20"], "gain_over_ease": found.mean / base}
    intervals = {name: list(pair) for name, pair in report.intervals.items()}
    return _row(options, options.model, asdict(rec.config), known, metrics, seconds) | {
        "intervals": intervals | {"gain_over_ease": [found.low / base, found.high / base]},
        "protocol": f"split=given ranking=full masked=train select=valid {getattr(config, 'select', '')} "
        f"trained on train alone, seed={options.seed}",
    }


def ease(parts: Split, holdout: Holdout) -> Recommender:
    """Return EASE, its penalty chosen on validation."""

    def made(l2: float, train: Interactions) -> Recommender:
        rec = Recommender(
            build(lookup("ease").config, {"l2": l2}), train.with_content(), run=RunOptions(progress=False)
        )
        rec.learn()
        return rec

    def value(l2: float) -> float:
        return evaluate(made(l2, parts.train), parts.valid, metrics=["recall@20"], intervals=False).metrics["recall@20"]

    return made(max(PENALTIES, key=value), holdout.known)


def news(options: argparse.Namespace) -> dict[str, Any]:
    """Measure how well titles of articles that nobody read yet tell who will; return the row."""
    names = ["user", "title", "label", "entities"]
    train, test = (
        pl.read_csv(Path(options.data) / f"raw_{part}.txt", separator="\t", has_header=False, quote_char=None,
                    new_columns=names)
        for part in ("train", "test")
    )  # fmt: skip
    if options.report == "valid":
        titles = train["title"].unique(maintain_order=True)
        held = titles.gather(numpy_stream(0, "titles").permutation(len(titles))[: len(titles) // 10])
        train, test = (train.filter(pl.col("title").is_in(held.implode()) == part) for part in (False, True))
    read_by = train.filter(pl.col("label") == 1)
    titles = pl.DataFrame({"id": read_by["title"].unique(maintain_order=True)}).with_columns(title=pl.col("id"))
    events = Interactions.of(read_by["user"], read_by["title"]).with_tables(items=titles)
    config = build(lookup(options.model).config, _shared.settings(options.set), where="--set")
    started = time.perf_counter()
    rec = fitted(config, events, options, None)
    seconds = {"train": time.perf_counter() - started}
    rows = rec.user_ids.rows(test["user"])
    known = test.filter(rows >= 0)
    with torch.inference_mode():
        vectors = rec.model.embed(tensors(rec.config.read(known.select("title"))))
        query = rec.model.query(Context.of_users(rows[rows >= 0].astype(np.int32), rec.past))
        scores = (query * vectors).sum(dim=1).double().numpy()
    value = auc(known["label"].to_numpy().astype(float), scores)
    return _row(options, options.model, asdict(rec.config), events, {"auc": value}, seconds) | {
        "protocol": f"titles nobody read in training, {len(known)} rows of {known['user'].n_unique()} known readers, "
        f"test=published valid=a tenth of the titles of train, seed={options.seed}",
    }


def _row(
    options: argparse.Namespace, model: str, document: dict[str, Any], events: Interactions,
    metrics: dict[str, float], seconds: dict[str, float],
) -> dict[str, Any]:  # fmt: skip
    return {
        "benchmark": "content",
        "data": Path(options.data).name,
        "data_sha256": events.fingerprint,
        "model": model,
        "config": document,
        "config_sha256": hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest(),
        "report": options.report,
        "seeds": [options.seed],
        "metrics": {name: value for name, value in metrics.items() if value is not None},
        "users": events.n_users,
        "items": events.n_items,
        "seconds": seconds,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what the folder and the options call for; return the row."""
    if (Path(options.data) / "raw_train.txt").exists():
        return news(options)
    if not (Path(options.data) / "interactions.csv.gz").exists():
        return published(options)
    return curves(options) if options.curve else cold_items(options)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    found = _shared.parser(__doc__ or "")
    found.set_defaults(model="crossmodal")
    found.add_argument("--folds", type=int, default=FOLDS)
    found.add_argument("--curve", action="store_true", help="what a few events bring, instead")
    found.add_argument("--seed", type=int, default=0)
    return found


if __name__ == "__main__":
    options = parser().parse_args()
    sys.exit(_shared.table("content", PUBLISHED, BARS) if options.table else _shared.main(options, measure))
