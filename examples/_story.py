"""What the stories share: options, a world of made-up data, one contest, and slates as a server gives them.

A contest chooses on validation, trains what it chose again on everything before the test cut, and looks at test once.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

import bowerbird as bb
from bowerbird.data import REGISTRY, Interactions, Rows, Split, load, load_rows, load_split
from bowerbird.evaluation.statistics import Difference
from bowerbird.pipeline.scenario import known_scenarios
from bowerbird.serving import Engine

PEOPLE = {"tiny": 80, "build": 800}  # of the made-up data
DAY = 86_400
Try = tuple[str, Mapping[str, Any]]  # a model, and what is set of it
Data = Interactions | Split | dict[str, Rows]


@dataclass
class Told:
    """What a story found, for whoever wants more than its text."""

    data: str
    metric: str = ""
    protocol: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the table, best baseline and deep model last
    difference: Difference | None = None  # deep model minus baseline
    taken: Any = None  # the recommender, or predictor, that the figures speak for
    slates: list[dict[str, Any]] = field(default_factory=list)  # as `POST /v1/recommendations` answers


def options(about: str, words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what is asked of a story."""
    asked = argparse.ArgumentParser(description=about.partition("\n")[0])
    asked.add_argument("--data", help="a named data set, its folder, or a table of your own; left out: made-up data")
    asked.add_argument("--items", help="a table of the items in your own data")
    asked.add_argument("--out", help="a run directory for what is to be served")
    asked.add_argument(
        "--size", choices=tuple(PEOPLE), default="build", help="of the made-up data; tiny ends training early"
    )
    asked.add_argument("--seed", type=int, default=0)
    return asked.parse_args(words)


def data_of(
    asked: argparse.Namespace, made: Callable[[int, np.random.Generator], Data], kinds: Mapping[str, bb.EventType],
    own: Callable[..., Data] = bb.read,
) -> tuple[str, Data]:  # fmt: skip
    """Return the name of the data and what is in them; `made` gets a number of people and what draws, `own` a path.

    In a table, events of the names in `kinds` mean what these say.
    """
    name, root, path = asked.data, None, Path(asked.data or "")
    if name is None:
        print(f"data: made up, {PEOPLE[asked.size]} people, seed {asked.seed}. It shows the way and measures nothing.")
        return "made up", made(PEOPLE[asked.size], np.random.default_rng(asked.seed))
    if path.is_dir() and path.name in REGISTRY:
        name, root = path.name, str(path.parent)
    print(f"data: {name}, seed {asked.seed}")
    if name in REGISTRY:
        reader = {"interactions": load, "split": load_split, "rows": load_rows}[REGISTRY[name].kind]
        found = reader(name, data_root=root)
    else:
        found = own(name, items=asked.items)
    if isinstance(found, Interactions):
        found = found.meaning(tuple(kinds.get(kind.name, kind) for kind in found.events))
    return name, found


def world(
    people: int, items: int, each: int, rng: np.random.Generator, *,
    makers: int = 3, days: int = 90, half_life_days: float | None = None, mood: float = 0.5, again: bool = False,
) -> tuple[pl.DataFrame, pl.DataFrame]:  # fmt: skip
    """Return made-up choices (user_id, item_id, time) and items (item_id, title, topic, maker, published_at).

    People have tastes for topics, and with chance `mood` go on with the item that follows the last one in its series.
    Items differ in appeal, and where they have a half-life, lose it with age. `each` choices a person on average; all
    within the last `days`, so that what is new is new. Nobody chooses an item twice unless `again`.
    """
    topics, now = 8, int(time.time()) // DAY * DAY
    topic = np.arange(items) % topics
    maker = topic + topics * rng.integers(makers, size=items)
    published = now - (rng.random(items) * 2 * days * DAY).astype(int)
    appeal = rng.normal(size=items)
    taste = rng.dirichlet(np.full(topics, 0.3), size=people)
    n = people * each
    who = np.sort(rng.choice(people, n, p=rng.dirichlet(np.full(people, 3.0))))
    when = now - (rng.random(n) * days * DAY).astype(int)
    when = when[np.lexsort((when, who))]
    wanted = (rng.random((n, 1)) > taste[who].cumsum(axis=1)[:, :-1]).sum(axis=1)
    age = (when[:, None] - published) / DAY
    odds = appeal - (0 if half_life_days is None else np.log(2) * age / half_life_days) + rng.gumbel(size=(n, items))
    odds[(age < 0) | (topic != wanted[:, None])] = -np.inf
    chosen = odds.argmax(axis=1)
    series = np.stack([rng.permutation(np.flatnonzero(topic == one)) for one in range(topics)])  # items / topics each
    following = np.empty(items, int)
    following[series] = np.roll(series, -1, axis=1)
    goes_on = (rng.random(n) < mood) & (np.diff(who, prepend=-1) == 0)
    for row in np.flatnonzero(goes_on):
        if published[following[chosen[row - 1]]] <= when[row]:
            chosen[row] = following[chosen[row - 1]]
    events = pl.DataFrame({"user_id": who, "item_id": chosen, "time": when}).filter(
        pl.Series(odds.max(axis=1) > -np.inf)
    )
    events = events if again else events.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    things = pl.DataFrame({"item_id": np.arange(items), "topic": topic, "maker": maker, "published_at": published})
    named = pl.format("u{}", "user_id").alias("user_id"), pl.format("i{}", "item_id").alias("item_id")
    return events.with_columns(named), things.with_columns(
        named[1], pl.format("topic {}", "topic").alias("topic"), pl.format("maker {}", "maker").alias("maker"),
        title=pl.format("Nr {} of topic {}", "item_id", "topic"),
    )  # fmt: skip


