"""The model that CONTRIBUTING shows is one: installed as a package of its own, it is listed, trained and checked."""

import json
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", TEXT, flags=re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def install(folder: Path, project: str, modules: dict[str, str]) -> None:
    """Lay a distribution out as pip does: a package, and metadata with its entry points."""
    table = tomllib.loads(project)["project"]
    name = table["name"].replace("-", "_")
    (folder / name).mkdir(parents=True)
    for module, source in {"__init__": "", **modules}.items():
        (folder / name / f"{module}.py").write_text(source)
    metadata = folder / f"{name}-{table['version']}.dist-info"
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {table['name']}\nVersion: {table['version']}\n"
    )
    lines = [
        line
        for group, points in table["entry-points"].items()
        for line in (f"[{group}]", *(f"{point} = {place}" for point, place in points.items()))
    ]
    metadata.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the distributions of a folder, every warning but the ones under test an error."""
    environment = {"PYTHONPATH": str(folder), "PATH": "", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds shop-models as CONTRIBUTING writes it, and events.csv."""
    site = tmp_path_factory.mktemp("site")
    model, test = blocks("python")
    (project,) = blocks("toml")
    install(site, project, {"p3alpha": model})
    (site / "test_p3alpha.py").write_text(test)
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", 1_700_000_000 + 60 * int(rng.integers(10_000)))
            for u in range(40) for i in rng.permutation(np.arange(u % 2, 20, 2))[:8]]  # fmt: skip
    pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row").write_csv(site / "events.csv")
    return site


def test_the_model_of_the_other_package_is_listed(site: Path) -> None:
    ran = python(site, "-W", "error", "-m", "bowerbird", "models", "--json")
    assert ran.returncode == 0, ran.stderr
    listed = {one["name"]: one for one in json.loads(ran.stdout)}
    assert listed["p3alpha"]["summary"].startswith("P3alpha: an item is reached from a history by a random walk")
    assert "ease" in listed


def test_it_is_trained_measured_saved_and_asked_by_its_name(site: Path) -> None:
    train = ["train", "--data", "events.csv", "--model", "p3alpha", "--set", "alpha=0.8", "--out", "run", "--json"]
    ran = python(site, "-W", "error", "-m", "bowerbird", *train)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["model"] == "p3alpha"
    asked = python(site, "-W", "error", "-m", "bowerbird", "recommend", "run", "--user", "u1", "--json")
    body = json.loads(asked.stdout)
    assert body["rung"] == "model"
    assert {int(one["item_id"][1:]) % 2 for one in body["items"][:2]} == {1}


def test_its_test_passes(site: Path) -> None:
    ran = python(site, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_p3alpha.py")
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout


def test_a_run_of_a_model_that_is_not_installed_any_more_says_so(site: Path, tmp_path: Path) -> None:
    saved = python(site, "-m", "bowerbird", "train", "--data", "events.csv", "--model", "p3alpha", "--out", "gone")
    assert saved.returncode == 0, saved.stderr
    ran = python(tmp_path, "-m", "bowerbird", "recommend", str(site / "gone"))
    assert ran.returncode == 2
    assert 'UnknownModelError: no model is named "p3alpha".' in ran.stderr


def test_the_walk_by_hand(site: Path) -> None:
    code = (
        "import bowerbird as bb, polars as pl; from shop_models.p3alpha import P3Alpha\n"
        "frame = pl.DataFrame({'user': ['a', 'a', 'b', 'b', 'b'], 'item': ['x', 'y', 'x', 'y', 'z']})\n"
        "print(bb.fit(bb.read(frame), 'p3alpha').model.reached.tolist())"
    )
    reached = json.loads(python(site, "-c", code).stdout)
    # from x to a or b, each 1/2; a has two items, b three: y is reached with 1/2 · 1/2 + 1/2 · 1/3, z with 1/2 · 1/3
    assert reached[0] == pytest.approx([0, 5 / 12, 1 / 6], abs=1e-6)
    # z was chosen by b alone, who goes on to x or y with 1/3 each
    assert reached[2] == pytest.approx([1 / 3, 1 / 3, 0], abs=1e-6)
