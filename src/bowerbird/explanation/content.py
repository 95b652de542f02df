"""What each kind of content adds to a score, and what people's behaviour adds: the item again without each of them.

An item that nobody chose is its content alone; another one's behaviour adds what its content leaves.

Shapes: n items, K kinds of content, M size of one, D vector size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from bowerbird.features import Context
from bowerbird.features.contracts import ContentRetriever

BEHAVIOUR = "behaviour"


@torch.no_grad()
def parts(model: ContentRetriever, content: Mapping[str, Tensor]) -> Tensor:
    """Return what items are by their content, and what each kind of it adds to that, (n, 1 + K, D).

    `content` is (n, M) of each kind, rows of NaN where an item has none: there it adds 0. The only kind that an item
    has adds all: without it nothing would be said. Nobody's request has a say in this.
    """
    told = torch.stack([~one.isnan().any(dim=1) for one in content.values()])  # (K, n)
    asked = {
        name: torch.cat([torch.full_like(one, torch.nan) if name == left_out else one for left_out in ("", *content)])
        for name, one in content.items()
    }
    whole, *without = torch.split(model.embed(asked), told.shape[1])
    added = []
    for there, left in zip(told, without, strict=True):
        alone = there & (told.sum(dim=0) == 1)
        lost = whole - torch.where(alone[:, None], 0.0, left)
        added.append(torch.where(there[:, None], lost, 0.0))
    return torch.stack([whole, *added], dim=1)


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
