"""DIN: a history is summed by how much each past item has to do with the item asked about.

Paper:  Zhou et al., KDD 2018, arXiv:1706.06978, equation 3 and figure 2.
Differs: the activation unit reads [past, target, past − target, past ⊙ target] and has PReLU between its layers, and
        the perceptron behind it max(0, x), where the paper's last version has Dice.
Cost:   O(B * (S * D * A + K * D * H + H²)) a step; keeps R * D weights of columns, the unit's and the perceptron's.
Shapes: B rows, L slots of a history, S of all histories, K fields, D embedding size, R rows of the table, A units of
        an activation unit's first layer, H hidden units.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.core import ConfigError, check, register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import DeepConfig, FieldModel, Perceptron


@dataclass(frozen=True, kw_only=True)
class DINConfig(DeepConfig):
    """The activation unit of each history, and the perceptron over all fields."""

    attention_hidden: tuple[int, ...] = (64, 16)  # units of the layers of an activation unit

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.attention_hidden
        check(bool(sizes) and min(sizes) >= 1, "attention_hidden", sizes, "must list sizes of 1 or more")


class ActivationUnit(nn.Module):
    """Σ a(past, target) · past: weights are not normalised, so that a strong interest stays strong. Equation 3."""

    def __init__(self, dim: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for one, other in itertools.pairwise((4 * dim, *hidden)):
            layers += [nn.Linear(one, other), nn.PReLU(other)]
        self.weigh = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))
        for layer in self.weigh:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, past: Tensor, target: Tensor) -> Tensor:
        """Return (B, 1, D) for past vectors (B, L, D), 0 where a slot is empty, and the target's (B, 1, D)."""
        both = torch.cat([past, target.expand_as(past), past - target, past * target], dim=2)
        weight: Tensor = self.weigh(both.flatten(0, 1))  # (B · L, 1)
        return weight.view(-1, 1, past.shape[1]) @ past


@register(
    "din",
    config=DINConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={"dim": (8, 64), "learning_rate": (1e-4, 1e-2), "dropout": (0.05, 0.5), "l2": (1e-7, 1e-1)},
)
class DIN(FieldModel):
    """y = perceptron(v), where the vector of each history depends on that of its target."""

    def __init__(self, config: DINConfig, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        order = schema.order
        histories = [one for one in schema.fields if one.kind == "history"]
        if not histories:
            raise ConfigError(
                f"din weighs a history, and none of the columns is one: {', '.join(order)}. "
                "Add a history of the item column, or take mlp."
            )
        self.spans = [(one.slot, one.slot + one.width) for one in histories]
        self.places = [(order.index(one.name), order.index(one.of)) for one in histories]  # of a history, its target
        self.units = nn.ModuleList(ActivationUnit(config.dim, config.attention_hidden) for _ in histories)
        width, dropout = self.fields.width, config.dropout
        self.deep = Perceptron(width, config.hidden, 1, dropout=dropout, batch_norm=config.batch_norm)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        slots = self.fields.slots(batch)
        fields = list(torch.split(self.fields.pooled(slots, batch), 1, dim=1))
        for unit, (start, end), (place, target) in zip(self.units, self.spans, self.places, strict=True):
            fields[place] = unit(slots[:, start:end], fields[target])
        logit: Tensor = self.deep(torch.cat(fields, dim=1).flatten(1))
        return logit
