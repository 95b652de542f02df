"""The graph without some of a person's edges: everything travels again, so that others do not stand still.

Shapes: P past items that count, N variants of one request, I items.
"""

from copy import copy

import numpy as np
import torch
from torch import Tensor

from bowerbird.data import Interactions
from bowerbird.explanation.past import Past
from bowerbird.models.graph.lightgcn import LightGCN
from bowerbird.models.graph.ngcf import NGCF
from bowerbird.nn.graph import Graph, pair_matrix


@torch.no_grad()
def without_edges(model: LightGCN | NGCF, train: Interactions, past: Past, removed: Tensor) -> Tensor:
    """Return the scores of all items (N, I) for a known user, for each row of `removed`, bool (N, P).

    One pass over the whole graph each.
    """
    pairs, user, found = pair_matrix(train), int(past.context.user[0]), []
    mine = slice(pairs.indptr[user], pairs.indptr[user + 1])
    again = copy(model)  # with the same vectors, and a graph of its own: others may be asking the model now
    for one in removed:
        left = pairs.copy()
        left.data[mine] = ~np.isin(pairs.indices[mine], past.items[one].cpu().numpy())
        left.eliminate_zeros()
        again.graph = Graph.of_matrix(left).to(model.user.device)
        users, items = again()
        found.append(model.config.scaled(users[user]) @ model.config.served(items).T)
    return torch.stack(found).masked_fill(~model.shaped_item, -torch.inf)
