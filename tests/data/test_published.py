"""Published data sets are read whole: the counts are those of their papers."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bowerbird.data import REGISTRY, Interactions, Split, load, load_rows, load_split, split
from bowerbird.data.named import READ_WITH

TABLES = {  # name → events, users, items; likes where there are ratings; first and last day where there are times
    "ml-100k": (100_000, 943, 1_682, 55_375, "1997-09-20", "1998-04-22"),
    "ml-latest-small": (100_836, 610, 9_724, 48_580, "1996-03-29", "2018-09-24"),
    "ml-1m": (1_000_209, 6_040, 3_706, None, None, None),
    "ml-1m/content": (1_000_209, 6_040, 3_706, None, None, None),
    "ml-1m/timed": (487_650, 2_999, 3_615, 279_124, "2000-10-04", "2003-02-27"),
    "ml-1m/sasrec": (999_611, 6_040, 3_416, None, None, None),
    "amazon-beauty-s3rec": (198_502, 22_363, 12_101, None, None, None),
    "amazon-sports-s3rec": (296_337, 35_598, 18_357, None, None, None),
    "lastfm-2k": (92_834, 1_892, 17_632, None, None, None),
    "yelp-hin": (198_397, 16_239, 14_284, 134_176, None, None),
    "amazon-hin": (195_791, 6_170, 2_753, 146_230, "1998-01-03", "2014-07-13"),
    "retailrocket-mb": (97_381, 2_174, 29_905, None, "2015-05-03", "2015-09-18"),
}
SPLITS = {  # name → train, valid (None where it is cut from train), test, users, items
    "ml-1m/ultragcn_m1": (796_244, None, 99_455, 6_022, 3_043),
    "gowalla": (810_128, None, 217_242, 29_858, 40_981),
    "yelp2018": (1_237_259, None, 324_147, 31_668, 38_048),
    "amazon-cds-m1": (604_475, None, 172_951, 43_169, 35_648),
    "amazon-book-kgat": (652_514, None, 193_920, 70_679, 24_915),
    "yelp-sslrec": (182_357, 13_025, 65_128, 42_712, 26_822),
    "tiktok-diffmm": (59_541, 3_051, 6_130, 9_308, 6_710),
    "lastfm-2k/lightgcn_split": (42_135, None, 10_533, 1_880, 4_489),
    "lastfm-1k-cfm": (202_309, None, 12_265, 414, 14_387),
    "retailrocket-mb/next_buy": (97_381, None, 2_174, 2_174, 30_113),
    "coat": (6_960, None, 4_640, 290, 300),
    "adressa-macr": (113_345, None, 2_976, 13_485, 744),
}
ROWS = {  # name → part → rows, feature columns, ones of each task (sum of stars for a rating)
    "frappe": {"train": (202_027, 10, [67_604]), "valid": (57_722, 10, [19_063]), "test": (28_860, 10, [9_536])},
    "criteo-8k": {"train": (7_200, 39, [1_549]), "valid": (409, 39, [93]), "test": (391, 39, [86])},
    "avazu-8k": {"train": (8_087, 23, [1_397]), "valid": (480, 23, [86]), "test": (432, 23, [80])},
    "ctr-samples": {
        "criteo": (200, 39, [49]),
        "avazu": (100, 23, [20]),
        "movielens": (200, 9, [718]),
        "ali_ccp": (100, 31, [7, 1]),
        "aliexpress": (100, 80, [60, 2]),
        "yidian": (1_000, 16, [110]),
    },
    "adult": {"all": (48_842, 14, [11_687])},
    "obd-small": {
        "random_all": (10_000, 88, [38]),
        "random_men": (10_000, 42, [46]),
        "bts_all": (10_000, 88, [42]),
        "bts_men": (10_000, 42, [69]),
    },
    "bing-news-dkn": {"train": (10_401, 3, [6_305]), "test": (462, 3, [271])},
}
EDGES = {  # name → relation → lines, distinct sources, distinct targets
    "amazon-beauty-s3rec": {"attribute": (45_037, 12_101, 637)},
    "amazon-sports-s3rec": {"attribute": (110_458, 18_357, 2_277)},
    "lastfm-2k": {"friend": (25_434, 1_892, 1_892), "tag": (184_941, 12_133, 9_718)},
    "yelp-hin": {
        "friend": (158_590, 10_580, 10_580),
        "compliment": (76_875, 14_411, 11),
        "category": (40_009, 14_180, 511),
        "city": (14_267, 14_267, 47),
    },
    "amazon-hin": {"view": (5_694, 1_435, 3_857), "category": (5_508, 2_753, 22), "brand": (2_753, 2_753, 334)},
}


def test_every_set_is_counted_here() -> None:
    assert set(TABLES) | set(SPLITS) | set(ROWS) == set(REGISTRY)
    right = {name: READ_WITH[data.kind] for name, data in REGISTRY.items()}
    assert {right[name] for name in TABLES} == {"load"}
    assert {right[name] for name in SPLITS} == {"load_split"}
    assert {right[name] for name in ROWS} == {"load_rows"}
    assert {name for name in TABLES if REGISTRY[name].relations} == set(EDGES)


def test_ml_100k_is_whole(films: Interactions) -> None:
    assert films.summary() | {"density": 0} == {
        "events": 100_000, "users": 943, "items": 1682, "density": 0, "timed": True,
    }  # fmt: skip
    assert films.title(films.item_ids.row(50)) == "Star Wars (1977)"
    assert films.extra is not None
    assert films.extra["rating"].cast(int).sum() == 352_986
    assert films.users is not None
    assert films.users["gender"].value_counts().sort("gender")["count"].to_list() == [273, 670]
    assert films.users["occupation"].n_unique() == 21


def test_ml_100k_by_time_has_ninety_warm_people(films: Interactions) -> None:
    parts = split(films)
    assert any("only 90 users" in warning for warning in parts.warnings)
    assert parts.audit["before others' training"].to_list() == [None, 0.0, 0.0]


def day(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).date().isoformat()


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_whole(data_root: Path, name: str) -> None:
    table = load(name, data_root=str(data_root))
    events, users, items, likes, first, last = TABLES[name]
    assert (len(table), table.n_users, table.n_items) == (events, users, items)
    assert (table.time is None) == (first is None)
    if table.time is not None:
        assert (day(table.time[0]), day(table.time[-1])) == (first, last)
    kinds = [kind.name for kind in table.events]
    assert ("like" in kinds) == (likes is not None)
    if likes is not None:
        assert int((table.event == kinds.index("like")).sum()) == likes
    told = {
        relation: (int(edges.weight.sum()), len(np.unique(edges.source)), len(np.unique(edges.target)))
        for relation, edges in table.relations.items()
    }
    assert told == EDGES.get(name, {})


@pytest.mark.parametrize("name", SPLITS)
def test_splits_are_whole(data_root: Path, name: str) -> None:
    parts = load_split(name, data_root=str(data_root))
    train, valid, test, users, items = SPLITS[name]
    assert (len(parts.test.known), len(parts.test.targets)) == (train + (valid or 0), test)
    if valid is None:
        assert 0 < len(parts.valid.targets) < train / 7
    else:
        assert (len(parts.train), len(parts.valid.targets)) == (train, valid)
    assert (parts.test.targets.n_users, parts.test.targets.n_items) == (users, items)


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_whole(data_root: Path, name: str) -> None:
    parts = load_rows(name, data_root=str(data_root))
    told = {
        part: (len(rows), rows.table.width, rows.labels.sum(axis=0).astype(int).tolist())
        for part, rows in parts.items()
    }
    assert told == ROWS[name]


def test_every_folder_and_every_checksum_is_in_the_registry(data_root: Path) -> None:
    listed = dict(line.split()[::-1] for line in (data_root / "SHA256SUMS").read_text().splitlines())
    ours = {f"{data.folder}/{file}": sha256 for data in REGISTRY.values() for file, sha256 in data.files.items()}
    # the users that one paper drew at random to validate on: no part of a set
    assert set(listed) - set(ours) == {"ml-1m/sasrec/gsasrec_val_users.txt"}
    assert set(ours) <= set(listed)
    assert all(listed[file] == sha256 for file, sha256 in ours.items() if not file.endswith(".gz"))


def test_ml_1m_is_described(data_root: Path) -> None:
    films = load("ml-1m/content", data_root=str(data_root))
    assert films.items is not None
    assert films.users is not None
    assert films.items["abstract"].count() == 3_228
    assert films.items["title"].null_count() == films.items["year"].null_count() == 0
    assert films.title(films.item_ids.row(1)) == "Toy Story (1995)"
    assert films.users.row(films.user_ids.row(1)) == ("F", 1, 10, "48067")


def test_the_sasrec_numbers_mean_the_same_films(data_root: Path) -> None:
    """Both tables hold the same events, less the 290 films seen fewer than five times."""
    ours, sasrec = (load(name, data_root=str(data_root)) for name in ("ml-1m", "ml-1m/sasrec"))
    assert sasrec.items is not None
    original = ours.item_ids.rows(sasrec.items["original_movie_id"])
    assert (original >= 0).all()
    ours_seen, sasrec_seen = np.bincount(ours.item), np.bincount(sasrec.item)
    assert np.array_equal(ours_seen[original], sasrec_seen)
    assert ours_seen[np.setdiff1d(np.arange(ours.n_items), original)].max() < 5
    assert [sasrec.title(row) for row in range(3)] == [ours.title(row) for row in original[:3].tolist()]


def whole(name: str, data_root: Path) -> Split:
    return load_split(name, data_root=str(data_root))


def test_friends_keep_their_numbers_through_every_part(data_root: Path) -> None:
    parts = whole("lastfm-2k/lightgcn_split", data_root)
    train, last = parts.train, parts.test.targets
    before, after = train.relations["friend"], last.relations["friend"]
    named = [set(zip(train.user_ids.names(before.source), train.user_ids.names(before.target), strict=True)),
             set(zip(last.user_ids.names(after.source), last.user_ids.names(after.target), strict=True))]  # fmt: skip
    assert named[0] <= named[1]
    assert len(named[1]) == 25_226  # of 25,434: twelve people chose none of the artists
    assert before.source.max() < train.n_users


def test_tiktok_brings_vectors_of_image_and_sound(data_root: Path) -> None:
    items = whole("tiktok-diffmm", data_root).test.targets.items
    assert items is not None
    assert {name: items[name].to_numpy().shape for name in items.columns} == {
        "image": (6_710, 128), "audio": (6_710, 128),
    }  # fmt: skip


def test_coat_describes_people_and_coats(data_root: Path) -> None:
    train = whole("coat", data_root).train
    assert train.users is not None
    assert train.items is not None
    assert (train.users.width, train.items.width) == (14, 33)
    assert train.users["gender:men"].sum() + train.users["gender:women"].sum() == 290


def test_cfm_holds_out_the_latest_play_of_each_context(data_root: Path) -> None:
    parts = whole("lastfm-1k-cfm", data_root)
    known, targets = parts.test.known, parts.test.targets
    assert known.time is not None
    assert targets.time is not None
    first, last = min(known.time[0], targets.time[0]), max(known.time[-1], targets.time[-1])
    assert (day(first), day(last)) == ("2006-06-20", "2009-06-19")
    assert targets.items is not None
    assert targets.items["artist"].n_unique() == 4_244


def test_frappe_numbers_people_and_apps_alike_in_all_parts(data_root: Path) -> None:
    parts = load_rows("frappe", data_root=str(data_root))
    assert max(int(rows.user.max()) for rows in parts.values() if rows.user is not None) == 956
    assert max(int(rows.item.max()) for rows in parts.values() if rows.item is not None) == 4_081
    for rows in parts.values():
        assert rows.user is not None
        assert np.array_equal(rows.user, rows.table["user"].to_numpy())  # the file numbers users first, from 0


def test_the_open_bandit_sample_has_propensities_of_its_two_policies(data_root: Path) -> None:
    parts = load_rows("obd-small", data_root=str(data_root))
    for part, arms in {"random_all": 80, "bts_all": 80, "random_men": 34, "bts_men": 34}.items():
        rows = parts[part]
        propensity = rows.table["propensity_score"]
        assert rows.item is not None
        assert rows.time is not None
        assert np.array_equal(rows.item, rows.table["item_id"].to_numpy())
        assert rows.item.max() == arms - 1
        assert (propensity.round(4).n_unique() == 1) == part.startswith("random")
        assert {day(rows.time.min()), day(rows.time.max())} <= {f"2019-11-{d}" for d in range(24, 31)}
