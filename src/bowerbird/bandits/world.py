"""A world to try policies in: people with tastes that drift, who are bored, look at the top, leave, and come back.

Each step is a slate for each person. With u a person's taste, v an item's, f how tired somebody is of the item's topic:

    clicks with chance   looks(position) · σ(intercept + taste · u·v + appeal − boredom · f)

What an item is worth to people afterwards, its substance, is not what makes them click: a person's satisfaction follows
the substance of what was clicked, and who is not satisfied leaves sooner and stays away longer. That is the long-term
effect, which `long_term = 0` takes away together with boredom: what is best at once is then best for ever.

All people step at once (`gymnasium.vector.VectorEnv`); chance comes from the seed. Appeal and activity may follow the
marginals of real data, see `Marginals`.

Shapes: N people, I items, D vector size, C candidates, k places.
"""

from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from bowerbird.core import check, numpy_stream
from bowerbird.data import Interactions

Observation = dict[str, np.ndarray]
PAST = 10  # slates that a person's observation tells of


@dataclass(frozen=True)
class Marginals:
    """How often items were chosen, and how much people did, in some data: shares that each sum to their number."""

    popularity: np.ndarray  # (items,), mean 1
    activity: np.ndarray  # (people,), mean 1

    @classmethod
    def of(cls, data: Interactions) -> "Marginals":
        """Return those of a table of events."""
        items, people = np.bincount(data.item, minlength=data.n_items), np.bincount(data.user, minlength=data.n_users)
        return cls(items[items > 0] / items[items > 0].mean(), people[people > 0] / people[people > 0].mean())


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What a world is like."""

    people: int = 256
    items: int = 400
    dim: int = 8
    topics: int = 10
    k: int = 5  # places of a slate
    candidates: int = 50  # of each request
    horizon: int = 500  # steps
    intercept: float = -2.5  # log-odds of a click on what is looked at, for an average item
    taste: float = 1.5  # how much taste decides
    spread: float = 0.7  # standard deviation of items' appeal, where no marginals are given
    known: float = 1.0  # share of the appeal of the first items that the ranker knows; it knows none of new ones
    view_noise: float = 0.3  # of what is known of a person's taste, for each dimension
    drift: float = 0.01  # of tastes, for each step
    boredom: float = 1.0
    position_bias: float = 0.5  # the chance of a look is position to the power of −this
    new_items: float = 0.5  # share of items that arrive while the world runs, evenly
    noise: float = 0.01  # share of clicks that mean nothing
    stay: float = 20.0  # mean steps of a visit
    away: float = 10.0  # mean steps between visits
    long_term: float = 1.0  # how much satisfaction decides on leaving and coming back
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("people", "items", "dim", "topics", "k", "candidates", "horizon"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "must be 1 or more")
        check(self.k <= self.candidates, "k", self.k, "must be at most `candidates`", try_instead=self.candidates)
        check(0 <= self.new_items < 1, "new_items", self.new_items, "must be 0 or more and below 1", try_instead=0.5)
        at_first = int(self.items * (1 - self.new_items))
        check(self.candidates <= at_first, "candidates", self.candidates, f"must be at most the {at_first} first items")
        check(0 <= self.noise < 1, "noise", self.noise, "must be a share below 1", try_instead=0.01)
        check(0 <= self.known <= 1, "known", self.known, "must be a share", try_instead=1.0)

    def control(self) -> "WorldConfig":
        """Return the same world without what is felt later."""
        return replace(self, long_term=0.0, boredom=0.0)


class World(gymnasium.vector.VectorEnv[Observation, np.ndarray, np.ndarray]):
    """People who are asked all at once.

    An observation has of each person `view` (N, D), what is known of the taste; `candidates` (N, C), rows of items,
    best first by `scores` (N, C), the log-odds of a click as a ranker knows them; `shown` and `clicked` (N, PAST, k),
    the last slates, newest last, −1 for none; `here` (N,), whether the person is there to look. An action is slates of
    items (N, k), −1 for an empty place. A reward is the clicks of each person (N,), of places `info["clicks"]` (N, k).
    """

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}  # noqa: RUF012  the base class's own

    def __init__(self, config: WorldConfig | None = None, marginals: Marginals | None = None) -> None:
        self.config, self.marginals = config or WorldConfig(), marginals
        one = self.config
        self.num_envs = one.people
        self.single_action_space = spaces.MultiDiscrete([one.items + 1] * one.k, start=[-1] * one.k)
        slates = spaces.Box(-1, one.items - 1, (PAST, one.k), np.int64)
        self.single_observation_space = spaces.Dict(
            {
                "view": spaces.Box(-np.inf, np.inf, (one.dim,), np.float32),
                "candidates": spaces.Box(-1, one.items - 1, (one.candidates,), np.int64),
                "scores": spaces.Box(-np.inf, np.inf, (one.candidates,), np.float32),
                "shown": slates,
                "clicked": spaces.Box(0, 1, (PAST, one.k), np.int8),
                "here": spaces.Discrete(2),
            }
        )
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, one.people)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, one.people)
        self.seed = one.seed - 1
        self.looks = (np.arange(1, one.k + 1) ** -one.position_bias).astype(np.float32)
        self.reset(seed=one.seed)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, dict[str, Any]]:
        """Begin again: with a seed in the world of that seed, without one in the next.

        `options["turn"]` counts the lives of one world: its items are the same, people and chance are others.
        """
        one = self.config
        self.seed = self.seed + 1 if seed is None else seed
        made = numpy_stream(self.seed, "world")
        lived = numpy_stream(self.seed, "people", int((options or {}).get("turn", 0)))
        self.rng = np.random.Generator(np.random.SFC64(lived.integers(2**63)))
        self.vectors = _of_length(made.standard_normal((one.items, one.dim)).astype(np.float32))  # (I, D)
        centres = made.standard_normal((one.topics, one.dim))
        self.topic = (self.vectors @ centres.T).argmax(axis=1)  # (I,)
        taste = lived.standard_normal((one.people, one.dim)).astype(np.float32)
        self.people = _of_length(taste, one.dim**0.5 / 2)
        activity = np.ones(one.people)
        self.appeal = made.standard_normal(one.items).astype(np.float32) * one.spread
        if self.marginals is not None:
            self.appeal = np.log(_like(self.marginals.popularity, one.items, made)).astype(np.float32)
            activity = _like(self.marginals.activity, one.people, lived)
        self.stay = np.maximum(one.stay * activity, 1.0).astype(np.float32)
        # what makes people click says nothing of what they think of it later, and often the contrary
        lean = self.vectors @ made.standard_normal(one.dim) + 0.5 * made.standard_normal(one.items)
        substance = lean / lean.std() - 0.5 * self.appeal / self.appeal.std()
        self.substance = substance.astype(np.float32)
        first = int(one.items * (1 - one.new_items))
        self.arrival = np.zeros(one.items, np.int64)
        self.arrival[first:] = np.sort(made.integers(1, one.horizon + 1, one.items - first))
        self.rated = np.where(self.arrival > 0, 0, one.known * self.appeal).astype(np.float32)  # what the ranker knows
        n = one.people
        self.tired = np.zeros((n, one.topics), np.float32)
        self.satisfied, self.gone = np.zeros(n, np.float32), np.zeros(n, np.int64)
        self.shown, self.clicked = np.full((n, PAST, one.k), -1), np.zeros((n, PAST, one.k), np.int8)
        self.now, self._people = 0, np.arange(n)
        return self._seen(), {}

    def _seen(self) -> Observation:
        """Draw candidates, and return what policies are told."""
        one, rng = self.config, self.rng
        there = rng.permutation(int(np.searchsorted(self.arrival, self.now, side="right")))
        start = rng.integers(len(there), size=(one.people, 1))
        items = there[(start + np.arange(one.candidates)) % len(there)]  # each once
        noise = rng.standard_normal(self.people.shape, np.float32)
        self.view = self.people + one.view_noise * noise
        vectors = self.vectors[items]
        self._odds = self.log_odds(items, np.einsum("ncd,nd->nc", vectors, self.people))
        rated = one.intercept + one.taste * np.einsum("ncd,nd->nc", vectors, self.view) + self.rated[items]
        order = np.argsort(-rated, axis=1)
        self.candidates, self._odds = (np.take_along_axis(it, order, axis=1) for it in (items, self._odds))
        return {
            "view": self.view,
            "candidates": self.candidates,
            "scores": np.take_along_axis(rated, order, axis=1),
            "shown": self.shown,
            "clicked": self.clicked,
            "here": (self.gone == 0).astype(np.int64),
        }

    def log_odds(self, items: np.ndarray, liking: np.ndarray | None = None) -> np.ndarray:
        """Return the log-odds of a click of each person on items (N, n), where they are looked at."""
        one = self.config
        if liking is None:
            liking = np.einsum("nkd,nd->nk", self.vectors[items], self.people)
        tired = self.tired[self._people[:, None], self.topic[items]]
        found: np.ndarray = one.intercept + one.taste * liking + self.appeal[items] - one.boredom * tired
        return found

    def expected(self, slates: np.ndarray) -> np.ndarray:
        """Return the expected clicks on slates now (N,)."""
        chance = _sigmoid(self.log_odds(np.maximum(slates, 0))) * self.looks[: slates.shape[1]] * (slates >= 0)
        return np.asarray(chance.sum(axis=1) * (self.gone == 0))

    def best(self) -> np.ndarray:
        """Return the expected clicks on the best slates out of the candidates (N,), at once and not in the long run."""
        top = -np.partition(-self._odds, self.config.k - 1, axis=1)[:, : self.config.k]
        chance = _sigmoid(-np.sort(-top, axis=1)) * self.looks
        return np.asarray(chance.sum(axis=1) * (self.gone == 0))

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Show slates (N, k); return what is seen next, clicks (N,), ends, and details of each place."""
        one, rng, n = self.config, self.rng, self.config.people
        slates = np.asarray(actions)
        here, there = self.gone == 0, slates >= 0
        rows = np.maximum(slates, 0)
        chance = (1 - one.noise) * _sigmoid(self.log_odds(rows)) + one.noise / 2
        clicks = rng.random(slates.shape, np.float32) < chance * self.looks
        clicks &= there & here[:, None]
        self._live(rows, clicks, there & here[:, None], here)
        self.shown = np.concatenate([self.shown[:, 1:], np.where(here[:, None], slates, -1)[:, None]], axis=1)
        self.clicked = np.concatenate([self.clicked[:, 1:], clicks[:, None].astype(np.int8)], axis=1)
        self.now += 1
        over = np.full(n, self.now >= one.horizon)
        info = {"clicks": clicks, "here": here, "new": self.arrival[rows] > 0}
        return self._seen(), clicks.sum(axis=1).astype(np.float32), np.zeros(n, bool), over, info

    def _live(self, rows: np.ndarray, clicks: np.ndarray, shown: np.ndarray, here: np.ndarray) -> None:
        """Let people tire, be content or not, leave, come back, and change."""
        one, rng, n = self.config, self.rng, self.config.people
        felt = 0.2 * shown + 0.8 * clicks  # a topic tires by being shown, and more by being chosen
        places = (self._people[:, None] * one.topics + self.topic[rows]).ravel()
        more = np.bincount(places, felt.ravel(), n * one.topics).reshape(n, one.topics)
        self.tired = 0.9 * self.tired + 0.3 * more.astype(np.float32)
        told = (clicks * self.substance[rows]).sum(axis=1)
        self.satisfied = np.where(here, 0.95 * self.satisfied + 0.15 * told, self.satisfied)
        content = np.exp(-one.long_term * self.satisfied.clip(-1.5, 1.5))
        leaves = here & (rng.random(n, np.float32) < np.minimum(content / self.stay, 1.0))
        pause = rng.exponential(one.away, n) * content
        self.gone = np.where(leaves, 1 + pause.astype(np.int64), np.maximum(self.gone - 1, 0))
        if one.drift:
            moved = self.people + one.drift * rng.standard_normal(self.people.shape, np.float32)
            self.people = _of_length(moved, one.dim**0.5 / 2)


