"""Policies at play in a world, and how they compare: by regret, and by what people do in the long run.

Regret is what the best slate out of the candidates would have brought at once, in expectation, beyond the slate shown.
Policies are compared in the same worlds, with the same people and the same chance; intervals are over worlds.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.bandits.beliefs import Describe, Feedback, Linear, Means, NeuralLinear, Scores, examination
from bowerbird.bandits.policies import RULE_OF, Explorer
from bowerbird.bandits.reinforce import Episodes, Reinforce, returns
from bowerbird.bandits.world import Observation, World
from bowerbird.core import ConfigError, closest, derive, numpy_stream

Make = Callable[[World], Explorer]
WEIGHTS = {"softmax": 0.5, "epsilon-greedy": 0.1, "ucb": 0.5, "linucb": 0.5, "thompson": 0.5, "neural-linear": 0.5}
POLICIES = ("greedy", "random", *WEIGHTS, "reinforce")
DISCOUNT = 0.97
LOGGED, VALIDATED = 1, 2  # the lives of a world that `reinforce` learns from, and those by which a setting is chosen
STRENGTHS = (0.0, 1.0, 2.0, 4.0, 8.0)
TEMPERATURE = 1.0  # of the softmax whose log `reinforce` learns from


def described(world: World) -> tuple[Describe, int]:
    """Return features of candidates and how many: the ranker's chance of a click, one, and which item it is."""
    n = world.config.items

    def describe(context: Observation, candidates: Tensor, scores: Tensor) -> Tensor:
        found = torch.zeros(*candidates.shape, n + 2)
        found[..., 0], found[..., 1] = scores.sigmoid(), 1.0
        return found.scatter_(-1, (candidates.clamp(min=0) + 2)[..., None], 1.0)

    return describe, n + 2


def policy(name: str, world: World, *, weight: float | None = None, **settings: float) -> Explorer:
    """Return a policy by its name, which knows nothing yet of a world; `ConfigError` for a name that is none.

    The greedy one shows what the ranker scores best, the random one any candidates; epsilon-greedy and softmax learn as
    linucb does and differ in how they try. `settings` go to the belief.
    """
    if name not in POLICIES:
        meant = closest(name, POLICIES)
        hint = f' Did you mean "{meant}"?' if meant else ""
        raise ConfigError(f'no policy is named "{name}"; there are {", ".join(POLICIES)}.{hint}')
    most = world.config.candidates
    if name == "greedy":
        return Explorer(Scores(), "ucb", 0.0, name, most)
    if name == "random":
        return Explorer(Scores(), "epsilon-greedy", 1.0, name, most)
    if name == "reinforce":
        return trained(world)
    weight = WEIGHTS[name] if weight is None else weight
    examined = examination(world.config.position_bias, world.config.k)
    half_life = settings.pop("half_life", 0.0)
    if name == "ucb":
        return Explorer(Means(examined, **settings), "ucb", weight, name, most)
    describe, dim = described(world)
    if name == "neural-linear":
        neural = NeuralLinear(describe, dim, examined=examined, seed=world.seed, **settings)  # type: ignore[arg-type]
        return Explorer(neural, RULE_OF[name], weight, name, most)
    rule = RULE_OF.get(name, name)
    return Explorer(Linear(describe, dim, examined=examined, **settings), rule, weight, name, most, half_life)


@dataclass(frozen=True)
class Played:
    """What came of a policy in one world, a step each."""

    clicks: np.ndarray  # (steps,): of all people, each
    regret: np.ndarray  # (steps,): likewise
    decision_ms: float  # of one step for one person, choosing only
    learning_ms: float

    @property
    def reward(self) -> float:
        """Clicks of one person over the whole time."""
        return float(self.clicks.sum())


def play(
    chooser: Explorer,
    world: World,
    *,
    seed: int,
    turn: int = 0,
    late: int = 0,
    missing: float = 0.0,
    see: Callable[[Observation, np.ndarray, np.ndarray, np.ndarray], None] | None = None,
) -> Played:
    """Let a policy choose for everybody until the world ends, and learn after each step.

    What came of a step is told `late` steps after it, and of a share `missing` of places never. `see` is given what was
    seen, the slates, their propensities and clicks, (N, k) each.
    """
    seen, _ = world.reset(seed=seed, options={"turn": turn})
    rng = numpy_stream(seed, "missing", turn)
    waiting: deque[Feedback] = deque()
    clicks, regret, chose, learned = [], [], 0.0, 0.0
    for step in range(world.config.horizon):
        started = perf_counter()
        candidates, scores = torch.from_numpy(seen["candidates"]), torch.from_numpy(seen["scores"])
        slates, chance = chooser.choose(seen, candidates, scores, world.config.k, derive(seed, "play", turn, step))
        chose += perf_counter() - started
        shown = slates.numpy()
        regret.append(float((world.best() - world.expected(shown)).mean()))
        told = _shown_scores(candidates, scores, slates)
        before = seen
        seen, reward, _, _, info = world.step(shown)
        clicks.append(float(reward.mean()))
        if see is not None:
            see(before, shown, chance.numpy(), info["clicks"])
        started = perf_counter()
        waiting.append(_feedback(chooser, before, slates, told, info, missing, rng))
        if len(waiting) > late:
            chooser.learn(waiting.popleft())
        learned += perf_counter() - started
    n = world.config.horizon * world.config.people
    return Played(np.array(clicks), np.array(regret), 1000 * chose / n, 1000 * learned / n)


