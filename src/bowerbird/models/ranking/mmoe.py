"""MMoE: perceptrons shared by all tasks, mixed for each task by a gate of its own.

Paper:  Ma et al., KDD 2018, doi:10.1145/3219819.3220007, equations 6 and 7.
Cost:   O(B * E * (K * D * H + H²)) a step; keeps R * D weights of columns, and those of experts, gates and towers.
Shapes: B rows, T tasks, E experts, K fields, D embedding size, R rows of the table, H hidden units.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.core import check, register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import DeepConfig, FieldModel, Perceptron


@dataclass(frozen=True, kw_only=True)
class MMoEConfig(DeepConfig):
    """The experts, whose layers have `hidden` units, and the tower of each task."""

    experts: int = 4  # perceptrons that all tasks share
    tower: tuple[int, ...] = (32,)  # units of the layers of a task's tower; none: it is linear

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.experts >= 1, "experts", self.experts, "must be 1 or more", try_instead=4)
        check(min(self.tower, default=1) >= 1, "tower", self.tower, "must list sizes of 1 or more")


@register(
    "mmoe",
    config=MMoEConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained", "multi-task"),
    search={
        "dim": (8, 64),
        "learning_rate": (1e-4, 1e-2),
        "dropout": (0.05, 0.5),
        "l2": (1e-7, 1e-1),
        "experts": [2, 4, 8],
    },
)
class MMoE(FieldModel):
    """y_t = tower_t(Σ g_t(v)[e] · expert_e(v)), where g_t is a softmax over experts."""

    def __init__(self, config: MMoEConfig, schema: FeatureSchema) -> None:
        super().__init__(config, schema, several=True)
        width, hidden, dropout, norm = self.fields.width, config.hidden, config.dropout, config.batch_norm
        self.experts = nn.ModuleList(
            Perceptron(width, hidden, dropout=dropout, batch_norm=norm) for _ in range(config.experts)
        )
        self.gates = nn.Linear(width, len(schema.tasks) * config.experts, bias=False)  # of all tasks in one product
        nn.init.xavier_normal_(self.gates.weight)
        self.towers = nn.ModuleList(
            Perceptron(hidden[-1], config.tower, 1, dropout=dropout, batch_norm=norm) for _ in schema.tasks
        )

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, T)."""
        flat = self.fields(batch).flatten(1)
        experts = torch.stack([expert(flat) for expert in self.experts], dim=1)  # (B, E, H)
        gates = self.gates(flat).view(-1, len(self.towers), len(self.experts)).softmax(dim=2)  # (B, T, E)
        mixed = (gates @ experts).unbind(dim=1)
        return torch.cat([tower(x) for tower, x in zip(self.towers, mixed, strict=True)], dim=1)
