"""Checks of rankers: that they learn rows, score each by itself, and stand behind a retriever."""

import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bowerbird.core import ConfigError
from bowerbird.evaluation.binary import auc
from bowerbird.features import Encoder, FeatureBatch
from bowerbird.recommender import Predictor, Recommender, load
from bowerbird.testing.halves import COLUMNS, halves, halves_as_rows
from bowerbird.testing.subject import Subject, expect, expect_alike, promise, quiet, ranker
from bowerbird.training import Training

GAIN = 0.15  # of AUC over the price, which reaches about 0.6
FEW, MANY = 40, 200  # rows that are scored one by one, and those of a batch
TWO = ("label", "other")  # the labels of models that can learn several


@promise("features/contracts.py, Ranker.forward", of=ranker)
def gives_a_logit_for_each_label(subject: Subject) -> None:
    """A batch of B rows has logits (B, T): T labels, or `ConfigError` when built for more than it can learn."""
    for tasks in labels_of(subject):
        batch = _batch(tasks)
        logit = _logits(_model(subject, tasks), batch)
        wanted = (len(batch), len(tasks))
        expect(tuple(logit.shape) == wanted, f"Their shape is {tuple(logit.shape)}; {wanted} is needed.")
        expect(logit.is_floating_point(), f"They are {logit.dtype}.")


@promise("features/contracts.py, Ranker.loss", of=ranker)
def has_one_finite_loss_for_each_row(subject: Subject) -> None:
    """A batch of B rows, some without labels, has B finite losses, and every parameter a gradient."""
    for tasks in labels_of(subject):
        model, batch = _model(subject, tasks).train(), _batch(tasks)
        losses = model.loss(batch)
        loss = losses.detach()
        named = f" of {' and '.join(tasks)}"
        expect(loss.shape == (len(batch),), f"Its shape is {tuple(loss.shape)} for {len(batch)} rows{named}.")
        expect(bool(loss.isfinite().all()), f"{int((~loss.isfinite()).sum())} of {len(loss)} are not finite{named}.")
        expect(bool(loss.std() > 0), f"All {len(loss)} are {float(loss[0]):.3g}{named}.")
        losses.sum().backward()
        for name, one in model.named_parameters():
            fine = one.grad is not None and bool(one.grad.to_dense().isfinite().all())
            expect(fine, f"The gradient of {name} is {'missing' if one.grad is None else 'not finite'}{named}.")


@promise("features/contracts.py, Ranker.loss", of=ranker)
def starts_every_step_afresh(subject: Subject) -> None:
    """The loss of a batch is the same whenever it is asked for: nothing of earlier batches is left in it."""
    model, batch = _model(subject, TWO[:1]).train(), _batch(TWO[:1])

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)  # of dropout
            model.loss(batch).mean().backward()
        return {name: one.grad.to_dense().clone() for name, one in model.named_parameters() if one.grad is not None}

    first = gradients()
    expect(any(bool(one.abs().max() > 0) for one in first.values()), "The gradient is 0 everywhere.")
    gradients()
    for name, third in gradients().items():
        ratio = float(third.norm() / first[name].norm().clamp(min=1e-12))
        same = torch.allclose(first[name], third, rtol=1e-3, atol=1e-7)
        expect(same, f"The third time, the gradient of {name} is {ratio:.3g} times that of the first.")


@promise("features/contracts.py, Ranker", of=ranker)
def learns_who_likes_what(subject: Subject) -> None:
    """On rows it has not seen, it knows that even users like even items, which no column tells by itself."""
    test = halves_as_rows().test
    label = test.labels[:, 0]
    mine = auc(label, subject.predictor.predict(test)[:, 0])
    least = auc(label, test.table["price"].to_numpy()) + GAIN
    tried = f"with {subject.config}. Other options go into settings=."
    expect(mine > least, f"Its AUC is {mine:.3f}; more than {least:.3f} is needed, {tried}")


@promise("core/config.py, RunOptions.seed", of=ranker)
def predicts_alike_under_one_seed(subject: Subject) -> None:
    """Trained twice on the same rows under one seed, it is the same model to the last bit."""
    expect_alike(_predicted(subject.fit_rows()), _predicted(subject.predictor), "Twice", exactly=True)


@promise("core/config.py, RunOptions.seed", of=ranker)
def predicts_otherwise_under_another_seed(subject: Subject) -> None:
    """What it learns of rows depends on the seed."""
    same = torch.allclose(_predicted(subject.fit_rows(seed=1)), _predicted(subject.predictor))
    expect(not same, "Seeds 0 and 1 give the same probabilities: is anything trained, or the seed overwritten?")


@promise("core/config.py, RunOptions.checkpoint", of=ranker)
def goes_on_with_rows_as_if_never_interrupted(subject: Subject) -> None:
    """Interrupted and started again from its checkpoint, it ends as the same model of rows to the last bit."""
    split = halves_as_rows()

    def stop(training: Training) -> None:
        raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        run = replace(quiet(), checkpoint=folder)
        config = subject.predictor.ranking.config
        Predictor.fit(split.train, split.valid, config, columns=COLUMNS, run=run, on_epoch=stop)
        again = Predictor.fit(split.train, split.valid, config, columns=COLUMNS, run=run)
    assert again.training is not None
    resumed = again.training.resumed_from
    expect(resumed == 1, f"Interrupted after epoch 1, it went on from epoch {resumed}.")
    expect_alike(_predicted(again), _predicted(subject.predictor), "Resumed and uninterrupted", exactly=True)


