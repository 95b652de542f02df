"""Losses, chosen by name: what it means that a chosen item should outscore the others.

All return the loss of each row (B,), unreduced. Shapes: B rows, N negatives, I items, D vector size.
"""

import math
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.core import ConfigError, TrainedConfig, check, did_you_mean
from bowerbird.features import Pairs
from bowerbird.nn.softmax import softmax_over_all


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Return −log σ(s⁺ − s⁻), averaged over negatives. Rendle et al., UAI 2009, equation 4."""
    return functional.softplus(negative - positive[:, None]).mean(dim=1)


def bce(positive: Tensor, negative: Tensor) -> Tensor:
    """Return −log σ(s⁺) − mean log(1 − σ(s⁻)): the two halves weigh the same whatever N is."""
    return functional.softplus(-positive) + functional.softplus(negative).mean(dim=1)


def gbce(positive: Tensor, negative: Tensor, *, rate: float, calibration: float = 0.75) -> Tensor:
    """Return generalised BCE, which undoes the overconfidence that sampling causes.

    Petrov and Macdonald, RecSys 2023, equations 10-11: `rate` is N over the number of possible negatives,
    `calibration` is t; t = 0 is BCE with summed negatives.
    """
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    return beta * functional.softplus(-positive) + functional.softplus(negative).sum(dim=1)


def softmax(positive: Tensor, negative: Tensor) -> Tensor:
    """Return −log of the positive's share of the exponentials; scores of minus infinity drop out.

    With the log of each negative's expected draws subtracted beforehand this is sampled softmax with log-Q
    correction (Bengio and Senécal 2008; Yi et al., RecSys 2019).
    """
    return functional.softplus(torch.logsumexp(negative, dim=1) - positive)


def cosine_contrastive(positive: Tensor, negative: Tensor, *, margin: float = 0.4, weight: float = 150.0) -> Tensor:
    """Return 1 − cos⁺ + w · mean max(0, cos⁻ − m). Mao et al. (SimpleX), CIKM 2021, equation 2."""
    return (1 - positive) + weight * functional.relu(negative - margin).mean(dim=1)


def info_nce(one: Tensor, other: Tensor, *, temperature: float | Tensor = 0.2) -> Tensor:
    """Return how far each row of `one` (B, D) is from picking its own row of `other` (B, D) among all B.

    van den Oord et al. 2018; cosine similarity as in SimCLR. One implementation serves views of graphs, views of
    histories and pairs of modalities.
    """
    one, other = functional.normalize(one, dim=1), functional.normalize(other, dim=1)
    logits = one @ other.T / temperature
    return torch.logsumexp(logits, dim=1) - logits.diagonal()


def binary(logit: Tensor, label: Tensor) -> Tensor:
    """Return the cross entropy (B,) of labels (B, T) under logits (B, T), summed over tasks; NaN is unobserved."""
    there = ~label.isnan()
    each = functional.binary_cross_entropy_with_logits(logit, torch.where(there, label, 0.0), reduction="none")
    return (each * there).sum(dim=1)


COSINE = ("cosine_contrastive",)  # losses that only mean something for unit vectors
WHOLE = ("softmax",)  # losses over all items, which need no negatives
SHARED = ("sampled_softmax",)  # losses whose negatives are shared by the batch, so that many cost little
NEVER = -1e4  # a score at which every pointwise loss and its gradient are 0
USUAL = {"bpr": 1, "bce": 1, "gbce": 64, "softmax": 0, "sampled_softmax": 256, "cosine_contrastive": 64}
NAMES = tuple(USUAL)


@dataclass(frozen=True, kw_only=True)
class PairConfig(TrainedConfig):
    """What models that learn from pairs have in common: the loss, and the negatives it contrasts with."""

    losses: ClassVar[tuple[str, ...]] = NAMES
    dim: int = 64  # embedding size D
    loss: str = "sampled_softmax"  # bpr, bce, gbce, softmax, sampled_softmax or cosine_contrastive
    negatives: int | None = None  # N, drawn for the batch (sampled softmax) or each row; None: as is usual for the loss
    temperature: float = 0.15  # scores are divided by it in the loss, but for cosine contrastive
    cosine: bool = True  # whether vectors are scaled to length 1 before they meet
    l2: float = 0.0  # weight of the penalty on the parameters of the batch
    start: str = ""  # the content of items whose vectors those of the items begin as; empty: random numbers

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.dim >= 1, "dim", self.dim, "must be 1 or more", try_instead=64)
        if self.loss not in self.losses:
            close = did_you_mean(self.loss, self.losses)
            raise ConfigError(f"loss is {self.loss!r}; it must be one of {', '.join(self.losses)}.{close}")
        enough = self.negatives is None or self.negatives >= 1
        check(enough, "negatives", self.negatives, "must be 1 or more", try_instead=USUAL.get(self.loss) or 1)
        check(self.temperature > 0, "temperature", self.temperature, "must be above 0", try_instead=0.15)
        check(self.l2 >= 0, "l2", self.l2, "must be 0 or more", try_instead=1e-4)
        unit = self.cosine or self.loss not in COSINE
        check(unit, "cosine", self.cosine, f"must be true for {self.loss}", try_instead="true")

    @property
    def draws(self) -> int:
        """The number of negatives N: what was asked for, else what the loss usually takes."""
        return USUAL.get(self.loss, 1) if self.negatives is None else self.negatives

    def scaled(self, vectors: Tensor) -> Tensor:
        """Return `vectors` at length 1 where cosine is asked for."""
        return functional.normalize(vectors, dim=-1) if self.cosine else vectors


MANY = 8  # candidates of each row from which a batched matrix product is faster than a product and a sum
FEW = 4  # a table this many times longer than the index gets a gradient for the rows it names, and no other
WORKERS: ContextVar[int] = ContextVar("workers", default=1)  # how many share the batches: `training.workers` sets it


class _Rows(torch.autograd.Function):
    """table[index], whose gradient is summed by a scatter: three times as fast as the embedding operator's."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, sparse: bool) -> Tensor:
        ctx.index, ctx.shape, ctx.sparse = index, table.shape, sparse
        return functional.embedding(index, table)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        index, gradient = ctx.index.flatten(), gradients[0].reshape(ctx.index.numel(), ctx.shape[1])
        if not ctx.sparse:
            whole = gradient.new_zeros(ctx.shape)
            if ctx.shape[1] == 1:  # numbers are summed four times as fast as rows of one
                return whole.flatten().index_add_(0, index, gradient.flatten())[:, None], None, None
            return whole.scatter_add_(0, index[:, None].expand_as(gradient), gradient), None, None
        named, place = _distinct(ctx.index)
        summed = gradient.new_zeros(len(named), ctx.shape[1])
        summed.scatter_add_(0, place[:, None].expand_as(gradient), gradient)
        sparse = torch.sparse_coo_tensor(named[None], summed, ctx.shape, check_invariants=False, is_coalesced=True)
        return sparse, None, None


