"""The Recommender: a fitted model with ids, pasts and a pipeline around it. What `bb.fit` and `bb.load` return.

Caller's ids come in and go out; rows never leave this file.

Shapes: B requests, I items, k places.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

import bowerbird
from bowerbird.core import (
    ConfigError,
    DataError,
    ModelConfig,
    Reason,
    RequestError,
    RunOptions,
    ScoreError,
    TrainedConfig,
    UnknownItemError,
    World,
    did_you_mean,
    entry_of,
    numpy_stream,
    torch_stream,
)
from bowerbird.core.ids import Ids
from bowerbird.core.parquet import check_name
from bowerbird.data import EventType, Holdout, Interactions, Rows, Schema
from bowerbird.evaluation import Health, evaluate
from bowerbird.evaluation import health as health_of
from bowerbird.evaluation.metrics import parse
from bowerbird.explanation import Explainer
from bowerbird.explanation.overview import Overview, overview
from bowerbird.features import Context
from bowerbird.models.baselines.popularity import Popularity, PopularityConfig
from bowerbird.nn.content import ContentConfig, begin, tensors
from bowerbird.nn.people import PeopleConfig
from bowerbird.pipeline import Ladder, Pipeline, Policy, Slate
from bowerbird.recommender.contents import Contents
from bowerbird.recommender.explaining import Explanation, explainer_of, why
from bowerbird.recommender.hints import closest_id
from bowerbird.recommender.pasts import rows_of
from bowerbird.recommender.slates import Slates
from bowerbird.recommender.two_stage import RankingOptions, TwoStage
from bowerbird.retrieval import block_size, top_k
from bowerbird.store import bundles, histories
from bowerbird.training import Adam, Training, batches_for, device_of, seeded
from bowerbird.training import train as train_loop

MOST = 10_000  # places of a slate


class Recommender:
    """Answers anyone: known users, strangers with a history, and nobody in particular."""

    def __init__(
        self,
        config: ModelConfig,
        past: Interactions,
        *,
        run: RunOptions | None = None,
        schema: Schema | None = None,
        ranking: RankingOptions | None = None,
        policy: Policy | None = None,
        world: World | None = None,
    ) -> None:
        if isinstance(config, ContentConfig) and not past.item_content:
            config = config.settled(past.items)
            past = past.with_content(items=None if past.items is None else config.read(past.items))
        if isinstance(config, PeopleConfig) and not past.user_content and (past.users is not None or schema is None):
            config = config.settled_on(past.users)
            past = past.with_content(users=None if past.users is None else config.read_users(past.users))
        self.config, self.past, self.run = config, past, run or RunOptions()
        self.schema = schema or past.schema
        self.name = entry_of(config).name
        self.device = device_of(self.run)
        self.source: Recommender | None = None  # who finds candidates, where the model only orders them
        self.stage: TwoStage | None = None  # the ranker, once it is fitted
        self.ranking = ranking or RankingOptions()
        if "ranker" in entry_of(config).tags:
            self.source = Recommender(self.ranking.retriever_config, past, run=self.run, schema=schema)
            self.past, self.schema = self.source.past, self.source.schema  # with the content that it reads
            if isinstance(self.source.config, ContentConfig):  # as it was settled: so it is kept
                self.ranking = replace(self.ranking, retriever=self.source.config)
            self.model: Any = self.source.model
        else:
            with seeded(self.run, self.device, "init"):
                self.model = entry_of(config).model(config, self.schema).to(self.device).eval()
        self.popularity = Popularity(PopularityConfig(), self.schema).to(self.device)
        self.ladder = Ladder({"model": self.model, "popularity": self.popularity})
        self.pipeline = Pipeline(
            self.ladder, past.n_items, [kind.hides for kind in past.events], policy=policy, world=world
        )
        self.training: Training | None = None
        self.moments: dict[str, Tensor] = {}  # of the optimiser that trained the model: with them, training goes on
        self.shards: dict[str, Any] | None = None  # how users are split, where the model is several: `privacy.shards`
        self.measured: dict[str, Any] | None = None  # a report, and on what it was measured
        self.version: str | None = None
        self.parent: str | None = None  # the version that it was made from
        self.log_offset = 0  # up to which event of a server's log `past` and training reach

    def __repr__(self) -> str:
        sizes = f"{len(self.user_ids):,} users, {len(self.item_ids):,} items"
        return f"Recommender({self.name}, {sizes}, version {self.version})"

    @property
    def user_ids(self) -> Ids:
        """The users it knows."""
        return self.past.user_ids

    @property
    def item_ids(self) -> Ids:
        """The items it can recommend."""
        return self.past.item_ids

    @cached_property
    def health(self) -> Health | None:
        """What its lists look like over its own past, found when first asked for; None where nobody has a past."""
        return health_of(self, self.past, personal=not isinstance(self.model, Popularity), seed=self.run.seed)

    def scores(self, context: Context) -> Tensor:
        """Return scores for all items (B, I), the caller's to overwrite; a ranker only scores its candidates."""
        return self.pipeline.scores(context, self.run.seed)

    def knowing(self, kinds: tuple[EventType, ...]) -> "Recommender":
        """Return this recommender under other event types, the first of which have the names of its own.

        What a type hides and says counts from now on; the model stays as it was trained until it learns again.
        """
        if kinds == self.past.events:
            return self
        other = self.over(self.past.meaning(kinds))
        if self.stage is not None:
            other.take(self.stage.knowing(kinds))
        return other

    def over(self, past: Interactions) -> "Recommender":
        """Return this recommender, as it was trained, over another past of as many users and the same items.

        What it found in the old past (health, reasons) is found again, and popularity counts what is in the new one.
        """
        other = copy(self)
        other.past = past
        other.forget_found()
        other.popularity = Popularity(PopularityConfig(), self.schema).to(self.device)
        other.popularity.fit(past, numpy_stream(self.run.seed, "popularity"))
        other.ladder = Ladder({"model": self.model, "popularity": other.popularity})
        other.pipeline = Pipeline(
            other.ladder, past.n_items, [kind.hides for kind in past.events], policy=self.pipeline.policy,
            world=self.pipeline.world,
        )  # fmt: skip
        if self.stage is not None:
            other.take(self.stage)
        return other

    def forget_found(self) -> None:
        """Let what was found in the model and the past as they were be found again when it is next asked for."""
        for name in ("health", "explainer"):
            self.__dict__.pop(name, None)

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

    def recommend(
        self,
        users: Sequence[Any] | None = None,
        *,
        histories: Sequence[Sequence[Any]] | None = None,
        features: Sequence[Mapping[str, Any]] | None = None,
        k: int = 10,
        where: pl.Expr | None = None,
        explain: bool = False,
    ) -> Slates:
        """Return a slate for each user id, posted history, or person of whom only features are known.

        With none of these, one for nobody in particular. `features` are attributes by the columns of the user table.
        Unknown users and unknown items of a history are no error: the answer names the rung that gave it and counts
        what was dropped. `where` is a Polars expression over the item table (and `item_id`) that candidates must
        fulfil. Raises `RequestError` when more than one of the three is given, the model knows nobody by features, a
        feature has no column, or k is below 1.
        """
        asked = {"users": users, "histories": histories, "features": features}
        given = [name for name, one in asked.items() if one is not None]
        if len(given) > 1:
            raise RequestError(f"{given[0]} and {given[1]} are both given. Ask for one of them at a time.")
        _check_lists(users, histories, *(histories or ()))
        _check_k(k)
        unknown: list[int] | None = None
        if users is not None:
            context = self._of_users(self.user_ids.rows(users))
        elif histories is not None:
            rows = [self.item_ids.rows(history) for history in histories]
            context = Context.of_histories(rows)
            unknown = [int((one < 0).sum()) for one in rows]
        elif features is not None:
            context = self._of_features(features)
        else:
            context = Context.nobody()
        return self._answer(context, k, where=where, users=users, unknown=unknown, with_reasons=explain)

    def similar(
        self, items: Sequence[Any], *, k: int = 10, where: pl.Expr | None = None, content: float = 0.0
    ) -> Slates:
        """Return, for each item id, the items most like it.

        `content`, 0 to 1, is the weight of what items say, show and sound like beside what people do with them. Raises
        `UnknownItemError` for an id that is not known, `RequestError` when the model knows no such likeness.
        """
        _check_k(k)
        if not 0 <= content <= 1:
            raise RequestError(f"content is {content!r}; it must be 0 to 1. Try content = 0.5.")
        _check_lists(items)
        rows = self.item_ids.rows(items)
        for item, row in zip(items, rows, strict=True):
            if row < 0:
                meant = closest_id(item, self.item_ids)
                close = "" if meant is None else f' Did you mean "{meant}"?'
                raise UnknownItemError(f"no item has the id {item!r}.{close}")
        context = Context.of_seeds([[row] for row in rows])
        if not bool(self.model.can(context.to(self.device)).all()):
            raise RequestError(f"{self.name} knows no likeness between items. Train itemknn, ease or lightgcn.")
        if content:
            return self._like(torch.from_numpy(rows.astype(np.int64)), content, k, where)
        return self._answer(context, k, where=where)

    def _like(self, rows: Tensor, content: float, k: int, where: pl.Expr | None) -> Slates:
        """Return the items most like each of some, by the cosines of behaviour and of content, mixed."""
        rows, places = rows.to(self.device), self.contents.places
        vectors = functional.normalize(self.model.item_vectors(), dim=1)
        with torch.inference_mode():
            scores = (1 - content) * vectors[rows] @ vectors.T + content * places[rows] @ places.T
            told = places.any(dim=1)
            known = told[rows][:, None] & told if content == 1 else self.model.shaped_item[None]
            scores.masked_fill_(~known, -torch.inf)
            scores.scatter_(1, rows[:, None], -torch.inf)
            return self._best(scores, k, where, "model")

    @property
    def contents(self) -> Contents:
        """What the model, or of a ranker who finds candidates, makes of the content of items."""
        config = (self.source or self).config
        return Contents(self.name, self.model, config, dict(self.schema.item_content), self.device)

    def search(
        self, text: str = "", *, image: str | bytes | None = None, k: int = 10, where: pl.Expr | None = None
    ) -> Slates:
        """Return the items whose content is closest to a text, to a picture (a path, or its bytes), or to both.

        Raises `RequestError` where the model knows no such content.
        """
        _check_k(k)
        contents = self.contents
        with torch.inference_mode():
            scores = contents.sought(text, image) @ contents.places.T
            scores[:, ~contents.places.any(dim=1)] = -torch.inf
            return self._best(scores, k, where, "content")

    def _best(self, scores: Tensor, k: int, where: pl.Expr | None, rung: str) -> Slates:
        """Return the best of scores (B, I), which are overwritten, as slates that one rung answered."""
        allowed, n = self._allowed(where), len(scores)
        if allowed is not None:
            scores[:, ~allowed.to(scores.device)] = -torch.inf
        values, items = top_k(scores, k, partial(torch_stream, self.run.seed, "ties", device=scores.device.type))
        slate = Slate(items, values, torch.ones_like(values), torch.zeros(n, dtype=torch.int64), ())
        return Slates(slate, self.item_ids, self._titles, None, [], [rung] * n, [0] * n, self.name, self.version)

    @cached_property
    def explainer(self) -> Explainer:
        """What finds reasons, made when first asked for."""
        return explainer_of(self)

    def explain(self, context: Context, items: np.ndarray) -> list[tuple[Reason, ...]]:
        """Return the reasons of each of these item rows (k,), in the eyes of one request; the main one first."""
        shown = torch.from_numpy(items.astype(np.int64)).to(self.device)
        return self.explainer.reasons(context.to(self.device), shown)

    def why(
        self,
        item: Any,
        *,
        user: Any | None = None,
        history: Sequence[Any] | None = None,
        k: int = 10,
        method: str | None = None,
    ) -> Explanation:
        """Return where an item stands for a user, or for a stranger with a history, why, and what it hangs on.

        `method` keeps the reasons that are found in one way, see `core.reason.METHODS`. Raises `UnknownItemError`,
        `RequestError` for an unknown user, and `ConfigError` where the model has no reason of that method.
        """
        _check_k(k)
        return why(self, item, user, history, k, method)

    def overview(self, *, people: int = 100) -> Overview:
        """Return what the model relies on in the lists of people who are drawn, never speaking of one of them."""
        return overview(
            self.explainer, lambda one: self._slate(one.to(self.device), 10).items, people=people, seed=self.run.seed
        )

    def users_like(self, user: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the users most like one (n ≤ k), and the cosines of what they and this user chose.

        Nobody who shares nothing is among them.
        """
        pairs = self.past.positives
        chosen = np.bincount(pairs.user, minlength=len(self.user_ids))
        ends = np.searchsorted(pairs.user, [user, user + 1])
        mine = np.isin(pairs.item, pairs.item[ends[0] : ends[1]])
        shared = np.bincount(pairs.user[mine], minlength=len(self.user_ids))
        shared[user] = 0
        cosine = shared / np.sqrt(np.maximum(chosen * chosen[user], 1))
        near = np.argsort(-cosine, kind="stable")[:k]
        near = near[cosine[near] > 0]
        return near, cosine[near]

    def recommend_all(self, *, k: int = 10, out: str | Path, progress: Any = None) -> int:
        """Write a slate for every known user to a Parquet file, block by block; return the number of rows.

        Columns: user_id, rank, item_id, score, rung. `progress`, if given, is called with the users done so far. Raises
        `RequestError` for a file that is called as another format is.
        """
        import pyarrow.parquet as pq

        _check_k(k)
        check_name(Path(out))
        written, writer = 0, None
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(out).with_name(Path(out).name + ".part")
        try:
            for done, slate, users in self._everyone(k):
                rank = np.tile(np.arange(1, k + 1, dtype=np.int32), len(users))
                rung = np.array([*self.ladder.names, "none"])[slate.rung.cpu().numpy()]
                table = pl.DataFrame(
                    {
                        "user_id": self.user_ids.names(np.repeat(users, k)),
                        "rank": rank,
                        "item_id": self.item_ids.names(slate.items.flatten().cpu().numpy()),
                        "score": slate.scores.flatten().cpu().numpy(),
                        "rung": np.repeat(rung, k),
                    }
                )
                arrow = table.filter(pl.col("item_id").is_not_null()).to_arrow()
                writer = writer or pq.ParquetWriter(scratch, arrow.schema)
                writer.write_table(arrow)
                written += arrow.num_rows
                if progress is not None:
                    progress(done)
        finally:
            if writer is not None:
                writer.close()
        scratch.replace(out)
        return written

    def _everyone(self, k: int) -> Iterator[tuple[int, Slate, np.ndarray]]:
        size = block_size(len(self.item_ids))
        for start in range(0, len(self.user_ids), size):
            users = np.arange(start, min(start + size, len(self.user_ids)), dtype=np.int32)
            yield int(users[-1]) + 1, self._slate(self._of_users(users), k), users

    def _slate(self, context: Context, k: int, allowed: Tensor | None = None) -> Slate:
        slate = self.pipeline.run(context.to(self.device), k, allowed=allowed, seed=self.run.seed)
        if bool((slate.scores == torch.inf).any()):
            raise ScoreError("a score is infinite. Train the model again.")
        return slate

    def _of_users(self, rows: np.ndarray) -> Context:
        return Context.of_users(rows, self.past)

    def _of_features(self, features: Sequence[Mapping[str, Any]]) -> Context:
        if not isinstance(self.config, PeopleConfig):
            raise RequestError(f"{self.name} knows nobody by features. Train twotower, with a user table.")
        if any(not isinstance(row, Mapping) for row in features):
            raise RequestError('features are a list of what people say of themselves. Write [{"age": 30}].')
        return Context.of_content(tensors(self.config.read_requests(features)), len(features))

    def _allowed(self, where: pl.Expr | None) -> Tensor | None:
        """Return which items fulfil the expression, bool (I,)."""
        if where is None:
            return None
        table = pl.DataFrame({"item_id": self.item_ids.values})
        if self.past.items is not None:
            table = table.hstack(self.past.items)
        try:
            allowed = table.with_columns(where.alias("allowed"))["allowed"]
        except pl.exceptions.PolarsError as error:
            missing = [name for name in where.meta.root_names() if name not in table.columns]
            close = did_you_mean(missing[0], table.columns) if missing else ""
            said = f"{str(error).split(chr(10))[0]}{close} Columns: {', '.join(table.columns)}."
            raise RequestError(f"where: {said}") from None
        if allowed.dtype != pl.Boolean:
            raise RequestError(f'where gives {allowed.dtype}, not true or false. Compare it: pl.col("price") < 9.')
        return torch.from_numpy(allowed.fill_null(False).to_numpy().copy())

    @cached_property
    def _titles(self) -> pl.Series:
        """What to call each item before people, null where only its id is known."""
        items = self.past.items
        if items is None or "title" not in items.columns:
            return pl.Series("title", [None] * len(self.item_ids), dtype=pl.String)
        return items["title"].cast(pl.String)

    def _answer(
        self,
        context: Context,
        k: int,
        *,
        where: pl.Expr | None,
        users: Sequence[Any] | None = None,
        unknown: list[int] | None = None,
        with_reasons: bool = False,
    ) -> Slates:
        context = context.to(self.device)
        slate = self._slate(context, k, self._allowed(where))
        return Slates(
            slate=slate,
            item_ids=self.item_ids,
            titles=self._titles,
            users=users,
            reasons=self.explainer.slates(context, slate.items, slate.propensity) if with_reasons else [],
            rungs=[(*self.ladder.names, "none")[rung] for rung in slate.rung.tolist()],
            unknown_items=unknown or [0] * len(context),
            model=self.name,
            model_version=self.version,
        )

    # ── learning ──────────────────────────────────────────────────────────────────────────────────────────────

    def learn(
        self,
        *,
        valid: Holdout | None = None,
        epochs: int | Training | None = None,
        on_epoch: Callable[[Training], None] | None = None,
    ) -> None:
        """Fit the model to `past`: in closed form, or by the loop, stopping early on `valid` or after `epochs`."""
        train = self.past
        self.forget_found()
        if not len(train.positives):
            raise DataError("there is no positive event to learn from. Declare one with event_types=….")
        self.popularity.fit(train, numpy_stream(self.run.seed, "popularity"))
        self.popularity.to(self.device)
        if self.source is not None:
            self._learn_to_rank(self.source, valid, epochs, on_epoch)
            return
        entry = entry_of(self.config)
        if entry.batches is None:
            self.model.fit(train, numpy_stream(self.run.seed, "fit"))
            self.model.to(self.device)
            return
        if not isinstance(self.config, TrainedConfig):
            raise ConfigError(f"{entry.name} is trained, so its config must derive from TrainedConfig.")
        self.model.prepare(train)
        if start := getattr(self.config, "start", ""):
            begin(self.model, train, start)
        batches = batches_for(entry.batches, train, self.config, seed=self.run.seed, device=self.device)
        select = self.config.select
        parse(select)  # a metric that is none is told before training, not after the first epoch

        def validate() -> float:
            assert valid is not None
            posted = len(valid.history) > len(valid.known)  # strangers have a past too, for whoever reads one
            warm = not posted and (valid.targets.user < valid.known.n_users).any()
            who = "warm" if warm else "all"
            return evaluate(self, valid, metrics=[select], who=who, intervals=False).metrics[select]

        optimiser = Adam(self.model.parameters(), self.config.learning_rate)
        self.training = train_loop(
            self.model,
            batches,
            self.config,
            self.run,
            optimiser=optimiser,
            validate=None if valid is None else validate,
            epochs=epochs,
            on_epoch=on_epoch,
        )
        self.moments = optimiser.moments(self.model)

    def _learn_to_rank(
        self,
        source: "Recommender",
        valid: Holdout | None,
        epochs: int | Training | None,
        on_epoch: Callable[[Training], None] | None,
    ) -> None:
        """Fit who finds candidates, then who orders them."""
        assert isinstance(self.config, TrainedConfig)
        chosen = source.training if valid is None else None  # as a refit has it
        source.learn(valid=valid, epochs=chosen)
        stage = TwoStage.fit(
            self.config, self.past, valid, self.ranking, run=self.run, epochs=epochs, on_epoch=on_epoch
        )
        self.take(stage)

    def take(self, stage: TwoStage) -> None:
        """Order candidates by `stage` from now on."""
        self.stage, self.training = stage, stage.ranking.training
        self.forget_found()
        self.pipeline.rank, self.pipeline.candidates = stage.rank, stage.options.candidates

    def predict(self, holdout: Holdout, *, raw: bool = False) -> tuple[np.ndarray, Rows]:
        """Return how likely a ranker finds every label of what users did after a cut (N, T), and those rows.

        Raises `RequestError` where the model is no ranker.
        """
        if self.stage is None:
            raise RequestError(f"{self.name} ranks no rows. Train deepfm, or another model that is tagged ranker.")
        source, rows = self.stage.rows(holdout)
        return self.stage.ranking.probabilities(source, raw=raw), rows

    def refit(self, events: Interactions) -> "Recommender":
        """Return the same configuration trained for the chosen number of epochs on everything: the one to serve.

        Ctrl-C ends it with `KeyboardInterrupt`; the recommender it was called on is as before.
        """
        pipeline = self.pipeline
        fresh = Recommender(
            self.config, events, run=self.run, ranking=self.ranking, policy=pipeline.policy, world=pipeline.world
        )
        if fresh.source is not None and self.source is not None:
            fresh.source.training = self.source.training
        fresh.learn(epochs=self.training)
        if fresh.training is not None and fresh.training.interrupted:
            raise KeyboardInterrupt  # half-trained on everything is worse than well trained on a part
        if fresh.stage is not None and self.stage is not None:
            fresh.stage.ranking.calibration = self.stage.ranking.calibration
        fresh.measured, fresh.parent, fresh.log_offset = self.measured, self.version or self.parent, self.log_offset
        return fresh

    # ── keeping ───────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, run: str | Path, *, log_offset: int | None = None) -> str:
        """Publish into a run directory; return the version. Pasts are kept beside the bundle, not in it.

        `log_offset` says up to which event of a server's log the past reaches; left out, it stays what it was. Waits
        while another process publishes there; raises `BundleError` when that takes more than a minute.
        """
        folder, world = Path(run), self.pipeline.world
        self.log_offset = self.log_offset if log_offset is None else log_offset
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        state["popularity.counts"] = self.popularity.counts
        content = {f"content.{name}": one.astype(np.float16) for name, one in self.past.item_content.items()}
        past = self.past
        items = pl.DataFrame({"item_id": self.item_ids.values})
        stage = self.stage
        manifest = {
            "model": self.name,
            "config": asdict(self.config),
            "events": [asdict(kind) for kind in past.events],
            "origin": past.origin,
            "data_sha256": past.fingerprint,
            "trained_on": past.summary(),
            "schema": {
                "n_users": len(self.user_ids),
                "n_items": len(self.item_ids),
                "relations": self.schema.relations,
                "item_content": self.schema.item_content,
                "user_content": self.schema.user_content,
            },
            "training": self.training.to_dict() if self.training else None,
            "ranking": stage.document if stage else None,
            "retriever_training": self.source.training.to_dict() if self.source and self.source.training else None,
            "shards": self.shards,
            "measured": self.measured,
            "health": self.health.to_dict() if self.health else None,
            "seed": self.run.seed,
            "parent": self.version or self.parent,
            "log_offset": self.log_offset,
            "versions": {"bowerbird": bowerbird.__version__, "torch": torch.__version__, "polars": pl.__version__},
        }
        with bundles.locked(folder, world=world):  # pasts and bundle belong together
            histories.keep(folder, bundles.next_version(folder, world=world), rows_of(past), world=world)
            self.version = bundles.publish(
                folder,
                manifest,
                _arrays(state) | content | (stage.tensors if stage else {}),
                {
                    "users": pl.DataFrame({"user_id": self.user_ids.values}),
                    "items": items if past.items is None else items.hstack(past.items),
                }
                | ({"vocabulary": stage.ranking.encoder.vocabulary} if stage else {}),
                moments=_arrays(self.moments if self.source is None else self.source.moments),
                world=world,
            )
            histories.prune(folder, bundles.versions(folder, world=world), world=world)
        return self.version


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def _check_k(k: int) -> None:
    if not isinstance(k, int) or not 1 <= k <= MOST:
        raise RequestError(f"k is {k!r}; it must be 1 to {MOST:,}. Try k = 10.")


def _check_lists(*lists: object) -> None:
    if any(isinstance(one, str) for one in lists):
        raise RequestError('a text is not a list of ids. Write ["u7"] instead of "u7".')
