"""Why an item stands in a slate: one shape for every family of models."""

from dataclasses import dataclass
from typing import Any

KINDS = {  # what the causes of a reason are
    "history": "past items of this person",
    "neighbours": "past items that the same people chose as this one",
    "path": "past items, and how many people chose both",
    "features": "columns of the user, the item and the request",
    "content": "what the item says, shows or sounds like, and what people do with it",
    "popularity": "how many people chose the item",
    "new": "nothing: the item is newer than the model",
    "rule": "nothing: a rule of the scenario gives the item its place",
    "exploration": "nothing: the place was drawn by chance, to learn",
}
METHODS = {  # how causes were found
    "sum": "the score is a sum over the causes",
    "leave-one-out": "the score again without each cause",
    "integrated gradients": "the slope of the score on the way from an average row to this one, summed",
    "ablation": "the score again without each kind of content",
    "count": "what was counted or drawn is the cause",
}


@dataclass(frozen=True)
class Cause:
    """One cause: an item, a column, a kind of content."""

    id: Any  # the caller's id of an item, else the name of a column or of a kind of content
    label: str  # before people
    share: float  # of an item, of all that speaks for the score; of a column, what it adds to the log of the odds


@dataclass(frozen=True)
class Reason:
    """Why an item is there, in words of two languages and in data; causes stand strongest first."""

    kind: str  # one of KINDS
    text: str
    text_zh: str
    method: str = "count"  # one of METHODS
    causes: tuple[Cause, ...] = ()
    people: int | None = None  # how many people it speaks of, never a few; None where it speaks of none

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape used by the API and `--json`."""
        return {
            "kind": self.kind,
            "method": self.method,
            "text": self.text,
            "text_zh": self.text_zh,
            "causes": [{"id": one.id, "label": one.label, "share": round(one.share, 4)} for one in self.causes],
            "people": self.people,
        }