@promise("features/contracts.py, Ranker.forward", of=ranker)
def scores_rows_singly_as_in_batches(subject: Subject) -> None:
    """A row gets the same logits alone and among others."""
    ranking, source = subject.predictor.ranking, subject.predictor.source(halves_as_rows().test)
    singly = [_logits(ranking.model, source.cut(torch.tensor([row]))) for row in range(FEW)]
    among = _logits(ranking.model, source.cut(torch.arange(FEW)))
    expect_alike(among, torch.cat(singly), "Rows among others and alone")


@promise("features/contracts.py, Ranker.forward", of=ranker)
def scores_rows_in_any_order(subject: Subject) -> None:
    """Rows in another order get the same logits in that order."""
    ranking, source = subject.predictor.ranking, subject.predictor.source(halves_as_rows().test)
    order = torch.from_numpy(np.random.default_rng(3).permutation(len(source)))
    mine, before = (_logits(ranking.model, source.cut(rows)) for rows in (order, torch.arange(len(source))))
    expect_alike(mine, before[order], "In another order")


@promise("features/encoder.py, Encoder", of=ranker)
def says_a_number_whatever_it_reads(subject: Subject) -> None:
    """Values that are unseen, empty, infinite, huge or far too many have a finite logit and a probability."""
    odd = pl.DataFrame(
        {
            "user": ["u1", "never seen", None, "", "u2", "u3"],
            "item": ["i2", "nor this", None, "", "i3", "i4"],
            "price": [np.inf, -np.inf, None, np.nan, 1e308, -1e308],
            "tags": [["unseen"], [], None, [None], ["red"] * 10_000, ["red", "red"]],
            "past": [["unseen"], [], None, [None], ["i1"] * 10_000, ["i1", "i1"]],
        }
    )
    for raw in (False, True):
        found = subject.predictor.predict(odd, raw=raw)
        fine = np.isfinite(found) & (found >= 0) & (found <= 1)
        expect(bool(fine.all()), f"{int((~fine).sum())} of {fine.size} are no probabilities: {found[~fine][:3]}.")


@promise("recommender/predictor.py, Predictor.save", of=ranker)
def predicts_the_same_once_loaded(subject: Subject) -> None:
    """Saved and loaded, it has its configuration and the same probabilities to the last bit: all is in buffers."""
    predictor = subject.predictor
    with tempfile.TemporaryDirectory() as folder:
        predictor.save(folder)
        again = Predictor.load(folder, options=predictor.ranking.run)
    mine, before = again.ranking.config, predictor.ranking.config
    expect(mine == before, f"{before} came back as {mine}.")
    expect_alike(_predicted(again), _predicted(predictor), "Loaded and saved", exactly=True)


@promise("recommender/recommender.py, Recommender.recommend", of=ranker)
def ranks_behind_a_retriever(subject: Subject) -> None:
    """Trained on interactions, it orders what a retriever finds: for everyone, nothing twice, the same once loaded."""
    past, rec = halves().train, subject.fitted
    users = past.user_ids.values.to_list()
    with tempfile.TemporaryDirectory() as folder:
        rec.save(folder)
        again = load(folder, options=rec.run)

    def slates(one: Recommender) -> list[pl.DataFrame]:
        strangers = one.recommend(histories=[["i1", "i5"], ["nothing"]], k=5)
        return [found.to_polars() for found in (one.recommend(users, k=5), strangers, one.recommend(k=5))]

    for who, size, mine, other in zip(
        ("known users", "strangers", "nobody"), (len(users), 2, 1), slates(rec), slates(again), strict=True
    ):
        expect(mine.height == 5 * size, f"{mine.height} of {5 * size} places for {who} are filled.")
        expect(mine.equals(other), f"Loaded, it has other slates for {who}.")
    seen = pl.DataFrame({"user_id": past.user_ids.names(past.user), "item_id": past.item_ids.names(past.item)})
    shown = slates(rec)[0].join(seen, on=["user_id", "item_id"]).height
    expect(shown == 0, f"{shown} places hold what was chosen before.")


def labels_of(subject: Subject) -> list[tuple[str, ...]]:
    """Return the names of one label, and of two where the model takes them."""
    try:
        _model(subject, TWO)
    except ConfigError:
        return [TWO[:1]]
    return [TWO[:1], TWO]


def _model(subject: Subject, tasks: tuple[str, ...]) -> Any:
    return subject.untrained(_encoder(tasks).schema)


def _encoder(tasks: tuple[str, ...]) -> Encoder:
    return Encoder.fit({"": halves_as_rows().train.table}, {"": COLUMNS}, tasks=tasks)


def _batch(tasks: tuple[str, ...]) -> FeatureBatch:
    """Return rows with labels, every fifth unobserved; a second label is the contrary of the first."""
    train = halves_as_rows().train
    encoded = _encoder(tasks).encode(train.table[:MANY])
    label = torch.from_numpy(train.labels[:MANY])
    label = torch.cat([label, 1 - label], dim=1)[:, : len(tasks)]
    label[::5, -1] = torch.nan
    return FeatureBatch(encoded.code.long(), encoded.value, encoded.vector, label)


@torch.no_grad()
def _logits(model: Any, batch: FeatureBatch) -> Tensor:
    found: Tensor = model.eval()(batch)
    return found


def _predicted(predictor: Predictor) -> Tensor:
    return torch.from_numpy(predictor.predict(halves_as_rows().test))
