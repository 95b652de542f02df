"""Ranking: a ranker with its columns and its calibration. Rows in, probabilities out.

It stands alone (`recommender.predictor`) or orders the candidates of a recommender (`recommender.recommender`).

Shapes: N rows, B requests, C candidates, T tasks.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.core import (
    BundleError,
    ConfigError,
    DataError,
    RunOptions,
    TrainedConfig,
    build,
    entry_of,
    lookup,
    numpy_stream,
)
from bowerbird.core.config import OF_ROWS
from bowerbird.evaluation.binary import auc, log_loss
from bowerbird.explanation.features import ROWS, Reference
from bowerbird.features import Context, Encoder, FeatureTable, join
from bowerbird.features.sources import Source
from bowerbird.recommender.weights import put, small
from bowerbird.training import Batches, RowBatches, Training, device_of, seeded
from bowerbird.training import train as train_loop

BLOCK = 16_384  # rows scored at once
STEPS, RIDGE = 50, 1e-3  # of Newton's method for calibration, and what keeps it near the raw logits
TINY = 1e-9  # a step that ends it
RAW = torch.tensor([1.0, 0.0], dtype=torch.float64)  # scale and shift of logits as they are


class Ranking:
    """A ranker, fitted or about to be."""

    def __init__(self, config: TrainedConfig, encoder: Encoder, run: RunOptions) -> None:
        self.config, self.encoder, self.run = config, encoder, run
        self.device = device_of(run)
        with seeded(run, self.device, "init"):
            self.model: Any = entry_of(config).model(config, encoder.schema).to(self.device).eval()
        self.calibration = torch.tensor([[1.0, 0.0]] * len(self.tasks), device=self.device)  # (T, 2): scale and shift
        self.training: Training | None = None
        self.reference: Reference | None = None  # an average row of training, against which rows are explained

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self.encoder.schema.tasks

    def learn(
        self,
        train: Source | Batches,
        valid: Source | None = None,
        *,
        fingerprint: str = "",
        epochs: int | Training | None = None,
        on_epoch: Callable[[Training], None] | None = None,
    ) -> None:
        """Fit the model, stopping early on `valid` or after `epochs`; then calibrate it on `valid`.

        A row tells each of its labels by itself, so that a rare label stays rare: what imbalance does to the logits
        is left to calibration. Where rows weigh, they do in validation and calibration too.
        """
        select = self.config.select
        if select not in OF_ROWS:
            raise ConfigError(f"select is {select!r}; a ranker is chosen by {' or '.join(OF_ROWS)}. Try select = auc.")
        if valid is not None:
            self._check(valid.label, "validation")
            self._check_usable(valid.label)
        if not isinstance(train, Batches):
            self._check(train.label, "training")
        rows = valid if isinstance(train, Batches) else train
        if not isinstance(train, Batches):
            train = self._batches(train, fingerprint)
        self.training = train_loop(
            self.model,
            train,
            self.config,
            self.run,
            validate=None if valid is None else lambda: self._value(valid),
            epochs=epochs,
            on_epoch=on_epoch,
        )
        if valid is not None:
            self.calibration = calibrated(self.logits(valid), valid.label, valid.weight).to(self.device)
        if rows is not None and len(rows):
            self.reference = self.average(rows, self.run.seed)

    def average(self, rows: Source, seed: int) -> Reference:
        """Return the mean of rows that are drawn: against it rows are explained."""
        draw = torch.from_numpy(numpy_stream(seed, "reference").permutation(len(rows))[:ROWS])
        return Reference.of(self.model, rows.cut(draw.to(rows.label.device)), self.encoder.schema)

    def _check(self, label: Tensor, part: str) -> None:
        """Raise `DataError` for labels (N, T) that are neither 0 nor 1."""
        for place, task in enumerate(self.tasks):
            bad = (~label[:, place].isnan() & (label[:, place] != 0) & (label[:, place] != 1)).nonzero()[:, 0]
            if len(bad):
                raise DataError(
                    f'task "{task}": {len(bad):,} of {len(label):,} {part} rows have a label that is neither 0 nor 1 '
                    f"(first: row {int(bad[0]) + 1:,}, {float(label[bad[0], place]):g}). Turn ratings into 0 and 1 by "
                    "a threshold."
                )

    def _check_usable(self, label: Tensor) -> None:
        """Raise `DataError` where the metric that chooses the epoch does not exist on these labels (N, T)."""
        for place, task in enumerate(self.tasks):
            seen = sorted(set(label[:, place][~label[:, place].isnan()].tolist()))
            if len(seen) < (2 if self.config.select == "auc" else 1):
                what = f"all have label {seen[0]:g}" if seen else "none has a label"
                raise DataError(
                    f'task "{task}": of {len(label):,} validation rows {what}, so that {self.config.select} says '
                    "nothing. Give validation a larger share."
                )

    def _batches(self, source: Source, fingerprint: str) -> RowBatches:
        digest = sha256(json.dumps([fingerprint, self.encoder.to_dict()], sort_keys=True).encode()).hexdigest()
        return RowBatches(source, self.config, seed=self.run.seed, fingerprint=digest)

    def _value(self, valid: Source) -> float:
        """Return the metric that chooses the epoch, larger is better, averaged over tasks."""
        logit, label = self.logits(valid).double().cpu(), valid.label.cpu().numpy()
        weight = None if valid.weight is None else valid.weight.cpu().numpy()
        values = []
        for task in range(len(self.tasks)):
            there = ~np.isnan(label[:, task])
            mine, truth = logit[:, task][torch.from_numpy(there)], label[there, task]
            weighs = None if weight is None else weight[there]
            if self.config.select == "auc":
                values.append(auc(truth, mine.numpy(), weighs))
            else:
                values.append(-log_loss(truth, mine.sigmoid().numpy(), weighs))
        return float(np.mean(values))

    @torch.no_grad()
    def logits(self, source: Source) -> Tensor:
        """Return raw logits (N, T)."""
        self.model.eval()
        rows = torch.arange(len(source), device=source.label.device)
        return torch.cat([self.model(source.cut(part)) for part in torch.split(rows, BLOCK)])

    def probabilities(self, source: Source, *, raw: bool = False) -> np.ndarray:
        """Return the probability of every label (N, T), calibrated unless `raw`, float64."""
        logit = self.logits(source)
        logit = logit if raw else logit * self.calibration[:, 0] + self.calibration[:, 1]
        found: np.ndarray = logit.double().sigmoid().cpu().numpy()
        return found

    @torch.no_grad()
    def scores(self, context: Context, candidates: Tensor, table: FeatureTable) -> Tensor:
        """Return the probability of the first label (B, C) for candidates (B, C); −1 (empty) gets minus infinity."""
        logit: Tensor = self.model(join(context, candidates, table))[:, 0].view(candidates.shape)
        logit = logit * self.calibration[0, 0] + self.calibration[0, 1]
        return logit.sigmoid().masked_fill(candidates < 0, -torch.inf)

    # ── keeping ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def document(self) -> dict[str, Any]:
        """What a manifest keeps."""
        return {
            "model": entry_of(self.config).name,
            "config": asdict(self.config),
            "encoder": self.encoder.to_dict(),
            "training": self.training.to_dict() if self.training else None,
        }

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """What a bundle keeps beside the manifest."""
        state = {f"ranker.{name}": tensor for name, tensor in self.model.state_dict().items()}
        state = {key: one.detach().cpu().numpy() for key, one in (state | {"calibration": self.calibration}).items()}
        return state | (self.reference.tensors if self.reference else {})

    @classmethod
    def of(
        cls, document: Mapping[str, Any], tensors: Mapping[str, np.ndarray], vocabulary: pl.DataFrame, run: RunOptions
    ) -> "Ranking":
        """Return what `document`, `tensors` and the encoder's vocabulary were made from."""
        config = build(lookup(document["model"]).config, document["config"])
        assert isinstance(config, TrainedConfig)
        with small(tensors):
            made = cls(config, Encoder.from_dict(document["encoder"], vocabulary), run)
        state = {
            key.removeprefix("ranker."): torch.from_numpy(one)
            for key, one in tensors.items()
            if key.startswith("ranker.")
        }
        put(made.model, state, document["model"])
        calibration = torch.from_numpy(tensors.get("calibration", np.zeros(0))).to(made.device)
        if calibration.shape != made.calibration.shape or not bool(calibration.isfinite().all()):
            raise BundleError(f"the weights do not fit {document['model']}: 'calibration'")
        made.calibration = calibration.float()
        made.training = restored(document["training"])
        made.reference = Reference.from_tensors(tensors, made.device)
        return made