class Person(gymnasium.Env[Observation, np.ndarray]):
    """One person of a world, for libraries that know single environments only."""

    def __init__(self, config: WorldConfig | None = None, marginals: Marginals | None = None) -> None:
        self.world = World(replace(config or WorldConfig(), people=1), marginals)
        self.action_space = self.world.single_action_space
        self.observation_space = self.world.single_observation_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, dict[str, Any]]:
        """Begin again, with a seed in the world of that seed."""
        super().reset(seed=seed)
        seen, info = self.world.reset(seed=seed)
        return self._mine(seen), info

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show a slate (k,)."""
        seen, reward, ended, over, info = self.world.step(np.asarray(action)[None])
        mine = {name: value[0] for name, value in info.items()}
        return self._mine(seen), float(reward[0]), bool(ended[0]), bool(over[0]), mine

    def _mine(self, seen: Observation) -> Observation:
        return {name: value[0] for name, value in seen.items()}


def _like(values: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n values with the quantiles of others, in random order."""
    return rng.permutation(np.quantile(values, (np.arange(n) + 0.5) / n, method="inverted_cdf"))


def _of_length(vectors: np.ndarray, length: float = 1.0) -> np.ndarray:
    return np.asarray(vectors * (length / np.linalg.norm(vectors, axis=1, keepdims=True)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))
