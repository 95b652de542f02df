"""What a policy believes of candidates: how much each is worth, and how sure that is.

Rewards are of what was looked at. A place that is looked at with chance e shows e · reward on average (the model of
positions of Craswell et al., WSDM 2008), so features and counts are multiplied by e, and places far down teach little.

Shapes: B requests, C candidates (−1 for empty places), D features, n shown places that something is known of.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bowerbird.core import DataError, check, torch_stream

Describe = Callable[[Any, Tensor, Tensor], Tensor]  # a context, candidates and scores (B, C) → features (B, C, D)


@dataclass(frozen=True)
class Feedback:
    """What came of places that were shown; the order does not matter, and what is late may come later."""

    item: Tensor  # int64 (n,)
    reward: Tensor  # float32 (n,), NaN where it is not known: nothing is learned from that
    position: Tensor  # int64 (n,), from 1
    features: Tensor | None = None  # float32 (n, D), as they were when the place was filled

    def __post_init__(self) -> None:
        lengths = {len(self.item), len(self.reward), len(self.position)}
        if len(lengths) > 1 or (self.features is not None and len(self.features) not in lengths):
            raise DataError("item, reward, position and features must be of one length.")
        if bool((self.position < 1).any()):
            row = int((self.position < 1).nonzero()[0])
            raise DataError(f"position is {int(self.position[row])} in row {row}; the first place is 1.")

    def known(self) -> "Feedback":
        """Return the places whose reward is known."""
        there = ~self.reward.isnan()
        if bool(there.all()):
            return self
        features = None if self.features is None else self.features[there]
        return Feedback(self.item[there], self.reward[there], self.position[there], features)


@dataclass(frozen=True)
class Believed:
    """A normal belief about each candidate; minus infinity is the mean of empty places."""

    mean: Tensor  # (B, C)
    sd: Tensor  # (B, C)
    root: Tensor | None = None  # (B, C, D): products of its rows are covariances; without it candidates are independent

    def draws(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n draws of what all candidates are worth, (n, B, C)."""
        if self.root is None:
            noise = torch.randn(n, *self.mean.shape, generator=generator)
            return self.mean + noise * self.sd
        noise = torch.randn(self.root.shape[-1], n, generator=generator)
        return self.mean + (self.root @ noise).movedim(-1, 0)


class Belief(Protocol):
    """What candidates are worth."""

    def believe(self, context: Any, candidates: Tensor, scores: Tensor) -> Believed:
        """Return what is believed of candidates."""
        ...

    def describe(self, context: Any, candidates: Tensor, scores: Tensor) -> Tensor | None:
        """Return the features that `learn` is to be given again (B, C, D); None where it needs none."""
        ...

    def learn(self, feedback: Feedback) -> None:
        """Learn from what came of places."""
        ...


def examination(power: float, k: int) -> tuple[float, ...]:
    """Return the chance that somebody looks at each of k places: position to the power of −`power`."""
    return tuple(place**-power for place in range(1, k + 1))


class _Seen:
    """The chance that a place is looked at; beyond those given, that of the last."""

    def __init__(self, examined: Sequence[float]) -> None:
        good = len(examined) > 0 and all(0 < one <= 1 for one in examined)
        check(good, "examined", examined, "must be chances above 0 and at most 1", try_instead=(1.0,))
        self._chance = torch.tensor(list(examined), dtype=torch.float32)

    def __call__(self, position: Tensor) -> Tensor:
        return self._chance[(position - 1).clamp(max=len(self._chance) - 1)]


class Scores:
    """The ranker's scores of a request, centred and scaled to unit variance: they are sure, and learn nothing."""

    def believe(self, context: Any, candidates: Tensor, scores: Tensor) -> Believed:
        """Return scores of one scale for all requests, so that a temperature means the same for each."""
        scaled = standardised(candidates, scores)
        return Believed(scaled, torch.zeros_like(scaled))

    def describe(self, context: Any, candidates: Tensor, scores: Tensor) -> Tensor | None:
        """Return None."""
        return None

    def learn(self, feedback: Feedback) -> None:
        """Learn nothing."""


