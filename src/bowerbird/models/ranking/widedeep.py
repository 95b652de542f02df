"""Wide & Deep: a linear model over columns and hashed crosses memorises, a perceptron over vectors generalises.

Paper:  Cheng et al., DLRS 2016, arXiv:1606.07792, equation 3: y = σ(w_wideᵀ [x, φ(x)] + w_deepᵀ a + b).
Differs: Adam for both parts, where the paper has FTRL with L1 for the wide and AdaGrad for the deep one; numbers enter
        the deep part times a vector of their own.
Cost:   O(B * (K * D * H + H²)) a step; keeps R * (D + 1) + C weights of columns and crosses, and the perceptron's.
Shapes: B rows, K fields, D embedding size, R rows of the table, C buckets of all crosses, H hidden units.
"""

from dataclasses import dataclass

from torch import Tensor

from bowerbird.core import register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import DeepConfig, FieldModel, Linear, Perceptron


@dataclass(frozen=True, kw_only=True)
class WideDeepConfig(DeepConfig):
    """The deep part; the crosses of the wide part stand with the columns."""


@register(
    "widedeep",
    config=WideDeepConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={"dim": (8, 64), "learning_rate": (1e-4, 1e-2), "dropout": (0.05, 0.5), "l2": (1e-7, 1e-1)},
)
class WideDeep(FieldModel):
    """y = linear + perceptron(v)."""

    def __init__(self, config: WideDeepConfig, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        self.linear = Linear(schema)
        width, dropout = self.fields.width, config.dropout
        self.deep = Perceptron(width, config.hidden, 1, dropout=dropout, batch_norm=config.batch_norm)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        logit: Tensor = self.linear(batch) + self.deep(self.fields(batch).flatten(1), self.fields.alike(batch))
        return logit
