from pathlib import Path

import polars as pl
import pytest

import bowerbird as bb
from bowerbird.core import ConfigError, RunOptions, UnknownModelError
from bowerbird.data import Labels
from bowerbird.features import Numeric
from bowerbird.models.baselines.ease import EASEConfig
from bowerbird.models.baselines.itemknn import ItemKNNConfig
from bowerbird.models.graph.lightgcn import LightGCNConfig
from bowerbird.models.ranking.deepfm import DeepFMConfig
from bowerbird.recommender import DataOptions

GOOD = """
[data]
path = "events.csv"
user = "uid"

[split]
method = "per-user"
test = 0.2

[model]
name = "lightgcn"
dim = 16
l2 = 1

[run]
seed = 4
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_good_recipe_says_everything_that_a_run_is(tmp_path: Path) -> None:
    recipe = bb.Recipe.load(written(tmp_path, GOOD))
    assert recipe.model == LightGCNConfig(dim=16, l2=1.0)
    assert (recipe.data.path, recipe.data.user, recipe.data.item) == ("events.csv", "uid", None)
    assert (recipe.split.method, recipe.split.valid, recipe.split.test) == ("per-user", 0.1, 0.2)
    assert recipe.run == RunOptions(seed=4)


def test_a_recipe_needs_no_more_than_a_model(tmp_path: Path) -> None:
    recipe = bb.Recipe.load(written(tmp_path, '[model]\nname = "itemknn"\n'))
    assert recipe == bb.Recipe(model=ItemKNNConfig())


def test_a_recipe_says_what_stands_around_a_ranker(tmp_path: Path) -> None:
    (tmp_path / "columns.toml").write_text('[[item]]\nname = "price"\nkind = "numeric"\n')
    text = f'''[model]
name = "deepfm"
hidden = [16]
[ranking]
retriever = "ease"
candidates = 50
label = ["cart", "buy"]
given = "view"
columns = "{tmp_path / "columns.toml"}"
'''
    recipe = bb.Recipe.load(written(tmp_path, text))
    assert recipe.model == DeepFMConfig(hidden=(16,))
    ranking = recipe.ranking
    assert (ranking.candidates, ranking.label, ranking.given) == (50, ("cart", "buy"), "view")
    assert ranking.retriever_config == EASEConfig()
    assert ranking.labels == Labels(label=("cart", "buy"), given="view")
    assert ranking.columns_by_part == {"item": (Numeric(name="price"),)}
    usual = bb.Recipe.load(written(tmp_path, '[model]\nname = "deepfm"\n')).ranking
    assert (usual.retriever_config, usual.labels, usual.columns_by_part) == (ItemKNNConfig(), Labels(), {})


def test_a_recipe_of_rows_reads_cuts_and_trains(tmp_path: Path) -> None:
    rows = [(f"u{row % 5}", row % 7, int(row % 5 == 0)) for row in range(200)]
    pl.DataFrame(rows, schema=["who", "size", "clicked"], orient="row").write_csv(tmp_path / "clicks.csv")
    text = f'[data]\npath = "{tmp_path / "clicks.csv"}"\n[split]\nvalid = 0.3\n[model]\nname = "logistic"\nepochs = 2\n'
    recipe = bb.Recipe.load(written(tmp_path, text))
    assert recipe.data.holds_rows(recipe.ranking.label)
    split = recipe.data.load_rows(recipe.ranking.label, recipe.split)
    assert (len(split.train), len(split.valid), len(split.test)) == (120, 60, 20)
    assert bb.fit(split, recipe).name == "logistic"


def test_a_table_is_told_from_interactions_by_its_label(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1], "item": [2], "time": [3], "liked": [1]}).write_csv(tmp_path / "events.csv")
    data = DataOptions(path=str(tmp_path / "events.csv"))
    assert not data.holds_rows(())
    assert not data.holds_rows(("buy",))
    assert data.holds_rows(("liked",))
    assert DataOptions(path="adult").holds_rows(())
    assert not DataOptions(path="ml-100k").holds_rows(("like",))


def test_a_recipe_reads_cuts_and_trains(tmp_path: Path, table: pl.DataFrame) -> None:
    table.write_csv(tmp_path / "events.csv")
    text = f'[data]\npath = "{tmp_path / "events.csv"}"\n[split]\nmethod = "leave-one-out"\n[model]\nname = "itemknn"\n'
    recipe = bb.Recipe.load(written(tmp_path, text))
    split = recipe.split.cut(recipe.data.load())
    rec = bb.fit(split, recipe)
    assert len(split.test.targets) == 30
    assert rec.name == "itemknn"
    assert len(rec.past) == len(table) - 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[modle]\nname = 1", r'\[modle\] is not a section of a recipe. Did you mean "model"\?'),
        ("seed = 1", r"\[seed\] is not a section"),
        ('[model]\nname = "ease"\nl22 = 1.0', r'l22 is not an .* Did you mean "l2"\?.*\[model\], key l22'),
        ('[model]\nname = "ease"\nl2 = "x"', r"l2 is 'x'; it must be of type float.*\[model\], key l2"),
        ('[model]\nname = "ease"\nl2 = -1.0', r"l2 is -1.0; it must be above 0. Try l2 = 300.0.*\[model\], key l2"),
        ('[model]\nname = "ease"\n[run]\nseeds = 1', r'seeds is not an .* Did you mean "seed"\?.*\[run\], key seeds'),
        ('[model]\nname = "fm"\n[ranking]\nlabels = ["x"]', r'Did you mean "label"\?.*\[ranking\], key labels'),
        ('[model]\nname = "fm"\n[ranking]\ncandidates = 0', r"it must be 1 or more.*\[ranking\], key candidates"),
        ('[model]\nname = "fm"\n[ranking]\nretriever = "fm"', r"must be a retriever.*\[ranking\], key retriever"),
        ('[model]\nname = "ease"\n[split]\ntset = 1', r'tset is not an .* Did you mean "test"\?.*\[split\], key tset'),
        ('[model]\nname = "ease"\n[data]\npath = "x"\nuesr = "u"', r'Did you mean "user"\?.*\[data\], key uesr'),
        ('[model]\nname = "ease"\n[data]\nuser = "u"', r"path is None; it must name a file .*\[data\], key path"),
        ("[model]\ndim = 3", r'name is None; it must name a model.*\[model\], key name'),
        ("[model]\nname = 3", r"model.name is 3; it must name a model.*\[model\], key name"),
        ("", r"model.name is None; it must name a model.*\[model\], key name"),
        ("[model\n", "is not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        bb.Recipe.load(path)
    assert str(path) in str(caught.value)


def test_an_unknown_model_is_named_with_file_and_key(tmp_path: Path) -> None:
    path = written(tmp_path, '[model]\nname = "lightgnc"\n')
    with pytest.raises(
        UnknownModelError, match=r'"lightgnc". Did you mean "lightgcn"\?.*\[model\], key name'
    ) as caught:
        bb.Recipe.load(path)
    assert str(path) in str(caught.value)


def test_a_recipe_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such recipe"):
        bb.Recipe.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[data]\npaht = "a.csv"\n[model]\nname = "mf"\n',
            'paht is not an option of DataOptions. Did you mean "path"?',
        ),
        ('[model]\nnmae = "mf"\n', "model.name is None (nmae is not it); it must name a model."),
        ("[model]\nname = nan\n", "it must name a model."),
        ('[model]\nname = "mf"\nlearning_rate = inf\n', "learning_rate is inf; it must be finite. Try"),
        ('[model]\nname = "mf"\nlearning_rate = nan\n', "learning_rate is nan; it must be finite. Try"),
        (f'[model]\nname = "mf"\ndim = {10**30}\n', "it must be 9,223,372,036,854,775,807 at most"),
        ("a = " + "[\n" * 5_000, "is not TOML: values are nested too deeply"),
        (f"a = {'9' * 5_000}", "is not TOML: a value cannot be read"),
        (f"{'a.' * 50_000}b = 1", "is not TOML: line 1 has more than 16,384 letters"),
        (f'["{"x" * 10_000}"]\na = 1\n', "is not a section of a recipe"),
    ],
)
def test_what_was_once_a_traceback_or_no_help_is_refused_by_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bb.Recipe.load(written(tmp_path, text))
    assert says in str(caught.value)
    assert "recipe.toml" in str(caught.value)
    assert len(str(caught.value)) < 1_000
