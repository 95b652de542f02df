"""One release under a person's privacy: what people chose together, summed with noise, and an item model made of it.

Each person adds the outer product of their own choices, scaled to length 1, to a matrix of items by items; noise goes
onto the sum once (the Gaussian mechanism), and what is made of it later costs nothing more. A first, small part of the
promise is spent on popularity, which picks the items and how much each counts. Scoring needs a person's history, which
stays with that person: the released model is an `ease` whose weights have low rank.

Papers:  Dwork, Talwar, Thakurta and Zhang, STOC 2014 (noise on the Gram matrix); Dong, Roth and Su, JRSS B 2022,
         arXiv:1905.02383 (two Gaussian releases are one: precisions add); Benaych-Georges and Nadakuditi, 2011,
         arXiv:0910.2120 (what noise does to the leading eigenvalues, undone here).
Cost:    O(n³) for the n items kept.
Shapes:  U people, I items, n items kept, R directions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.core import RunOptions, check, torch_stream
from bowerbird.data import Interactions
from bowerbird.models.baselines.ease import EASEConfig
from bowerbird.models.baselines.popularity import PopularityConfig
from bowerbird.nn.graph import pair_matrix
from bowerbird.privacy.accountant import Accountant, noise_for
from bowerbird.privacy.bare import knowing_nobody
from bowerbird.recommender import Recommender


@dataclass(frozen=True, kw_only=True)
class ReleaseOptions:
    """What is promised, and how the release is made."""

    epsilon: float = 8.0  # inf adds no noise
    delta: float = 1e-6
    items: int = 1_000  # the most chosen by the noisy counts; others are never recommended
    power: float = 0.2  # an item counts by its popularity to the minus this, so that the rest is heard
    rank: int = 64  # directions kept, R
    ridge: float = 20.0  # people's worth of doubt about each direction
    counts: float = 0.05  # share of the promise (of precision) spent on popularity

    def __post_init__(self) -> None:
        check(self.epsilon > 0, "epsilon", self.epsilon, "must be above 0", try_instead=8.0)
        check(0 < self.delta < 1, "delta", self.delta, "must be above 0 and below 1", try_instead=1e-6)
        check(self.items >= 2, "items", self.items, "must be 2 or more", try_instead=1_000)
        check(0 <= self.power <= 1, "power", self.power, "must be 0 to 1", try_instead=0.2)
        check(self.rank >= 1, "rank", self.rank, "must be 1 or more", try_instead=64)
        check(self.ridge >= 0, "ridge", self.ridge, "must be 0 or more", try_instead=20.0)
        check(0 < self.counts < 1, "counts", self.counts, "must be above 0 and below 1", try_instead=0.05)


@dataclass
class Released:
    """An item model that anyone may see, and what was promised for it."""

    recommender: Recommender  # knows nobody; people ask with their histories
    accountant: Accountant
    delta: float
    epsilon: float  # spent
    directions: int  # that stand out of the noise


def release(train: Interactions, options: ReleaseOptions | None = None, *, run: RunOptions | None = None) -> Released:
    """Return an item model under a promise to each person. Which items there are is public, and how many people."""
    options, run = options or ReleaseOptions(), run or RunOptions()
    noise = noise_for(options.epsilon, options.delta)
    for_counts, for_pairs = noise / options.counts**0.5, noise / (1 - options.counts) ** 0.5
    counts = noisy_counts(train, for_counts, run.seed)
    kept = torch.topk(counts, min(options.items, train.n_items)).indices.sort().values
    least = max(1.0, for_counts)  # a count below its own noise says nothing
    weight = (counts[kept].clamp(min=least) / counts.max().clamp(min=least)) ** -options.power
    rows = torch.from_numpy(pair_matrix(train)[:, kept.numpy()].toarray()) * weight
    rows = functional.normalize(rows, dim=1)
    gram = (rows.T @ rows).double() + for_pairs * _symmetric(len(kept), run.seed)
    values, vectors = _directions(gram, for_pairs, options.rank)
    solved = (vectors * (values / (values + options.ridge))) @ vectors.T
    table = torch.zeros(train.n_items, train.n_items)
    table[kept[:, None], kept] = (weight[:, None] * solved.float()).fill_diagonal_(0.0)
    rec = knowing_nobody(EASEConfig(), train, run)
    rec.model.weights, rec.popularity.counts = table, counts.clamp(min=0)
    accountant = Accountant("person", [(for_counts, 1.0, 1), (for_pairs, 1.0, 1)])
    return Released(rec, accountant, options.delta, accountant.epsilon(options.delta), len(values))


def release_popularity(train: Interactions, epsilon: float, delta: float, *, run: RunOptions | None = None) -> Released:
    """Return popularity under a promise to each person: what a release has to beat."""
    run, noise = run or RunOptions(), noise_for(epsilon, delta)
    rec = knowing_nobody(PopularityConfig(), train, run)
    rec.model.counts = rec.popularity.counts = noisy_counts(train, noise, run.seed)
    accountant = Accountant("person", [(noise, 1.0, 1)])
    return Released(rec, accountant, delta, accountant.epsilon(delta), 1)


def noisy_counts(train: Interactions, noise: float, seed: int) -> Tensor:
    """Return how often each item is chosen (I,), each person's choices scaled to length 1, and noise."""
    pairs = train.positives
    each = np.bincount(pairs.user, minlength=train.n_users).clip(min=1) ** -0.5
    total = np.bincount(pairs.item, weights=each[pairs.user], minlength=train.n_items).astype(np.float32)
    draw = torch_stream(seed, "private", "counts")
    return torch.from_numpy(total) + noise * torch.randn(train.n_items, generator=draw)


def _symmetric(n: int, seed: int) -> Tensor:
    """Return noise for a symmetric matrix (n, n), float64, of which each unit of Frobenius length hides in 1.

    The two halves are one number each, which counts √2 in the length: their deviation is 1/√2, the diagonal's is 1.
    """
    drawn = torch.randn(n, n, generator=torch_stream(seed, "private", "pairs"), dtype=torch.float64)
    upper = torch.triu(drawn, 1) / 2**0.5
    return upper + upper.T + torch.diag(drawn.diagonal())


def _directions(gram: Tensor, noise: float, rank: int) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (R,) and vectors (n, R) that stand out of the noise, the values as they were before it.

    Noise of deviation s off the diagonal fills ±2s√n with eigenvalues, and turns a true value λ above s√n into
    l = λ + s²n/λ; what is found is λ, times the squared cosine 1 − s²n/λ of the direction found to the true one.
    """
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values[-rank:], vectors[:, -rank:]
    square = noise**2 / 2 * len(gram)  # s²n
    alive = values > max(2 * square**0.5, 1e-9)
    values, vectors = values[alive], vectors[:, alive]
    before = (values + (values.square() - 4 * square).clamp(min=0).sqrt()) / 2
    return before * (1 - square / before.square()), vectors
