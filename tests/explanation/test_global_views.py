"""What models rely on altogether: shares that sum up, and nobody's name."""

import numpy as np
import pytest

import bowerbird as bb
from bowerbird.core import DataError
from bowerbird.data import Interactions
from bowerbird.explanation.overview import BACK, Overview, _activity, _places, of_rows
from bowerbird.explanation.pictures import draw


@pytest.fixture(scope="module")
def lightgcn(films: Interactions) -> bb.Recommender:
    return bb.fit(bb.split(films), "lightgcn", epochs=1)


def test_of_a_graph_it_tells_places_items_and_how_active_people_of_paths_are(lightgcn: bb.Recommender) -> None:
    found = lightgcn.overview(people=20)
    assert list(found.sections) == ["places", "items", "people"]
    assert sum(one.mean for one in found.sections["places"]) == pytest.approx(1.0)
    shares = [one.mean for one in found.sections["people"]]
    assert 0 < shares[0] < shares[1] < shares[2] <= 1  # the most active 1, 10 and 50 %
    assert found == lightgcn.overview(people=20)


def test_popularity_relies_on_nothing_of_anybody(films: Interactions) -> None:
    found = bb.fit(bb.split(films), "popularity").overview(people=5)
    assert found.sections == {}
    with pytest.raises(DataError, match="nothing to draw"):
        draw(found, "relies.png")


def test_how_far_back_by_hand() -> None:
    found = _places(np.array([0.4, 0.1, 0.3, 0.2]))  # oldest first: 4 back, 3, 2, 1
    assert found["1"] == pytest.approx(0.2)
    assert found["2"] == pytest.approx(0.3)
    assert found["3 to 5"] == pytest.approx(0.5)
    assert len(found) == len(BACK)


def test_who_is_among_the_most_active_by_hand() -> None:
    assert _activity(np.array([0, 0, 0, 1, 2, 2]), 4).tolist() == [0.25, 0.75, 0.5, 1.0]


def test_columns_stand_in_the_order_of_what_they_add_either_way() -> None:
    found = of_rows(["a", "b"], np.array([[0.1, -2.0], [-0.1, 1.0]]))
    assert [(one.name, one.mean) for one in found.sections["features"]] == [("b", 1.5), ("a", pytest.approx(0.1))]
    assert Overview.from_dict(found.to_dict()) == found


def test_it_is_drawn_in_a_file_that_is_a_picture(lightgcn: bb.Recommender, tmp_path) -> None:
    draw(lightgcn.overview(people=5), tmp_path / "relies.svg", title="films")
    assert (tmp_path / "relies.svg").stat().st_size > 5_000
    with pytest.raises(DataError, match="a picture is one of"):
        draw(lightgcn.overview(people=5), tmp_path / "relies.txt")
