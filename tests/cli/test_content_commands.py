"""Commands about content: `search`, `similar --content`, and `update` with items that nobody chose yet."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError, RequestError

SMALL = {"dim": 16, "landmarks": 32, "hidden": 32, "epochs": 20, "batch_size": 128, "negatives": 8, "dropout": 0.0,
         "learning_rate": 0.01, "text_encoder": "words"}  # fmt: skip


def things(rows: range) -> pl.DataFrame:
    """Return a table of things whose titles and kinds tell their half."""
    half = [("Even", "Odd")[row % 2] for row in rows]
    return pl.DataFrame(
        {
            "item_id": [f"i{row}" for row in rows],
            "title": [f"{one} thing {row}" for one, row in zip(half, rows, strict=True)],
            "kind": half,
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> bb.Recommender:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", 60 * n) for n, (u, i) in enumerate(
        (u, i) for u in range(40) for i in rng.permutation(np.arange(u % 2, 20, 2))[:6])]  # fmt: skip
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")
    return bb.fit(bb.read(events, items=things(range(20))), "crossmodal", **SMALL)


@pytest.fixture
def run(trained: bb.Recommender, tmp_path: Path) -> str:
    trained.version = trained.parent = None
    trained.save(tmp_path / "run")
    return str(tmp_path / "run")


@pytest.fixture
def news(tmp_path: Path) -> str:
    """Two new things, and one that is known, under another title."""
    table = pl.concat([things(range(100, 102)), things(range(4, 5)).with_columns(title=pl.lit("Odd thing"))])
    table.rename({"item_id": "item"}).write_csv(tmp_path / "new.csv")
    return str(tmp_path / "new.csv")


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def document(*words: str) -> dict:
    found = json.loads(call(*words, "--json").stdout)
    assert isinstance(found, dict)
    return found


def shown(*words: str) -> str:
    return " ".join(call(*words).stdout.split())


def ids(body: dict) -> list[str]:
    return [one["item_id"] for one in body["items"]]


def test_search_finds_what_says_it(run: str) -> None:
    body = document("search", run, "odd", "-k", "5")
    assert len(body["items"]) == 5
    assert all(int(one[1:]) % 2 == 1 for one in ids(body))
    assert (body["rung"], body["fallback"], body["model"]) == ("content", [], "crossmodal")
    text = shown("search", run, "odd", "-k", "3")
    assert text.startswith("Closest to odd")
    assert text.count("Odd thing") == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "what is to be found? Give a text or a picture."),
        (("--image", "a.png"), "crossmodal was trained without a column of kind image."),
        (("…",), "nothing can be read of the text."),
    ],
)
def test_search_says_what_it_lacks(run: str, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(RequestError, match=re.escape(says)):
        call("search", run, *words)


def test_a_model_without_content_says_who_has_it(run: str, trained: bb.Recommender, tmp_path: Path, news: str) -> None:
    plain = str(tmp_path / "plain")
    bb.fit(trained.past, "itemknn").save(plain)
    with pytest.raises(RequestError, match=r"itemknn has no space of contents to search. Train crossmodal."):
        call("search", plain, "odd")
    with pytest.raises(RequestError, match=r"itemknn has no space of contents to search. Train crossmodal."):
        call("similar", plain, "i3", "--content", "0.5")
    with pytest.raises(RequestError, match=r"itemknn knows items by what people choose. Train crossmodal"):
        call("update", plain, "--items", news)


def test_similar_mixes_content_in_as_is_wished(run: str, trained: bb.Recommender) -> None:
    for weight in (0.0, 0.5, 1.0):
        body = document("similar", run, "i3", "--content", str(weight), "-k", "6")
        assert ids(body) == trained.similar(["i3"], k=6, content=weight).ids[0]
    assert ids(document("similar", run, "i3", "-k", "6")) == trained.similar(["i3"], k=6).ids[0]
    assert shown("similar", run, "i3", "--content", "1").startswith("Like item i3")
    assert CliRunner().invoke(app, ["similar", run, "i3", "--content", "1.5"]).exit_code == 2


def test_new_items_are_added_by_their_content_and_recommended(run: str, news: str) -> None:
    told = document("update", run, "--items", news)
    assert told == {"run": run, "parent": "000001", "version": "000002", "new_items": 2}
    even, odd = (ids(document("recommend", run, "--user", user, "-k", "22")) for user in ("u2", "u3"))
    assert even.index("i100") < even.index("i101")
    assert odd.index("i101") < odd.index("i100")
    assert "i101" in ids(document("search", run, "odd", "-k", "11"))
    assert "i4" not in ids(document("search", run, "odd", "-k", "11"))  # what is known is left alone
    assert ids(document("recommend", run, "--history", "i100", "-k", "3")) != []


def test_adding_what_is_known_publishes_nothing(run: str, news: str) -> None:
    assert shown("update", run, "--items", news) == "2 new items by their content; published as version 000002"
    assert shown("update", run, "--items", news) == "0 new items by their content; version 000002 stays"
    told = document("update", run, "--items", news)
    assert (told["version"], told["new_items"]) == (None, 0)
    assert bb.load(run).version == "000002"
    assert [one["version"] for one in document("model", "list", run)["versions"]] == ["000001", "000002"]
    call("model", "rollback", run)
    assert "i100" not in bb.load(run).item_ids.values


def test_a_file_that_is_not_there_is_named(run: str) -> None:
    with pytest.raises(BowerbirdError, match=r"nowhere\.csv"):
        call("update", run, "--items", "nowhere.csv")


def test_a_user_table_lets_a_stranger_be_answered_by_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{user}", f"i{user % 2 + 2 * item}") for user in range(40) for item in rng.choice(10, 6, replace=False)]
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv(tmp_path / "events.csv")
    pl.DataFrame({"user": [f"u{user}" for user in range(40)], "side": ["even", "odd"] * 20}).write_csv(
        tmp_path / "users.csv"
    )
    items = pl.DataFrame({"item": [f"i{item}" for item in range(20)], "title": ["An even one", "An odd one"] * 10})
    items.write_csv(tmp_path / "items.csv")
    tables = [f"--{name}={tmp_path / name}.csv" for name in ("items", "users")]
    small = [word for pair in ("dim=8", "hidden=16", "epochs=30", "text_encoder=words") for word in ("--set", pair)]
    run = str(tmp_path / "run")
    data = str(tmp_path / "events.csv")
    trained = ["train", "--data", data, *tables, "--model", "twotower", *small, "--out", run, "--json"]
    assert CliRunner().invoke(app, trained).exit_code == 0
    asked = CliRunner().invoke(app, ["recommend", run, "--feature", "side=odd", "--json", "-k", "5"])
    assert asked.exit_code == 0, asked.output
    found = [int(one["item_id"][1:]) % 2 for one in json.loads(asked.stdout)["items"]]
    assert sum(found) >= 4
