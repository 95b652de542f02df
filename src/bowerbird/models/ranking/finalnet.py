"""FinalNet: blocks of layers that multiply their own outputs, so that degrees double from layer to layer.

Paper:  Zhu et al., SIGIR 2023, doi:10.1145/3539618.3591988: the layer, two blocks, and what they teach each other.
Differs: as in the authors' code: a layer's units are h and h ⊙ g side by side; batch normalisation, max(0, x) and
        dropout stand behind each; the first block also sees fields times gates that are linear in them.
Cost:   O(B * blocks * (K * D * H + H²)) a step; keeps R * D weights of columns and the blocks'.
Shapes: B rows, K fields, D embedding size, R rows of the table, H hidden units.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import check, register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.dropout import LEVELS, kept_by, levels
from bowerbird.nn.fields import DeepConfig, FieldModel, penalty, rectified
from bowerbird.nn.losses import binary


@dataclass(frozen=True, kw_only=True)
class FinalNetConfig(DeepConfig):
    """The blocks; `hidden` holds the units of the first one's layers."""

    blocks: int = 2  # 1 or 2; each of two is also taught by the mean of both
    hidden2: tuple[int, ...] = ()  # units of the second block's layers; none: as of the first
    field_gate: bool = True  # whether the first block also sees the fields multiplied by linear maps of all fields
    batch_norm: bool = True  # products of products grow without it

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.blocks in (1, 2), "blocks", self.blocks, "must be 1 or 2", try_instead=2)
        for key, sizes in (("hidden", self.hidden), ("hidden2", self.hidden2)):
            even = all(size >= 2 and size % 2 == 0 for size in sizes)
            check(even, key, sizes, "must list even sizes: half of them are products")


class FactorizedLayer(nn.Module):
    """[h, h ⊙ g], where h and g are linear in x."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        nn.init.xavier_normal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n_out) for (B, n_in)."""
        plain, factor = self.linear(x).chunk(2, dim=1)
        return torch.cat([plain, plain * factor], dim=1)


class Block(nn.Module):
    """Factorized layers, each with batch normalisation if asked for, max(0, x) and dropout; then a logit."""

    def __init__(self, n_in: int, hidden: tuple[int, ...], config: FinalNetConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FactorizedLayer(one, other) for one, other in itertools.pairwise((n_in, *hidden)))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in hidden) if config.batch_norm else None
        self.out = nn.Linear(hidden[-1], 1)
        nn.init.xavier_normal_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.hidden, self.dropout = hidden, config.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 1) for (B, n_in)."""
        dropped = levels(self.dropout) if self.training else 0
        kept = kept_by(x, self.hidden, dropped)
        for place, layer in enumerate(self.layers):
            x = layer(x)
            if self.norms is not None:
                x = self.norms[place](x)
            x = rectified(x, kept[place]) * (LEVELS / (LEVELS - dropped))
        logit: Tensor = self.out(x)
        return logit


@register(
    "finalnet",
    config=FinalNetConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={"dim": (8, 64), "learning_rate": (1e-4, 1e-2), "dropout": (0.05, 0.5), "l2": (1e-7, 1e-1)},
)
class FinalNet(FieldModel):
    """y = mean of the blocks' logits."""

    config: FinalNetConfig

    def __init__(self, config: FinalNetConfig, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        width, n_fields = self.fields.width, self.fields.n_fields
        self.gate: nn.Linear | None = None
        if config.field_gate:
            self.gate = nn.Linear(n_fields, n_fields)
            nn.init.zeros_(self.gate.weight)  # to begin with, fields are multiplied by 1
            nn.init.ones_(self.gate.bias)
        sizes = [config.hidden, config.hidden2 or config.hidden][: config.blocks]
        widths = [2 * width if config.field_gate else width, width]
        self.blocks = nn.ModuleList(Block(one, hidden, config) for one, hidden in zip(widths, sizes, strict=False))

    def logits(self, batch: FeatureBatch) -> Tensor:
        """Return the logit of each block (B, blocks)."""
        fields = self.fields(batch)
        flat = fields.flatten(1)
        seen = [flat, flat]
        if self.gate is not None:
            gates = self.gate(fields.transpose(1, 2)).transpose(1, 2)
            seen[0] = torch.cat([flat, (fields * gates).flatten(1)], dim=1)
        return torch.cat([block(x) for block, x in zip(self.blocks, seen, strict=False)], dim=1)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        return self.logits(batch).mean(dim=1, keepdim=True)

    def loss(self, batch: FeatureBatch) -> Tensor:
        """Return the cross entropy of each row (B,), that of each of two blocks under their mean, and the penalty."""
        assert batch.label is not None
        logits = self.logits(batch)
        mean = logits.mean(dim=1, keepdim=True)
        loss = binary(mean, batch.label) + penalty(self, self.config.l2)
        if self.config.blocks == 1:
            return loss
        taught = torch.sigmoid(mean.detach()).expand_as(logits)
        return loss + functional.binary_cross_entropy_with_logits(logits, taught, reduction="none").sum(dim=1)
