"""DeepFM: a factorisation machine and a perceptron over the same vectors, their logits added.

Paper:  Guo et al., IJCAI 2017, arXiv:1703.04247, equations 1-4.
Cost:   O(B * (K * D * H + H²)) a step; keeps R * (D + 1) weights of columns and the perceptron's.
Shapes: B rows, K fields, D embedding size, R rows of the table, H hidden units.
"""

from dataclasses import dataclass

from torch import Tensor

from bowerbird.core import register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import DeepConfig, FieldModel, Linear, Perceptron, pairwise


@dataclass(frozen=True, kw_only=True)
class DeepFMConfig(DeepConfig):
    """The perceptron beside the factorisation machine."""


@register(
    "deepfm",
    config=DeepFMConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={"dim": (8, 64), "learning_rate": (1e-4, 1e-2), "dropout": (0.05, 0.5), "l2": (1e-7, 1e-1)},
)
class DeepFM(FieldModel):
    """y = linear + ½ (|Σ v|² − Σ |v|²) + perceptron(v)."""

    def __init__(self, config: DeepFMConfig, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        self.linear = Linear(schema)
        width, dropout = self.fields.width, config.dropout
        self.deep = Perceptron(width, config.hidden, 1, dropout=dropout, batch_norm=config.batch_norm)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        fields = self.fields(batch)
        logit: Tensor = self.linear(batch) + pairwise(fields) + self.deep(fields.flatten(1), self.fields.alike(batch))
        return logit
