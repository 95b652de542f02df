"""Crossmodal: what people choose gives items vectors, and what items say, show and sound like learns to foretell them.

Behaviour is least squares over all pairs (`nn.factors`). Content is mapped to where people's vectors find it: by a
kernel over all modalities at once, which begins as ridge regression to the vectors of behaviour and then learns, as a
softmax over items, whom an item is for. An item that nobody chose is served by its content; each event moves it towards
its behaviour. Beside that, a tower for each modality learns one space with behaviour, in which texts find pictures.

Paper:   Radford et al., ICML 2021, arXiv:2103.00020 (symmetric InfoNCE, learned temperature); Hu, Koren and Volinsky,
         ICDM 2008 (behaviour); Wang and Blei, KDD 2011 (content as what an item is before its first choice).
Differs: content meets behaviour in fixed vectors of people, not of items alone; encoders of content are frozen. Missing
         modalities are left out of every mean and every contrast.
Cost:    least squares as ials; then a step is O(B * N * D + L * (B + N) * D), and keeps I * L features of training
         beside (2 * I + L) * D weights and L * M numbers of landmarks.
Shapes:  I items, P people, B batch rows, N negatives, L landmarks, D vector size, M size of a modality's vectors.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import check, check_room, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.nn.content import ContentConfig, Directions, Kernel, Vectors, content_of, ridge_map
from bowerbird.nn.factors import LeastSquares, lists
from bowerbird.nn.graph import pair_matrix
from bowerbird.nn.losses import info_nce, local, pair_loss
from bowerbird.nn.vectors import DotProduct, grown

FUSIONS = ("early", "late", "gated")
OTHERS = 1_024  # items that are told from each other at once
BLOCK = 8_192  # items whose content is read at once
INTERCEPT = 0.55  # what the kernel adds for any two items, as a root


@dataclass(frozen=True, kw_only=True)
class CrossmodalConfig(ContentConfig):
    """How behaviour is found, how modalities meet, and how content is mapped to behaviour."""

    dim: int = 128
    penalty: float = 0.006  # λ of least squares, for each choice
    unobserved: float = 1_000.0  # weight of all items together as not chosen, in least squares
    sweeps: int = 10  # times that users and items take turns in it
    fusion: str = "early"  # "early": one kernel over all modalities; "late": the mean of their towers; "gated": weighed
    landmarks: int = 4_096  # L: items whose content all other content is compared with
    width: float = 0.6  # of the kernel, in squared distances between unlike items
    ridge: float = 0.2  # penalty of the regression that the map begins as
    events: float = 4.0  # how many events count as much as content where both say what an item is
    contrast: float = 0.1  # weight of telling items apart by any two modalities; 0 leaves it, and search, out
    hidden: int = 256  # size of the hidden layer of a modality's tower
    dropout: float = 0.2  # in these towers
    negatives: int | None = 512
    temperature: float = 0.08  # at which training begins; it is learned
    cosine: bool = False
    l2: float = 0.3  # weight of the penalty on how far the map goes from where it began, or towers from behaviour
    batch_size: int = 8_192
    learning_rate: float = 2e-3
    epochs: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = ", ".join(FUSIONS)
        check(self.fusion in FUSIONS, "fusion", self.fusion, f"must be one of {allowed}", try_instead="early")
        check(self.penalty > 0, "penalty", self.penalty, "must be above 0", try_instead=0.006)
        check(self.unobserved > 0, "unobserved", self.unobserved, "must be above 0", try_instead=1_000.0)
        check(self.sweeps >= 1, "sweeps", self.sweeps, "must be 1 or more", try_instead=10)
        check(self.landmarks >= 1, "landmarks", self.landmarks, "must be 1 or more", try_instead=4_096)
        check(self.width > 0, "width", self.width, "must be above 0", try_instead=0.6)
        check(self.ridge > 0, "ridge", self.ridge, "must be above 0", try_instead=0.2)
        check(self.events >= 0, "events", self.events, "must be 0 or more", try_instead=4.0)
        check(self.contrast >= 0, "contrast", self.contrast, "must be 0 or more", try_instead=0.1)
        check(self.hidden >= 1, "hidden", self.hidden, "must be 1 or more", try_instead=256)
        check(0 <= self.dropout < 1, "dropout", self.dropout, "must be 0 or more and below 1", try_instead=0.2)


@register(
    "crossmodal",
    config=CrossmodalConfig,
    batches=Pairs,
    tags=("multimodal", "contrastive", "retriever", "trained", "content", "cold-user", "cold-item"),
    search={
        "width": (0.3, 1.2), "ridge": (0.05, 2.0), "events": (1.0, 30.0), "penalty": (3e-4, 0.1),
        "unobserved": (30.0, 3_000.0), "learning_rate": (5e-4, 5e-3),
    },
)  # fmt: skip
class Crossmodal(DotProduct):
    """Scores an item by the dot product of its vector with the one that least squares finds for the history."""

    behaviour: Tensor
    chosen: Tensor
    items: Tensor
    gram: Tensor
    places: Tensor
    begun: Tensor
    start: Tensor
    dual: Tensor
    stretch: Tensor

    def __init__(self, config: CrossmodalConfig, schema: Schema) -> None:
        super().__init__(schema)
        self.config, dim, sizes = config, config.dim, dict(schema.item_content)
        self.directions = Directions(sizes)
        self.register_buffer("behaviour", torch.zeros(schema.n_items, dim))  # by least squares
        self.register_buffer("chosen", torch.zeros(schema.n_items))  # people who chose each item
        self.register_buffer("items", torch.zeros(schema.n_items, dim))  # as they meet requests
        self.register_buffer("gram", torch.zeros(dim, dim))
        self.register_buffer("places", torch.zeros(schema.n_items, dim))  # unit vectors in the space of modalities
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))  # whether a training has set it up
        self.register_buffer("stretch", torch.ones(()))  # what makes content's vectors as long as behaviour's
        self.sharpness = nn.Parameter(torch.zeros(()))  # log of what scores are multiplied by
        self.early = config.fusion == "early"
        if self.early:
            self.kernel = Kernel(sizes, config.weights(tuple(sizes)), config.landmarks, config.width)
            self.map = nn.Parameter(torch.zeros(config.landmarks + 1, dim))  # of features, the last a constant
            self.register_buffer("start", torch.zeros(config.landmarks + 1, dim))
            self.register_buffer("dual", torch.zeros(config.landmarks + 1, dim))  # the map of likeness itself
        if self.aligns or not self.early:
            self.towers = nn.ModuleList(self._tower(size) for size in sizes.values())
        if self.aligns:
            self.of_behaviour = nn.Linear(dim, dim)
            self.contrast_sharpness = nn.Parameter(torch.tensor(2.66))  # log of 1 / 0.07, as in CLIP
        if config.fusion == "gated":
            self.gates = nn.ModuleList(nn.Linear(size, 1) for size in sizes.values())

    def _tower(self, size: int) -> nn.Module:
        config = self.config
        return nn.Sequential(
            nn.Linear(size, config.hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, config.dim)
        )

    @property
    def aligns(self) -> bool:
        """Whether modalities learn one space."""
        return self.config.contrast > 0

    @property
    def squares(self) -> LeastSquares:
        """What holds vectors of behaviour back."""
        return LeastSquares(self.config.penalty, self.config.unobserved, 1.0)

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def prepare(self, train: Interactions) -> None:
        """Find behaviour, read content, and begin the map as a regression from one to the other."""
        device, content = self.items.device, content_of(train, self.items.device)
        pairs = pair_matrix(train)
        chosen = torch.from_numpy(np.asarray(pairs.sum(axis=0), np.float32).ravel()).to(device)
        first = not bool(self.begun)
        if first:
            self.behaviour = self.squares.alternate(
                pairs, self.config.dim, self.config.sweeps, np.random.default_rng(0), device
            )
            self.directions.fit(content)
        self._people = self._half_step(*lists(pairs, device), self.behaviour, chosen)
        if not first and not torch.equal(chosen, self.chosen):
            self._follow(pairs, chosen)
        self.chosen = chosen
        self._vectors, self._there = self.directions(content)
        length = self._people.square().sum(dim=1).mean().sqrt().clamp(min=1e-6)
        self._people, self._length = self._people / length, length  # scores are about 1, whatever the data
        told = torch.stack(self._there).any(dim=0)
        if self.early:
            self._begin(told & (chosen > 0), first)
        self.shaped_item = (chosen > 0) | told
        self.begun.fill_(True)

    def _half_step(self, offsets: Tensor, item: Tensor, table: Tensor, chosen: Tensor) -> Tensor:
        n = int((chosen > 0).sum())
        return self.squares.half_step(offsets, item, table, table.T @ table, n, self.squares.alpha(n))

    def _follow(self, pairs: Any, chosen: Tensor) -> None:
        """Solve the vectors of items anew whose number of people has changed, with all people held."""
        offsets, user = lists(pairs.T.tocsr(), self.items.device)
        n_users = int((np.diff(pairs.indptr) > 0).sum())
        alpha = self.squares.alpha(int((chosen > 0).sum()))
        found = self.squares.half_step(offsets, user, self._people, self._people.T @ self._people, n_users, alpha)
        self.behaviour = torch.where((chosen != self.chosen)[:, None], found, self.behaviour)

    def _begin(self, rows: Tensor, first: bool) -> None:
        """Take landmarks, and begin the map as kernel ridge regression; then only read the features of all items."""
        config, kernel = self.config, self.kernel
        n = len(self.items)
        check_room(f"The likeness of {n:,} items and {config.landmarks:,} landmarks", 4 * n * config.landmarks,
                   instead="Choose fewer landmarks.")  # fmt: skip
        if first:
            known = rows.nonzero()[:, 0]
            order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0)).to(known.device)
            kernel.fit(self._vectors, self._there, known[order[: config.landmarks]])
        self._whitening = kernel.whitening()
        blocks = [
            kernel.likeness([one[at] for one in self._vectors], [one[at] for one in self._there]) @ self._whitening
            for at in torch.split(torch.arange(n, device=rows.device), BLOCK)
        ]
        self._features = functional.pad(torch.cat(blocks), (0, 1), value=INTERCEPT)
        if first and bool(rows.any()):
            self.start.copy_(ridge_map(self._features[rows], self.behaviour[rows] * self._length, config.ridge))
            self.map.data.copy_(self.start)

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive's content among that of other items, and the contrast of modalities (B,)."""
        config = self.config
        query = self._people[batch.user] * self.sharpness.exp()
        named, near = local(batch, len(self.items))
        content = self._content(named)
        loss = pair_loss(config, query, content, near)
        if self.early:
            loss = loss + config.l2 / len(self.map) * (self.map - self.start).square().sum()
        else:  # a softmax does not see what all vectors have in common
            mine = self._length * self.behaviour[named]
            apart = (content - mine).square() * (self.chosen[named] > 0)[:, None]
            loss = loss + config.l2 * apart.sum() / mine.square().sum().clamp(min=1e-9)
        return loss + config.contrast * self._contrast(batch.item) if self.aligns else loss

    def _content(self, rows: Tensor) -> Tensor:
        """Return what content says that items are (n, D), in the scale of training."""
        if self.early:
            return self._features[rows] @ self.map
        there = torch.stack([one[rows] for one in self._there], dim=1)
        return self._fused([one[rows] for one in self._vectors], there)

    def _fused(self, vectors: list[Tensor], there: Tensor) -> Tensor:
        """Return the mean of the towers that are `there`, (…, n, K), by gates where there are any, as (…, n, D).

        Items without content have zeros.
        """
        towers = torch.stack([tower(one) for tower, one in zip(self.towers, vectors, strict=True)], dim=1)
        if self.config.fusion == "gated":
            gate = torch.cat([gate(one) for gate, one in zip(self.gates, vectors, strict=True)], dim=1)
            weight = gate.masked_fill(~there, -1e4).softmax(dim=-1) * there
        else:
            weight = there / there.sum(dim=-1, keepdim=True).clamp(min=1)
        return torch.einsum("...nm,nmd->...nd", weight, towers)

    def _contrast(self, items: Tensor) -> Tensor:
        """Return what it costs to find each item among others by one modality in another, behaviour being one too."""
        rows = torch.unique(items)
        rows = rows[torch.randperm(len(rows), device=rows.device)[:OTHERS]]
        views = [tower(one[rows]) for tower, one in zip(self.towers, self._vectors, strict=True)]
        views.append(self.of_behaviour(functional.normalize(self.behaviour[rows], dim=1)))
        there = [*(one[rows] for one in self._there), self.chosen[rows] > 0]
        temperature, costs = (-self.contrast_sharpness).exp().clamp(min=0.01), []
        for one, other in combinations(range(len(views)), 2):
            both = there[one] & there[other]
            if int(both.sum()) > 1:
                here, far = views[one][both], views[other][both]
                costs.append(info_nce(here, far, temperature=temperature).mean())
                costs.append(info_nce(far, here, temperature=temperature).mean())
        return torch.stack(costs).mean() if costs else sum(view.sum() for view in views) * 0.0

    # ── serving ───────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep every item as it meets requests: its content and its behaviour, weighed by how many people chose it."""
        if self.early:
            self.dual.copy_(torch.cat([self._whitening @ self.map[:-1], INTERCEPT * self.map[-1:]]))
        told, chosen = torch.stack(self._there).any(dim=0), self.chosen > 0
        content = torch.cat([self._content(at) for at in torch.split(torch.arange(len(self.items)), BLOCK)])
        both = told & chosen
        mine, found = self.behaviour[both], content[both]
        if len(mine):
            self.stretch.copy_((mine * found).sum() / found.square().sum().clamp(min=1e-12))
        content = content * self.stretch
        trust = torch.where(told, self.chosen / (self.chosen + self.config.events).clamp(min=1e-9), 1.0)[:, None]
        self.items = trust * self.behaviour + (1 - trust) * content
        self.gram = self.items.T @ self.items
        if self.aligns:
            self.places = self._placed(self._vectors, torch.stack(self._there, dim=1))

    def _placed(self, vectors: list[Tensor], there: Tensor) -> Tensor:
        """Return the mean direction of the modalities that there are (n, D), zeros without any."""
        towers = [functional.normalize(tower(one), dim=1) for tower, one in zip(self.towers, vectors, strict=True)]
        return functional.normalize(torch.einsum("nm,nmd->nd", there.float(), torch.stack(towers, dim=1)), dim=1)

    @torch.no_grad()
    def embed(self, content: Vectors) -> Tensor:
        """Return what items with this content are before anybody chose them (n, D)."""
        vectors, there = self.directions(content)
        return self._embedded(vectors, torch.stack(there))

    @torch.no_grad()
    def embed_without_each(self, content: Vectors) -> Tensor:
        """Return what `embed` does, and that without each of the K modalities in turn (1 + K, n, D)."""
        vectors, there = self.directions(content)
        alone = ~torch.eye(len(there), dtype=torch.bool, device=there[0].device)
        told = torch.stack(there) & torch.cat([torch.ones_like(alone[:1]), alone])[:, :, None]  # (1 + K, K, n)
        return self._embedded(vectors, told.transpose(0, 1))

    def _embedded(self, vectors: list[Tensor], there: Tensor) -> Tensor:
        """Return what content is that has the modalities `there`, (K, …, n), as (…, n, D)."""
        if self.early:
            likeness = functional.pad(self.kernel.likeness(vectors, list(there)), (0, 1), value=1.0)
            return likeness @ self.dual * self.stretch
        return self._fused(vectors, there.movedim(0, -1)) * self.stretch

    @torch.no_grad()
    def place(self, content: Vectors) -> Tensor:
        """Return where content stands in the space of modalities (n, D), unit vectors, to be compared with `places`."""
        vectors, there = self.directions(content)
        return self._placed(vectors, torch.stack(there, dim=1))

    def query(self, context: Context) -> Tensor:
        """Return the vectors that least squares finds for the histories (B, D), zeros where nothing speaks."""
        return self.squares.answers(context.history, self.items, self.gram, int(self.shaped_item.sum()))

    def queries_without_each(self, context: Context) -> Tensor:
        """Return the vectors for one history without each of its items that count, two at least (P, D)."""
        return self.squares.without_each(context.history, self.items, self.gram, int(self.shaped_item.sum()))

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        return self.items

    def grow(self, n_users: int, n_items: int) -> None:
        """New items are what their content says, from the next `prepare` and `freeze` on."""
        self.grow_shaped(n_users, n_items)
        self.behaviour, self.items = grown(self.behaviour, n_items), grown(self.items, n_items)
        self.chosen, self.places = grown(self.chosen, n_items), grown(self.places, n_items)
