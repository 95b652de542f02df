"""Factorisation machine: a weight for every value, and the dot product of every pair of fields.

Paper:  Rendle, ICDM 2010, equation 1 and lemma 3.1.
Differs: a bag meets other fields as one pooled vector, so its own values do not pair up.
Cost:   O(B * K * D) a step; keeps R * (D + 1) weights of columns.
Shapes: B rows, K fields, D embedding size, R rows of the table.
"""

from dataclasses import dataclass

from torch import Tensor

from bowerbird.core import register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import FieldConfig, FieldModel, Linear, pairwise


@dataclass(frozen=True, kw_only=True)
class FMConfig(FieldConfig):
    """The vectors are the model."""


@register(
    "fm",
    config=FMConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={"dim": (4, 64), "learning_rate": (1e-4, 1e-2), "l2": (1e-7, 1e-2)},
)
class FM(FieldModel):
    """y = linear + ½ (|Σ v|² − Σ |v|²)."""

    def __init__(self, config: FMConfig, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        self.linear = Linear(schema)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        logit: Tensor = self.linear(batch) + pairwise(self.fields(batch))
        return logit