def _distinct(index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct numbers of an index, flat and sorted, and the place of each among them.

    They are kept with the index: tables that share one share the sorting. Nobody changes an index in place.
    """
    found: tuple[Tensor, Tensor] | None = getattr(index, "distinct", None)
    if found is None:
        found = torch.unique(index, return_inverse=True)
        found = found[0], found[1].flatten()
        index.distinct = found  # type: ignore[attr-defined]
    return found


def is_long(table: Tensor, index: Tensor) -> bool:
    """Return whether a table (n, D) is much longer than the index of the whole batch, of which workers see a part."""
    return index.numel() * WORKERS.get() * FEW < len(table)


def rows(table: Tensor, index: Tensor) -> Tensor:
    """Return `table[index]`, (…, D), of a table (n, D); a long parameter gets a sparse gradient."""
    if (held := getattr(table, "held", None)) is not None:  # in shards, which `distributed.tables` asks for
        sent: Tensor = held(index)
        return sent
    if not torch.is_grad_enabled():  # an exported graph holds plain operators, for any number of rows
        return functional.embedding(index, table)
    sparse = table.is_leaf and is_long(table, index)
    found: Tensor = _Rows.apply(table, index, sparse)  # type: ignore[no-untyped-call]
    return found


def l2(config: PairConfig, users: Tensor, items: Tensor, batch: Pairs) -> Tensor | float:
    """Return the penalty on the parameters of each row's user and positive item (B,)."""
    if not config.l2:
        return 0.0
    return config.l2 * (rows(users, batch.user).square() + rows(items, batch.item).square()).sum(dim=1)


def local(batch: Pairs, n_items: int) -> tuple[Tensor, Pairs]:
    """Return the items that a batch names, int64 (n,), and the batch with places among them; all for a loss over all.

    For models to whom the vector of an item is work: each is made once a step.
    """
    if not batch.negative.numel():
        return torch.arange(n_items, device=batch.item.device), batch
    named, place = torch.unique(torch.cat([batch.item, batch.negative.flatten()]), return_inverse=True)
    own, others = place.tensor_split([len(batch)])
    return named, replace(batch, item=own, negative=others.view_as(batch.negative))


def pair_loss(config: PairConfig, query: Tensor, items: Tensor, batch: Pairs) -> Tensor:
    """Return the loss (B,) of request vectors `query` (B, D) against item vectors `items` (I, D).

    Scores are dot products, of unit vectors where the config says so, over the temperature; cosine contrastive takes
    cosines as they are. A negative that is the row's own positive is left out.
    """
    name = config.loss
    query = config.scaled(query)
    if name not in COSINE and config.temperature != 1.0:  # a margin on cosines needs cosines
        query = query / config.temperature
    if name in WHOLE:
        return softmax_over_all(query, config.scaled(items), batch.item)
    own = batch.negative == batch.item[:, None]
    if batch.negative.dim() == 1:  # shared by the batch
        n = len(batch)
        both = config.scaled(rows(items, torch.cat([batch.item, batch.negative])))  # one gather, one scatter
        chosen, others = torch.split(both, [n, len(batch.negative)])
        positive, negative = (query * chosen).sum(dim=1), query @ others.T
        if name in SHARED:
            assert batch.log_q is not None, "sampled softmax needs the expected draws of its negatives"
            return softmax(positive, (negative - batch.log_q).masked_fill(own, -math.inf))
    else:
        candidate = config.scaled(rows(items, torch.cat([batch.item[None], batch.negative.T])))  # (1 + N, B, D)
        many = len(candidate) > MANY
        scores = torch.einsum("bd,cbd->cb", query, candidate) if many else (query * candidate).sum(dim=2)
        positive, negative = scores[0], scores[1:].T
    negative = negative.masked_fill(own, NEVER)
    simple: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "bpr": bpr,
        "bce": bce,
        "cosine_contrastive": cosine_contrastive,
        "gbce": lambda pos, neg: gbce(pos, neg, rate=min(1.0, batch.rate)),
    }
    return simple[name](positive, negative)
