"""Rankers on the command line: trained on a feature table or on interactions, asked, measured, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError, ConfigError, RequestError
from bowerbird.models.ranking.fm import FM
from bowerbird.testing import halves_as_rows

FM_QUICK = ("--model", "fm", "--set", "dim=4", "--set", "epochs=4", "--set", "patience=4", "--set",
            "learning_rate=0.02", "--set", "batch_size=256")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clicks.csv with a label, later.csv like it, both with times too; events.csv of likes and views; films.csv."""
    folder = tmp_path_factory.mktemp("rows")
    split = halves_as_rows()
    for part, name in ((split.train, "clicks"), (split.test, "later")):
        table = part.table.drop("tags", "past").with_columns(click=pl.Series(part.labels[:, 0].astype(int)))
        table.write_csv(folder / f"{name}.csv")
        table.with_row_index("when").write_csv(folder / f"timed_{name}.csv")
    rng = np.random.default_rng(0)
    rows = [
        (f"u{u}", f"i{i}", "like" if i % 2 == u % 2 else "view") for u in range(30) for i in rng.permutation(20)[:12]
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "event"], orient="row")
    events = events.sample(fraction=1.0, shuffle=True, seed=0).with_row_index("time", offset=1_700_000_000)
    events[:300].write_csv(folder / "events.csv")
    events[300:].write_csv(folder / "after.csv")
    films = pl.DataFrame({"item_id": [f"i{i}" for i in range(20)], "price": [float(i % 5) for i in range(20)]})
    films.write_csv(folder / "films.csv")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A predictor, saved."""
    call("train", "--data", str(folder / "clicks.csv"), "--label", "click", "--seed", "0", *FM_QUICK, "--out",
         str(folder / "run"))  # fmt: skip
    return folder / "run"


@pytest.fixture(scope="module")
def ranked(folder: Path) -> Path:
    """A recommender with a ranker, saved."""
    call("train", "--data", str(folder / "events.csv"), "--items", str(folder / "films.csv"), "--candidates", "10",
         *FM_QUICK, "--out", str(folder / "ranked"))  # fmt: skip
    return folder / "ranked"


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def said(*words: str) -> str:
    return " ".join(call(*words).output.split())


def document(*words: str) -> dict[str, Any]:
    found = json.loads(call(*words, "--json").stdout)
    assert isinstance(found, dict)
    return found


def refused(*words: str) -> BowerbirdError:
    with pytest.raises(BowerbirdError) as caught:
        CliRunner().invoke(app, list(words), catch_exceptions=False)
    return caught.value


# ── a feature table ───────────────────────────────────────────────────────────────────────────────────────────────


def test_training_on_a_feature_table_reports_and_saves(folder: Path, tmp_path: Path) -> None:
    row = document("train", "--data", str(folder / "clicks.csv"), "--label", "click", *FM_QUICK, "--out",
                   str(tmp_path / "run"), "--seed", "3")  # fmt: skip
    assert (row["model"], row["version"], row["refit"], row["seeds"]) == ("fm", "000001", True, [3])
    assert row["split"].startswith("split=random valid=0.1 test=0.1 seed=3 hash=")
    assert row["protocol"].startswith(row["split"])
    assert [part["part"] for part in row["audit"]] == ["train", "valid", "test"]
    assert [part["rows"] for part in row["audit"]] == [1152, 144, 144]
    assert row["audit"][0]["click"] == pytest.approx(0.5, abs=0.05)
    assert 0.8 < row["metrics"]["auc"] < 1
    assert row["training"]["epochs"] <= 4
    assert row["config"]["dim"] == 4
    assert row["search"] is None
    assert len(row["data_sha256"]) == 64
    saved = bb.Predictor.load(tmp_path / "run")
    assert saved.measured is not None
    assert saved.measured["trained_on"] == "the train part"
    assert saved.measured["metrics"]["auc"] == row["metrics"]["auc"]
    assert not (tmp_path / "run" / "state").exists()


def test_people_are_told_columns_shares_figures_and_what_is_next(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = said("train", "--data", str(folder / "clicks.csv"), "--label", "click", *FM_QUICK, "--out", str(out))
    assert "user (categorical), item (categorical), price (numeric)" in text
    assert "Rows, and the share of 1 of each label" in text
    for part, share in bb.Predictor.load(out).measured["metrics"].items():  # type: ignore[index]
        assert f"{part} {share:.4f}" in text
    assert "and again on everything" in text
    assert f"saved fm as version 000001 in {out}" in text
    assert f"predict {out} FILE --out scores.parquet" in text


def test_shares_have_four_digits(folder: Path) -> None:
    text = call("train", "--data", str(folder / "clicks.csv"), "--label", "click", *FM_QUICK).output
    lines = [line.split() for line in text.splitlines() if line.split()[:1] == ["train"]]
    assert len(lines) == 1
    assert lines[0][1] == "1152"
    assert len(lines[0][2]) == len("0.5000")


def test_columns_are_taken_from_a_file(folder: Path, tmp_path: Path) -> None:
    columns = tmp_path / "columns.toml"
    columns.write_text('[[column]]\nname = "user"\nkind = "categorical"\n\n[[column]]\nname = "price"\n'
                       'kind = "numeric"\nbuckets = 4\n')  # fmt: skip
    words = ("train", "--data", str(folder / "clicks.csv"), "--label", "click", *FM_QUICK, "--columns", str(columns))
    text = said(*words, "--out", str(tmp_path / "run"))
    assert "user (categorical), price (numeric) left out: item" in text
    assert [one.name for one in bb.Predictor.load(tmp_path / "run").encoder.columns[""]] == ["user", "price"]


def test_without_a_refit_the_one_that_was_measured_is_saved(folder: Path, tmp_path: Path) -> None:
    words = ("train", "--data", str(folder / "clicks.csv"), "--label", "click", *FM_QUICK, "--no-refit")
    row = document(*words, "--out", str(tmp_path / "run"))
    assert row["refit"] is False
    later = document("evaluate", str(tmp_path / "run"), "--data", str(folder / "later.csv"))
    refitted = document(*[word for word in words if word != "--no-refit"], "--out", str(tmp_path / "again"))
    assert refitted["metrics"] == row["metrics"]
    assert (
        later["metrics"]
        != document("evaluate", str(tmp_path / "again"), "--data", str(folder / "later.csv"))["metrics"]
    )


def test_a_recipe_says_it_all(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[data]\npath = "{folder / "clicks.csv"}"\n[split]\nvalid = 0.25\n[model]\nname = "logistic"\nepochs = 1\n'
        '[ranking]\nlabel = ["click"]\n'
    )
    row = document("train", str(recipe))
    assert row["model"] == "logistic"
    assert [part["rows"] for part in row["audit"]] == [936, 360, 144]


def test_rows_with_times_are_cut_by_them(folder: Path) -> None:
    row = document("train", "--data", str(folder / "timed_clicks.csv"), "--label", "click", "--time", "when", *FM_QUICK)
    assert row["split"].startswith("split=temporal cuts=0.80,0.90 hash=")


def test_tries_find_and_train_the_best(folder: Path, tmp_path: Path) -> None:
    words = ("train", "--data", str(folder / "clicks.csv"), "--label", "click", "--model", "fm", "--set", "epochs=2",
             "--tries", "3", "--out", str(tmp_path / "run"))  # fmt: skip
    row = document(*words)
    assert len(row["search"]["tries"]) == 3
    assert row["search"]["metric"] == "auc"
    assert row["config"] == row["search"]["best"]
    text = said(*words)
    assert len((tmp_path / "run" / "search.jsonl").read_text().splitlines()) == 3  # none was repeated
    assert "in 3 tries" in text


def test_what_cannot_be_read_is_told(folder: Path, tmp_path: Path) -> None:
    table = pl.read_csv(folder / "clicks.csv", infer_schema=False)
    table.with_columns(price=pl.when(pl.int_range(pl.len()) < 5).then(None).otherwise("price")).write_csv(
        tmp_path / "holes.csv"
    )
    words = ("train", "--data", str(tmp_path / "holes.csv"), "--label", "click", *FM_QUICK)
    assert "note: price: empty: 5 values" in said(*words)
    assert document(*words)["not_read"] == {"price: empty": 5}


def test_a_training_that_was_stopped_goes_on_with_the_same_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "train",
        "--data",
        str(folder / "clicks.csv"),
        "--label",
        "click",
        *FM_QUICK,
        "--out",
        str(tmp_path / "run"),
    )
    loss, calls = FM.loss, []

    def stops(self: FM, batch: Any) -> Any:
        calls.append(len(batch))
        if len(calls) == 8:  # in the second epoch of five steps
            raise KeyboardInterrupt
        return loss(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(FM, "loss", stops)
        text = said(*words)
    assert "stopped at epoch 1; the best so far is kept, and not trained on everything" in text
    assert (tmp_path / "run" / "state").exists()
    again = said(*words)
    assert "went on after epoch 1, which an earlier run had reached" in again
    assert not (tmp_path / "run" / "state").exists()
    straight = document(*words[:-1], str(tmp_path / "straight"))
    found = bb.Predictor.load(tmp_path / "run")
    assert found.measured is not None
    assert found.measured["metrics"] == straight["metrics"]


def test_stopped_while_trained_on_everything_the_one_before_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: bb.Predictor, rows: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bb.Predictor, "refit", stopped)
    words = ("train", "--data", str(folder / "clicks.csv"), "--label", "click", *FM_QUICK, "--out", str(tmp_path))
    assert "stopped while training on everything; the one trained on the train part is kept" in said(*words)
    assert bb.Predictor.load(tmp_path).version == "000001"


# ── asking a predictor ────────────────────────────────────────────────────────────────────────────────────────────


def test_every_row_of_a_file_is_scored(run: Path, folder: Path, tmp_path: Path) -> None:
    later, out = folder / "later.csv", tmp_path / "scores.parquet"
    row = document("predict", str(run), str(later), "--out", str(out))
    assert row == {"rows": 480, "tasks": ["click"], "not_read": {}, "out": str(out)}
    scored = pl.read_parquet(out)
    assert scored.columns == ["user", "item", "price", "click", "p_click"]
    assert scored["price"].dtype == pl.Float64
    expected = bb.Predictor.load(run).predict(pl.read_csv(later))[:, 0]
    assert scored["p_click"].to_numpy() == pytest.approx(expected)
    assert document("predict", str(run), str(later))["scores"] == expected[:, None].tolist()
    assert f"480 rows in {out}" in said("predict", str(run), str(later), "--out", str(out))


def test_people_are_shown_the_first_rows_with_four_digits(run: Path, folder: Path) -> None:
    text = call("predict", str(run), str(folder / "later.csv")).output
    assert "The first of 480 rows" in text
    first = bb.Predictor.load(run).predict(pl.read_csv(folder / "later.csv"))[0, 0]
    assert f"{first:.4f}" in text
    assert f"{first:.5f}" not in text
    assert len([line for line in text.splitlines() if line.strip().startswith("0.")]) == 20


def test_libsvm_rows_are_trained_on_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(int(a == b), a, b) for a, b in rng.integers(0, 3, (400, 2))]
    (tmp_path / "rows.libsvm").write_text("".join(f"{label} 1:{a}:1 2:{3 + b}:1\n" for label, a, b in rows))
    row = document("train", "--data", str(tmp_path / "rows.libsvm"), *FM_QUICK, "--set", "epochs=8")
    assert row["metrics"]["auc"] > 0.9


def test_what_a_file_holds_that_training_did_not_is_told(run: Path, tmp_path: Path) -> None:
    pl.DataFrame({"user": ["u1", "nobody"], "item": ["i1", "i2"], "price": [1.0, None]}).write_csv(tmp_path / "odd.csv")
    text = said("predict", str(run), str(tmp_path / "odd.csv"))
    assert "note: price: empty: 1 values" in text
    assert "note: user: not seen in training: 1 values" in text


def test_a_predictor_is_measured_on_what_it_never_saw(run: Path, folder: Path) -> None:
    kept, found = document("evaluate", str(run)), document("evaluate", str(run), "--data", str(folder / "later.csv"))
    assert kept["trained_on"] == "the train part"
    assert found["rows"] == 480
    assert "part=later.csv" in found["protocol"]
    assert 0.8 < found["metrics"]["auc"] < 1
    text = said("evaluate", str(run), "--data", str(folder / "later.csv"))
    assert f"auc {found['metrics']['auc']:.4f}" in text
    assert f"auc {kept['metrics']['auc']:.4f}" in said("evaluate", str(run))


# ── interactions ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_ranker_of_interactions_is_trained_measured_twice_and_served(ranked: Path, folder: Path) -> None:
    words = ("train", "--data", str(folder / "events.csv"), "--items", str(folder / "films.csv"), *FM_QUICK)
    row = document(*words, "--candidates", "10", "--retriever", "popularity")
    assert row["model"] == "fm"
    assert 0 <= row["metrics"]["ndcg@10"] <= 1
    assert "history=before-the-cut part=valid" in row["rows"]["protocol"]
    assert 0 <= row["rows"]["metrics"]["auc"] <= 1
    text = said(*words)
    assert "auc" in text
    assert "ndcg@10" in text
    body = document("recommend", str(ranked), "--user", "u3", "-k", "3")
    assert (body["model"], body["rung"], len(body["items"])) == ("fm", "model", 3)


def test_a_ranked_run_shows_both_reports_and_is_measured_on_later_events(ranked: Path, folder: Path) -> None:
    kept = document("evaluate", str(ranked))
    assert {"metrics", "rows", "trained_on"} <= set(kept)
    found = document("evaluate", str(ranked), "--data", str(folder / "after.csv"))
    assert found["protocol"].startswith("split=later")
    assert found["rows"]["rows"] == 60
    assert 0 <= found["rows"]["metrics"]["auc"] <= 1
    text = said("evaluate", str(ranked), "--data", str(folder / "after.csv"))
    assert f"auc {found['rows']['metrics']['auc']:.4f}" in text
    assert f"ndcg@10 {found['metrics']['ndcg@10']:.4f}" in text


def test_labels_and_columns_of_interactions_are_taken_as_told(folder: Path, tmp_path: Path) -> None:
    columns = tmp_path / "columns.toml"
    columns.write_text('[[item]]\nname = "price"\nkind = "numeric"\n')
    call("train", "--data", str(folder / "events.csv"), "--items", str(folder / "films.csv"), *FM_QUICK, "--label",
         "view", "--columns", str(columns), "--out", str(tmp_path / "run"))  # fmt: skip
    rec = bb.load(tmp_path / "run")
    assert rec.stage is not None
    assert [one.name for one in rec.stage.ranking.encoder.schema.fields] == ["user.user_id", "item.price"]
    assert rec.ranking.label == ("view",)


def test_tries_of_a_ranker_know_its_retriever_and_columns(folder: Path, tmp_path: Path) -> None:
    words = ("train", "--data", str(folder / "events.csv"), "--model", "logistic", "--set", "epochs=1", "--tries", "2")
    out = ("--out", str(tmp_path))
    for retriever in ("popularity", "itemknn", "popularity"):
        assert document(*words, *out, "--retriever", retriever)["search"]["metric"] == "auc"
    kept = [json.loads(json.loads(line)["key"]) for line in (tmp_path / "search.jsonl").read_text().splitlines()]
    assert len(kept) == 4  # the third search repeats the first
    assert ["PopularityConfig" in one["ranking"] for one in kept] == [True, True, False, False]


def test_pairs_that_no_row_can_be_made_of_are_told(folder: Path, tmp_path: Path) -> None:
    rows = [(f"u{u}", f"i{i}", kind, 100 * i + u) for u in range(20) for i in range(8)
            for kind in (("view", "buy") if (u + i) % 3 == 0 else ("buy",) if i == u % 8 else ("view",))]  # fmt: skip
    pl.DataFrame(rows, schema=["user_id", "item_id", "event", "time"], orient="row").write_csv(tmp_path / "shop.csv")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'[data]\npath = "{tmp_path / "shop.csv"}"\n[model]\nname = "logistic"\nepochs = 1\n'
                      '[ranking]\nlabel = ["buy"]\ngiven = "view"\n')  # fmt: skip
    assert "pairs of the train part have no view and are left out of what the ranker learns" in said(
        "train", str(recipe)
    )
    row = document("train", str(recipe))
    assert row["left_out"] > 0
    options = ("--data", str(tmp_path / "shop.csv"), "--model", "logistic", "--set", "epochs=1", "--given", "view")
    assert document("train", *options, "--label", "buy")["rows"]["metrics"] == row["rows"]["metrics"]


# ── what does not fit ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_retriever_on_a_feature_table_is_told_what_learns_from_one(folder: Path, tmp_path: Path) -> None:
    pl.read_csv(folder / "clicks.csv").drop("item").write_csv(tmp_path / "people.csv")
    error = refused("train", "--data", str(tmp_path / "people.csv"), "--model", "ease", "--label", "click")
    assert isinstance(error, ConfigError)
    assert "ease learns from interactions, not from a feature table. Take deepfm, or another ranker." in str(error)


def test_a_label_that_is_not_there_is_answered_with_the_closest(folder: Path) -> None:
    error = refused("train", "--data", str(folder / "clicks.csv"), *FM_QUICK, "--label", "clik")
    assert 'label "clik" is neither an event nor a column of' in str(error)
    assert 'Did you mean "click"? Events: interaction. Columns: user, item, price, click.' in str(error)
    error = refused("train", "--data", str(folder / "events.csv"), *FM_QUICK, "--label", "lick")
    assert 'Did you mean "like"? Events: view, like.' in str(error)


def test_data_without_labels_and_without_interactions_says_what_it_lacks(folder: Path, tmp_path: Path) -> None:
    pl.DataFrame({"age": [1, 2], "bought": [0, 1]}).write_csv(tmp_path / "people.csv")
    error = refused("train", "--data", str(tmp_path / "people.csv"), *FM_QUICK)
    assert "no column is recognised as the user" in str(error)
    assert "(--user on the command line)" in str(error)
    assert "Or is it a feature table? Then name its label with --label." in str(error)


def test_columns_for_tables_that_meet_do_not_fit_one_table(folder: Path, tmp_path: Path) -> None:
    columns = tmp_path / "columns.toml"
    columns.write_text('[[item]]\nname = "price"\nkind = "numeric"\n')
    words = ("train", "--data", str(folder / "clicks.csv"), "--label", "click", *FM_QUICK, "--columns", str(columns))
    error = refused(*words)
    assert isinstance(error, RequestError)
    assert str(error) == "columns are given for item; a feature table needs [[column]]."


def test_a_split_that_rows_do_not_have_is_refused(folder: Path) -> None:
    words = ("train", "--data", str(folder / "clicks.csv"), "--label", "click", *FM_QUICK, "--split", "leave-one-out")
    error = refused(*words)
    assert isinstance(error, ConfigError)
    assert 'no split of rows is named "leave-one-out". Allowed: temporal, random.' in str(error)


def test_a_file_without_a_column_cannot_be_scored(run: Path, folder: Path, tmp_path: Path) -> None:
    pl.read_csv(folder / "later.csv").drop("price").write_csv(tmp_path / "less.csv")
    assert 'there is no column "price"' in str(refused("predict", str(run), str(tmp_path / "less.csv")))
    pl.read_csv(folder / "later.csv").drop("click").write_csv(tmp_path / "blind.csv")
    assert 'there is no column "click"' in str(refused("evaluate", str(run), "--data", str(tmp_path / "blind.csv")))


def test_a_recommender_predicts_no_file_and_a_predictor_recommends_nothing(
    ranked: Path, run: Path, folder: Path
) -> None:
    assert "holds a recommender" in str(refused("predict", str(ranked), str(folder / "later.csv")))
    assert "holds a predictor of feature rows" in str(refused("recommend", str(run)))


def test_what_was_never_measured_says_how_to(folder: Path, tmp_path: Path) -> None:
    bb.fit(halves_as_rows(), "logistic", epochs=1, run=bb.RunOptions(progress=False)).save(tmp_path)
    error = refused("evaluate", str(tmp_path))
    assert f"{tmp_path} was never measured. Give labelled rows with --data FILE." in str(error)
