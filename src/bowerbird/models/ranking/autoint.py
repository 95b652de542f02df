"""AutoInt+: self-attention between the fields finds what to combine, a perceptron over the same vectors stands beside.

Paper:  Song et al., CIKM 2019, arXiv:1810.11921, equations 5-9; AutoInt+ adds the perceptron.
Differs: products are divided by the root of a head's size, and a layer normalises before max(0, x) unless told not to.
Cost:   O(B * L * (K * A² + K² * A) + B * (K * D * H + H²)) a step; keeps R * D weights of columns and the layers'.
Shapes: B rows, K fields, D embedding size, R rows of the table, L attention layers, A numbers of a field behind one,
        H hidden units.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import check, register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import DeepConfig, FieldModel, Perceptron


@dataclass(frozen=True, kw_only=True)
class AutoIntConfig(DeepConfig):
    """The attention layers, and whether a perceptron stands beside them."""

    attention_layers: int = 3  # layers in which fields look at each other
    heads: int = 2  # of each layer
    attention_dim: int = 64  # numbers A of a field behind a layer, of all heads together
    residual: bool = True  # whether a layer adds what it was given
    layer_norm: bool = True  # whether a layer normalises what it hands on
    deep: bool = True  # false leaves attention alone: AutoInt without its plus

    def __post_init__(self) -> None:
        super().__post_init__()
        layers, heads, dim = self.attention_layers, self.heads, self.attention_dim
        check(layers >= 1, "attention_layers", layers, "must be 1 or more", try_instead=3)
        check(heads >= 1, "heads", heads, "must be 1 or more", try_instead=2)
        fits = dim >= 1 and dim % heads == 0
        check(fits, "attention_dim", dim, f"must be a multiple of heads ({heads})", try_instead=32 * heads)


class Interacting(nn.Module):
    """One layer of attention between the fields of a row."""

    def __init__(self, n_in: int, config: AutoIntConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        dim = config.attention_dim
        self.project = nn.Linear(n_in, 3 * dim, bias=False)  # queries, keys and values in one product
        self.residual: nn.Module | None = None
        if config.residual:
            self.residual = nn.Identity() if n_in == dim else nn.Linear(n_in, dim, bias=False)
        self.norm = nn.LayerNorm(dim) if config.layer_norm else nn.Identity()

    def forward(self, fields: Tensor) -> Tensor:
        """Return (B, K, A) for (B, K, n_in)."""
        query, key, value = self.project(fields).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        mixed = mixed.transpose(1, 2).flatten(2)
        if self.residual is not None:
            mixed = mixed + self.residual(fields)
        return functional.relu(self.norm(mixed))


@register(
    "autoint",
    config=AutoIntConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={
        "dim": (8, 64),
        "learning_rate": (1e-4, 1e-2),
        "dropout": (0.05, 0.5),
        "l2": (1e-7, 1e-1),
        "attention_layers": [1, 2, 3, 4, 5],
    },
)
class AutoInt(FieldModel):
    """y = wᵀ attention(v) + perceptron(v)."""

    def __init__(self, config: AutoIntConfig, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        sizes = [config.dim] + [config.attention_dim] * (config.attention_layers - 1)
        self.attention = nn.Sequential(*(Interacting(size, config) for size in sizes))
        self.out = nn.Linear(self.fields.n_fields * config.attention_dim, 1)
        nn.init.xavier_normal_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.deep: Perceptron | None = None
        if config.deep:
            width, dropout = self.fields.width, config.dropout
            self.deep = Perceptron(width, config.hidden, 1, dropout=dropout, batch_norm=config.batch_norm)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        fields = self.fields(batch)
        logit: Tensor = self.out(self.attention(fields).flatten(1))
        return logit if self.deep is None else logit + self.deep(fields.flatten(1))
