"""The recommendation in plain words: what to take, what comes next, and what would change that."""

import math
from collections.abc import Sequence
from dataclasses import replace

from bowerbird.core import ModelConfig
from bowerbird.evaluation import Difference
from bowerbird.models.baselines.ease import LARGEST
from bowerbird.selection.candidates import Candidate, Sizes, Skipped, estimate
from bowerbird.selection.front import Place
from bowerbird.selection.judging import needed
from bowerbird.selection.measure import METRIC
from bowerbird.selection.profile import Profile
from bowerbird.selection.race import Limits, said

NAMES = {METRIC: "NDCG@10", "auc": "AUC"}
COLD, MOVED = 0.2, 0.2  # shares of cold users or items, and of popularity that moved, that are worth a word
FREE_MB = 8_000.0  # of memory, where no limit is given, at which a model is said to be too large
MANY = 1_000  # times as many users as there are, of which nobody would be told to wait for
TIMES = 1.5  # from which one cost is said to be so many times another


def taken(place: Place, candidate: Candidate, metric: str, n: int, who: str) -> str:
    """Return the sentence that names the pick, its value and its costs."""
    one, settings = place.trial.measured, said(candidate, place.trial.config)
    how = f" with {settings}" if settings else " as it is shipped"
    return (
        f"Take {place.trial.model}{how}: {NAMES[metric]} {one.value:.4f} [{place.low:.4f}, {place.high:.4f}] on "
        f"{n:,} {who} of validation, {seconds(one.seconds)} to train, {one.ms:.2g} ms a request, {one.mb:,.1f} MB."
    )


def beside(pick: Place, other: Place, difference: Difference, metric: str, n: int, who: str) -> str:
    """Return the sentence about another model: what it gains or loses, and for how much; `difference` is its gain."""
    share = abs(difference.mean) / max(pick.trial.value, 1e-12)
    verb = "gains" if difference.mean > 0 else "loses"
    costs = _costs_beside(pick, other)
    name = other.trial.model
    if difference.verdict == "level":
        sentence = (
            f"{name} {verb} {share:.1%} {NAMES[metric]}{costs}, but {n:,} {who} cannot tell the two apart: the 95 % "
            f"interval of the paired difference is {difference.low:+.4f} to {difference.high:+.4f}."
        )
        more = needed(difference, n)
        if more is None or more > MANY * n:
            return f"{sentence} No number of {who} worth having would: they are as good as equal."
        return f"{sentence} It would take about {_round(max(more - n, 1)):,} more {who} of validation to tell."
    spread = f"paired difference {difference.low:+.4f} to {difference.high:+.4f}"
    return f"{name} {verb} {share:.1%} {NAMES[metric]}{costs} ({spread})."


def _costs_beside(pick: Place, other: Place) -> str:
    mine, theirs = pick.trial.measured, other.trial.measured
    found = []
    for name, text, floor in (("mb", "the memory", 1.0), ("ms", "the latency", 0.5), ("seconds", "the training", 1.0)):
        ratio = max(getattr(theirs, name), floor) / max(getattr(mine, name), floor)
        if ratio >= TIMES:
            found.append(f"{_times(ratio)} {text}")
        elif ratio <= 1 / TIMES:
            found.append(f"{_part(ratio)} of {text}")
    return f" for {_listed(found)}" if found else " at about the same cost"


