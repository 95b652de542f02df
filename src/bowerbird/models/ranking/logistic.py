"""Logistic regression: a weight for every value of every column, and for hashed crosses of columns.

Paper:  Richardson et al., WWW 2007, section 5 (clicks on new adverts).
Differs: hashed crosses are weighed too; Adam with an L2 penalty instead of L-BFGS.
Cost:   O(B * S) a step; keeps R + C + V + 1 weights.
Shapes: B rows, S slots, R rows of the table, C buckets of all crosses, V numbers of vectors.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from bowerbird.core import register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import Linear, RankerConfig, check_single, penalty
from bowerbird.nn.losses import binary


@dataclass(frozen=True, kw_only=True)
class LogisticConfig(RankerConfig):
    """Nothing but what all rankers have."""

    learning_rate: float = 1e-2


@register(
    "logistic",
    config=LogisticConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={"learning_rate": (1e-3, 1e-1), "l2": (1e-8, 1e-3)},
)
class Logistic(nn.Module):
    """y = wᵀx + b over columns and crosses."""

    def __init__(self, config: LogisticConfig, schema: FeatureSchema) -> None:
        super().__init__()
        check_single(self, schema)
        self.config, self.schema = config, schema
        self.linear = Linear(schema)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        logit: Tensor = self.linear(batch)
        return logit

    def loss(self, batch: FeatureBatch) -> Tensor:
        """Return the binary cross entropy of each row (B,), and the penalty."""
        assert batch.label is not None
        return binary(self(batch), batch.label) + penalty(self, self.config.l2)
