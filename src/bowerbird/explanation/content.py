"""What each kind of content adds to a score, and what people's behaviour adds: the item again without each of them.

An item that nobody chose is its content alone; another one's behaviour adds what its content leaves.

Shapes: n items, M size of a kind of content, D vector size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from bowerbird.features import Context
from bowerbird.features.contracts import ContentRetriever

BEHAVIOUR = "behaviour"


@torch.no_grad()
def modalities(
    model: ContentRetriever, context: Context, items: Tensor, content: Mapping[str, Tensor]
) -> tuple[list[str], Tensor]:
    """Return names, and what each adds to the scores of items (n,) in the eyes of one request, (names, n).

    `content` holds that of these items, (n, M) each, rows of NaN where an item has none: there it adds 0.
    """
    query = model.query(context)[0]  # (D,)
    whole = model.embed(content) @ query
    added = [model.item_vectors()[items] @ query - whole]
    told = torch.stack([~one.isnan().any(dim=1) for one in content.values()])  # (kinds, n)
    for name, there in zip(content, told, strict=True):
        alone = there & (told.sum(dim=0) == 1)  # without it nothing would be said at all
        without = model.embed({**content, name: torch.full_like(content[name], torch.nan)}) @ query
        added.append(torch.where(there, whole - torch.where(alone, 0.0, without), 0.0))
    return [BEHAVIOUR, *content], torch.stack(added)
