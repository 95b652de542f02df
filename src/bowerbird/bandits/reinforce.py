"""Top-K off-policy-corrected policy gradient (Chen et al., WSDM 2019): slates for what people do later, too.

A state is read from what somebody was shown and chose, newest last, by a recurrent network; the policy fills place
after place by a softmax over the candidates that are left. From the log of another policy β, the gradient of the
return is

    Σ over places  min(π / β, cap) · (G − V) · ∇ log π,    G = reward of the place + Σ γ^τ · rewards of slates after it

with π and β given the places before, and V, a model of the return from the state, as the baseline. The paper draws K
items at once and corrects with K (1 − π)^(K − 1) for what is drawn twice; here nothing is, and the correction is exact.
With that factor a baseline is no longer free of bias: tried, it taught the policy to be flat.

The policy starts as the ranker's own order, and learns how sharp that should be beside what it adds to it.

Shapes: B requests, L past slates, C candidates, K places, S and F numbers that describe a past slate and a candidate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bowerbird.bandits.beliefs import Believed, Describe, Feedback, standardised
from bowerbird.core import DataError, check, torch_stream

Histories = Callable[[Any], Tensor]  # a context → past slates (B, L, S), newest last, zeros for none


@dataclass(frozen=True)
class Episodes:
    """The log of whole histories: requests of a policy that explores, and what they brought in the long run."""

    past: Tensor  # float32 (B, L, S)
    candidates: Tensor  # int64 (B, C), −1 for empty places
    features: Tensor  # float32 (B, C, F)
    prior: Tensor  # float32 (B, C): the ranker's scores
    place: Tensor  # int64 (B, K): which candidates were shown
    propensity: Tensor  # float32 (B, K), of each given the places before it
    gain: Tensor  # float32 (B, K): what the place brought, and the discounted return after the slate, see `returns`

    def __post_init__(self) -> None:
        wrong = ~((self.propensity > 0) & (self.propensity <= 1)) | ~self.gain.isfinite()
        if bool(wrong.any()):
            row = int(wrong.any(dim=1).nonzero()[0])
            raise DataError(
                f"row {row} has propensities {self.propensity[row].tolist()} and returns {self.gain[row].tolist()}; "
                "propensities must be above 0 and at most 1, and returns numbers."
            )

    def __len__(self) -> int:
        return len(self.gain)

    def rows(self, rows: Tensor) -> "Episodes":
        """Return some of the requests."""
        return Episodes(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def returns(rewards: Tensor, discount: float) -> Tensor:
    """Return the discounted sums of what follows, itself included; rewards are (steps, people)."""
    check(0 <= discount < 1, "discount", discount, "must be 0 or more and below 1", try_instead=0.95)
    found, later = torch.empty_like(rewards), torch.zeros_like(rewards[0])
    for step in range(len(rewards) - 1, -1, -1):
        later = rewards[step] + discount * later
        found[step] = later
    return found


class _Policy(nn.Module):
    """Logits of candidates, and the return that a state promises."""

    def __init__(self, past: int, features: int, items: int, hidden: int) -> None:
        super().__init__()
        self.read = nn.GRU(past, hidden, batch_first=True)
        self.item = nn.Embedding(items + 1, 1)  # what each is worth by itself; the last row is of items that came later
        self.sharpness = nn.Parameter(torch.zeros(()))  # log of what the ranker's logits are multiplied by
        self.worth = nn.Linear(features, 1)
        self.describe = nn.Linear(features, hidden)
        self.ask = nn.Linear(hidden, hidden)
        self.value = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, past: Tensor, candidates: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        state = self.read(past)[1][0]  # (B, hidden)
        known = torch.where((candidates >= 0) & (candidates < self.item.num_embeddings - 1), candidates, -1)
        own = self.item(known % self.item.num_embeddings)[..., 0]
        fit = (self.describe(features) * self.ask(state)[:, None]).sum(dim=-1)
        return own + self.worth(features)[..., 0] + fit, self.value(state.detach())[:, 0]


class Reinforce:
    """What candidates are worth in the long run, as logits, for a `softmax` policy of weight 1."""

    def __init__(
        self,
        histories: Histories,
        describe: Describe,
        shape: tuple[int, int, int],
        *,
        temperature: float = 1.0,
        strength: float = 1.0,
        cap: float = 10.0,
        hidden: int = 8,
        epochs: int = 4,
        batch: int = 2_048,
        learning_rate: float = 0.02,
        decay: float = 1e-3,
        seed: int = 0,
    ) -> None:
        """`shape` is S, F and the number of items; `temperature` that of the policy that it starts from."""
        check(cap > 0, "cap", cap, "must be above 0", try_instead=10.0)
        check(temperature > 0, "temperature", temperature, "must be above 0", try_instead=1.0)
        self.histories, self._describe, self.temperature = histories, describe, temperature
        self.strength = strength  # of what was learned, beside the ranker's order: 0 is the ranker alone
        self.cap, self.epochs, self.batch, self.seed = cap, epochs, batch, seed
        self.learning_rate, self.decay = learning_rate, decay
        past, features, items = shape
        with torch.random.fork_rng([]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=torch_stream(seed, "reinforce"))))
            self.policy = _Policy(past, features, items, hidden)
        nn.init.zeros_(self.policy.item.weight)
        nn.init.zeros_(self.policy.worth.weight)
        nn.init.zeros_(self.policy.ask.weight)  # at first the ranker's order
        nn.init.zeros_(self.policy.ask.bias)

    def features(self, context: Any, candidates: Tensor, scores: Tensor) -> Tensor:
        """Return what describes candidates (B, C, F)."""
        return self._describe(context, candidates, scores)

    def prior(self, candidates: Tensor, scores: Tensor) -> Tensor:
        """Return the logits of the policy that it starts from (B, C)."""
        return standardised(candidates, scores) / self.temperature

    @torch.no_grad()
    def believe(self, context: Any, candidates: Tensor, scores: Tensor) -> Believed:
        """Return logits."""
        prior, features = self.prior(candidates, scores), self._describe(context, candidates, scores)
        more, _ = self.policy(self.histories(context), candidates, features)
        logits = prior * self.policy.sharpness.exp() + self.strength * more
        return Believed(logits, torch.zeros_like(logits))

    def describe(self, context: Any, candidates: Tensor, scores: Tensor) -> Tensor | None:
        """Return None: single places teach nothing."""
        return None

    def learn(self, feedback: Feedback) -> None:
        """Learn nothing from single places; see `fit`."""

    def fit(self, log: Episodes) -> list[float]:
        """Learn from whole histories; return the estimated gain over β after each pass, in standard deviations."""
        centre, scale = float(log.gain.mean()), max(float(log.gain.std()), 1e-6)
        optimizer = torch.optim.Adam(self.policy.parameters(), lr=self.learning_rate, weight_decay=self.decay)
        generator, told = torch_stream(self.seed, "reinforce", "order"), []
        for _ in range(self.epochs):
            total = 0.0
            for rows in torch.split(torch.randperm(len(log), generator=generator), self.batch):
                part = log.rows(rows)
                loss, gained = self._loss(part, (part.gain - centre) / scale)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += gained * len(rows)
            told.append(total / len(log))
        return told

    def _loss(self, log: Episodes, gain: Tensor) -> tuple[Tensor, float]:
        more, value = self.policy(log.past, log.candidates, log.features)
        logits, value = log.prior * self.policy.sharpness.exp() + more, value[:, None]
        chosen, chance = _in_order(logits, log.place)
        weight = (chance.detach() / log.propensity).clamp(max=self.cap)
        advantage = (gain - value).detach()
        actor = -(weight * advantage * chosen).mean()
        return actor + (value - gain).square().mean(), float((weight * advantage).mean())


def _in_order(logits: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-chances and chances of places that were filled one after the other (B, K)."""
    left = logits
    found = []
    for one in range(place.shape[1]):
        at = place[:, one : one + 1]
        found.append(left.log_softmax(dim=1).gather(1, at))
        left = left.scatter(1, at, -torch.inf)
    chosen = torch.cat(found, dim=1)
    return chosen, chosen.detach().exp()
