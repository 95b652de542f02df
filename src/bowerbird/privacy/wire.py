"""What travels in a federated round: which rows of the item table, in how many bits, and how many bytes that makes.

The rows of a round come from its seed and its number alone, so they say nothing of anybody's history. What stands in
them does: an answer pulls up the items that a person chose. Only a sum over many people hides that, or noise.

Shapes: I items, S rows of a round, D vector size, G clients.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import check, numpy_stream, torch_stream

HEADER = (
    16  # bytes beside the rows, each way: the round's number, and a scale on the way down or a loss and its pairs up
)
GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it, without their whole part, are spread evenly
BITS = (8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class WireOptions:
    """How much a client may be sent and may send in a round."""

    budget: float = 0.25  # bytes down and up together, as a share of the full item table in float32
    bits: int = 8  # of each number: 8 or 16 (whole numbers), 32 (float32, as it is)
    limit: float = 0.5  # numbers of a person's answer are cut off at plus and minus this; not so with 32 bits

    def __post_init__(self) -> None:
        check(0 < self.budget <= 2, "budget", self.budget, "must be above 0, and 2 at most", try_instead=0.25)
        check(self.bits in BITS, "bits", self.bits, "must be 8, 16 or 32", try_instead=8)
        check(self.limit > 0, "limit", self.limit, "must be above 0", try_instead=0.5)


@dataclass(frozen=True)
class Wire:
    """The options for a table of a known size, and for clients of a known number of people."""

    options: WireOptions
    n_items: int
    dim: int
    people: int = 1  # of a client, at most

    @property
    def table_bytes(self) -> int:
        """The bytes of the full item table in float32."""
        return 4 * self.n_items * self.dim

    @property
    def n_rows(self) -> int:
        """The rows S of a round: as many as the budget holds, there and back."""
        room = self.options.budget * self.table_bytes - 2 * HEADER
        found = min(self.n_items, int(room / (2 * self._row_bytes)))
        check(found >= 2, "budget", self.options.budget, "must hold two rows or more there and back", try_instead=0.25)
        return found

    @property
    def _row_bytes(self) -> float:
        return self.dim * self.options.bits / 8

    @property
    def down_bytes(self) -> int:
        """The bytes that a client is sent in a round."""
        return HEADER + int(self.n_rows * self._row_bytes)

    @property
    def up_bytes(self) -> int:
        """The bytes that a client sends back."""
        return self.down_bytes

    @property
    def levels(self) -> int:
        """The largest whole number of an answer."""
        return int(2 ** (self.options.bits - 1)) - 1

    @property
    def step(self) -> float:
        """What a whole number of an answer stands for; 1 where numbers travel as they are."""
        return self.options.limit * self.people / self.levels if self.options.bits < 32 else 1.0

    def rows(self, seed: int, number: int) -> Tensor:
        """Return the rows of a round, int64 (S,), sorted."""
        drawn = numpy_stream(seed, "rows", number).choice(self.n_items, self.n_rows, replace=False)
        return torch.from_numpy(np.sort(drawn))

    def down(self, vectors: Tensor) -> Tensor:
        """Return item vectors (S, D) as clients read them, rounded to the nearest number that travels."""
        if self.options.bits == 32:
            return vectors
        scale = vectors.abs().max().clamp(min=1e-12) / self.levels
        return (vectors / scale).round_() * scale

    def dither(self, seed: int, number: int) -> Tensor:
        """Return what rounds the answers of a round at random, 0 to 1 (S, D); a client shifts it by its own number."""
        return torch.rand(self.n_rows, self.dim, generator=torch_stream(seed, "dither", number))

    def up(self, answers: Tensor, dither: Tensor, clients: Tensor) -> Tensor:
        """Return answers (G, S, D), in steps and overwritten, as they travel: whole numbers of the same expectation.

        `clients` are their numbers (G,). With 32 bits they are left as they are.
        """
        if self.options.bits == 32:
            return answers
        shift = (clients.double() * GOLDEN).frac().float()[:, None, None]
        return answers.add_((dither + shift).frac_()).floor_().clamp_(-self.levels, self.levels)
