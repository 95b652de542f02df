"""What ranking models share: columns as vectors, the linear part, the perceptron, the loss and its penalty.

Shapes: B rows, S slots, K fields, D embedding size, R rows of the table, T tasks.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import ConfigError, check
from bowerbird.features import FeatureBatch, FeatureSchema, Field, crossed
from bowerbird.features.fields import POOLED
from bowerbird.nn.debias import Debias
from bowerbird.nn.dropout import LEVELS, kept_by, levels
from bowerbird.nn.losses import WORKERS, binary, is_long, rows

SPREAD = 0.01  # standard deviation of initial vectors


@dataclass(frozen=True, kw_only=True)
class RankerConfig(Debias):
    """What rankers have in common."""

    l2: float = 1e-5  # weight of the penalty on the tables of vectors and linear weights: half their sum of squares
    epochs: int = 20
    patience: int = 2
    select: str = "auc"  # "auc" or "logloss"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.l2 >= 0, "l2", self.l2, "must be 0 or more", try_instead=1e-5)


@dataclass(frozen=True, kw_only=True)
class FieldConfig(RankerConfig):
    """What rankers that give every column a vector have in common."""

    dim: int = 16  # embedding size D

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.dim >= 1, "dim", self.dim, "must be 1 or more", try_instead=16)


@dataclass(frozen=True, kw_only=True)
class DeepConfig(FieldConfig):
    """What rankers with a perceptron have in common."""

    hidden: tuple[int, ...] = (128, 128, 128)  # units of its layers
    dropout: float = 0.2  # share of a layer's outputs that training drops
    batch_norm: bool = False  # whether each layer is normalised over the batch before max(0, x)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.hidden) and min(self.hidden) >= 1, "hidden", self.hidden, "must list sizes of 1 or more")
        check(0 <= self.dropout < 1, "dropout", self.dropout, "must be 0 or more and below 1", try_instead=0.2)


class Table(nn.Module):
    """One vector for each row of the table; a long table moves only the rows that a batch names."""

    def __init__(self, n_rows: int, dim: int, spread: float = SPREAD) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_rows, dim) * spread)
        self.given: Tensor | None = None  # what a long table gave last, for the penalty

    def forward(self, code: Tensor) -> Tensor:
        """Return the vectors of `code` (B, S) as (B, S, D)."""
        found = rows(self.weight, code)
        self.given = found if self.training and is_long(self.weight, code) else None
        return found

    def penalty(self) -> Tensor:
        """Return half the squared length of all rows; of a long table, of those that it gave last."""
        if self.given is None:
            return 0.5 * self.weight.square().sum()
        return 0.5 * WORKERS.get() * self.given.square().sum()  # each worker adds its part of the batch to the mean


class Fields(nn.Module):
    """Columns as vectors: one gather for all, then bags are pooled and vectors projected."""

    def __init__(self, schema: FeatureSchema, dim: int) -> None:
        super().__init__()
        self.schema, self.dim = schema, dim
        self.table = Table(schema.n_rows, dim)
        self.wide = [one for one in schema.fields if one.kind != "vector" and (one.width > 1 or one.kind in POOLED)]
        self.vectors = [one for one in schema.fields if one.kind == "vector"]
        self.project = nn.ModuleDict({_key(one.name): nn.Linear(one.width, dim) for one in self.vectors})
        asking = [one for one in self.wide if one.pooling == "attention"]
        self.query = nn.ParameterDict({_key(one.name): nn.Parameter(torch.randn(dim) * dim**-0.5) for one in asking})

    @property
    def n_fields(self) -> int:
        """The number of fields K."""
        return len(self.schema.fields)

    @property
    def width(self) -> int:
        """The numbers K · D of a row's vectors side by side."""
        return self.n_fields * self.dim

    def slots(self, batch: FeatureBatch) -> Tensor:
        """Return the vector of every slot times its value (B, S, D)."""
        return self._gathered(batch.code, batch.value)

    def _gathered(self, code: Tensor, value: Tensor | None) -> Tensor:
        found: Tensor = self.table(code)
        return found if value is None else found * value[:, :, None]

    def pooled(self, slots: Tensor, batch: FeatureBatch) -> Tensor:
        """Return the vectors of all fields (B, K, D) from those of their slots."""
        parts = [*self._between(slots, batch.value, 0), *self._projected(batch)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _projected(self, batch: FeatureBatch) -> list[Tensor]:
        """Return the vectors (B, 1, D) of the fields that are vectors themselves."""
        parts = []
        for one in self.vectors:
            assert batch.vector is not None
            projected = self.project[_key(one.name)](batch.vector[:, one.slot : one.slot + one.width])
            parts.append(projected[:, None])
        return parts

    def _between(self, slots: Tensor, value: Tensor | None, first: int) -> list[Tensor]:
        """Return the vectors of the fields whose slots (B, …, D) these are, from slot `first` on, in parts."""
        parts, start = [], 0
        for one in self.wide:
            place = one.slot - first
            if 0 <= place < slots.shape[1]:
                assert value is not None
                if start < place:
                    parts.append(slots[:, start:place])
                parts.append(self._pool(one, slots[:, place : place + one.width], value[:, place : place + one.width]))
                start = place + one.width
        return [*parts, slots[:, start:]] if start < slots.shape[1] else parts

    def _pool(self, one: Field, slots: Tensor, there: Tensor) -> Tensor:
        """Return one vector (B, 1, D) for the slots of a field and their values (B, …)."""
        if one.pooling == "attention":
            score = (slots @ self.query[_key(one.name)]).masked_fill(there == 0, -1e9)
            return torch.einsum("bl,bld->bd", score.softmax(dim=1), slots)[:, None]
        total = slots.sum(dim=1, keepdim=True)
        return total if one.pooling == "sum" else total / there.sum(dim=1).clamp(min=1)[:, None, None]

    def alike(self, batch: FeatureBatch) -> int:
        """Return how many of the K · D numbers, from the first on, are the same in every row."""
        ends = (one.slot + one.width for one in self.schema.fields if one.kind != "vector")
        return self.dim * sum(end <= batch.alike for end in ends)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return the vectors of all fields (B, K, D)."""
        if batch.own is None or self.training:
            return self.pooled(self.slots(batch), batch)
        first, end = batch.own
        code, value = batch.code[:, first:end], None if batch.value is None else batch.value[:, first:end]
        own = torch.cat(self._between(self._gathered(code, value), value, first), dim=1)
        once = replace(batch, code=batch.code[:1], value=None if batch.value is None else batch.value[:1])
        ahead = sum(one.kind != "vector" and one.slot < first for one in self.schema.fields)
        found = torch.cat(self._between(self.slots(once), once.value, 0), dim=1).repeat(len(batch), 1, 1)
        found[:, ahead : ahead + own.shape[1]] = own
        return torch.cat([found, *self._projected(batch)], dim=1) if self.vectors else found


def _key(name: str) -> str:
    """Return a column's name as a module may be called."""
    return name.replace(".", "/")


class Linear(nn.Module):
    """The linear part wᵀx + b over raw columns and hashed crosses: what memorises."""

    def __init__(self, schema: FeatureSchema) -> None:
        super().__init__()
        self.schema = schema
        self.table = Table(schema.n_rows, 1, spread=0.0)
        self.cross = Table(sum(one.buckets for one in schema.crosses), 1, spread=0.0) if schema.crosses else None
        self.vector = nn.Linear(schema.n_numbers, 1, bias=False) if schema.n_numbers else None
        self.bias = nn.Parameter(torch.zeros(1))
        means = [one for one in schema.fields if one.kind in POOLED and one.pooling != "sum"]
        self.means = [(one.slot, one.slot + one.width) for one in means]

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        weight = self.table(batch.code)[:, :, 0]
        if batch.value is not None:
            weight = weight * _shares(batch.value, self.means)
        logit: Tensor = weight.sum(dim=1, keepdim=True) + self.bias
        if self.cross is not None:
            logit = logit + self.cross(crossed(batch.code, self.schema)).sum(dim=1)
        if self.vector is not None:
            assert batch.vector is not None
            logit = logit + self.vector(batch.vector)
        return logit


def _shares(value: Tensor, means: list[tuple[int, int]]) -> Tensor:
    """Return values (B, S) in which those of each mean-pooled bag sum to 1."""
    if not means:
        return value
    shares = value.clone()
    for start, end in means:
        mine = value[:, start:end]
        shares[:, start:end] = mine / mine.sum(dim=1, keepdim=True).clamp(min=1)
    return shares


class _Pairwise(torch.autograd.Function):
    """½ (|Σ v|² − Σ |v|²), whose gradient is Σ v − v: two passes over the vectors instead of nine."""

    @staticmethod
    def forward(ctx: Any, fields: Tensor) -> Tensor:
        total = fields.sum(dim=1)
        ctx.save_for_backward(fields, total)
        return 0.5 * (total.square().sum(dim=1) - fields.flatten(1).square().sum(dim=1))[:, None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        fields, total = ctx.saved_tensors
        gradient: Tensor = (total[:, None] - fields).mul_(gradients[0][:, :, None])
        return gradient


def pairwise(fields: Tensor) -> Tensor:
    """Return Σ ⟨vᵢ, vⱼ⟩ over all pairs of fields (B, 1), in linear time. Rendle, ICDM 2010, lemma 3.1."""
    if torch.is_grad_enabled():
        found: Tensor = _Pairwise.apply(fields)  # type: ignore[no-untyped-call]
        return found
    return 0.5 * (fields.sum(dim=1).square().sum(dim=1) - fields.flatten(1).square().sum(dim=1))[:, None]


class Perceptron(nn.Module):
    """Linear layers, each with batch normalisation if asked for, max(0, x) and dropout; an output layer at the end."""

    def __init__(
        self, n_in: int, hidden: tuple[int, ...], n_out: int = 0, *, dropout: float = 0.0, batch_norm: bool = False
    ) -> None:
        super().__init__()
        sizes = [n_in, *hidden]
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in hidden) if batch_norm else None
        self.out = nn.Linear(sizes[-1], n_out) if n_out else None
        self.hidden, self.dropout = hidden, dropout
        for layer in (*self.layers, *([self.out] if self.out else [])):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def n_out(self) -> int:
        """The numbers that come out."""
        return (self.out or self.layers[-1]).out_features  # type: ignore[return-value]

    def forward(self, x: Tensor, alike: int = 0) -> Tensor:
        """Return (B, n_out) for (B, n_in), of which the first `alike` numbers are the same in every row.

        What dropout leaves is scaled up by the weights that meet it next, which are far fewer than the numbers.
        """
        scale, kept = 1.0, kept_by(x, self.hidden, self._dropped)
        for place, layer in enumerate(self.layers):
            if alike and place == 0:
                x = _half_alike(cast(nn.Linear, layer), x, alike)
            else:
                x = _scaled(cast(nn.Linear, layer), x, scale)
            if self.norms is not None:
                x = self.norms[place](x)
            x, scale = rectified(x, kept[place]), LEVELS / (LEVELS - self._dropped)
        if self.out is None:
            return x if scale == 1.0 else x * scale
        return _scaled(self.out, x, scale)

    @property
    def _dropped(self) -> int:
        return levels(self.dropout) if self.training else 0


def _half_alike(layer: nn.Linear, x: Tensor, alike: int) -> Tensor:
    """Return what a layer makes of x, with the product of its first numbers taken once for all rows."""
    once = functional.linear(x[:1, :alike], layer.weight[:, :alike], layer.bias)
    return torch.addmm(once, x[:, alike:], layer.weight[:, alike:].T)


def _scaled(layer: nn.Linear, x: Tensor, scale: float) -> Tensor:
    """Return what a layer makes of x · scale."""
    if scale == 1.0:  # as a module, so that hooks see it
        found: Tensor = layer(x)
        return found
    return functional.linear(x, layer.weight * scale, layer.bias)


class _Rectified(torch.autograd.Function):
    """max(0, x) where a mask says so, else 0: where the output is 0 so is the gradient, so that no mask is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor) -> Tensor:
        y = x.clamp(min=0)
        y.view(torch.int32).bitwise_and_(kept)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradients[0], y, 0), None


def rectified(x: Tensor, kept: Tensor | None) -> Tensor:
    """Return max(0, x), float32, set to 0 where `kept` is 0, and nothing scaled (Srivastava et al., JMLR 2014)."""
    if kept is None:
        return functional.relu(x)
    found: Tensor = _Rectified.apply(x, kept)  # type: ignore[no-untyped-call]
    return found


class FieldModel(nn.Module):
    """A ranker over fields. A model adds `forward(batch) -> (B, T)` logits."""

    config: FieldConfig

    def __init__(self, config: FieldConfig, schema: FeatureSchema, *, several: bool = False) -> None:
        super().__init__()
        if not several:
            check_single(self, schema)
        self.config, self.schema = config, schema
        self.fields = Fields(schema, config.dim)

    def loss(self, batch: FeatureBatch) -> Tensor:
        """Return the binary cross entropy of each row (B,), summed over observed tasks, and the penalty."""
        assert batch.label is not None
        return binary(self(batch), batch.label) + penalty(self, self.config.l2)


def check_single(model: nn.Module, schema: FeatureSchema) -> None:
    """Raise `ConfigError` where there are several labels for a model that learns one."""
    if len(schema.tasks) != 1:
        raise ConfigError(
            f"{type(model).__name__} learns one label; there are {len(schema.tasks)}: {', '.join(schema.tasks)}. "
            "Name one of them, or take mmoe."
        )


def penalty(model: nn.Module, l2: float) -> Tensor | float:
    """Return l2 times the penalty of every table of a model that has just scored a batch."""
    tables = (one for one in model.modules() if isinstance(one, Table))
    return l2 * sum((table.penalty() for table in tables), torch.zeros(())) if l2 else 0.0
