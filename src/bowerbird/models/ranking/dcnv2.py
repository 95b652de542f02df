"""DCN V2: layers that multiply the input by a linear map of what came before, and a perceptron beside or behind them.

Paper:  Wang et al., WWW 2021, arXiv:2008.13535, sections 3.2 to 3.5.
Differs: no mixture of experts.
Cost:   O(B * (L * W² + W * H + H²)) a step, L * W * r for rank r; keeps R * D weights of columns and the layers'.
Shapes: B rows, D embedding size, R rows of the table, W = K · D numbers of a row, L cross layers, H hidden units.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.core import ConfigError, check, did_you_mean, register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import DeepConfig, FieldModel, Perceptron

STRUCTURES = ("parallel", "stacked")


@dataclass(frozen=True, kw_only=True)
class DCNv2Config(DeepConfig):
    """The cross layers, and where the perceptron stands."""

    cross_layers: int = 3  # layers of the cross network
    structure: str = "parallel"  # "parallel": both read the fields; "stacked": the perceptron reads the crosses
    low_rank: int = 0  # rank r of the matrices of cross layers; 0 is full rank

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.cross_layers >= 1, "cross_layers", self.cross_layers, "must be 1 or more", try_instead=3)
        check(self.low_rank >= 0, "low_rank", self.low_rank, "must be 0 or more", try_instead=0)
        if self.structure not in STRUCTURES:
            raise ConfigError(
                f"structure is {self.structure!r}; it must be one of {', '.join(STRUCTURES)}."
                f"{did_you_mean(self.structure, STRUCTURES)}"
            )


class Cross(nn.Module):
    """Cross layers: x ← x₀ ⊙ (W x + b) + x, so that layer l adds products of l + 1 numbers of the input."""

    def __init__(self, width: int, layers: int, low_rank: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_linear(width, low_rank) for _ in range(layers))

    def forward(self, start: Tensor) -> Tensor:
        """Return (B, W) for (B, W)."""
        x = start
        for layer in self.layers:
            x = torch.addcmul(x, start, layer(x))
        return x


def _linear(width: int, low_rank: int) -> nn.Module:
    """Return W x + b, or U Vᵀ x + b."""
    if not low_rank:
        return _started(nn.Linear(width, width))
    return nn.Sequential(
        _started(nn.Linear(width, low_rank, bias=False)),
        _started(nn.Linear(low_rank, width)),
    )


def _started(layer: nn.Linear) -> nn.Linear:
    nn.init.xavier_normal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


@register(
    "dcnv2",
    config=DCNv2Config,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={
        "dim": (8, 64),
        "learning_rate": (1e-4, 1e-2),
        "dropout": (0.05, 0.5),
        "l2": (1e-7, 1e-1),
        "cross_layers": [1, 2, 3, 4],
    },
)
class DCNv2(FieldModel):
    """y = wᵀ [cross(v), perceptron(v)], or perceptron(cross(v))."""

    def __init__(self, config: DCNv2Config, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        width, beside = self.fields.width, config.structure == "parallel"
        self.cross = Cross(width, config.cross_layers, config.low_rank)
        self.deep = Perceptron(
            width, config.hidden, 0 if beside else 1, dropout=config.dropout, batch_norm=config.batch_norm
        )
        self.out = _started(nn.Linear(width + self.deep.n_out, 1)) if beside else None

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        flat = self.fields(batch).flatten(1)
        crossed = self.cross(flat)
        found = crossed if self.out is None else torch.cat([crossed, self.deep(flat)], dim=1)
        logit: Tensor = (self.out or self.deep)(found)
        return logit