def changes(
    one: Profile, pick: Place, candidate: Candidate, others: Sequence[Place], left_out: Sequence[Place],
    skipped: Sequence[Skipped], limits: Limits, sizes: Sizes, speed: float,
) -> list[str]:  # fmt: skip
    """Return what would change the recommendation, each in a sentence."""
    found = _as_it_grows(candidate, pick.trial.config, limits, sizes, speed, pick)
    for place in left_out[:1]:
        one_ = place.trial.measured
        found.append(
            f"Without the limits {place.trial.model} would come first, with {place.trial.value:.4f}: it takes "
            f"{one_.ms_high:.2g} ms for 95 % of requests and {one_.mb:,.0f} MB."
        )
    if one.cold_items and one.cold_items > COLD and "cold-item" not in candidate.entry.tags:
        found.append(
            f"{one.cold_items:.0%} of what validation chose is new since training: {candidate.name} cannot know it. "
            + ("A model that reads content can; compare twotower or crossmodal by what new items are worth to you."
               if one.content else "Descriptions of items (--items) would let models of content know it.")
        )  # fmt: skip
    if one.cold_users and one.cold_users > COLD:
        found.append(
            f"{one.cold_users:.0%} of the people asked came after training: what they are shown before their first "
            "choices is popularity, and the value above holds them too."
        )
    if one.drift and one.drift > MOVED:
        found.append(
            f"Popularity moves: {one.drift:.0%} of it moved in the last tenth of the events. Train again often, "
            "and run this again after a season."
        )
    if not one.ordered and one.task == "retrieval":
        found.append(
            "Without times the split is by chance, and models of order were not tried. With them they may win."
        )
    late = [each for each in skipped if "are left for that part" in each.why]
    if late:
        names = _listed(list(dict.fromkeys(each.model for each in late)))
        found.append(f"A longer budget: {names} did not fit into this one.")
    return found


def _as_it_grows(
    candidate: Candidate, config: ModelConfig, limits: Limits, sizes: Sizes, speed: float, pick: Place
) -> list[str]:
    """Return at how many items the pick would become too large or too slow, where it would within 100 times."""
    if not sizes.items:
        return []
    now = estimate(candidate, config, sizes, speed)
    most_mb = limits.memory_mb or FREE_MB

    def too_much(items: int) -> str:
        then = estimate(candidate, config, replace(sizes, items=items), speed)
        if candidate.name == "ease" and items > LARGEST:
            return f"it takes no more than {LARGEST:,}"
        if pick.trial.measured.mb * then.mb / max(now.mb, 1e-9) > most_mb:
            return f"it would hold more than {most_mb:,.0f} MB"
        if limits.latency_ms and pick.trial.measured.ms_high * then.ms / max(now.ms, 1e-9) > limits.latency_ms:
            return f"a request would take more than {limits.latency_ms:g} ms"
        return ""

    if not too_much(100 * sizes.items):
        return []
    low, high = sizes.items, 100 * sizes.items
    while high - low > max(low // 100, 1):
        middle = (low + high) // 2
        low, high = (low, middle) if too_much(middle) else (middle, high)
    return [
        f"Beyond about {_round(high):,} items (there are {sizes.items:,}) {candidate.name} is out: {too_much(high)}."
    ]


def small(places: Sequence[Place], judge_n: int, who: str) -> str:
    """Return the plain word that the data cannot tell the leading models apart, or "" where they can."""
    level = [one for one in places[1:] if one.level]
    if not level:
        return ""
    counts = [more for one in level if one.behind and (more := needed(one.behind, judge_n))]
    counts = [more for more in counts if more <= MANY * judge_n]
    if not counts:
        return ""
    names = _listed([place.trial.model for place in (places[0], *level)])
    nearest, first = min(counts), _round(max(min(counts) - judge_n, 1))
    all_ = _round(max(max(counts) - judge_n, 1))
    how_many = f"about {first:,} more {who}"
    if nearest != max(counts):
        how_many += f" for the widest gap, {all_:,} for the narrowest"
    return (
        f"These data are too small to tell {names} apart: {judge_n:,} {who} of validation, and differences as large as "
        f"those seen would be found 4 times in 5 with {how_many}."
    )


def seconds(value: float) -> str:
    """Return a span of time for people."""
    if value < 100:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 6_000 else f"{value / 3600:.1f} h"


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 3 else f"{ratio:,.0f} times"


def _part(ratio: float) -> str:
    return f"1/{1 / ratio:,.0f}" if ratio < 0.4 else f"{ratio:.0%}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _round(n: float) -> int:
    """Return a number with two digits: an estimate has no more."""
    digits = max(len(str(int(n))) - 2, 0)
    return int(math.ceil(n / 10**digits) * 10**digits)
