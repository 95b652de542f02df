"""The Predictor: a fitted ranker over one feature table, without users and items. What `bb.fit` returns for `Rows`.

Shapes: N rows, T tasks.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

import bowerbird
from bowerbird.core import (
    BundleError,
    Cause,
    ConfigError,
    Reason,
    RunOptions,
    TrainedConfig,
    World,
    entry_of,
    numpy_stream,
)
from bowerbird.data import Rows, read_rows
from bowerbird.data.files import open_files
from bowerbird.explanation import attribute, words
from bowerbird.explanation.columns import label
from bowerbird.explanation.overview import Overview, of_rows
from bowerbird.features import Column, Encoder, infer
from bowerbird.features.fitting import PLACE
from bowerbird.features.inference import LOOK
from bowerbird.features.sources import EncodedRows
from bowerbird.nn.debias import Debias
from bowerbird.recommender.ranking import Ranking
from bowerbird.recommender.weights import whole
from bowerbird.store import bundles
from bowerbird.training import Training
from bowerbird.training.streams import Files, StreamedRows, check_labels

ROWS = "rows"  # kind of a bundle that holds a predictor
MOST = 1_000_000  # rows of validation files that are held in memory
LOOKED_AT = 1_000  # rows that are attributed at once, and that an overview is made of


class Predictor:
    """Tells how likely each label is, for rows of the columns it was trained on."""

    def __init__(self, ranking: Ranking) -> None:
        self.ranking = ranking
        self.name = entry_of(ranking.config).name
        self.measured: dict[str, Any] | None = None  # a report, and on what it was measured
        self.version: str | None = None

    def __repr__(self) -> str:
        return f"Predictor({self.name}, {len(self.encoder.schema.fields)} columns, version {self.version})"

    @classmethod
    def fit(
        cls,
        train: Rows,
        valid: Rows | None,
        config: TrainedConfig,
        *,
        columns: Sequence[Column] | None = None,
        run: RunOptions | None = None,
        epochs: int | Training | None = None,
        on_epoch: Callable[[Training], None] | None = None,
    ) -> "Predictor":
        """Return a predictor fitted on `train`, stopped early and calibrated on `valid`.

        `columns` say what the table holds, inferred where left out.
        """
        run = run or RunOptions()
        columns = infer(train.table) if columns is None else columns
        _check_some(columns)
        encoder = Encoder.fit({"": train.table}, {"": columns}, tasks=train.tasks)
        made = cls(Ranking(config, encoder, run))
        made.ranking.learn(
            made.source(train, weighed=True),
            None if valid is None else made.source(valid, weighed=True),
            fingerprint=train.fingerprint,
            epochs=epochs,
            on_epoch=on_epoch,
        )
        return made

    @classmethod
    def fit_files(
        cls,
        train: Files,
        valid: Rows | Files | None,
        config: TrainedConfig,
        *,
        labels: str | Sequence[str],
        columns: Sequence[Column] | None = None,
        run: RunOptions | None = None,
        epochs: int | Training | None = None,
        on_epoch: Callable[[Training], None] | None = None,
    ) -> "Predictor":
        """Return a predictor fitted on Parquet files that need not fit into memory: a path, several, a glob, a folder.

        `labels` names the label columns. `columns` are inferred from the first 100,000 rows where left out. `valid`
        is held in memory; of files, evenly spread rows are taken, 1,000,000 at most. Raises `DataError`.
        """
        if isinstance(config, Debias) and config.debias != "none":
            raise ConfigError(f"debias is {config.debias!r}; files that are streamed weigh all rows alike. Try none.")
        run, table = run or RunOptions(), open_files(train, "parquet")
        tasks = (labels,) if isinstance(labels, str) else tuple(labels)
        check_labels(table, tasks)
        if valid is not None and not isinstance(valid, Rows):
            valid = _thinned(valid, tasks)
        columns = infer(table.frame.drop(tasks).head(LOOK).collect()) if columns is None else columns
        _check_some(columns)
        encoder = Encoder.fit({"": table.frame}, {"": columns}, tasks=tasks)
        made = cls(Ranking(config, encoder, run))
        made.ranking.learn(
            StreamedRows(train, encoder, config, seed=run.seed, device=made.ranking.device),
            None if valid is None else made.source(valid),
            epochs=epochs,
            on_epoch=on_epoch,
        )
        return made

    @property
    def encoder(self) -> Encoder:
        """What turns tables into numbers; its `counts` tell what it could not read."""
        return self.ranking.encoder

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self.ranking.tasks

    @property
    def training(self) -> Training | None:
        """How the training went."""
        return self.ranking.training

    def source(self, rows: Rows, *, weighed: bool = False) -> EncodedRows:
        """Return rows encoded, with their labels, where the model computes; `weighed` as training weighs them."""
        config = self.ranking.config
        weight = config.row_weights(rows.item, rows.table) if weighed and isinstance(config, Debias) else None
        return EncodedRows.of(self.encoder.encode(rows.table), rows, self.ranking.device, weight=weight)

    def predict(self, table: pl.DataFrame | Rows, *, raw: bool = False) -> np.ndarray:
        """Return the probability of every label (N, T) for rows of the training columns, calibrated unless `raw`."""
        if not isinstance(table, Rows):
            table = Rows(table, np.full((table.height, len(self.tasks)), np.nan, np.float32), self.tasks)
        return self.ranking.probabilities(self.source(table), raw=raw)

    def explain(self, table: pl.DataFrame) -> list[tuple[Reason, float]]:
        """Return for each row what its columns add to the log of the odds of the first label, and its probability.

        Raises `ConfigError` where the bundle is of a version that kept no average row.
        """
        source = self.source(Rows(table, np.full((table.height, len(self.tasks)), np.nan, np.float32), self.tasks))
        names, added = self._attributed(source)
        chances = self.ranking.probabilities(source)[:, 0].tolist()
        found = []
        for row, (mine, chance) in enumerate(zip(added.tolist(), chances, strict=True)):
            order = sorted(range(len(names)), key=lambda one: -mine[one])
            causes = tuple(Cause(names[one], label(names[one], table, row), mine[one]) for one in order)
            found.append((words.features(causes), chance))
        return found

    def overview(self, rows: Rows) -> Overview:
        """Return what the predictor relies on in some rows, 1,000 at most."""
        draw = numpy_stream(self.ranking.run.seed, "overview").permutation(len(rows))[:LOOKED_AT]
        names, added = self._attributed(self.source(rows.take(np.sort(draw))))
        return of_rows(names, added.numpy(), seed=self.ranking.run.seed)

    def _attributed(self, source: EncodedRows) -> tuple[list[str], torch.Tensor]:
        """Return the names of columns and what they add to the calibrated logit of each row (N, K)."""
        ranking = self.ranking
        if ranking.reference is None:
            raise ConfigError("this bundle keeps no average row to explain against. Train it again.")
        parts = [
            attribute(ranking.model, source.cut(part), self.encoder.schema, ranking.reference)
            for part in torch.split(torch.arange(len(source), device=source.label.device), LOOKED_AT)
        ]
        return parts[0][0], torch.cat([added for _, added, _ in parts]).cpu() * ranking.calibration[0, 0].cpu()

    def refit(self, rows: Rows) -> "Predictor":
        """Return the same configuration and columns trained for the chosen number of epochs on everything."""
        training = self.training
        fresh = Predictor.fit(
            rows,
            None,
            self.ranking.config,
            columns=self.encoder.columns[""],
            run=self.ranking.run,
            epochs=training,
        )
        if fresh.training is not None and fresh.training.interrupted:
            raise KeyboardInterrupt  # half-trained on everything is worse than well trained on a part
        fresh.ranking.calibration, fresh.measured = self.ranking.calibration, self.measured
        return fresh

    def save(self, run: str | Path, *, world: World | None = None) -> str:
        """Publish into a run directory; return the version."""
        folder = Path(run)
        manifest = {
            "kind": ROWS,
            "model": self.name,
            "ranking": self.ranking.document,
            "measured": self.measured,
            "seed": self.ranking.run.seed,
            "parent": self.version,
            "versions": {"bowerbird": bowerbird.__version__},
        }
        with bundles.locked(folder, world=world):
            self.version = bundles.publish(
                folder, manifest, self.ranking.tensors, {"vocabulary": self.encoder.vocabulary}, world=world
            )
        return self.version

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        version: str | None = None,
        options: RunOptions | None = None,
        world: World | None = None,
    ) -> "Predictor":
        """Return the predictor saved in a run directory; raises `BundleError` unless every byte is as written."""
        bundle = bundles.read(Path(run), version=version, world=world)
        manifest = bundle.manifest
        if manifest.get("kind") != ROWS:
            raise BundleError(f"{run} holds a recommender. Load it with bb.load({str(run)!r}).")
        with whole(Path(run) / "bundles" / bundle.version):
            options = options or RunOptions(seed=manifest["seed"])
            made = cls(Ranking.of(manifest["ranking"], bundle.tensors, bundle.tables["vocabulary"], options))
            made.version, made.measured = bundle.version, manifest["measured"]
        return made


def _check_some(columns: Sequence[Column]) -> None:
    if not columns:
        raise ConfigError("there is no column to learn from. Describe them in TOML, see `data describe --columns`.")


def _thinned(files: Files, tasks: Sequence[str]) -> Rows:
    """Return the rows of files, every second, third, … where there are too many."""
    table = open_files(files, "parquet")
    every = math.ceil(sum(part.n_rows for part in table.place.parts) / MOST)
    if every <= 1:
        return read_rows(table.frame, labels=tasks)
    place = pl.col(PLACE)  # `gather_every` reads everything first
    return read_rows(table.frame.with_row_index(PLACE).filter(place % every == 0).drop(PLACE), labels=tasks)
