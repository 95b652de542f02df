"""Published data sets are read whole: the counts are those of their papers."""

from pathlib import Path

import pytest

from bowerbird.data import Interactions, read, split


def test_ml_100k_is_whole(films: Interactions) -> None:
    assert films.summary() | {"density": 0} == {
        "events": 100_000, "users": 943, "items": 1682, "density": 0, "timed": True,
    }  # fmt: skip
    assert films.title(films.item_ids.row(50)) == "Star Wars (1977)"
    likes = [kind.name for kind in films.events].index("like")
    assert int((films.event == likes).sum()) == 55_375  # ratings of four and five
    assert films.extra is not None
    assert films.extra["rating"].cast(int).sum() == 352_986


def test_ml_100k_by_time_has_ninety_warm_people(films: Interactions) -> None:
    parts = split(films)
    assert any("only 90 users" in warning for warning in parts.warnings)
    assert parts.audit["before others' training"].to_list() == [None, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "file", "events", "users", "items"),
    [
        ("gowalla", "train.txt.gz", 810_128, 29_858, 40_981),
        ("yelp2018", "train.txt.gz", 1_237_259, 31_668, 38_048),
        ("amazon-cds-m1", "train.txt.gz", 604_475, 43_169, 35_648),
        ("amazon-beauty-s3rec", "Beauty.txt", 198_502, 22_363, 12_101),
    ],
)
def test_lists_are_whole(data_root: Path, name: str, file: str, events: int, users: int, items: int) -> None:
    table = read(data_root / name / file)
    assert (len(table), table.n_users, table.n_items) == (events, users, items)


def test_gowalla_has_the_published_test_part(data_root: Path) -> None:
    folder = data_root / "gowalla"
    parts = split(read(folder / "train.txt.gz"), test=read(folder / "test.txt"))
    assert len(parts.test.targets) == 217_242
    assert len(parts.test.known) == 810_128
    assert len(parts.valid.targets) + len(parts.train) == 810_128
