"""A watch on drift: of inputs, scores, calibration and quality, with alarms that name the cause."""

from bowerbird.monitoring.events import compare_events, foreseen
from bowerbird.monitoring.streams import StreamAlarm, StreamOptions, StreamWatch
from bowerbird.monitoring.windows import Drift, Series, WatchOptions, compare_windows

__all__ = [
    "Drift",
    "Series",
    "StreamAlarm",
    "StreamOptions",
    "StreamWatch",
    "WatchOptions",
    "compare_events",
    "compare_windows",
    "foreseen",
]