class Lists:
    """A contest of lists: who finds what people chose later."""

    floor: Sequence[Try] = (("popularity", {}),)
    learnt = "train+validation"  # what the figures of test are of

    def __init__(self, parts: Split, metric: str, seed: int) -> None:
        self.parts, self.metric, self.seed = parts, metric, seed
        self.run = bb.RunOptions(seed=seed, progress=False)

    def fit(self, name: str, settings: Mapping[str, Any]) -> Any:
        """Return a model trained on train, its epoch chosen on validation."""
        return bb.fit(self.parts, name, run=self.run, **settings)

    def again(self, rec: Any) -> Any:
        """Return it trained on everything before the test cut."""
        return rec.refit(self.parts.test.known)

    def measure(self, rec: Any, part: str) -> Any:
        """Return a report on a part, "valid" or "test"."""
        return bb.evaluate(rec, getattr(self.parts, part), metrics=[self.metric], seed=self.seed)

    def compare(self, a: Any, b: Any) -> Difference:
        """Return a − b, paired."""
        return bb.compare(a, b, metrics=[self.metric], seed=self.seed)[0]


def contest(told: Told, asked: argparse.Namespace, judge: Lists, baselines: Sequence[Try], deep: Sequence[Try]) -> None:
    """Choose a baseline and a deep model on validation, and compare the two on test."""
    told.metric = metric = judge.metric
    print(judge.parts if isinstance(judge.parts, Split) else judge.parts.protocol, end="\n\n")
    deep = [(name, dict(settings) | hurry(asked)) for name, settings in deep]
    tests = []
    for role, tries in (("floor", judge.floor), ("baseline", baselines), ("deep", deep)):
        started, found = time.perf_counter(), []
        for name, settings in tries:
            model = judge.fit(name, settings)
            found.append((judge.measure(model, "valid").metrics[metric], name, settings, model))
        if found:
            valid, name, settings, model = max(found, key=lambda one: one[0])
            again = judge.again(model)
            report = judge.measure(again, "test")
            tests.append((again, report))
            low, high = report.intervals[metric]
            figures = {"valid": valid, "test": report.metrics[metric], "low": low, "high": high}
            seconds = {"seconds": time.perf_counter() - started}  # of all tries, and of training again
            told.rows.append({"role": role, "model": name, "settings": dict(settings)} | figures | seconds)
    (base, other), (model, report) = tests[-2:]
    told.difference = judge.compare(report, other)
    told.protocol = f"{report.protocol} metric={metric} select=valid trained-on={judge.learnt}"
    told.taken = model if told.difference.verdict == "better" else base
    show(told)


def hurry(asked: argparse.Namespace) -> dict[str, int]:
    """Return what keeps training short where a test only wants to see the way."""
    return {"epochs": 2} if asked.size == "tiny" else {}


def show(told: Told) -> None:
    """Print the table, and what to take."""
    assert told.difference is not None
    print(f"{told.metric:22} {'valid':>7} {'test':>7}   95 %              s")
    for row in told.rows:
        figures = (
            f"{row['valid']:7.4f} {row['test']:7.4f}   [{row['low']:.4f}, {row['high']:.4f}] {row['seconds']:6.1f}"
        )
        print(f"{row['model'] + ' (' + row['role'] + ')':22} {figures}")
    one, deep, base = told.difference, told.rows[-1]["model"], told.rows[-2]["model"]
    print(f"{deep} − {base}: {one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}], {one.verdict}")
    print(f"take {deep if one.verdict == 'better' else base}.\n{told.protocol}\n")


def slates(
    told: Told, asked: argparse.Namespace, *scenarios: str, k: int = 5, everything: Interactions | None = None,
    folder: Path | None = None,
) -> None:  # fmt: skip
    """Print what a server answers two people under each scenario, and why; with `--out`, train on everything and save.

    `folder` holds scenarios beside those that are shipped.
    """
    rec = told.taken
    if asked.out:
        told.taken = rec = rec if everything is None else rec.refit(everything)
        rec.save(asked.out)
    known, past = known_scenarios(folder), rec.past
    most = np.argsort(-np.bincount(past.user, minlength=past.n_users), kind="stable")
    with TemporaryDirectory(prefix="bowerbird-") as scratch:
        engine = Engine(Path(scratch) / "run", Path(scratch) / "data", recommender=rec, scenarios=known, keep=False)
        for scenario in scenarios:
            for user in (past.user_ids[int(most[len(most) // share])] for share in (10, 2)):
                question = {"user_id": user, "scenario": scenario, "k": k, "explain": True, "fields": ["published_at"]}
                told.slates.append(engine.recommend(question, f"{scenario}-{user}"))
        engine.close()
    for body in told.slates:
        print(f"{body['scenario']}, for {body['user_id']}:")
        for place in body["items"]:
            since = place["properties"].get("published_at")
            age = "" if since is None else f" ({(time.time() - since) / DAY:.0f} d old)"
            print(f"  {place['position']}. {place['title'] or place['item_id']}{age}: {place['reasons'][0]['text']}")
    with_out = "" if asked.out else "first with --out runs/story: "
    beside = f" --scenarios {folder}" if folder else ""
    print(f"\nlive: {with_out}bowerbird serve {asked.out or 'runs/story'}{beside}")
