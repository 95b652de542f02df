"""Checks of learning: that a model finds the halves, by its seed alone, and with gradients that the loop can use."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import ConfigError, ModelConfig, numpy_stream
from bowerbird.evaluation import evaluate
from bowerbird.features import ContentRetriever, Context
from bowerbird.nn.content import ContentConfig, tensors
from bowerbird.nn.losses import NAMES
from bowerbird.recommender import Recommender
from bowerbird.testing.halves import halves, known_users, things
from bowerbird.testing.subject import (
    Subject,
    closed,
    cold_item,
    expect,
    expect_alike,
    personal,
    promise,
    quiet,
    retriever,
    scores,
    trained,
)
from bowerbird.training import batches_for, train

RIGHT = 0.9  # of the users, who know new items of their half
GAIN = 0.2  # of recall@10 over popularity, which reaches about 0.5


@promise("features/contracts.py, Fitted and Trained", of=personal)
def beats_popularity(subject: Subject) -> None:
    """It learns that even users like even items and odd users odd ones, which popularity cannot know."""

    def recall(rec: Recommender) -> float:
        return evaluate(rec, halves().test, metrics=["recall@10"], intervals=False).metrics["recall@10"]

    mine, least = recall(subject.fitted), recall(Subject.of("popularity").fitted) + GAIN
    tried = f"with {subject.config}. Other options go into settings=."
    expect(mine > least, f"Its recall@10 is {mine:.3f}; more than {least:.3f} is needed, {tried}")


@promise("features/contracts.py, ContentRetriever", of=cold_item)
def knows_items_by_content(subject: Subject) -> None:
    """New items with content alone are scored for their half: even ones for even users, odd ones for odd users."""
    rec, new = subject.fitted, things(range(1_000, 1_020))
    expect(isinstance(rec.model, ContentRetriever), "It is no ContentRetriever.")
    reads = isinstance(rec.config, ContentConfig)
    expect(reads, f"{type(rec.config).__name__} does not derive from ContentConfig, so nothing reads the item table.")
    assert isinstance(rec.config, ContentConfig)
    with torch.no_grad():
        vectors = rec.model.embed(tensors(rec.config.read(new)))
        mine, wide = tuple(vectors.shape), tuple(rec.model.item_vectors().shape)
        expect(mine == (len(new), wide[1]), f"Vectors of {len(new)} new items are {mine}, and those of its own {wide}.")
        found = rec.model.query(known_users()) @ vectors.T
    even, odd = found[:, ::2].mean(dim=1), found[:, 1::2].mean(dim=1)
    gap = torch.where(_halves_of_users(), odd - even, even - odd)
    right = int((gap > 0).sum())
    expect(right >= RIGHT * len(gap), f"{right} of {len(gap)} users score new items of their half above the others.")


@promise("core/config.py, RunOptions.seed", of=retriever)
def repeats_under_one_seed(subject: Subject) -> None:
    """Trained twice under one seed, it is the same model to the last bit."""
    again = subject.fit().model
    expect_alike(scores(again, known_users()), scores(subject.fitted.model, known_users()), "Twice", exactly=True)


@promise("core/config.py, RunOptions.seed", of=trained)
def differs_under_another_seed(subject: Subject) -> None:
    """What the loop trains depends on the seed."""
    other = scores(subject.fit(seed=1).model, known_users())
    same = torch.allclose(other, scores(subject.fitted.model, known_users()))
    expect(not same, "Seeds 0 and 1 give the same scores: is anything trained, or the seed overwritten?")


@promise("features/contracts.py, Fitted.fit", of=closed)
def follows_users_wherever_they_stand(subject: Subject) -> None:
    """Fitted on the same users in another order, it gives each the same scores."""
    mine, before = fitted_in_another_order(subject)
    expect_alike(mine, before, "In another order")


def fitted_in_another_order(subject: Subject) -> tuple[Tensor, Tensor]:
    """Return scores (U, I) of a closed form fitted on users in another order, and the subject's own in that order."""
    past, order = subject.past, _shuffle()
    moved = past.reorder_ids(order, np.arange(past.n_items))
    model = subject.untrained(past.schema)
    model.fit(moved, numpy_stream(0, "fit"))
    mine = scores(model, Context.of_users(np.arange(past.n_users, dtype=np.int32), moved))
    return mine, scores(subject.fitted.model, known_users())[order]


