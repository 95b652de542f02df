"""MLP: a perceptron over the vectors of all fields, side by side. Other deep rankers add to this.

Paper:  Covington et al., RecSys 2016, section 4.
Differs: one binary label; their watch time weighs the clicks.
Cost:   O(B * (K * D * H + H²)) a step; keeps R * D weights of columns and the perceptron's.
Shapes: B rows, K fields, D embedding size, R rows of the table, H hidden units.
"""

from dataclasses import dataclass

from torch import Tensor

from bowerbird.core import register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import DeepConfig, FieldModel, Perceptron


@dataclass(frozen=True, kw_only=True)
class MLPConfig(DeepConfig):
    """The perceptron is the model."""


@register(
    "mlp",
    config=MLPConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={"dim": (8, 64), "learning_rate": (1e-4, 1e-2), "dropout": (0.05, 0.5), "l2": (1e-7, 1e-1)},
)
class MLP(FieldModel):
    """y = perceptron(v)."""

    def __init__(self, config: MLPConfig, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        width, dropout = self.fields.width, config.dropout
        self.deep = Perceptron(width, config.hidden, 1, dropout=dropout, batch_norm=config.batch_norm)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        logit: Tensor = self.deep(self.fields(batch).flatten(1), self.fields.alike(batch))
        return logit
