"""Scoring by dot product, and vectors for people a model has never seen.

Shapes: B requests, I items, n listed items, D vector size, P positive history entries of all requests together.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Ragged
from bowerbird.nn.factors import regress

LONG = 20_000  # items from which the product is taken the other way round, which is almost twice as fast on a CPU


class DotProduct(nn.Module):
    """A retriever whose score is query · item; a model adds `query` and `item_vectors`.

    Requests with seeds are answered by the cosine of the items' vectors, so that similarity does not mean popularity.
    Users and items without a single positive pair have vectors that nothing has shaped: such a user is a stranger,
    such an item may not be scored.
    """

    shaped_user: Tensor
    shaped_item: Tensor

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.register_buffer("shaped_user", torch.zeros(schema.n_users, dtype=torch.bool))
        self.register_buffer("shaped_item", torch.zeros(schema.n_items, dtype=torch.bool))

    def query(self, context: Context) -> Tensor:
        """Return request vectors (B, D)."""
        raise NotImplementedError

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        raise NotImplementedError

    def note_shaped(self, train: Interactions) -> None:
        """Remember who and what training is about to shape."""
        pairs = train.positives
        self.shaped_user[torch.from_numpy(pairs.user).long()] = True
        self.shaped_item[torch.from_numpy(pairs.item).long()] = True

    def grow_shaped(self, n_users: int, n_items: int) -> None:
        """New users and items are not shaped yet."""
        self.shaped_user, self.shaped_item = grown(self.shaped_user, n_users), grown(self.shaped_item, n_items)

    def average_user(self, users: Tensor) -> Tensor:
        """Return the mean of the shaped rows of `users` (U, D), zeros where there is none (D,)."""
        return self.shaped_user.to(users.dtype) @ users / self.shaped_user.sum().clamp(min=1)

    def own(self, context: Context) -> Tensor:
        """Return which requests are of users with a vector of their own that nothing has outdated, bool (B,)."""
        if not len(self.shaped_user):
            return torch.zeros_like(context.user, dtype=torch.bool)
        own = (context.user >= 0) & self.shaped_user.index_select(0, context.user.clamp(min=0))
        if context.news is None or not bool(context.news.any()):
            return own
        return own & ~(context.news & context.history.speaks)

    def can(self, context: Context) -> Tensor:
        """Return which requests have a vector of their own, a history that speaks, or seeds, bool (B,)."""
        if context.seeds is not None:
            return context.seeds.speaks
        own = self.own(context)
        return own if bool(own.all()) else own | context.history.speaks

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        """Return scores of all items (B, I) or of the listed ones (B, n)."""
        vectors = self.item_vectors()
        if context.seeds is None:
            query = self.query(context)
        else:
            vectors = functional.normalize(vectors, dim=1)
            query = functional.normalize(total(context.seeds, vectors), dim=1)
        if items is None:
            long = len(vectors) >= LONG
            scores, shaped = (vectors @ query.T).T if long else query @ vectors.T, self.shaped_item
        elif items.dim() == 1:
            scores, shaped = query @ vectors[items].T, self.shaped_item[items]
        else:
            scores, shaped = torch.einsum("bd,bnd->bn", query, vectors[items]), self.shaped_item[items]
        return scores if bool(shaped.all()) else scores.masked_fill_(~shaped, -torch.inf)


def total(history: Ragged, table: Tensor) -> Tensor:
    """Return the sum of `table` (I, D) over each request's positive entries (B, D)."""
    request, item = history.positive
    starts = torch.searchsorted(request, torch.arange(len(history), device=request.device))
    return functional.embedding_bag(item, table, starts, mode="sum")  # no row of the table is copied


def counts(history: Ragged) -> Tensor:
    """Return the number of each request's positive entries, float32 (B,), at least 1."""
    request, _ = history.positive
    return torch.bincount(request, minlength=len(history)).clamp(min=1).float()


TINY = 1e-12  # strength of a pull where all items are zero: what is expected of anyone is the answer then


def ridge(history: Ragged, items: Tensor, prior: Tensor, l2: float) -> Tensor:
    """Return request vectors (B, D) between `prior` (D,), what is expected of anyone, and the history's items.

    Ridge regression towards the prior: u = (Σ_h v_h v_hᵀ + λ I)⁻¹ (Σ_h v_h + λ μ), the user's half-step of
    alternating least squares (Hu, Koren and Volinsky, ICDM 2008, equation 4) with chosen items worth 1. λ is `l2`
    times the mean squared length of an item vector, so that it means the same at every scale.
    """
    dim = items.shape[1]
    strength = (l2 * _mean_square(items) * dim).clamp(min=TINY)
    request, item = history.positive
    if len(history) == 1:  # the usual request
        chosen = items.index_select(0, item)
        left = strength * torch.eye(dim, device=items.device) + chosen.T @ chosen
        alone: Tensor = torch.linalg.solve(left, chosen.sum(dim=0) + strength * prior)
        return alone[None]
    offsets = torch.searchsorted(request, torch.arange(len(history) + 1, device=request.device))
    return regress(offsets, item, items, strength.expand(len(history)), prior=prior)


def _mean_square(table: Tensor) -> Tensor:
    """Return the mean square of a table's numbers, which is kept with the table: a long one takes milliseconds."""
    kept: tuple[int, Tensor] | None = getattr(table, "mean_square", None)
    if kept is None or kept[0] != table._version:
        kept = table._version, table.square().mean()
        table.mean_square = kept  # type: ignore[attr-defined]
    return kept[1]


def listed(scores: Tensor, items: Tensor | None) -> Tensor:
    """Return the columns of full scores (B, I) that `items`, (n,) or (B, n), lists; all of them for None."""
    if items is None:
        return scores
    return scores[:, items] if items.dim() == 1 else scores.gather(1, items)


def grown(table: Tensor, *sizes: int, fill: float = 0.0, std: float = 0.0) -> Tensor:
    """Return `table` enlarged to `sizes` along its first axes: old values kept, new ones `fill` or normal(0, std)."""
    shape = (*sizes, *table.shape[len(sizes) :])
    new = torch.normal(0.0, std, shape) if std else torch.full(shape, fill, dtype=table.dtype)
    new = new.to(table.device, table.dtype)
    new[tuple(slice(0, size) for size in table.shape)] = table.detach()
    return new
