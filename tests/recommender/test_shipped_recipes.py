"""The recipes that come with the repository: each loads, and says what its name says."""

from dataclasses import asdict
from pathlib import Path

import pytest

import bowerbird as bb
from bowerbird.core import entry_of

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.rglob("*.toml"))
GRAPH = ("lightgcn", "ngcf", "sgl", "simgcl", "spectral", "xsimgcl")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads_and_bears_the_name_of_its_model(path: Path) -> None:
    recipe = bb.Recipe.load(path)
    assert path.stem.startswith(f"{entry_of(recipe.model).name}-")
    assert f"recipes/{path.relative_to(FOLDER).as_posix()}" in path.read_text()  # the line that runs it


@pytest.mark.parametrize("name", GRAPH)
def test_a_model_on_the_graph_has_the_settings_of_its_paper(name: str) -> None:
    config = asdict(bb.Recipe.load(FOLDER / "graph" / f"{name}-paper.toml").model)
    if name == "spectral":
        assert (config["rank"], config["weight"], config["item_exponent"]) == (256, 0.3, 0.5)
        return
    assert (config["dim"], config["hops"], config["select"]) == (64, 3, "recall@20")
    assert (config["loss"], config["negatives"], config["cosine"], config["temperature"]) == ("bpr", 1, False, 1.0)
