"""The clients of a federated training, as many as there are, side by side: what each computes on its own device.

A client is a person or a silo of people. A person's row, its moments and its history stay here; what leaves is the sum,
over a client's people, of how they would move the item vectors that the round offers. The persons' rows of all clients
stand in one table only because this is a simulation: no number of one client's people meets another client's.

The loss of a person is that of choosing, among the items offered, those that it chose: −Σ log softmax(u·v/τ). For rows
drawn at random it estimates the softmax over all items (McFadden 1978: a uniform sample of alternatives leaves the
conditional logit consistent).

Shapes: U people, G clients asked, M people of a client (padded with −1), S rows of the round, D vector size.
"""

from dataclasses import dataclass

import torch
from scipy import sparse
from torch import Tensor

from bowerbird.core import check
from bowerbird.data import Interactions
from bowerbird.nn.graph import pair_matrix
from bowerbird.privacy.sides import Side
from bowerbird.privacy.wire import Wire

CELLS = 4_000_000  # numbers of a block of clients: people times rows, or rows times D
PART = 1_000_000  # numbers of answers that are made at once: they stay in the processor's cache
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, on the device


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """What a client does with a round."""

    own_steps: int = 4  # of Adam on a person's own row, before its answer
    own_rate: float = 0.01  # learning rate of these
    local_steps: int = 1  # moves of the item vectors on the device; its own row moves between two of them
    local_rate: float = 0.05  # learning rate of these moves

    def __post_init__(self) -> None:
        check(self.own_steps >= 0, "own_steps", self.own_steps, "must be 0 or more", try_instead=4)
        check(self.own_rate > 0, "own_rate", self.own_rate, "must be above 0", try_instead=0.01)
        check(self.local_steps >= 1, "local_steps", self.local_steps, "must be 1 or more", try_instead=1)
        check(self.local_rate > 0, "local_rate", self.local_rate, "must be above 0", try_instead=0.05)


@dataclass
class Answer:
    """What a server learns of a round: sums over the clients whose answers came in time."""

    total: Tensor  # (S, D): whole numbers, or with 32 bits numbers
    loss: float  # summed over pairs
    pairs: int


