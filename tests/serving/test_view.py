"""What popular and trending are made of."""

import numpy as np
import pytest

from bowerbird.serving.view import HALF_LIFE_S, Tally

ZERO = 1_700_000_000
DAY = int(HALF_LIFE_S)


def test_many_choices_count_as_they_do_one_by_one() -> None:
    choices = [
        (0, "a", 1.0, ZERO),
        (1, "b", 0.3, ZERO - DAY),
        (0, "a", 2.0, ZERO + DAY // 7),
        (-1, "new", 0.1, ZERO),
    ] * 2
    one, many = Tally(2, ZERO), Tally(2, ZERO)
    for choice in choices:
        one.add(*choice)
    rows, item_ids, weights, times = zip(*choices, strict=True)
    many.changed = False
    many.add_all([], {}, np.zeros(0), np.zeros(0))
    assert not many.changed
    many.add_all(item_ids, dict(zip(item_ids, rows, strict=True)), np.array(weights), np.array(times))
    assert many.changed
    assert many.chosen.tolist() == one.chosen.tolist() == [6.0, 0.6]
    assert many.hot == pytest.approx(one.hot)
    assert many.waiting == one.waiting


@pytest.mark.parametrize("years", [-100, -3, 3, 30, 10_000])
def test_a_choice_that_is_years_from_when_counting_began_is_a_number(years: int) -> None:
    """A clock that was wrong when the server started: 2 to the power of the days between was too large."""
    when = ZERO + years * 365 * DAY
    one, many = Tally(3, ZERO), Tally(3, ZERO)
    for tally in (one, many):
        tally.add(0, "a", 1.0, ZERO)
        tally.add(-1, "new", 1.0, ZERO)
    one.add(1, "b", 1.0, when)
    many.add_all(["b"], {"b": 1}, np.array([1.0]), np.array([when]))
    for tally in (one, many):
        scores = tally.hot.astype(np.float32)
        assert np.isfinite(scores).all()
        assert scores.argmax() == (1 if years > 0 else 0)
        assert tally.chosen.tolist() == [1.0, 1.0, 0.0]
        assert tally.waiting["new"] == (1.0, tally.hot[0])
        tally.add(1, "b", -1.0, when)
        assert tally.hot[1] == 0.0


def test_what_is_trending_fades_for_longer_than_a_number_can_grow() -> None:
    """A server that took no new version for 128 days had scores that were no numbers."""
    tally = Tally(2, ZERO)
    for day in range(400):
        tally.add(0, "a", 1.0, ZERO + day * DAY)
    tally.add(1, "b", 1.75, ZERO + 399 * DAY)
    assert tally.hot[0] / tally.hot[1] == pytest.approx(2 / 1.75)
    assert 0 < tally.hot.max() < 1e10
