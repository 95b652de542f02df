"""Two stages: a retriever finds candidates, a ranker orders them by user, item and request columns and the history.

Shapes: B requests, C candidates, N rows, T tasks.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bowerbird.core import (
    BundleError,
    ConfigError,
    DataError,
    ModelConfig,
    RunOptions,
    TrainedConfig,
    build,
    check,
    entry_of,
    lookup,
)
from bowerbird.data import EventType, Holdout, Interactions, Labels, Rows
from bowerbird.features import Column, Context, Encoded, Encoder, FeatureTable, infer
from bowerbird.features.columns import read_columns
from bowerbird.features.fields import PARTS
from bowerbird.features.overview import tables_of
from bowerbird.features.sources import JoinedRows
from bowerbird.nn.debias import Debias
from bowerbird.recommender.ranking import Ranking
from bowerbird.training import Training

HISTORY = 50  # past items that a ranker sees
ITEM = "item.item_id"  # the field whose rows a history shares


@dataclass(frozen=True, kw_only=True)
class RankingOptions:
    """What stands around a ranker of interactions: its candidates, its labels and its columns."""

    retriever: str | ModelConfig = "itemknn"  # who finds candidates: a name or a configuration
    candidates: int = 200  # items that the retriever gives the ranker, for each request
    label: tuple[str, ...] = ()  # events that count as 1, a label each; see `bowerbird.data.Labels`
    given: str = ""  # the event whose events are the rows
    negatives: int = 4  # drawn for each event where nothing stands against them
    columns: str | Mapping[str, tuple[Column, ...]] = ""  # a TOML file, or columns by part; left out: inferred

    def __post_init__(self) -> None:
        check(self.candidates >= 1, "candidates", self.candidates, "must be 1 or more", try_instead=200)
        if isinstance(self.retriever, str):
            object.__setattr__(self, "retriever", build(lookup(self.retriever).config, {}))
        if isinstance(self.columns, str):
            object.__setattr__(self, "columns", read_columns(self.columns) if self.columns else {})
        name = entry_of(self.retriever_config).name
        check("retriever" in entry_of(self.retriever_config).tags, "retriever", name, "must be a retriever")

    @property
    def retriever_config(self) -> ModelConfig:
        """The configuration of the retriever."""
        assert isinstance(self.retriever, ModelConfig)
        return self.retriever

    @property
    def columns_by_part(self) -> Mapping[str, tuple[Column, ...]]:
        """The columns that were given, those of a feature table as part ""; what is left out is inferred."""
        assert not isinstance(self.columns, str)
        return self.columns

    @property
    def labels(self) -> Labels:
        """How events become labelled rows."""
        return Labels(label=self.label, given=self.given, negatives=self.negatives)

    def columns_of(self, users: pl.DataFrame, items: pl.DataFrame) -> dict[str, tuple[Column, ...]]:
        """Return columns by part. Those of a request are never inferred: an event may carry its own answer."""
        usual: dict[str, tuple[Column, ...]] = {
            "user": infer(users, ids=["user_id"]),
            "item": infer(items, ids=["item_id"]),
            "request": (),
        }
        given = self.columns_by_part
        strange = [part for part in given if part not in usual]
        if strange:
            raise ConfigError(f"columns are given for {strange[0] or 'a table on its own'!r}; {', '.join(usual)} meet.")
        return usual | dict(given)


class TwoStage:
    """A ranker, the columns of everyone and everything it knows, and how rows are made for it."""

    def __init__(
        self, ranking: Ranking, table: FeatureTable, options: RankingOptions, kinds: tuple[EventType, ...]
    ) -> None:
        """`kinds` are the event types of training: they decided what a label means."""
        self.ranking, self.table, self.options, self.kinds = ranking, table.to(ranking.device), options, kinds

    @classmethod
    def fit(
        cls,
        config: TrainedConfig,
        past: Interactions,
        valid: Holdout | None,
        options: RankingOptions,
        *,
        run: RunOptions,
        epochs: int | Training | None = None,
        on_epoch: Callable[[Training], None] | None = None,
    ) -> "TwoStage":
        """Return a ranker fitted on the events of `past`, stopped early and calibrated on later ones."""
        rows, event = options.labels.rows(past, seed=run.seed)
        if not len(rows):
            raise DataError(f'there is no event "{options.given}", whose events are the rows. Name another with given.')
        encoder, table = _tables(past, rows, options)
        made = cls(Ranking(config, encoder, run), table, options, past.events)
        train = made._joined(rows, past, event, made._weights(rows, past, event))
        later = None if valid is None else made.rows(valid, weighed=True)[0]
        fingerprint = f"{past.fingerprint} {options.labels}"
        made.ranking.learn(train, later, fingerprint=fingerprint, epochs=epochs, on_epoch=on_epoch)
        return made

    def grown(self, past: Interactions) -> "TwoStage":
        """Return a copy that knows everyone and everything in `past`; who was known keeps their row and their columns.

        Columns and vocabularies stay as they were fitted, so that a new user or item is told by its other columns.
        Raises `DataError` where the ranker reads columns of the request, which a past does not hold.
        """
        encoder, tables = self.ranking.encoder, tables_of(past)
        if encoder.columns["request"]:
            names = ", ".join(column.name for column in encoder.columns["request"])
            raise DataError(f"the ranker reads columns of the request ({names}), which no past holds. Train it again.")
        ranking = Ranking(self.ranking.config, encoder, replace(self.ranking.run, checkpoint=""))
        ranking.model.load_state_dict(self.ranking.model.state_dict())
        ranking.calibration, ranking.training = self.ranking.calibration, self.ranking.training
        ranking.reference = self.ranking.reference
        user, item = (_longer(encoder, part, getattr(self.table, part), tables[part]) for part in ("user", "item"))
        table = replace(self.table, user=user, item=item)
        return TwoStage(ranking, table, self.options, self.kinds).knowing(past.events)

    def knowing(self, kinds: tuple[EventType, ...]) -> "TwoStage":
        """Return this stage for histories of these event types, the first of which have the names of its own."""
        table = replace(self.table, counts=_counts(self.options, kinds, self.kinds))
        return TwoStage(self.ranking, table, self.options, self.kinds)

    def learn_on(self, past: Interactions, which: np.ndarray, epochs: int) -> None:
        """Train the ranker on with the rows of some events of `past`, bool (E,), each with the history before it."""
        rows, event = self.options.labels.rows(past, trained=self.kinds, seed=self.ranking.run.seed)
        kept = which[event]
        chosen = self.ranking.training
        if kept.any():
            rows, event = rows.take(kept), event[kept]
            self.ranking.learn(self._joined(rows, past, event, self._weights(rows, past, event)), epochs=epochs)
        if self.ranking.training is not None and self.ranking.training.interrupted:
            raise KeyboardInterrupt
        self.ranking.training = chosen  # for how many epochs a refit trains was chosen then

    def _joined(
        self, rows: Rows, past: Interactions, event: np.ndarray | None = None, weight: np.ndarray | None = None
    ) -> JoinedRows:
        columns = None
        if self.ranking.encoder.columns["request"]:
            columns = self.ranking.encoder.encode(rows.table, "request")
        return JoinedRows.of(
            self.table, rows, past, event=event, columns=columns, weight=weight, device=self.ranking.device
        )

    def _weights(self, rows: Rows, events: Interactions, event: np.ndarray) -> np.ndarray | None:
        """Return what rows weigh by the events that they are made of; an item that was drawn weighs as its event."""
        config = self.ranking.config
        return config.row_weights(events.item[event], rows.table) if isinstance(config, Debias) else None

    def training_rows(self, past: Interactions) -> tuple[JoinedRows, Rows]:
        """Return the events of `past` as the rows that training saw, each with the history before it."""
        rows, event = self.options.labels.rows(past, trained=self.kinds, seed=self.ranking.run.seed)
        return self._joined(rows, past, event), rows

    def rows(self, holdout: Holdout, *, weighed: bool = False) -> tuple[JoinedRows, Rows]:
        """Return what users did after a cut, as rows with the histories that they had at the cut."""
        rows, event = self.options.labels.rows(
            holdout.targets, past=holdout.known, trained=self.kinds, seed=self.ranking.run.seed
        )
        weight = self._weights(rows, holdout.targets, event) if weighed else None
        return self._joined(rows, holdout.known, weight=weight), rows

    def rank(self, context: Context, candidates: Tensor) -> Tensor:
        """Return the probability of the first label (B, C)."""
        return self.ranking.scores(context, candidates, self.table)

    def encoded(self, requests: pl.DataFrame) -> Encoded:
        """Return what requests say of themselves, a row each."""
        return self.ranking.encoder.encode(requests, "request").to(self.ranking.device)

    # ── keeping ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def document(self) -> dict[str, Any]:
        """What a manifest keeps."""
        retriever = self.options.retriever_config
        kept = {key: one for key, one in vars(self.options).items() if key not in ("retriever", "columns")}
        return self.ranking.document | {
            "options": kept,
            "retriever": {"model": entry_of(retriever).name, "config": asdict(retriever)},
            "events": [asdict(kind) for kind in self.kinds],
        }

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """What a bundle keeps beside the manifest."""
        found = self.ranking.tensors
        for part in PARTS:
            encoded = getattr(self.table, part)
            found |= {f"{part}.code": encoded.code.cpu().numpy(), f"{part}.vector": encoded.vector.cpu().numpy()}
            if encoded.value is not None:
                found[f"{part}.value"] = encoded.value.cpu().numpy()
        if self.table.counts is not None:
            found["counts"] = self.table.counts.cpu().numpy()
        return found

    @classmethod
    def of(
        cls,
        document: Mapping[str, Any],
        tensors: Mapping[str, np.ndarray],
        vocabulary: pl.DataFrame,
        run: RunOptions,
        kinds: tuple[EventType, ...],
    ) -> "TwoStage":
        """Return what `document`, `tensors` and the encoder's vocabulary were made from; `kinds` are those of the past,
        which older documents mean by theirs.
        """
        ranking = Ranking.of(document, tensors, vocabulary, run)
        kept = {key: torch.from_numpy(one) for key, one in tensors.items()}
        user, item, request = (
            Encoded(kept[f"{part}.code"], kept.get(f"{part}.value"), kept[f"{part}.vector"]) for part in PARTS
        )
        table = FeatureTable(ranking.encoder.schema, user, item, request, kept.get("counts"))
        _check(table)
        if "events" in document:
            kinds = tuple(EventType(**kind) for kind in document["events"])
        return cls(ranking, table, options_of(document, ranking.encoder.columns), kinds)


def _check(table: FeatureTable) -> None:
    """Raise `BundleError` unless encoded columns are those of the schema."""
    schema = table.schema
    for part in PARTS:
        one, fields = getattr(table, part), schema.of_part(part)
        slots = sum(field.width for field in fields if field.kind != "vector")
        numbers = sum(field.width for field in fields if field.kind == "vector")
        fits = one.code.dtype == torch.int32 and one.code.shape[1:] == (slots,)
        fits &= one.vector.shape == (len(one), numbers)
        fits &= one.value is None or one.value.shape == one.code.shape
        fits &= all(bool(rows.isfinite().all()) for rows in (one.value, one.vector) if rows is not None)
        if not fits or (one.code.numel() and not 0 <= int(one.code.min()) <= int(one.code.max()) < schema.n_rows):
            raise BundleError(f"the columns of the {part} do not fit the ranker. Restore the bundle or train again.")


def options_of(document: Mapping[str, Any], columns: Mapping[str, tuple[Column, ...]]) -> RankingOptions:
    """Return the options that a manifest keeps."""
    kept = dict(document["options"]) | {"label": tuple(document["options"]["label"])}
    retriever = build(lookup(document["retriever"]["model"]).config, document["retriever"]["config"])
    return RankingOptions(retriever=retriever, columns=columns, **kept)


def _longer(encoder: Encoder, part: str, known: Encoded, table: pl.DataFrame) -> Encoded:
    """Return encoded rows with those that `table` has beyond them; the last stays that of nobody."""
    new = table[len(known) - 1 :]
    missing = {column.name for column in encoder.columns[part]} - set(new.columns)
    more = encoder.encode(new.with_columns(pl.lit(None).alias(name) for name in sorted(missing)), part)
    more = more.to(known.code.device)

    def inserted(old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([old[:-1], new, old[-1:]])

    value = None if known.value is None else inserted(known.value, more.values)
    return Encoded(inserted(known.code, more.code), value, inserted(known.vector, more.vector))


def _tables(past: Interactions, rows: Rows, options: RankingOptions) -> tuple[Encoder, FeatureTable]:
    """Return the encoder fitted on everyone and everything in `past`, and their encoded columns."""
    parts = tables_of(past) | {"request": rows.table}
    columns = options.columns_of(parts["user"], parts["item"])
    encoder = Encoder.fit(parts, columns, tasks=rows.tasks)
    if any(field.name == ITEM for field in encoder.schema.fields):
        encoder = encoder.with_history(ITEM, HISTORY)
    nobody = {part: frame.clear(1) for part, frame in parts.items()}
    user, item = (encoder.encode(pl.concat([parts[part], nobody[part]]), part) for part in ("user", "item"))
    request = encoder.encode(nobody["request"], "request")
    encoder.counts.clear()  # of the row of nobody, and of training itself
    counts = _counts(options, past.events, past.events)
    return encoder, FeatureTable(encoder.schema, user, item, request, counts)


def _counts(options: RankingOptions, kinds: tuple[EventType, ...], trained: tuple[EventType, ...]) -> Tensor | None:
    """Return which event types a history is made of, bool (event types,); None for all that are positive."""
    chosen = options.labels.chosen(kinds, trained)
    return None if chosen is None else torch.from_numpy(chosen)
