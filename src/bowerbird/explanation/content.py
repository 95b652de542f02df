"""What each kind of content adds to a score, and what people's behaviour adds: the item again without each of them.

An item that nobody chose is its content alone; another one's behaviour adds what its content leaves.

Shapes: n items, K kinds of content, M size of one, D vector size.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bowerbird.features import Context
from bowerbird.features.contracts import ContentRetriever
from bowerbird.models.multimodal.crossmodal import Crossmodal

BEHAVIOUR = "behaviour"


@torch.no_grad()
def parts(model: ContentRetriever, content: Mapping[str, Tensor]) -> Tensor:
    """Return what items are by their content, and what each kind of it adds to that, (n, 1 + K, D).

    `content` is (n, M) of each kind, rows of NaN where an item has none: there it adds 0. The only kind that an item
    has adds all: without it nothing would be said. Nobody's request has a say in this.
    """
    told = torch.stack([~one.isnan().any(dim=1) for one in content.values()])  # (K, n)
    whole, *without = _without_each(model, content)
    added = []
    for there, left in zip(told, without, strict=True):
        alone = there & (told.sum(dim=0) == 1)
        lost = whole - torch.where(alone[:, None], 0.0, left)
        added.append(torch.where(there[:, None], lost, 0.0))
    return torch.stack([whole, *added], dim=1)


def _without_each(model: ContentRetriever, content: Mapping[str, Tensor]) -> Sequence[Tensor]:
    """Return what items are by their content, and without each kind of it in turn, (n, D) each."""
    if isinstance(model, Crossmodal):
        return model.embed_without_each(content).unbind()
    asked = {
        name: torch.cat([torch.full_like(one, torch.nan) if name == left_out else one for left_out in ("", *content)])
        for name, one in content.items()
    }
    return model.embed(asked).chunk(1 + len(content))


@torch.no_grad()
def modalities(
    model: ContentRetriever, context: Context, items: Tensor, content: Mapping[str, Tensor], found: Tensor | None = None
) -> tuple[list[str], Tensor]:
    """Return names, and what each adds to the scores of items (n,) in the eyes of one request, (1 + K, n).

    `content` is that of these items; `found` is what `parts` makes of it, where that is known already.
    """
    query = model.query(context)[0]  # (D,)
    made = (parts(model, content) if found is None else found) @ query  # (n, 1 + K)
    behaviour = model.item_vectors()[items] @ query - made[:, 0]
    return [BEHAVIOUR, *content], torch.cat([behaviour[None], made[:, 1:].T])