class Means:
    """The mean reward of each item, whoever asked.

    With prior mean m worth one look, an item that was looked at n times has mean (m + Σ reward) / (1 + n) and standard
    deviation √(m (1 − m) / (1 + n)), m being the mean reward of all that was seen.
    """

    def __init__(self, examined: Sequence[float] = (1.0,), forget: float = 1.0) -> None:
        """`forget` is what is left of old looks with each lesson; 1 keeps all."""
        check(0 < forget <= 1, "forget", forget, "must be above 0 and at most 1", try_instead=0.99)
        self.examined, self.forget = _Seen(examined), forget
        self._seen = torch.zeros(0), torch.zeros(0)  # looks and rewards of each item; replaced whole

    def believe(self, context: Any, candidates: Tensor, scores: Tensor) -> Believed:
        """Return means and standard deviations of items."""
        looks, rewards = self._seen
        prior = (0.5 + float(rewards.sum())) / (1 + float(looks.sum()))
        known = (candidates >= 0) & (candidates < len(looks))
        rows = torch.where(known, candidates, len(looks))
        looks, rewards = (torch.cat([one, one.new_zeros(1)])[rows] for one in (looks, rewards))
        looks = 1 + looks
        mean = (prior + rewards) / looks
        sd = math.sqrt(max(prior * (1 - prior), 1e-4)) / looks.sqrt()
        return Believed(mean.masked_fill(candidates < 0, -torch.inf), sd)

    def describe(self, context: Any, candidates: Tensor, scores: Tensor) -> Tensor | None:
        """Return None."""
        return None

    def learn(self, feedback: Feedback) -> None:
        """Count looks and rewards."""
        known = feedback.known()
        if not len(known.item):
            return
        n = max(int(known.item.max()) + 1, len(self._seen[0]))  # items that come later are as unknown as all at first
        looks, rewards = (torch.cat([self.forget * one, one.new_zeros(n - len(one))]) for one in self._seen)
        looks.index_add_(0, known.item, self.examined(known.position))
        rewards.index_add_(0, known.item, known.reward)
        self._seen = looks, rewards


class Linear:
    """Rewards linear in features: the posterior of ridge regression with noise σ (Li et al., WWW 2010, eq. 3 to 5).

    A = λ I + Σ e² x xᵀ / σ², b = Σ e x r / σ²; the weights are normal with mean A⁻¹ b and covariance A⁻¹.
    """

    def __init__(
        self,
        describe: Describe,
        dim: int,
        *,
        examined: Sequence[float] = (1.0,),
        ridge: float = 1.0,
        noise: float = 0.5,
        forget: float = 1.0,
    ) -> None:
        """`forget` is what is left of what was learned with each lesson (Russac et al., NeurIPS 2019); 1 keeps all."""
        check(ridge > 0, "ridge", ridge, "must be above 0", try_instead=1.0)
        check(noise > 0, "noise", noise, "must be above 0", try_instead=0.5)
        check(0 < forget <= 1, "forget", forget, "must be above 0 and at most 1", try_instead=0.99)
        self._describe, self.dim, self.examined = describe, dim, _Seen(examined)
        self.ridge, self.noise, self.forget = ridge, noise, forget
        self.reset()

    def reset(self) -> None:
        """Know nothing."""
        self._a = torch.zeros(self.dim, self.dim, dtype=torch.float64)  # without the ridge
        self._b = torch.zeros(self.dim, dtype=torch.float64)
        self._solve()

    def believe(self, context: Any, candidates: Tensor, scores: Tensor) -> Believed:
        """Return what features say of candidates."""
        features = self._describe(context, candidates, scores)
        return self.of(features, candidates)

    def of(self, features: Tensor, candidates: Tensor) -> Believed:
        """Return what features (B, C, D) say."""
        root = features @ self._root
        mean = (features @ self._weights).masked_fill(candidates < 0, -torch.inf)
        return Believed(mean, root.square().sum(dim=-1).sqrt(), root)

    def describe(self, context: Any, candidates: Tensor, scores: Tensor) -> Tensor | None:
        """Return the features (B, C, D)."""
        return self._describe(context, candidates, scores)

    def learn(self, feedback: Feedback) -> None:
        """Add what came of places to the posterior."""
        known = feedback.known()
        if known.features is None or known.features.shape[1] != self.dim:
            got = "none" if known.features is None else known.features.shape[1]
            raise DataError(f"feedback has {got} features; this policy asks for {self.dim} of each place.")
        if not len(known.item):
            return
        x = (known.features * self.examined(known.position)[:, None]).double()
        self._a = self.forget * self._a + x.T @ x / self.noise**2
        self._b = self.forget * self._b + x.T @ known.reward.double() / self.noise**2
        self._solve()

    def _solve(self) -> None:
        whole = self._a + self.ridge * torch.eye(self.dim, dtype=torch.float64)
        lower = torch.linalg.cholesky(whole)
        self._weights = torch.cholesky_solve(self._b[:, None], lower)[:, 0].float()
        inverse = torch.linalg.solve_triangular(lower, torch.eye(self.dim, dtype=torch.float64), upper=False)
        self._root = inverse.T.float()  # root · rootᵀ is the covariance


