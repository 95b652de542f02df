"""Figures that pages show, from what the server counts: pure functions, no page and no network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

LISTS = ("/v1/recommendations", "/v1/rankings", "/v1/search", "/v1/lists", "/v1/items:similar")
SIMILAR = "/similar"
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Sample:
    """What the server had counted at one moment, since it was started."""

    at: float  # seconds of any clock that only runs forward
    lists: float = 0.0  # requests for lists
    buckets: Mapping[float, float] = field(default_factory=dict)  # upper bound in seconds → lists up to it
    events: float = 0.0
    slates: float = 0.0
    chosen_from: float = 0.0
    failed: float = 0.0  # answers of 500 and above
    lost: float = 0.0  # slates that were shown and not logged
    bad_swaps: float = 0.0  # versions that were refused or rolled back
    model_failed: float = 0.0

    @classmethod
    def of(cls, text: str, at: float) -> "Sample":
        """Read Prometheus' text format."""
        rows = [
            (one.name, one.labels, one.value) for family in text_string_to_metric_families(text)
            for one in family.samples
        ]  # fmt: skip
        buckets: dict[float, float] = {}
        for name, labels, value in rows:
            if name == "bowerbird_request_seconds_bucket" and _is_list(labels.get("route", "")):
                bound = float(labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + value

        def total(name: str, **wanted: str) -> float:
            return sum(
                value for one, labels, value in rows
                if one == f"bowerbird_{name}_total" and all(labels.get(key) == said for key, said in wanted.items())
            )  # fmt: skip

        failed = sum(
            value for one, labels, value in rows
            if one == "bowerbird_requests_total" and labels.get("status", "") >= "500" and labels.get("status") != "503"
        )  # fmt: skip
        return cls(
            at=at,
            lists=buckets.get(inf, 0.0),
            buckets=buckets,
            events=total("events", outcome="accepted"),
            slates=total("slates", outcome="shown"),
            chosen_from=total("slates", outcome="chosen_from"),
            failed=failed,
            lost=total("events", outcome="lost"),
            bad_swaps=total("swaps", outcome="refused") + total("swaps", outcome="rolled_back"),
            model_failed=total("fallbacks", step="model_failed"),
        )

    def since(self, other: "Sample") -> "Sample":
        """Return what came after another sample; all of it where the server was started anew in between."""
        if self.lists < other.lists or self.events < other.events:
            return self
        names = ("lists", "events", "slates", "chosen_from", "failed", "lost", "bad_swaps", "model_failed")
        buckets = {bound: count - other.buckets.get(bound, 0.0) for bound, count in self.buckets.items()}
        gone = {name: getattr(self, name) - getattr(other, name) for name in names}
        return Sample(at=self.at - other.at, buckets=buckets, **gone)

    def quantile_ms(self, q: float) -> float | None:
        """Return a quantile of the time to answer, between the bounds of its bucket; None without a request.

        Infinity says that it lies above the last bound.
        """
        wanted, before, low = q * self.lists, 0.0, 0.0
        if not self.lists:
            return None
        for bound, count in sorted(self.buckets.items()):
            if count >= wanted:
                if bound == inf:
                    return inf
                return 1000 * (low + (bound - low) * (wanted - before) / max(count - before, 1e-9))
            before, low = count, bound
        return inf


def _is_list(route: str) -> bool:
    return route.startswith(LISTS) or route.endswith(SIMILAR)


def wilson(good: float, n: float) -> tuple[float, float] | None:
    """Return the 95 % interval of a share (Wilson, 1927); None of nothing."""
    if n <= 0:
        return None
    share, z = good / n, Z * Z / n
    middle, spread = share + z / 2, Z * sqrt(share * (1 - share) / n + z / (4 * n))
    return max(0.0, (middle - spread) / (1 + z)), min(1.0, (middle + spread) / (1 + z))


def changes(before: list[Any], now: list[Any]) -> dict[Any, int | None]:
    """Return for each id of the new list by how many places it rose, None for one that was not there."""
    place = {one: n for n, one in enumerate(before)}
    return {one: place[one] - n if one in place else None for n, one in enumerate(now)}


def flow(trace: list[dict[str, Any]], items: int) -> tuple[list[str], list[tuple[str, str, float]]]:
    """Return the nodes and links (from, to, items) of the way from all items to the slate; names are `kind:what`.

    Where two sources found the same item, it is divided among them in proportion to what each found.
    """
    stages = {step["stage"]: step for step in trace}
    allowed = stages.get("filter", {}).get("candidates", items)
    removed = dict(stages.get("filter", {}).get("removed", {}))
    links: list[tuple[str, str, float]] = [("all:", "allowed:", allowed)]
    if not removed and items > allowed:
        removed = {"": items - allowed}
    links += [("all:", f"removed:{name}", count) for name, count in removed.items()]
    sources = stages.get("sources", {})
    found, n = dict(sources.get("found", {})), sources.get("candidates", 0)
    told = sum(found.values())
    for name, count in found.items():
        share = n * count / told if told else 0.0
        links += [("allowed:", f"source:{name}", share), (f"source:{name}", "candidates:", share)]
    if not told:
        links.append(("allowed:", "candidates:", n))
    links.append(("allowed:", "unfound:", allowed - n))
    before, last = "candidates:", n
    for name in ("ranking", "reranking", "slate"):
        left = stages.get(name, {}).get("candidates")
        if left is None or (left == last and name != "slate"):
            continue
        links += [(before, f"{name}:", min(left, last)), (before, f"left:{name}", last - left)]
        before, last = f"{name}:", left
    links = [link for link in links if link[2] > 0]
    nodes = list(dict.fromkeys(name for link in links for name in link[:2]))
    return nodes, links


def front(models: list[dict[str, Any]], cost: str) -> list[str]:
    """Return the models that no other one beats in value and in one cost, cheapest first."""
    best, found = -inf, []
    for one in sorted(models, key=lambda one: (one[cost], -one["value"])):
        if one["value"] > best:
            best = one["value"]
            found.append(one["model"])
    return found
