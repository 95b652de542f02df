"""Softmax over a whole catalogue, block by block: exact, and without a table of positions times items.

Shapes: P positions, I items, D vector size.
"""

from typing import Any

import torch
from torch import Tensor

CELLS = 1 << 20  # scores held at once: 4 MB, which stays in a processor's cache
CELLS_GPU = 1 << 26  # on a GPU, where many short products are slow
FEWEST = 16  # positions of a block, however many items there are


class _Softmax(torch.autograd.Function):
    """Losses and, in the same pass over the scores, their gradients: a backward pass would need the scores again.

    That pass takes every position to weigh the same, as in a mean; where they do not, backward goes over them again.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, items: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(query, items, target)
        if not any(ctx.needs_input_grad):
            return _pass(query, items, target, None)[0]
        loss, *ctx.gradients = _pass(query, items, target, torch.ones_like(query[:, 0]))
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        weight = gradients[0]
        even = weight.mean()
        if not torch.allclose(weight, even.expand_as(weight), rtol=1e-5, atol=0.0):
            query, items, target = ctx.saved_tensors
            _, of_query, of_items = _pass(query, items, target, weight)
            return of_query, of_items, None
        of_query, of_items = ctx.gradients
        return of_query * even, of_items * even, None


def _pass(query: Tensor, items: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses (P,) and, where `weight` (P,) of the losses is given, the gradients of their weighted sum."""
    n_items = len(items)
    cells = CELLS_GPU if query.is_cuda else CELLS
    size = max(FEWEST, cells // max(n_items, 1))
    chosen = items.index_select(0, target)
    loss = -(query * chosen).sum(dim=1)
    of_query, of_items = query.new_empty(query.shape), query.new_zeros(items.shape)
    held = query.new_empty(min(size, len(query)) * n_items)
    for start in range(0, len(query), size):
        block = query[start : start + size]
        share = torch.mm(block, items.T, out=held[: len(block) * n_items].view(len(block), n_items))
        most = share.amax(dim=1, keepdim=True)
        total = share.sub_(most).exp_().sum(dim=1, keepdim=True)
        loss[start : start + size] += (most + total.log())[:, 0]
        if weight is not None:
            scale = weight[start : start + size, None] / total
            torch.mm(share, items, out=of_query[start : start + size])
            of_query[start : start + size] *= scale
            of_items.addmm_(share.T, block * scale)
    if weight is not None:
        of_query.addcmul_(chosen, weight[:, None], value=-1)
        of_items.index_add_(0, target, query * weight[:, None], alpha=-1)
    return loss, of_query, of_items


def softmax_over_all(query: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """Return −log of the target's share of the exponentials of query · item over all items, (P,).

    `query` is (P, D), `items` (I, D), `target` int64 (P,). The same as cross entropy of `query @ items.T`.
    """
    found: Tensor = _Softmax.apply(query, items, target)  # type: ignore[no-untyped-call]
    return found