class Clients:
    """Everybody's own side."""

    def __init__(
        self, train: Interactions, side: Side, options: ClientOptions, wire: Wire, members: Tensor, clip: float | None
    ) -> None:
        self.matrix: sparse.csr_matrix = pair_matrix(train).tocsr()
        self.matrix.data[:] = 1.0
        self.side, self.options, self.wire, self.members, self.clip = side, options, wire, members, clip
        self.mean = torch.zeros_like(side.own)
        self.square = torch.zeros_like(side.own)
        self.steps = torch.zeros(len(side.own), 1)

    def answer(self, clients: Tensor, keep: Tensor, offered: Tensor, items: Tensor, dither: Tensor) -> Answer:
        """Return the summed answer of those clients (G,) of which `keep`, bool (G,), says that they came in time.

        `offered` are the rows (S,) of the round and `items` their vectors (S, D). People of late clients have moved on
        all the same.
        """
        n = len(offered)
        total = torch.zeros(n, items.shape[1], dtype=torch.float64)
        columns = self.matrix[:, offered.numpy()]
        width = self.members.shape[1]
        size = max(1, CELLS // (n * max(width, items.shape[1])))
        loss, pairs = 0.0, 0
        for some, kept in zip(torch.split(clients, size), torch.split(keep, size), strict=True):
            people = self.members[some]
            there = people >= 0
            chosen = torch.zeros(*people.shape, n)
            chosen[there] = torch.from_numpy(columns[people[there].numpy()].toarray().astype("float32"))
            gaps, vectors, lost = self._moved(people.clamp(min=0), there, chosen, items)
            mine = kept.nonzero()[:, 0]
            for few in torch.split(mine, max(1, PART // items.numel())):
                total += self._sent(gaps[:, few], vectors[:, few], dither, some[few])
            loss += float(lost[kept].sum())
            pairs += int(chosen[kept].sum())
        return Answer(total, loss, pairs)

    def _sent(self, gaps: Tensor, vectors: Tensor, dither: Tensor, clients: Tensor) -> Tensor:
        """Return the sum (S, D) of what these clients send: Σ gap ⊗ vector over moves (J) and people, as it travels.

        `gaps` are (J, G, M, S), `vectors` (J, G, M, D).
        """
        vectors = vectors / self.wire.step
        if gaps.shape[0] * gaps.shape[2] == 1:
            moves = gaps[0, :, 0, :, None] * vectors[0, :, 0, None, :]
        else:
            moves = torch.einsum("jgms,jgmd->gsd", gaps, vectors)
        if self.clip is not None:
            length = moves.flatten(1).norm(dim=1).clamp(min=1e-12) * self.wire.step
            moves *= (self.clip / length).clamp(max=1.0)[:, None, None]
        return self.wire.up(moves, dither, clients).sum(dim=0)

    def _moved(self, people: Tensor, there: Tensor, chosen: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return gaps (J, G, M, S) and vectors (J, G, M, D) of the J moves of each client, and its loss (G,).

        Their people's rows move.

        A client's item vectors after some moves are those of the round and a sum of few outer products, so that no
        copy of the table is made for anyone.
        """
        asked = chosen.sum(dim=2, keepdim=True)
        there = there & (asked[:, :, 0] > 0)  # whom none of the rows concerns has nothing to learn from them
        before: list[tuple[Tensor, Tensor]] = []  # gaps (G, M, S) and vectors (G, M, D) of earlier moves
        for _ in range(self.options.own_steps):
            self._step(people, there, chosen, asked, items, before)
        loss = torch.zeros(len(people))
        for step in range(self.options.local_steps):
            if step:
                self._step(people, there, chosen, asked, items, before)
            with torch.no_grad():
                vectors = self.side.vectors(self.side.own[people], people)
                gap, lost = self._gap(vectors, chosen, asked, items, before)
                gap = gap * there[:, :, None]
                loss = loss if step else (lost * there).sum(dim=1)
                before.append((gap, vectors))
        return torch.stack([gap for gap, _ in before]), torch.stack([one for _, one in before]), loss

    def _gap(
        self, vectors: Tensor, chosen: Tensor, asked: Tensor, items: Tensor, before: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Return what was chosen less what was expected (G, M, S), and the loss of each person (G, M)."""
        scores = vectors @ items.T
        for gap, others in before:  # what the client's own moves add to its scores
            alike = torch.einsum("gmd,gnd->gmn", vectors, others)
            scores = scores + self.options.local_rate * torch.einsum("gmn,gns->gms", alike, gap)
        log = torch.log_softmax(scores / self.side.temperature, dim=2)
        return chosen - asked * log.exp(), -(chosen * log).sum(dim=2)

    def _step(
        self, people: Tensor, there: Tensor, chosen: Tensor, asked: Tensor, items: Tensor,
        before: list[tuple[Tensor, Tensor]],
    ) -> None:  # fmt: skip
        """Take a step of Adam on the rows of these people, padding and those without a choice left out."""
        own = self.side.own[people].requires_grad_()
        vectors = self.side.vectors(own, people)
        with torch.no_grad():
            gap, _ = self._gap(vectors, chosen, asked, items, before)
            up = gap @ items
            for other, others in before:
                inner = torch.einsum("gms,gns->gmn", gap, other)
                up = up + self.options.local_rate * torch.einsum("gmn,gnd->gmd", inner, others)
            up = up / (asked.clamp(min=1) * self.side.temperature)
        (gradient,) = torch.autograd.grad(vectors, own, -up)
        who = people[there]
        gradient = gradient[there]
        self.steps[who] += 1
        self.mean[who] = BETA1 * self.mean[who] + (1 - BETA1) * gradient
        self.square[who] = BETA2 * self.square[who] + (1 - BETA2) * gradient.square()
        mean = self.mean[who] / (1 - BETA1 ** self.steps[who])
        square = self.square[who] / (1 - BETA2 ** self.steps[who])
        self.side.own[who] -= self.options.own_rate * mean / (square.sqrt() + EPSILON)
