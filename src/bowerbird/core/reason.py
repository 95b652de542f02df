"""Why an item stands in a slate: one shape for every family of models."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reason:
    """A cause, in words and in data.

    `kind` is "history" (past items of this person) or "popularity" (how many chose the item).
    `items` holds the caller's ids of the past items with their share of the cause, largest first.
    """

    kind: str
    text: str
    items: tuple[tuple[Any, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape used by the API and `--json`."""
        return {
            "kind": self.kind,
            "text": self.text,
            "items": [{"item_id": item, "share": round(share, 4)} for item, share in self.items],
        }
