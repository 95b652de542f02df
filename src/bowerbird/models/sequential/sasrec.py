"""SASRec: self-attention reads a history from left to right, and every position foresees the item after it.

Paper:  Kang and McAuley, ICDM 2018, arXiv:1808.09781, equations 1-7.
Differs: the loss is a choice, the paper's is BCE with one negative; sums are normalised, not what is added; positions
        count from the oldest event that the model sees.
Cost:   O(B * L * (L * D + D²)) a step for the blocks; softmax over all items takes O(B * L * I * D).
Shapes: B windows, L positions, I items, D embedding size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bowerbird.core import register
from bowerbird.data import Schema
from bowerbird.features import Windows
from bowerbird.nn.attention import AttentionConfig, Reader
from bowerbird.nn.memory import size_of
from bowerbird.nn.sequences import SequenceModel


@dataclass(frozen=True, kw_only=True)
class SASRecConfig(AttentionConfig):
    """The blocks."""


@register(
    "sasrec",
    config=SASRecConfig,
    batches=Windows,
    tags=("sequential", "retriever", "trained", "cold-user"),
    search={"dim": [32, 64, 128, 256], "learning_rate": (3e-4, 3e-3), "dropout": (0.1, 0.6), "blocks": [1, 2, 3]},
)
class SASRec(SequenceModel):
    """Scores an item by the dot product of its vector with what the last position has gathered."""

    config: SASRecConfig

    def __init__(self, config: SASRecConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        self.reader = Reader(config, places=config.history_len)

    def encode(self, item: Tensor, time: Tensor | None = None) -> Tensor:
        """Return what each position (B, L) knows of its row up to there, (B, L, D)."""
        found: Tensor = self.reader(self.embedded(item, time), self.places(item))
        return found

    def further(self, x: Tensor, read: int, state: Any) -> tuple[Tensor, Any, int]:
        """Go on from the keys and values of what was read."""
        place = torch.arange(read, x.shape[1], device=x.device)
        found, state = self.reader.further(x[:, read:], place, state or [None] * self.config.blocks)
        return found[:, -1], state, size_of(*(one for pair in state for one in pair))
