"""HSTU: positions gather from one another by how well they fit, unnormalised, and by how long ago it was.

Paper:  Zhai et al., ICML 2024, arXiv:2402.17152, equations 1-4.
Differs: time between two events is that between them, not up to the next; no reading of the past is skipped.
Cost:   O(B * L * (L * D + D²)) a step for the blocks; softmax over all items takes O(B * L * I * D).
Shapes: B windows, L positions, I items, D embedding size, H heads, G buckets of time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import register
from bowerbird.data import Schema
from bowerbird.features import Windows
from bowerbird.nn.attention import AttentionConfig
from bowerbird.nn.dropout import dropout
from bowerbird.nn.sequences import GAPS, SPREAD, SequenceModel, gap_bucket


@dataclass(frozen=True, kw_only=True)
class HSTUConfig(AttentionConfig):
    """The blocks, which have no feedforward layer: `inner` is the width of what they gather, in embedding sizes."""

    inner: int = 1  # width of what is gathered, in embedding sizes


class Gathering(nn.Module):
    """y = W (norm(A v) ⊙ u), A = SiLU(q · k + position + time) / L, with u, v, q, k = SiLU(W x)."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        dim, width = config.dim, config.inner * config.dim
        self.config, self.sizes = config, [width, width, dim, dim]
        self.before, self.norm = nn.LayerNorm(dim), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(dim, sum(self.sizes), bias=False), nn.Linear(width, dim)
        self.by_place = nn.Parameter(torch.randn(config.history_len) * SPREAD)
        self.by_time = nn.Parameter(torch.randn(GAPS) * SPREAD)

    def forward(self, x: Tensor, gap: Tensor | None) -> Tensor:
        """Return (B, L, D) for (B, L, D) and buckets of the time between any two events (B, L, L)."""
        length, heads = x.shape[1], self.config.heads
        gate, *others = torch.split(functional.silu(self.project(self.before(x))), self.sizes, dim=2)
        value, query, key = (one.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for one in others)
        place = torch.arange(length, device=x.device)
        bias = self.by_place[(place[:, None] - place).clamp(min=0)]
        if gap is not None:
            bias = (bias + self.by_time[gap])[:, None]
        fit = functional.silu(query @ key.transpose(2, 3) + bias).tril() / self.config.history_len
        gathered = (fit @ value).transpose(1, 2).flatten(2)
        found: Tensor = self.out(self.norm(gathered) * gate)
        return found


@register(
    "hstu",
    config=HSTUConfig,
    batches=Windows,
    tags=("sequential", "retriever", "trained", "cold-user"),
    search={"dim": [32, 64, 128, 256], "learning_rate": (3e-4, 3e-3), "dropout": (0.1, 0.6), "blocks": [1, 2, 4]},
)
class HSTU(SequenceModel):
    """Scores an item by the dot product of its vector with what the last position has gathered."""

    config: HSTUConfig

    def __init__(self, config: HSTUConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        self.place = nn.Parameter(torch.randn(config.history_len, config.dim) * SPREAD)
        self.blocks = nn.ModuleList(Gathering(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)

    def encode(self, item: Tensor, time: Tensor | None = None) -> Tensor:
        """Return what each position (B, L) knows of its row up to there, (B, L, D)."""
        share, training = self.config.dropout, self.training
        gap = None if time is None else gap_bucket(time[:, :, None] - time[:, None])
        x = dropout(self.embedded(item, time) + functional.embedding(self.places(item), self.place), share, training)
        for block in self.blocks:
            x = x + dropout(block(x, gap), share, training)
        found: Tensor = self.norm(x)
        return found