def _shown_scores(candidates: Tensor, scores: Tensor, slates: Tensor) -> Tensor:
    """Return the scores of what is shown (N, k)."""
    place = (slates[:, :, None] == candidates[:, None, :]).int().argmax(dim=2)
    return scores.gather(1, place)


def _feedback(
    chooser: Explorer,
    seen: Observation,
    slates: Tensor,
    scores: Tensor,
    info: Mapping[str, Any],
    missing: float,
    rng: Any,
) -> Feedback:
    features = chooser.belief.describe(seen, slates, scores)
    there = torch.from_numpy(info["here"])[:, None] & (slates >= 0)
    reward = torch.from_numpy(info["clicks"]).float()
    if missing:
        reward = reward.masked_fill(torch.from_numpy(rng.random(reward.shape) < missing), torch.nan)
    position = torch.arange(1, slates.shape[1] + 1).expand_as(slates)
    return Feedback(slates[there], reward[there], position[there], None if features is None else features[there])


def compare(
    makers: Mapping[str, Make], world: World, seeds: range, *, turn: int = 0, **how: Any
) -> dict[str, list[Played]]:
    """Return what came of each policy in each of the same worlds."""
    found: dict[str, list[Played]] = {name: [] for name in makers}
    for seed in seeds:
        for name, make in makers.items():
            world.reset(seed=seed)
            found[name].append(play(make(world), world, seed=seed, turn=turn, **how))
    return found


# ── the long run ──────────────────────────────────────────────────────────────────────────────────────────────────────


def long_run(world: World, **settings: Any) -> Reinforce:
    """Return an untrained policy for the long run of a world."""
    vectors = torch.from_numpy(world.vectors)

    def histories(context: Observation) -> Tensor:
        shown, clicked = torch.from_numpy(context["shown"]), torch.from_numpy(context["clicked"]).float()
        there = (shown >= 0).float()
        of = vectors[shown.clamp(min=0)]  # (N, PAST, k, D)
        means = [(of * one[..., None]).sum(dim=2) / one.shape[2] for one in (there, clicked)]
        return torch.cat([*means, there.mean(dim=2, keepdim=True), clicked.sum(dim=2, keepdim=True)], dim=-1)

    def describe(context: Observation, candidates: Tensor, scores: Tensor) -> Tensor:
        return torch.cat([vectors[candidates.clamp(min=0)], scores.sigmoid()[..., None]], dim=-1)

    dim = world.config.dim
    shape = (2 * dim + 2, dim + 1, world.config.items)
    return Reinforce(histories, describe, shape, temperature=TEMPERATURE, **settings)


def gathered(belief: Reinforce, world: World, seed: int, turn: int, *, discount: float = DISCOUNT) -> Episodes:
    """Return the log of the policy that a belief starts from, played once in a world."""
    parts: list[tuple[Tensor, ...]] = []
    rewards: list[Tensor] = []

    def see(seen: Observation, slates: np.ndarray, chance: np.ndarray, clicks: np.ndarray) -> None:
        candidates, scores = torch.from_numpy(seen["candidates"]), torch.from_numpy(seen["scores"])
        place = (torch.from_numpy(slates)[:, :, None] == candidates[:, None, :]).int().argmax(dim=2)
        here = torch.from_numpy(seen["here"] > 0)
        rewards.append(torch.from_numpy(clicks).float())
        whole = (
            belief.histories(seen), candidates, belief.features(seen, candidates, scores),
            belief.prior(candidates, scores), place, torch.from_numpy(chance),
        )  # fmt: skip
        parts.append((*(one[here] for one in whole), here))

    behaviour = Explorer(Scores(), "softmax", belief.temperature, candidates=world.config.candidates)
    play(behaviour, world, seed=seed, turn=turn, see=see)
    later = returns(torch.stack([one.sum(dim=1) for one in rewards]), discount)
    keep = len(parts) - 2 * round(1 / (1 - discount))  # of the last steps the return is cut off
    columns = zip(*(part[:-1] for part in parts[:keep]), strict=True)
    told = torch.cat([(rewards[n] + discount * later[n + 1][:, None])[part[-1]] for n, part in enumerate(parts[:keep])])
    whole = [*(torch.cat(list(one)) for one in columns), told]
    return Episodes(*whole)


def trained(world: World, *, strengths: Sequence[float] = STRENGTHS, **settings: Any) -> Explorer:
    """Return `reinforce`, taught by the log of other people of a world, and served as the best first.

    How much of what was learned counts beside the ranker's order is chosen among `strengths`, 0 being the ranker alone,
    by what yet other people do.
    """
    seed = world.seed
    belief = long_run(world, seed=seed, **settings)
    belief.fit(gathered(belief, world, seed, LOGGED))
    chosen = Explorer(belief, "softmax", 0.0, "reinforce", world.config.candidates)
    reward = {}
    for belief.strength in strengths:
        reward[belief.strength] = play(chosen, world, seed=seed, turn=VALIDATED).reward
    belief.strength = max(strengths, key=reward.__getitem__)
    world.reset(seed=seed)
    return chosen
