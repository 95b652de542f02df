"""Models that are wrong in one way each. Three right ones stand first; every wrong one changes as little as it can."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.core import ConfigError, ModelConfig, TrainedConfig, check, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, FeatureBatch, FeatureSchema, Pairs
from bowerbird.features.fields import EMPTY
from bowerbird.models.baselines.mf import MF
from bowerbird.models.multimodal.vbpr import VBPR, VBPRConfig
from bowerbird.nn.fields import RankerConfig, pairwise
from bowerbird.nn.graph import pair_matrix
from bowerbird.nn.losses import PairConfig, binary
from bowerbird.nn.vectors import grown, listed, total

CLOSED = ("retriever", "closed-form")


class Right(nn.Module):
    """Scores an item by how many people chose it together with each item of the history."""

    together: Tensor

    def __init__(self, config: Any, schema: Schema) -> None:
        super().__init__()
        self.register_buffer("together", torch.zeros(schema.n_items, schema.n_items))

    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        matrix = pair_matrix(train)
        self.together = torch.from_numpy((matrix.T @ matrix).toarray()).fill_diagonal_(0.0)

    def can(self, context: Context) -> Tensor:
        return context.asked.speaks

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        return listed(total(context.asked, self.together), items)

    def grow(self, n_users: int, n_items: int) -> None:
        self.together = grown(self.together, n_items, n_items)


class RightTrained(MF):
    """Matrix factorisation."""


class RightRanker(nn.Module):
    """Scores a row by the products of the vectors of its columns."""

    def __init__(self, config: Any, schema: FeatureSchema) -> None:
        super().__init__()
        if len(schema.tasks) > 1:
            raise ConfigError("one label is all it learns.")
        self.schema = schema
        self.vectors = nn.Parameter(0.1 * torch.randn(schema.n_rows, 8))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, batch: FeatureBatch) -> Tensor:
        vectors = self.vectors[batch.code]
        return self.bias + pairwise(vectors if batch.value is None else vectors * batch.value[:, :, None])

    def loss(self, batch: FeatureBatch) -> Tensor:
        return binary(self(batch), batch.label)


WRONG: dict[str, tuple[Callable[[], None], str]] = {}  # by check: how to register the model, and what must be said


def wrong(
    check: str, says: str, *, config: type[ModelConfig] | None = None, tags: tuple[str, ...] = CLOSED
) -> Callable[[type], type]:
    """Note a model, under the name "wrong", that breaks `check`; `says` is a pattern of what is seen."""

    def note(model: type) -> type:
        kinds = {
            MF: (PairConfig, Pairs, ("retriever",)),
            VBPR: (VBPRConfig, Pairs, ("retriever", "cold-item")),
            RightRanker: (RankerConfig, FeatureBatch, ("ranker",)),
        }
        usual = next((kinds[kind] for kind in kinds if issubclass(model, kind)), (ModelConfig, None, tags))

        def enter() -> None:
            base, batches, mine = config or usual[0], usual[1], usual[2]
            own = base if config else dataclass(frozen=True, kw_only=True)(type("WrongConfig", (base,), {}))
            register("wrong", config=own, batches=batches, tags=mine)(model)

        WRONG[check] = enter, says
        return model

    return note


# ── the entry ─────────────────────────────────────────────────────────────────────────────────────────────────────


@wrong("says_what_it_is", 'The tag "closed-form" is missing, batches=None', tags=("retriever",))
class Untagged(Right):
    pass


@dataclass(frozen=True, kw_only=True)
class WithoutDefault(ModelConfig):
    dim: int


@wrong("has_defaults", "dim is missing; WithoutDefault needs it", config=WithoutDefault)
class NoDefault(Right):
    pass


class Undecorated(ModelConfig):
    power: float = 1.0


@wrong("refuses_unknown_options", "power cannot be set: put @dataclass", config=Undecorated)
class ForgotDataclass(Right):
    pass


@dataclass(frozen=True, kw_only=True)
class TakesAnything(ModelConfig):
    extras: dict | None = None  # type: ignore[type-arg]


@wrong("refuses_wrong_types", r"extras: .* was given \{\} and answered ''", config=TakesAnything)
class AnyType(Right):
    pass


@dataclass(frozen=True, kw_only=True)
class ForgetsSuper(TrainedConfig):
    dim: int = 16
    loss: str = "softmax"
    temperature: float = 0.15
    cosine: bool = True
    l2: float = 0.0
    draws: int = 0

    def __post_init__(self) -> None:
        check(self.dim >= 1, "dim", self.dim, "must be 1 or more")

    def scaled(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1)


@wrong("refuses_bad_values", "learning_rate=-1.0 was answered with ''", config=ForgetsSuper)
class Careless(RightTrained):
    pass


@wrong("has_the_methods", "grow is missing")
class CannotGrow(Right):
    grow = None  # type: ignore[assignment]


# ── learning ──────────────────────────────────────────────────────────────────────────────────────────────────────


@wrong("beats_popularity", r"Its recall@10 is 0\.\d+; more than 0\.\d+ is needed")
class LearnsNothing(Right):
    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        super().fit(train, rng)
        self.together[:] = self.together.sum(dim=0)  # the same for every history


@wrong("repeats_under_one_seed", r"Twice: [\d,]+ of 2,400 scores differ, by up to")
class Unseeded(Right):
    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        super().fit(train, rng)
        self.together += torch.from_numpy(np.random.default_rng().random(self.together.shape)).float()


@wrong("differs_under_another_seed", "Seeds 0 and 1 give the same scores")
class Untouched(RightTrained):
    """Its loss has a gradient, but what it scores by was counted beforehand."""

    def prepare(self, train: Interactions) -> None:
        super().prepare(train)
        pairs = pair_matrix(train)
        self.known = torch.from_numpy((pairs @ pairs.T @ pairs).toarray())

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        return listed(self.known[context.user.clamp(min=0)], items)


@wrong("follows_users_wherever_they_stand", r"In another order: [\d,]+ of 2,400 scores differ")
class TrustsOrder(Right):
    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        matrix = pair_matrix(train)
        weighted = matrix.multiply(np.linspace(1, 2, train.n_users, dtype=np.float32)[:, None])
        self.together = torch.from_numpy((matrix.T @ weighted).toarray()).fill_diagonal_(0.0)


@wrong("follows_users_and_their_rows", r"In another order: [\d,]+ of 2,400 scores differ")
class HidesUsers(RightTrained):
    """Reads the user's number, not the user's row."""

    def query(self, context: Context) -> Tensor:
        return super().query(context) * (1 + 0.01 * context.user.clamp(min=0))[:, None]


@wrong("has_one_finite_loss_a_row", r"Its shape is \(\) for 256 rows under bpr")
class Averages(RightTrained):
    def loss(self, batch: Pairs) -> Tensor:
        return super().loss(batch).mean()


@wrong("clears_its_gradient_between_steps", r"the gradient of \w+ is 3 times that after one")
class Accumulates(RightTrained):
    steps = 0

    def loss(self, batch: Pairs) -> Tensor:
        self.steps += 1
        return super().loss(batch) * self.steps


@wrong("resumes_as_if_never_interrupted", r"Resumed and uninterrupted: [\d,]+ of 2,400 scores differ")
class CountsBesideBuffers(RightTrained):
    """Trains more gently after ten steps, and counts them where no checkpoint looks."""

    steps = 0

    def loss(self, batch: Pairs) -> Tensor:
        self.steps += 1
        return super().loss(batch) + 0.1 * (self.steps > 10) * self.user[batch.user].square().sum(dim=1)


# ── scoring ───────────────────────────────────────────────────────────────────────────────────────────────────────


@wrong("scores_singly_as_in_batches", r"Known users, among others and alone: [\d,]+ of 2,400 scores differ")
class ComparesRequests(Right):
    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        found = super().scores(context, items)
        return found - found.mean(dim=0) / 2


@wrong("scores_listed_items_as_all", r"Known users, items \(n,\) and all: \d+ of 240 scores differ")
class SortsItems(Right):
    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        return super().scores(context, items if items is None else items.sort(dim=-1).values)


@wrong("gives_scores_away", "Overwritten scores of all items: 2,400 of 2,400 scores differ, by up to inf")
class KeepsScores(Right):
    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        key = context.user.tolist(), context.asked.item.tolist(), None if items is None else items.tolist()
        if getattr(self, "last", None) is None or self.last[0] != key:
            self.last = key, super().scores(context, items)
        return self.last[1]


@wrong("scores_are_numbers", r"Strangers: 40 of 120 are NaN or plus infinity")
class DividesByZero(Right):
    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        others = (context.asked.lengths - 1)[:, None]
        return super().scores(context, items) / others * others  # 0 / 0 for a history of one


@wrong("can_means_what_it_says", "1 of 3 people of all kinds are accepted and get no score at all")
class Boasts(Right):
    def can(self, context: Context) -> Tensor:
        return torch.ones(len(context), dtype=torch.bool)

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        return super().scores(context, items).masked_fill(~context.asked.speaks[:, None], -torch.inf)


@wrong("scores_by_its_vectors", r"Dot product and score: 2,400 of 2,400 scores differ")
class AddsToProduct(RightTrained):
    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        return super().scores(context, items) + 1


@wrong("grows", r"Grown and before: [\d,]+ of 2,400 scores differ")
class StartsAgain(Right):
    def grow(self, n_users: int, n_items: int) -> None:
        self.together = torch.zeros(n_items, n_items)


@wrong("survives_save_and_load", r"Known users, loaded and saved: [\d,]+ of 2,400 scores differ")
class KeepsBesideBuffers(Right):
    factor = 1.0

    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        super().fit(train, rng)
        self.factor = 0.5  # a plain attribute: no bundle holds it

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        return super().scores(context, items) * self.factor


# ── serving ───────────────────────────────────────────────────────────────────────────────────────────────────────


@wrong("serves_everyone", r"A stranger with a history and one without are answered by \['popularity', 'popularity'\]")
class UsersOnly(Right):
    def can(self, context: Context) -> Tensor:
        return context.asked.speaks & (context.user >= 0)


@wrong("takes_unknown_ids", r"IndexError: .*out of (range|bounds)")
class LooksUpEveryone(Right):
    """Takes the first request for one that is known."""

    def can(self, context: Context) -> Tensor:
        if int(context.user[0]) < 0 and len(context) == 3:
            torch.zeros(60)[context.user + 60]
        return super().can(context)


@wrong("hears_strangers", r"[0-6] of 8 are odd")
class DeafToStrangers(Right):
    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        popular = listed(self.together.sum(dim=0).repeat(len(context), 1), items)
        return torch.where((context.user < 0)[:, None], popular, super().scores(context, items))


@wrong("fills_slates_with_what_is_new", r"\d+ of 600 places are filled")
class ScoresFew(Right):
    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        found = super().scores(context)
        third = found.topk(8, dim=1).values[:, -1:]
        return listed(found.masked_fill(found < third, -torch.inf), items)


@wrong("gives_reasons", "Reasons name 0 items of the past")
class HearsOneAtATime(Right):
    """Says the same to several who ask at once with news, so that nothing of a past changes anything."""

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        found = super().scores(context, items)
        return found if context.news is None or len(context) == 1 else found * 0


@wrong("knows_items_by_content", "[0-3] of 60 users score new items of their half above the others")
class TakesThemForTheOpposite(VBPR):
    def embed(self, content: Mapping[str, Tensor]) -> Tensor:
        return -super().embed(content)


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@wrong("gives_a_logit_for_each_label", r"Their shape is \(200,\); \(200, 1\) is needed")
class Squeezes(RightRanker):
    def forward(self, batch: FeatureBatch) -> Tensor:
        return super().forward(batch)[:, 0]


@wrong("has_one_finite_loss_for_each_row", r"Its shape is \(\) for 200 rows of label")
class AveragesRows(RightRanker):
    def loss(self, batch: FeatureBatch) -> Tensor:
        return super().loss(batch).mean()


@wrong("starts_every_step_afresh", r"The third time, the gradient of \w+ is 3 times that of the first")
class AccumulatesRows(RightRanker):
    steps = 0

    def loss(self, batch: FeatureBatch) -> Tensor:
        self.steps += 1
        return super().loss(batch) * self.steps


@wrong("learns_who_likes_what", r"Its AUC is 0\.\d+; more than 0\.\d+ is needed, with WrongConfig")
class AddsUp(RightRanker):
    def forward(self, batch: FeatureBatch) -> Tensor:
        weight = self.vectors[batch.code, 0]
        return self.bias + (weight if batch.value is None else weight * batch.value).sum(dim=1, keepdim=True)


@wrong("predicts_alike_under_one_seed", r"Twice: \d+ of 480 scores differ, by up to")
class StartsAnywhere(RightRanker):
    def __init__(self, config: Any, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        self.bias.data += float(np.random.default_rng().random())


@wrong("predicts_otherwise_under_another_seed", "Seeds 0 and 1 give the same probabilities")
class KnewBefore(RightRanker):
    def forward(self, batch: FeatureBatch) -> Tensor:
        return 0.0 * super().forward(batch) + batch.code.sum(dim=1, keepdim=True) / 100


@wrong("goes_on_with_rows_as_if_never_interrupted", r"Resumed and uninterrupted: \d+ of 480 scores differ")
class CountsStepsBesideBuffers(RightRanker):
    steps = 0

    def loss(self, batch: FeatureBatch) -> Tensor:
        self.steps += 1
        return super().loss(batch) + 0.1 * (self.steps > 10) * self.vectors.square().mean()


@wrong("scores_rows_singly_as_in_batches", r"Rows among others and alone: \d+ of 40 scores differ")
class ComparesRows(RightRanker):
    def forward(self, batch: FeatureBatch) -> Tensor:
        found = super().forward(batch)
        return found - found.mean(dim=0) / 2


@wrong("scores_rows_in_any_order", r"In another order: \d+ of 480 scores differ")
class FavoursTheFirst(RightRanker):
    def forward(self, batch: FeatureBatch) -> Tensor:
        return super().forward(batch) - 0.01 * torch.arange(len(batch))[:, None]


@wrong("says_a_number_whatever_it_reads", r"3 of 6 are no probabilities: \[nan nan nan\]")
class DividesByTags(RightRanker):
    def forward(self, batch: FeatureBatch) -> Tensor:
        tags = next(one for one in self.schema.fields if one.kind in ("bag", "history"))
        there = batch.value[:, tags.slot : tags.slot + tags.width].sum(dim=1, keepdim=True)
        return super().forward(batch) * there / there


@wrong("predicts_the_same_once_loaded", r"Loaded and saved: \d+ of 480 scores differ")
class KeepsRowsBesideBuffers(RightRanker):
    factor = 1.0

    def loss(self, batch: FeatureBatch) -> Tensor:
        self.factor = 0.5  # a plain attribute: no bundle holds it
        return super().loss(batch)

    def forward(self, batch: FeatureBatch) -> Tensor:
        return super().forward(batch) * self.factor


@wrong("ranks_behind_a_retriever", "It raised LookupError: a stranger")
class KnowsUsersOnly(RightRanker):
    def forward(self, batch: FeatureBatch) -> Tensor:
        user = self.schema.fields[0]
        if user.part == "user" and bool((batch.code[:, user.slot] == user.start + EMPTY).any()):
            raise LookupError("a stranger")
        return super().forward(batch)
