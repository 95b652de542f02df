"""The two sides of a model whose score is person · item: what stays with people, and what the server holds.

    mf        a person's row, at length 1 where the model has it so; the server's table of items
    twotower  a person's row and what its own columns say, through a tower that is drawn from the seed and stays as it
              is, so that nothing of it has to travel; the server's item tower with all its weights, of which clients
              see the vectors that come out

Shapes: U people, I items, S rows of a round, D vector size.
"""

from typing import Any

import torch
from torch import Tensor

from bowerbird.core import ConfigError
from bowerbird.data import Interactions
from bowerbird.models.baselines.mf import MF
from bowerbird.models.multimodal.twotower import TwoTower

MODELS = ("mf", "twotower")


class Side:
    """One model, cut in two."""

    def __init__(self, model: Any, train: Interactions) -> None:
        if not isinstance(model, MF | TwoTower):
            raise ConfigError(
                f"{type(model).__name__} cannot be trained on clients; its score is no product of a person's vector "
                f"and an item's. Take {' or '.join(MODELS)}."
            )
        self.model, self.temperature = model, float(model.config.temperature)
        model.prepare(train)
        table = model.user if isinstance(model, MF) else model.user.id
        self.own: Tensor = table.data  # (U, D): each person's row, on that person's device

    def vectors(self, own: Tensor, people: Tensor) -> Tensor:
        """Return the vectors (…, D) of people (…,) whose rows are `own` (…, D)."""
        model = self.model
        if isinstance(model, TwoTower):
            said = model._says(0, people.flatten()).view(own.shape)
            own = model.user(own, said)
        scaled: Tensor = model.config.scaled(own)
        return scaled

    def parameters(self) -> list[Tensor]:
        """Return what the server learns."""
        return [self.model.item] if isinstance(self.model, MF) else list(self.model.item.parameters())

    def items(self, rows: Tensor) -> Tensor:
        """Return the vectors (S, D) of these items, with a gradient to what the server learns."""
        model = self.model
        if isinstance(model, MF):
            return model.config.scaled(model.item[rows])
        scaled: Tensor = model.config.scaled(model._vectors(1, rows, torch.ones(len(rows), dtype=torch.bool)))
        return scaled

    def state(self) -> dict[str, Tensor]:
        """Return a copy of everything that training changes."""
        return {name: one.detach().clone() for name, one in self.model.state_dict().items()}
