"""What each column adds to the logit of a ranker: integrated gradients from an average row.

Paper:  Sundararajan, Taly and Yan, ICML 2017, arXiv:1703.01365, equation 1.
The way goes straight from the reference to the row in what the model makes of its columns: the vectors and linear
weights that its tables give, the values that these are multiplied by, and ready vectors. A column of one value begins
at its mean over rows that training saw; bags and histories begin as if they said nothing. What columns add sums to
what sets the row's logit apart from the reference's, but for what a sum of `STEPS` points misses.

Shapes: B rows, S slots, V numbers of vectors, N reference rows, K fields and crosses, P points of the way, T tasks.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.features.fields import POOLED
from bowerbird.nn.fields import Table

ROWS = 2_000  # reference rows, drawn from those of training
STEPS = 12  # points of the way: about 1 % of the difference is missed, up to 15 % of it by autoint, whose ways bend


@dataclass(frozen=True)
class Reference:
    """An average row, as the tables of a model see it."""

    given: tuple[Tensor, ...]  # of every table of the model, in order: what it gives a slot on average (S, D)
    value: Tensor  # float32 (S,)
    vector: Tensor  # float32 (V,)

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module, batch: FeatureBatch, schema: FeatureSchema) -> "Reference":
        """Return the mean of rows (N, S): an average says nothing of anybody."""
        several = _several(schema).to(batch.code.device)
        given: list[Tensor] = []

        def note(crossed: bool, out: Tensor) -> None:
            mean = out.mean(dim=0)
            given.append(mean if crossed else torch.where(several[:, None], 0.0, mean))

        with _hooked(model, note):
            model.eval()(replace(batch, label=None, weight=None, alike=0, own=None))
        value = torch.where(several, 1.0, _values(batch).mean(dim=0))
        return cls(tuple(given), value, _vectors(batch).mean(dim=0))

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """What a bundle keeps."""
        named = {f"reference.{number}": one for number, one in enumerate(self.given)}
        named |= {"reference.value": self.value, "reference.vector": self.vector}
        return {name: one.cpu().numpy() for name, one in named.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], device: str) -> "Reference | None":
        """Return what `tensors` was made from; None where there is none, as in bundles of older versions."""
        if "reference.value" not in tensors:
            return None
        found = {
            name: torch.from_numpy(one).to(device) for name, one in tensors.items() if name.startswith("reference")
        }
        given = tuple(found[f"reference.{number}"] for number in range(len(found) - 2))
        return cls(given, found["reference.value"], found["reference.vector"])


def attribute(
    model: nn.Module,
    batch: FeatureBatch,
    schema: FeatureSchema,
    reference: Reference,
    *,
    task: int = 0,
    steps: int = STEPS,
) -> tuple[list[str], Tensor, Tensor]:
    """Return the names of fields and crosses, what each adds to the logit (B, K), and what each slot adds (B, S)."""
    n, device = len(batch), batch.code.device
    alpha, weight = (one.to(device).repeat_interleave(n) for one in _points(steps))  # (P · B,)
    value, vector, several = _values(batch), _vectors(batch), _several(schema).to(device)
    at, ways, crossed = list[Tensor](), list[Tensor](), list[bool]()  # points of the ways, and the ways

    def between(start: Tensor, end: Tensor, of_crosses: bool = False) -> Tensor:
        way = end - start
        at.append((start + alpha.view(-1, *[1] * (end.dim() - 1)) * way).requires_grad_())
        ways.append(way)
        crossed.append(of_crosses)
        return at[-1]

    starts = iter(reference.given)
    with torch.enable_grad(), _hooked(model, lambda crosses, out: between(next(starts), out.detach(), crosses)):
        code, values, vectors = (one.repeat(steps, 1) for one in (batch.code, value, vector))
        values = between(torch.where(several, values, reference.value), values)
        vectors = between(reference.vector, vectors)
        point = FeatureBatch(code, None if batch.value is None else values, vectors if vector.shape[1] else None)
        logit = model.eval()(point)[:, task]
        slopes = torch.autograd.grad(logit.sum(), at, allow_unused=True, materialize_grads=True)
    added = [slope * way for slope, way in zip(slopes, ways, strict=True)]
    added = [weight[:, None] * (one.sum(dim=2) if one.dim() == 3 else one) for one in added]
    by_slot, numbers, *of_tables = [one.view(steps, n, -1).sum(dim=0).detach() for one in added]
    crosses = value.new_zeros(n, len(schema.crosses))
    for one, of_crosses in zip(of_tables, crossed[2:], strict=True):
        if of_crosses:
            crosses = crosses + one
        else:
            by_slot = by_slot + one
    parts = [
        (numbers if one.kind == "vector" else by_slot)[:, one.slot : one.slot + one.width].sum(dim=1)
        for one in schema.fields
    ]
    names = [*(one.name for one in schema.fields), *(one.name for one in schema.crosses)]
    return names, torch.stack([*parts, *crosses.unbind(dim=1)], dim=1), by_slot


@lru_cache
def _points(steps: int) -> tuple[Tensor, Tensor]:
    """Return the points between 0 and 1 of Gauss and Legendre, and their weights, (P,) each."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return torch.from_numpy((nodes + 1) / 2).float(), torch.from_numpy(weights / 2).float()


@contextmanager
def _hooked(model: nn.Module, hook: Callable[[bool, Tensor], Tensor | None]) -> Iterator[None]:
    """Call `hook` with what each table of the model gives, and whether it is one of crosses.

    What it returns, if anything, is given instead.
    """
    handles = []
    for name, one in model.named_modules():
        if isinstance(one, Table):
            crosses = name.endswith("cross")
            handles.append(one.register_forward_hook(lambda _, __, out, crosses=crosses: hook(crosses, out)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _several(schema: FeatureSchema) -> Tensor:
    """Return which slots are of a field with several, bool (S,)."""
    found = torch.zeros(schema.n_slots, dtype=torch.bool)
    for one in schema.fields:
        if one.kind in POOLED:
            found[one.slot : one.slot + one.width] = True
    return found


def _values(batch: FeatureBatch) -> Tensor:
    return torch.ones(batch.code.shape, device=batch.code.device) if batch.value is None else batch.value


def _vectors(batch: FeatureBatch) -> Tensor:
    return batch.code.new_zeros(len(batch), 0).float() if batch.vector is None else batch.vector