def restored(document: Mapping[str, Any] | None) -> Training | None:
    """Return how a training went from what a manifest keeps of it."""
    return None if not document else Training(**{key: one for key, one in document.items() if one is not None})


def calibrated(logit: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return scale and shift (T, 2) under which logits (N, T) are probabilities of labels (N, T), NaN unobserved.

    Rows weigh `weight` (N,), or all the same. Platt 1999, by Newton's method, with a small pull towards (1, 0): two
    numbers cannot overfit, and keep the order.
    """
    pairs = []
    for task in range(logit.shape[1]):
        there = ~label[:, task].isnan()
        x, y = logit[there, task].double().cpu(), label[there, task].double().cpu()
        w = torch.ones_like(y) if weight is None else weight[there].double().cpu()
        pair = _scale_and_shift(x, y, w) if bool((y != y[:1]).any()) else RAW  # one class says nothing of the other
        pairs.append(pair if float(pair[0]) > 0 else RAW)  # a negative scale would turn the order round
    return torch.stack(pairs).float()


def _scale_and_shift(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Return what minimises the log loss of y, weighed by w, under x · scale + shift, all (N,), and the pull."""
    features, weight = torch.stack([x, torch.ones_like(x)], dim=1), RAW

    def loss(at: Tensor) -> float:
        pull = 0.5 * RIDGE * (at - RAW).square().sum()
        return float(functional.binary_cross_entropy_with_logits(features @ at, y, w, reduction="sum") + pull)

    best = loss(weight)
    for _ in range(STEPS):
        p = (features @ weight).sigmoid()
        gradient = features.T @ (w * (p - y)) + RIDGE * (weight - RAW)
        curve = features.T @ (features * (w * p * (1 - p))[:, None]) + RIDGE * torch.eye(2, dtype=torch.float64)
        step = torch.linalg.solve(curve, gradient)
        while float(step.abs().max()) > TINY and not loss(weight - step) < best:  # a whole step may go too far
            step = step / 2
        if float(step.abs().max()) <= TINY:
            break
        weight = weight - step
        best = loss(weight)
    return weight
