"""FinalMLP: two perceptrons, each behind a gate that selects features for it, fused by a bilinear form.

Paper:  Mao et al., AAAI 2023, arXiv:2304.00902, equations 4 to 8.
Differs: gates that look at columns read their vectors in the one table, where the authors' code has a table for each.
Cost:   O(B * (K * D * (H + G) + H² + H² / heads)) a step; keeps R * D weights of columns and the perceptrons'.
Shapes: B rows, K fields, D embedding size, R rows of the table, H hidden units, G units of a gate.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.core import ConfigError, check, did_you_mean, register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import DeepConfig, FieldModel, Fields, Perceptron


@dataclass(frozen=True, kw_only=True)
class FinalMLPConfig(DeepConfig):
    """Two perceptrons, their gates, and how they are fused."""

    hidden2: tuple[int, ...] = ()  # units of the second perceptron's layers; none: as of the first
    heads: int = 2  # parts of the last layers, fused part by part
    gated: bool = True  # whether each perceptron has a gate
    gate_hidden: tuple[int, ...] = (64,)  # units of the layers of gates
    gate_fields: tuple[str, ...] = ()  # columns that the first gate looks at; none: a learned vector
    gate_fields2: tuple[str, ...] = ()  # the same of the second

    def __post_init__(self) -> None:
        super().__post_init__()
        check(min(self.second) >= 1, "hidden2", self.hidden2, "must list sizes of 1 or more")
        check(self.heads >= 1, "heads", self.heads, "must be 1 or more", try_instead=2)
        for key, last in (("hidden", self.hidden[-1]), ("hidden2", self.second[-1])):
            fits = last % self.heads == 0
            check(fits, key, getattr(self, key), f"must end in a multiple of heads ({self.heads})")
        check(min(self.gate_hidden, default=1) >= 1, "gate_hidden", self.gate_hidden, "must list sizes of 1 or more")

    @property
    def second(self) -> tuple[int, ...]:
        """The units of the second perceptron's layers."""
        return self.hidden2 or self.hidden


class Gate(nn.Module):
    """2 σ(perceptron) of the vectors of some fields, or of a learned one: what numbers are multiplied by."""

    def __init__(self, fields: Fields, places: list[int], hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.places = places  # of the fields it looks at
        self.context = None if places else nn.Parameter(torch.randn(1, fields.dim) * fields.dim**-0.5)
        self.perceptron = Perceptron(max(1, len(places)) * fields.dim, hidden, fields.width)

    def forward(self, fields: Tensor) -> Tensor:
        """Return factors between 0 and 2 (B, K · D), or (1, K · D) where all rows have the same."""
        context = fields[:, self.places].flatten(1) if self.context is None else self.context
        return 2 * torch.sigmoid(self.perceptron(context))


class Fusion(nn.Module):
    """b + w₁ᵀo₁ + w₂ᵀo₂ + Σ o₁[h]ᵀ W[h] o₂[h] over heads h, parts of both."""

    def __init__(self, one: int, other: int, heads: int) -> None:
        super().__init__()
        self.linear = nn.Linear(one + other, 1)
        nn.init.xavier_normal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        spread = (2 / (one * other // heads + 1)) ** 0.5
        self.weight = nn.Parameter(torch.randn(heads, one // heads, other // heads) * spread)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return logits (B, 1)."""
        linear: Tensor = self.linear(torch.cat([one, other], dim=1))
        heads = one.view(-1, *self.weight.shape[:2])
        mapped = torch.einsum("bhi,hij->bhj", heads, self.weight).flatten(1)
        return linear + (mapped * other).sum(dim=1, keepdim=True)


@register(
    "finalmlp",
    config=FinalMLPConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={"dim": (8, 64), "learning_rate": (1e-4, 1e-2), "dropout": (0.05, 0.5), "l2": (1e-7, 1e-1)},
)
class FinalMLP(FieldModel):
    """y = fusion(perceptron₁(v ⊙ gate₁), perceptron₂(v ⊙ gate₂))."""

    def __init__(self, config: FinalMLPConfig, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        looked_at = {"gate_fields": config.gate_fields, "gate_fields2": config.gate_fields2}
        places = [_places(key, names, schema) for key, names in looked_at.items()]
        self.gates = nn.ModuleList(Gate(self.fields, one, config.gate_hidden) for one in places if config.gated)
        width, dropout, norm = self.fields.width, config.dropout, config.batch_norm
        self.one = Perceptron(width, config.hidden, dropout=dropout, batch_norm=norm)
        self.other = Perceptron(width, config.second, dropout=dropout, batch_norm=norm)
        self.fusion = Fusion(self.one.n_out, self.other.n_out, config.heads)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        fields = self.fields(batch)
        flat = fields.flatten(1)
        one, other = [flat * gate(fields) for gate in self.gates] or [flat, flat]
        logit: Tensor = self.fusion(self.one(one), self.other(other))
        return logit


def _places(key: str, names: tuple[str, ...], schema: FeatureSchema) -> list[int]:
    """Return where the vectors of named columns stand among those of all: vectors come last."""
    order = schema.order
    for name in names:
        if name not in order:
            raise ConfigError(
                f'{key} names "{name}", which is no column.{did_you_mean(name, order)} Columns: {", ".join(order)}.'
            )
    return [order.index(name) for name in names]
