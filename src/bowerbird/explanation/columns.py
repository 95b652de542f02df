"""The columns of a ranker of interactions as causes, with what stands in them.

Shapes: n items, H past items that the ranker sees, K fields and crosses, S slots.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from torch import Tensor, nn

from bowerbird.core import Cause
from bowerbird.data import Interactions
from bowerbird.explanation import words
from bowerbird.explanation.features import Reference, attribute
from bowerbird.features import Context, FeatureTable, join
from bowerbird.features.batches import last

LABELS = {"item.item_id": words.ITSELF, "user.user_id": words.PERSON}
ABBREVIATED = 40  # characters of a value


@dataclass(frozen=True, eq=False)
class Columns:
    """A ranker, what it reads of everyone and everything, and an average row."""

    model: nn.Module
    table: FeatureTable
    reference: Reference

    def attributed(self, context: Context, items: Tensor) -> tuple[list[str], Tensor, Tensor]:
        """Return names, and what columns (n, K) and slots (n, S) add to the logits of items (n,) for one request."""
        batch = replace(join(context, items[None], self.table), alike=0, own=None)
        return attribute(self.model, batch, self.table.schema, self.reference)

    def causes(self, names: list[str], added: Tensor, items: Tensor, past: Interactions) -> list[tuple[Cause, ...]]:
        """Return what columns add to each item (n, K), largest first, with what stands in them."""
        found = []
        for item, mine in zip(items.tolist(), added.tolist(), strict=True):
            labels = [self._label(name, item, past) for name in names]
            order = np.argsort(-np.array(mine), kind="stable")
            found.append(tuple(Cause(names[one], labels[one], mine[one]) for one in order))
        return found

    def said(self, context: Context, by_slot: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the past items that the ranker sees (H,), and what each adds to the logits (H, n); None without."""
        histories = self.table.schema.of_part("history")
        if not histories:
            return None
        one = histories[0]
        seen = last(context.history, one.width, self.table.counts)[0]
        there = seen >= 0
        return seen[there], by_slot[:, one.slot : one.slot + one.width][:, there].T

    def _label(self, name: str, item: int, past: Interactions) -> str:
        if name in LABELS:
            return LABELS[name]
        if any(one.name == name for one in self.table.schema.of_part("history")):
            return words.BEFORE
        part, _, column = name.partition(".")
        return label(column or name, past.items if part == "item" else None, item)  # nobody's own columns are told


def label(column: str, table: pl.DataFrame | None, row: int) -> str:
    """Return a column and what stands in it, as far as that is known."""
    if table is None or column not in table.columns or not 0 <= row < len(table) or table[column][row] is None:
        return column
    value = table[column][row]
    if isinstance(value, float):
        text = f"{value:.4g}"
    else:
        text = ", ".join(map(str, value)) if isinstance(value, pl.Series) else str(value)
    return f"{column}: {text if len(text) <= ABBREVIATED else text[: ABBREVIATED - 1] + '…'}"
