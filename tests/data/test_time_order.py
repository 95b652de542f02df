"""Time order: what sorts time and place as one number is a stable argsort."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.data import Interactions

FAR = 2**62


@given(st.lists(st.integers(-5, 5) | st.integers(-FAR, FAR), min_size=1, max_size=40))
def test_events_are_in_time_order_and_file_order_breaks_ties(times: list[int]) -> None:
    place = pl.Series(range(len(times)))
    events = Interactions.of(place, place, time=np.array(times, np.int64))
    assert events.user.tolist() == sorted(range(len(times)), key=lambda row: times[row])
    assert events.time is not None
    assert events.time.tolist() == sorted(times)


@pytest.mark.parametrize("span", [10, 2**40, 2**62])
def test_spans_of_any_length_are_sorted_alike(span: int) -> None:
    times = np.random.default_rng(0).integers(0, span, 1000)
    events = Interactions.of(pl.Series(range(1000)), pl.Series([0] * 1000), time=times)
    assert np.array_equal(events.user, np.argsort(times, kind="stable"))