class NeuralLinear:
    """Rewards linear in the last layer of a network that is trained now and then (Riquelme et al., ICLR 2018)."""

    def __init__(
        self,
        describe: Describe,
        dim: int,
        *,
        examined: Sequence[float] = (1.0,),
        hidden: int = 32,
        every: int = 2_000,
        remembered: int = 50_000,
        epochs: int = 5,
        learning_rate: float = 1e-2,
        noise: float = 0.5,
        seed: int = 0,
    ) -> None:
        """The network learns after `every` places, from the last `remembered`."""
        self._describe, self.examined, self.every, self.remembered = describe, _Seen(examined), every, remembered
        self.epochs, self.learning_rate, self.seed, self._waiting, self._lessons = epochs, learning_rate, seed, 0, 0
        generator = torch_stream(seed, "neural-linear", "start")
        self._body = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self._head = nn.Linear(hidden, 1)
        for one in (*self._body, self._head):
            if isinstance(one, nn.Linear):
                nn.init.kaiming_normal_(one.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(one.bias)
        self._last = Linear(describe, hidden + 1, examined=examined, noise=noise)
        self._past: Feedback | None = None

    def believe(self, context: Any, candidates: Tensor, scores: Tensor) -> Believed:
        """Return what the last layer says of candidates."""
        return self._last.of(self._hidden(self._describe(context, candidates, scores)), candidates)

    def describe(self, context: Any, candidates: Tensor, scores: Tensor) -> Tensor | None:
        """Return the features (B, C, D), not those of the network, which change."""
        return self._describe(context, candidates, scores)

    def learn(self, feedback: Feedback) -> None:
        """Add what came of places to the posterior of the last layer; train the network when enough has come."""
        known = feedback.known()
        if known.features is None:
            raise DataError("feedback has no features; this policy asks for those of each place.")
        if not len(known.item):
            return
        self._past = known if self._past is None else _joined(self._past, known, self.remembered)
        self._waiting += len(known.item)
        if self._waiting >= self.every:
            self._waiting, self._lessons = 0, self._lessons + 1
            self._train(self._past)
            self._last.reset()
            known = self._past
        assert known.features is not None
        self._last.learn(Feedback(known.item, known.reward, known.position, self._hidden(known.features)))

    @torch.no_grad()
    def _hidden(self, features: Tensor) -> Tensor:
        """Return the last layer and a one (…, hidden + 1); inputs of features that do not vary stay as they are."""
        found: Tensor = self._body(features)
        return torch.cat([found, torch.ones_like(found[..., :1])], dim=-1)

    def _train(self, past: Feedback) -> None:
        generator = torch_stream(self.seed, "neural-linear", self._lessons)
        parts = [*self._body.parameters(), *self._head.parameters()]
        optimizer = torch.optim.Adam(parts, lr=self.learning_rate, weight_decay=1e-5)
        examined = self.examined(past.position)
        assert past.features is not None
        for _ in range(self.epochs):
            for rows in torch.split(torch.randperm(len(past.item), generator=generator), 512):
                told = examined[rows] * self._head(self._body(past.features[rows]))[:, 0]
                loss = (told - past.reward[rows]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def _joined(past: Feedback, more: Feedback, most: int) -> Feedback:
    """Return the last `most` places of two lessons."""
    assert past.features is not None
    assert more.features is not None
    return Feedback(
        torch.cat([past.item, more.item])[-most:],
        torch.cat([past.reward, more.reward])[-most:],
        torch.cat([past.position, more.position])[-most:],
        torch.cat([past.features, more.features])[-most:],
    )


def standardised(candidates: Tensor, scores: Tensor) -> Tensor:
    """Return scores of each request with mean 0 and variance 1, minus infinity for empty places and what has none."""
    there = (candidates >= 0) & scores.isfinite()
    n = there.sum(dim=1, keepdim=True).clamp(min=1)
    clean = scores.masked_fill(~there, 0.0)
    centred = (clean - clean.sum(dim=1, keepdim=True) / n).masked_fill(~there, 0.0)
    sd = (centred.square().sum(dim=1, keepdim=True) / n).sqrt().clamp(min=1e-9)
    return (centred / sd).masked_fill(~there, -torch.inf)
