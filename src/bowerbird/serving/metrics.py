"""What the server counts, for Prometheus. No label ever holds an id."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0, 5.0)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # whoever asks may invent others


class Metrics:
    """Counters and clocks of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(f"bowerbird_{name}", says, labels, registry=self.registry)

        self._known: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}  # to look labels up costs as much again
        self._requests = counter("requests", "Requests answered.", "method", "route", "status")
        self._seconds = Histogram(
            "bowerbird_request_seconds", "Time to answer.", ("route",), buckets=BUCKETS, registry=self.registry
        )
        self._stage = Histogram(
            "bowerbird_stage_seconds", "Time in each stage.", ("stage",), buckets=BUCKETS, registry=self.registry
        )
        self._events = counter("events", "Events, by what became of them.", "outcome")
        self._fallbacks = counter("fallbacks", "Slates that were not whole, by step.", "step")
        self._slates = counter("slates", "Slates since the start, all and those with a good event.", "outcome")
        self._swaps = counter("swaps", "Versions taken into use or refused.", "outcome")

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        labels = (method if method in METHODS else "other", route, str(status))
        if labels not in self._known:
            self._known[labels] = self._requests.labels(*labels), self._seconds.labels(route)
        count, clock = self._known[labels]
        count.inc()
        clock.observe(seconds)

    def slate(self, timings_ms: Mapping[str, float], fallback: Iterable[str]) -> None:
        """Count the time of each stage of a slate, and the steps that made it less than the whole pipeline's."""
        for stage, ms in timings_ms.items():
            self._stage.labels(stage).observe(ms / 1000)
        for step in fallback:
            self._fallbacks.labels(step).inc()

    def events(self, outcome: str, n: int) -> None:
        """Count events that were accepted, duplicates or rejected."""
        if n:
            self._events.labels(outcome).inc(n)

    def outcome(self, outcome: str) -> None:
        """Count a slate that was shown, or one of them from which something was chosen."""
        self._slates.labels(outcome).inc()

    def swap(self, outcome: str) -> None:
        """Count a version that was taken into use, refused or rolled back."""
        self._swaps.labels(outcome).inc()

    def gauge(self, name: str, says: str, value: Callable[[], float]) -> None:
        """Show a number that is read when it is asked for."""
        Gauge(f"bowerbird_{name}", says, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
