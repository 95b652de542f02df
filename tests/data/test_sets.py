"""The readers of named sets, each on files small enough to read by eye."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.data import Interactions, sets

WATCH = ["watch", "watched"]


def pairs(events: Interactions) -> list[tuple[int, int]]:
    """User and item of every event, as the files number them."""
    return list(zip(events.user_ids.names(events.user), events.item_ids.names(events.item), strict=True))


def phrases(events: Interactions) -> list[str]:
    return [events.events[code].phrase for code in events.event]


def described(events: Interactions, side: str, name: int, column: str) -> object:
    ids, table = (events.user_ids, events.users) if side == "user" else (events.item_ids, events.items)
    assert table is not None
    return table[column][ids.row(name)]


def test_a_table_without_a_header_takes_the_names_of_its_layout(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text("7\t3\t5\t200\n7\t4\t3\t100\n")
    [events] = sets.table(
        tmp_path, parts={"all": "a.dat"}, event=WATCH, separator="\t",
        columns=["user_id", "item_id", "rating", "timestamp"],
    ).values()  # fmt: skip
    assert pairs(events) == [(7, 4), (7, 3)]
    assert phrases(events) == ["watched", "liked"]
    assert events.time is not None
    assert events.time.tolist() == [100, 200]
    assert events.extra is not None
    assert events.extra["rating"].to_list() == [3, 5]


def test_a_table_without_ratings_holds_one_kind_of_event(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,plays\n1,2,3.5e+02\n1,3,1\n")
    parts = sets.table(tmp_path, parts={"train": "a.csv", "test": "a.csv"}, event=WATCH)
    assert list(parts) == ["train", "test"]
    assert phrases(parts["test"]) == ["watched", "watched"]
    assert parts["test"].weight.tolist() == [1, 1]  # a play count says how often, not how much it weighs
    assert parts["test"].extra is not None
    assert parts["test"].extra["plays"].to_list() == [350, 1]


def test_movielens_tables_are_latin_1_between_double_colons(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::20::4::300\n")
    (tmp_path / "movies.dat").write_bytes("20::Amélie: Paris (2001)::Comedy|Drama\n30::Old::Drama\n".encode("latin-1"))
    (tmp_path / "texts.json.gz").write_bytes(gzip.compress(json.dumps({"20": "A film."}).encode()))
    items = {
        "file": "movies.dat", "key": "movie_id", "separator": "::", "columns": ["movie_id", "title", "genres"],
        "texts": "texts.json.gz",
    }  # fmt: skip
    columns = ["user_id", "movie_id", "rating", "timestamp"]
    [events] = sets.table(
        tmp_path, parts={"all": "ratings.dat"}, event=WATCH, separator="::", columns=columns, items=items
    ).values()
    assert events.title(0) == "Amélie: Paris (2001)"
    assert [described(events, "item", 20, name) for name in ("year", "genres", "abstract")] == [
        2001, "Comedy|Drama", "A film.",
    ]  # fmt: skip


def test_renumbered_items_keep_their_titles(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("1 1\n1 2\n")
    (tmp_path / "map.txt").write_text("1 30\n2 20\n")
    (tmp_path / "movies.csv").write_text('movie_id,title\n20,"Twenty, or so (2020)"\n30,Thirty (2030)\n')
    items = {"file": "movies.csv", "key": "movie_id", "renumbered": "map.txt"}
    [events] = sets.table(
        tmp_path, parts={"all": "pairs.txt"}, event=WATCH, separator=" ", columns=["user_id", "item_id"], items=items
    ).values()
    assert [events.title(row) for row in (0, 1)] == ["Thirty (2030)", "Twenty, or so (2020)"]
    assert described(events, "item", 2, "original_movie_id") == 20


def test_lists_keep_their_order_and_take_vectors_by_number(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("5 2 0\n6\n7 0\n")
    np.save(tmp_path / "image.npy", np.array([[0, 1], [2, 3], [4, 5]], np.float16))
    [events] = sets.lists(tmp_path, parts={"train": "train.txt"}, event=WATCH, vectors={"image": "image.npy"}).values()
    assert pairs(events) == [(5, 2), (5, 0), (7, 0)]
    assert phrases(events) == ["watched"] * 3
    assert events.items is not None
    assert events.items["image"].to_list() == [[4, 5], [0, 1]]
    assert events.items["image"].dtype == pl.Array(pl.Float32, 2)


def test_lists_take_tables_of_ids(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 1\n")
    (tmp_path / "item_list.txt").write_text("org_id remap_id\nB00 0\nB01 1\n")
    side = {"file": "item_list.txt", "key": "remap_id", "separator": " "}
    [events] = sets.lists(tmp_path, parts={"all": "train.txt"}, event=WATCH, items=side).values()
    assert described(events, "item", 1, "org_id") == "B01"


def test_a_funnel_hides_only_what_was_bought(tmp_path: Path) -> None:
    (tmp_path / "view.csv").write_text("user,item,timestamp\n1,5,10\n1,6,30\n")
    (tmp_path / "buy.csv").write_text("user,item,timestamp\n1,5,20\n")
    (tmp_path / "test.txt").write_text("1 6\n")
    stages = {"view": ["view.csv", "viewed"], "buy": ["buy.csv", "bought"]}
    parts = sets.funnel(tmp_path, stages=stages, test="test.txt")
    assert pairs(parts["train"]) == [(1, 5), (1, 5), (1, 6)]
    assert phrases(parts["train"]) == ["viewed", "bought", "viewed"]
    assert parts["train"].hides.tolist() == [False, True, False]
    assert (pairs(parts["test"]), phrases(parts["test"])) == ([(1, 6)], ["bought"])
    assert list(sets.funnel(tmp_path, stages=stages)) == ["all"]


def test_a_matrix_holds_ratings_where_it_is_not_zero(tmp_path: Path) -> None:
    (tmp_path / "train.ascii").write_text("0 5 0 \n2 0 0 \n")
    (tmp_path / "p.ascii").write_text("1e-1 2e-1 3e-1\n4e-1 5e-1 6e-1\n")
    (tmp_path / "users.ascii").write_text("1 0\n0 1\n")
    (tmp_path / "users.txt").write_text("age:young\nage:old")
    (tmp_path / "items.ascii").write_text("1\n0\n1\n")
    (tmp_path / "items.txt").write_text("color:red")
    [events] = sets.matrix(
        tmp_path, parts={"train": "train.ascii"}, event=WATCH, propensities="p.ascii",
        items=["items.ascii", "items.txt"], users=["users.ascii", "users.txt"],
    ).values()  # fmt: skip
    assert (pairs(events), phrases(events)) == ([(0, 1), (1, 0)], ["liked", "watched"])
    assert events.extra is not None
    assert events.extra["propensity"].to_list() == [0.2, 0.4]
    assert described(events, "user", 1, "age:old") == 1
    assert [described(events, "item", item, "color:red") for item in (0, 1)] == [1, 0]


def test_contexts_are_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("3-1004,5-16057,1,1241362105000\n3-1000,4-16058,1,1241362100000\n")
    [events] = sets.contexts(tmp_path, parts={"train": "train.csv"}, event=WATCH).values()
    assert pairs(events) == [(3, 4), (3, 5)]
    assert events.time is not None
    assert events.time.tolist() == [1_241_362_100, 1_241_362_105]
    assert events.extra is not None
    assert events.extra["last_song"].to_list() == [0, 4]
    assert described(events, "item", 5, "artist") == 16_057


def test_rows_are_typed_and_numbered_over_all_parts(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("1\t30\tx\t3\t07\n0\t10\ty\t\t08\n")
    (tmp_path / "test.tsv").write_text("1\t20\ty\t0.5\t09\n")
    parts = sets.rows(
        tmp_path, parts={"train": "train.tsv", "test": "test.tsv"}, separator="\t", texts=["code"],
        columns=["label", "who", "what", "number", "code"], labels=["label"], user="who", item="what",
    )  # fmt: skip
    train, test = parts["train"], parts["test"]
    assert (train.labels.tolist(), test.labels.tolist(), train.tasks) == ([[1], [0]], [[1]], ("label",))
    assert train.table.schema == {"who": pl.Int64, "what": pl.String, "number": pl.Float64, "code": pl.String}
    assert train.table["number"].to_list() == [3, None]  # 0.5 in the other part makes both parts numbers with points
    assert train.table["code"].to_list() == ["07", "08"]
    assert train.user is not None
    assert train.item is not None
    assert test.user is not None
    assert test.item is not None
    assert (train.user.tolist(), test.user.tolist()) == ([2, 0], [1])
    assert (train.item.tolist(), test.item.tolist()) == ([0, 1], [1])


def test_a_text_label_is_one_where_it_is_the_positive_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",age,income\n0,25,<=50K\n1,38,>50K\n")
    [rows] = sets.rows(tmp_path, parts={"all": "a.csv"}, labels=["income"], positive=">50K").values()
    assert rows.labels.tolist() == [[0], [1]]
    assert rows.table.columns == ["age"]  # the nameless column only numbers the rows
    assert rows.time is None


@pytest.mark.parametrize("time", ["2019-11-24 00:00:17.004101+00:00", "1574553617"])
def test_logged_feedback_has_times_and_several_tasks(tmp_path: Path, time: str) -> None:
    (tmp_path / "a.csv").write_text(f"timestamp,item_id,propensity_score,click,buy\n{time},3,0.5,1,0\n")
    how = {"file": "a.csv", "labels": ["click", "buy"], "item": "item_id", "time": "timestamp"}
    parts = sets.tables(tmp_path, parts={"random": how})
    assert parts["random"].labels.tolist() == [[1, 0]]
    assert parts["random"].time is not None
    assert parts["random"].time.tolist() == [1_574_553_617]
    assert parts["random"].table["propensity_score"].to_list() == [0.5]


@pytest.fixture
def shop() -> Interactions:
    """Users 1 and 2, items 10 and 20."""
    return Interactions.of(pl.Series([1, 2]), pl.Series([10, 20]))


def test_relations_join_rows_and_number_attributes_by_their_ids(shop: Interactions, tmp_path: Path) -> None:
    (tmp_path / "friends.dat").write_text("2\t1\t1\n1\t2\t1\n1\t9\t1\n")  # nobody knows user 9
    (tmp_path / "brands.csv").write_text("20,7\n10,3\n20,7\n")
    events = sets.relate(shop, tmp_path, {
        "friend": {"file": "friends.dat", "ends": ["user", "user"]},
        "brand": {"file": "brands.csv", "ends": ["item", "brand"], "separator": ","},
    })  # fmt: skip
    friend, brand = events.relations["friend"], events.relations["brand"]
    assert (friend.source.tolist(), friend.target.tolist()) == ([0, 1], [1, 0])
    assert (brand.source_kind, brand.target_kind) == ("item", "brand")
    assert (brand.source.tolist(), brand.target.tolist(), brand.weight.tolist()) == ([0, 1], [0, 1], [1, 2])
    assert {brand.source.dtype, brand.target.dtype, friend.target.dtype} == {np.dtype(np.int32)}


def test_attributes_listed_in_json_are_edges(shop: Interactions, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"20": [5, 6], "10": [6], "30": [7]}))
    events = sets.relate(shop, tmp_path, {"attribute": {"file": "a.json", "ends": ["item", "attribute"]}})
    edges = events.relations["attribute"]
    assert list(zip(edges.source.tolist(), edges.target.tolist(), strict=True)) == [(0, 1), (1, 0), (1, 1)]


@given(lines=st.lists(st.tuples(st.integers(1, 3), st.integers(-5, 5)), min_size=1), seed=st.integers(0, 99))
def test_the_order_of_lines_does_not_matter_and_every_line_counts(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, int]], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("edges")
    shop = Interactions.of(pl.Series([1, 2]), pl.Series([10, 20]))
    how = {"tag": {"file": "tags.dat", "ends": ["user", "tag"]}}
    read = []
    for order in (np.arange(len(lines)), np.random.default_rng(seed).permutation(len(lines))):
        (folder / "tags.dat").write_text("".join(f"{lines[row][0]}\t{lines[row][1]}\n" for row in order))
        read.append(sets.relate(shop, folder, how).relations["tag"])
    for column in ("source", "target", "weight"):
        assert getattr(read[0], column).tolist() == getattr(read[1], column).tolist()
    assert read[0].weight.sum() == sum(user <= 2 for user, _ in lines)
