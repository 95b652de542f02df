"""GRU4Rec: a recurrent network reads a history event by event, and every state foresees the item after it.

Paper:  Hidasi et al., ICLR 2016, arXiv:1511.06939, equations 1-4; losses after Hidasi and Karatzoglou, CIKM 2018.
Differs: the loss is a choice; items have one vector at both ends; states are normalised before they meet items; batches
        hold windows, not sessions in parallel.
Cost:   O(B * L * D²) a step for the network, one position after another; softmax over all items O(B * L * I * D).
Shapes: B windows, L positions, I items, D embedding size, H hidden units.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bowerbird.core import check, register
from bowerbird.data import Schema
from bowerbird.features import Windows
from bowerbird.nn.dropout import dropout
from bowerbird.nn.memory import size_of
from bowerbird.nn.sequences import SequenceModel, WindowConfig


@dataclass(frozen=True, kw_only=True)
class GRU4RecConfig(WindowConfig):
    """The recurrent layers."""

    layers: int = 1  # one behind another
    hidden: int = 128  # units H of a layer

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.layers >= 1, "layers", self.layers, "must be 1 or more", try_instead=1)
        check(self.hidden >= 1, "hidden", self.hidden, "must be 1 or more", try_instead=128)


@register(
    "gru4rec",
    config=GRU4RecConfig,
    batches=Windows,
    tags=("sequential", "retriever", "trained", "cold-user"),
    search={"dim": (32, 256), "learning_rate": (3e-4, 3e-3), "dropout": (0.1, 0.6), "hidden": (64, 512)},
)
class GRU4Rec(SequenceModel):
    """Scores an item by the dot product of its vector with the state after the last event."""

    config: GRU4RecConfig

    def __init__(self, config: GRU4RecConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        self.gru = nn.GRU(config.dim, config.hidden, config.layers, batch_first=True)
        self.out, self.norm = nn.Linear(config.hidden, config.dim), nn.LayerNorm(config.dim)

    def encode(self, item: Tensor, time: Tensor | None = None) -> Tensor:
        """Return what each position (B, L) knows of its row up to there, (B, L, D)."""
        share, training = self.config.dropout, self.training
        state, _ = self.gru(dropout(self.embedded(item, time), share, training))
        found: Tensor = self.norm(self.out(dropout(state, share, training)))
        return found

    def further(self, x: Tensor, read: int, state: Any) -> tuple[Tensor, Any, int]:
        """Go on from the state after what was read."""
        found, state = self.gru(x[:, read:], state)
        return self.norm(self.out(found[:, -1])), state, size_of(state)