@promise("features/contracts.py, Trained.prepare and freeze", of=trained)
def follows_users_and_their_rows(subject: Subject) -> None:
    """With the users, and their rows of every tensor, in another order, it gives each the same scores."""
    past, order = subject.past, _shuffle()
    moved = past.reorder_ids(order, np.arange(past.n_items))
    model = subject.untrained(past.schema)
    state = subject.fitted.model.state_dict()
    model.load_state_dict(
        {key: one[order] if one.dim() and len(one) == past.n_users else one for key, one in state.items()}
    )
    model.prepare(moved)
    model.freeze()
    mine = scores(model, Context.of_users(np.arange(past.n_users, dtype=np.int32), moved))
    expect_alike(mine, scores(subject.fitted.model, known_users())[order], "In another order")


def _halves_of_users() -> Tensor:
    """Return whether each user is odd, bool (U,)."""
    return torch.tensor([int(user[1:]) % 2 == 1 for user in halves().train.user_ids.values])


def _shuffle() -> np.ndarray:
    return np.random.default_rng(3).permutation(halves().train.n_users)


@promise("features/contracts.py, Trained.loss", of=trained)
def has_one_finite_loss_a_row(subject: Subject) -> None:
    """Under every loss it may be given, a batch of B rows has B finite losses, and every parameter a gradient."""
    for config in configs_by_loss(subject):
        model, batch = _prepared(subject, config)
        losses = model.loss(batch)
        loss = losses.detach()
        named = f" under {config.loss}" if hasattr(config, "loss") else ""
        expect(loss.shape == (len(batch),), f"Its shape is {tuple(loss.shape)} for {len(batch)} rows{named}.")
        expect(bool(loss.isfinite().all()), f"{int((~loss.isfinite()).sum())} of {len(loss)} are not finite{named}.")
        expect(bool(loss.std() > 0), f"All {len(loss)} are {float(loss[0]):.3g}{named}.")
        losses.sum().backward()
        for name, one in model.named_parameters():
            fine = one.grad is not None and bool(one.grad.isfinite().all())
            expect(fine, f"The gradient of {name} is {'missing' if one.grad is None else 'not finite'}{named}.")


def configs_by_loss(subject: Subject) -> list[ModelConfig]:
    """Return the small configuration with every loss of `nn.losses` that it takes; itself where it has no choice."""
    if "loss" not in subject.keys:
        return [subject.config]
    found: list[ModelConfig] = []
    for name in NAMES:
        try:
            found.append(replace(subject.config, loss=name))  # type: ignore[call-arg]
        except ConfigError:
            continue
    return found or [subject.config]


@promise("features/contracts.py, Trained.loss", of=trained)
def clears_its_gradient_between_steps(subject: Subject) -> None:
    """The loss of a batch is the same at every step: nothing of earlier batches is left in it or in its gradient."""
    config: Any = replace(subject.config, learning_rate=1e-12, epochs=1)  # type: ignore[call-arg]

    def gradients(steps: int) -> dict[str, Tensor]:
        model, batch = _prepared(subject, config)
        train(model, _TheSameBatch(batch, steps), config, quiet())  # steps that change nothing
        return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}

    first, third = gradients(1), gradients(3)
    expect(any(bool(one.abs().max() > 0) for one in first.values()), "The gradient is 0 everywhere.")
    for name, one in first.items():
        ratio = float(third[name].norm() / one.norm().clamp(min=1e-12))
        same = torch.allclose(one, third[name], rtol=1e-3, atol=1e-7)
        expect(same, f"After three steps on one batch the gradient of {name} is {ratio:.3g} times that after one.")


def _prepared(subject: Subject, config: Any) -> tuple[Any, Any]:
    """Return a fresh model, ready to be trained, and its first batch."""
    past = subject.past
    model = subject.untrained(past.schema, config)
    model.prepare(past)
    kind = subject.entry.batches
    assert kind is not None
    return model, batches_for(kind, past, config, seed=0, device="cpu").batch(0, 0)


class _TheSameBatch:
    """Draws one and the same batch at every step."""

    def __init__(self, batch: Any, steps: int) -> None:
        self.same, self.steps = batch, steps
        self.n_rows, self.fingerprint = steps * len(batch), "the same"

    def __len__(self) -> int:
        return self.steps

    def batch(self, epoch: int, step: int, shard: tuple[int, int]) -> Any:
        torch.manual_seed(0)  # and drops, masks or cuts the same
        return self.same
