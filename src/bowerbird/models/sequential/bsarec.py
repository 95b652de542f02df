"""BSARec: beside self-attention, a filter keeps the slow part of a history and weighs the rest.

Paper:  Shin et al., AAAI 2024, arXiv:2312.10325, equations 5-11.
Differs: the filter looks back only, so that every position can be trained on at once; at the last position of a
        history it is the paper's, whose future is empty there.
Cost:   O(B * L * (L * D + D²)) a step for the blocks; softmax over all items takes O(B * L * I * D).
Shapes: B windows, L positions, I items, D embedding size.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import check, register
from bowerbird.data import Schema
from bowerbird.features import Windows
from bowerbird.nn.attention import Attention, AttentionConfig, Feedforward
from bowerbird.nn.dropout import dropout
from bowerbird.nn.sequences import SPREAD, SequenceModel


@dataclass(frozen=True, kw_only=True)
class BSARecConfig(AttentionConfig):
    """The filter, and its share."""

    alpha: float = 0.7  # share of the filter, beside attention
    activation: str = "gelu"
    frequencies: int = 3  # lowest of the history's, constant included, that count as slow

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.alpha <= 1, "alpha", self.alpha, "must lie between 0 and 1", try_instead=0.7)
        check(self.frequencies >= 1, "frequencies", self.frequencies, "must be 1 or more", try_instead=3)


class Filter(nn.Module):
    """The slow part of what came up to each position, and the rest times a learnt square."""

    kernel: Tensor

    def __init__(self, config: BSARecConfig) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.randn(config.dim))
        self.register_buffer("kernel", slow(config.history_len, config.frequencies), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, D) for (B, L, D)."""
        low = self.kernel[: x.shape[1], : x.shape[1]] @ x
        return low + self.root.square() * (x - low)


def slow(length: int, frequencies: int) -> Tensor:
    """Return the matrix (L, L) that leaves of a row its lowest frequencies, as far as the past tells them.

    It is the projection on the lowest Fourier components of L positions, (1 + 2 Σ cos(2πf (t − s) / L)) / L, with 0
    where s is later than t.
    """
    gap = torch.arange(length)[:, None] - torch.arange(length)
    matrix = torch.ones(length, length)
    for frequency in range(1, min(frequencies, length // 2 + 1)):
        both = 1 if 2 * frequency == length else 2
        matrix += both * torch.cos(2 * math.pi * frequency * gap / length)
    return (matrix / length).tril()


class BSABlock(nn.Module):
    """Filter and attention, each added to what it was given and normalised, then mixed; a feedforward layer."""

    def __init__(self, config: BSARecConfig) -> None:
        super().__init__()
        self.config = config
        self.filter, self.attention = Filter(config), Attention(config.dim, config.heads)
        self.feed = Feedforward(config)
        self.norms = nn.ModuleList(nn.LayerNorm(config.dim) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, D) for (B, L, D)."""
        share, alpha, training = self.config.dropout, self.config.alpha, self.training
        filtered = self.norms[0](x + dropout(self.filter(x), share, training))
        attended = self.norms[1](x + dropout(self.attention(x), share, training))
        x = alpha * filtered + (1 - alpha) * attended
        found: Tensor = self.norms[2](x + dropout(self.feed(x), share, training))
        return found


@register(
    "bsarec",
    config=BSARecConfig,
    batches=Windows,
    tags=("sequential", "retriever", "trained", "cold-user"),
    search={
        "dim": [32, 64, 128, 256],
        "learning_rate": (3e-4, 3e-3),
        "dropout": (0.1, 0.6),
        "alpha": [0.1, 0.3, 0.5, 0.7, 0.9],
    },
)
class BSARec(SequenceModel):
    """Scores an item by the dot product of its vector with what the last position has gathered."""

    config: BSARecConfig

    def __init__(self, config: BSARecConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        self.place = nn.Parameter(torch.randn(config.history_len, config.dim) * SPREAD)
        self.norm = nn.LayerNorm(config.dim)
        self.blocks = nn.ModuleList(BSABlock(config) for _ in range(config.blocks))

    def encode(self, item: Tensor, time: Tensor | None = None) -> Tensor:
        """Return what each position (B, L) knows of its row up to there, (B, L, D)."""
        x: Tensor = self.norm(self.embedded(item, time) + functional.embedding(self.places(item), self.place))
        x = dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        return x
