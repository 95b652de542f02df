"""A shop with several versions of its model, what each of them answers, and versions that are broken."""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import bowerbird as bb
from _breaking import Effort
from _crowd import Answer, Asker, Turn
from _victim import Victim, publish, victim
from bowerbird.recommender import Recommender
from bowerbird.store import bundles

MODELS: tuple[tuple[str, dict[str, Any]], ...] = (("itemknn", {}), ("mf", {"dim": 8, "epochs": 3}), ("ease", {}))
USERS, ITEMS, K = [f"u{user}" for user in range(60)], 40, 8  # of the shop, and of a slate
WORKER = ("--workers", "1")
WORKER_S = 60.0  # until a worker is ready
NEAR = {"rel_tol": 1e-4, "abs_tol": 1e-6}  # scores of one person and of a block differ by rounding


# ── what is right ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Truth:
    """What each version answers, computed without a server: the score of each item that a person may be shown."""

    scores: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)  # version → user → item → score
    failing: set[str] = field(default_factory=set)  # versions that may answer with less than they should
    degraded: int = 0  # answers of those, about

    def learn(self, run: Path, version: str) -> None:
        """Compute what a version answers."""
        frame = bb.load(run, version=version).recommend(USERS, k=ITEMS).frame
        mine: dict[str, dict[str, float]] = {user: {} for user in USERS}
        for user, item, score in frame.select("user_id", "item_id", "score").iter_rows():
            mine[user][item] = score
        self.scores[version] = mine

    def faults(self, user: str, body: Mapping[str, Any]) -> list[str]:
        """Return what an answer says otherwise than the version that it names."""
        version, said = body["model_version"], [(one["item_id"], one["score"]) for one in body["items"]]
        if version in self.failing and len(said) == K and (body["fallback"] or version not in self.scores):
            self.degraded += bool(body["fallback"])
            return []
        if version not in self.scores:
            return [f"{user} was answered by version {version}"]
        mine = self.scores[version][user]
        alike = len(said) == K and all(
            math.isclose(score, mine.get(item, math.nan), **NEAR) and math.isclose(score, best, **NEAR)
            for (item, score), best in zip(said, sorted(mine.values(), reverse=True), strict=False)
        )
        return [] if alike and not body["fallback"] else [f"version {version} does not answer {user} with {said}"]

    def blind(self) -> list[str]:
        """Return what nobody would notice: people whom two versions answer alike."""
        tops = {
            (user, tuple(round(score, 4) for score in sorted(mine[user].values())[-K:]))
            for mine in self.scores.values()
            for user in USERS
        }
        return [] if len(tops) == len(USERS) * len(self.scores) else ["two versions answer somebody alike"]


class Swaps:
    """Takes versions into use, and knows which one answers; while one comes, nobody knows."""

    def __init__(self, port: int, settled: str) -> None:
        self.ask, self.settled, self.turn = Asker(port, timeout_s=60.0), settled, 0
        self.seconds: list[float] = []

    def promote(self, version: str) -> list[str]:
        """Promote a version; return what was wrong."""
        return self.take(f"/v1/models/{version}:promote", version)

    def roll_back(self, version: str) -> list[str]:
        """Roll back to a version; return what was wrong."""
        return self.take("/v1/models:rollback", version)

    def take(self, path: str, version: str) -> list[str]:
        """Post what takes a version into use; return what was wrong."""
        self.unsettle()
        answer = self.ask("POST", path)
        self.seconds.append(answer.seconds)
        if answer.status != 200 or answer.document["in_use"] != version:
            return [f"{path} did not take {version} into use: {answer.status} {answer.document}"]
        self.settled = version
        return []

    def unsettle(self) -> None:
        """Let versions come and go."""
        self.settled, self.turn = "", self.turn + 1

    def close(self) -> None:
        """End the connection."""
        self.ask.close()

    def in_use(self) -> str:
        """Return the version that the server says is in use."""
        return str(self.ask("GET", "/v1/status").document["model_version"])


def checked(truth: Truth, swaps: Swaps) -> Turn:
    """Return the turn of a crowd that asks for slates and checks that each is one of the version it should be."""

    def turn(asker: Asker, rng: np.random.Generator) -> tuple[float, list[str]]:
        user, settled, before = str(rng.choice(USERS)), swaps.settled, swaps.turn
        answer = asker.slate(user, k=K)
        if wrong := refused(answer):
            return math.nan, wrong
        wrong, version = truth.faults(user, answer.document), answer.document["model_version"]
        if settled and swaps.turn == before and version != settled:
            wrong = [*wrong, f"{user} was answered by version {version} while {settled} was in use"]
        return answer.seconds, wrong

    return turn


def refused(answer: Answer) -> list[str]:
    """Return what an answer is, where it is none."""
    return [] if answer.status == 200 else [f"{answer.status}: {answer.document}"]


@contextmanager
def shop(effort: Effort, truth: Truth, words: tuple[str, ...] = ()) -> Iterator[tuple[Victim, Swaps]]:
    """Serve a shop of several versions, of which the last is in use."""
    run = effort.folder / "run"
    if not run.exists():
        for model, config in MODELS:
            truth.learn(run, publish(run, model, **config))
    with victim(effort.folder, *words) as one, closing(Swaps(one.port, bundles.current(run))) as swaps:
        end = time.monotonic() + WORKER_S
        while words and not swaps.ask("GET", "/v1/status").document["workers"]:
            assert time.monotonic() < end, "no worker became ready"
            time.sleep(0.05)
        yield one, swaps


# ── what is wrong ─────────────────────────────────────────────────────────────────────────────────────────────────────


def nan(rec: Recommender) -> None:
    """No score is a number."""
    for tensor in rec.model.state_dict().values():
        tensor.fill_(math.nan)


def constant(rec: Recommender) -> None:
    """All scores are the same."""
    for tensor in rec.model.state_dict().values():
        tensor.zero_()


def later(rec: Recommender) -> None:
    """Scores are numbers for those who are asked about before a version is taken into use, not for most others."""
    asked = np.union1d(rec.past.item[rec.past.user < 3], [0, 1])
    rec.model.state_dict()["weights"][np.setdiff1d(np.arange(ITEMS), asked)] = 3e38


def changed(rec: Recommender) -> None:
    """A bit of the weights is another, once they are written."""


def break_version(run: Path, sound: str, spoil: Callable[[Recommender], None]) -> str:
    """Put a broken version, made from a sound one, beside the others without publishing it; return its name."""
    scratch = run.parent / "scratch"
    shutil.copytree(run, scratch)
    rec = bb.load(scratch, version=sound)
    spoil(rec)
    made = rec.save(scratch)
    if spoil is changed:
        weights = scratch / "bundles" / made / bundles.WEIGHTS
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    for part in ("histories", "bundles"):
        shutil.copytree(scratch / part / made, run / part / made)
    shutil.rmtree(scratch)
    return made
