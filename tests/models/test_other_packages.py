"""Models of other packages: a broken one is left out with a warning, and a name is one model's."""

import subprocess
import sys
from pathlib import Path

import pytest

GOOD = '''"""A model of another package, good for a test and nothing else."""

from dataclasses import dataclass
from bowerbird.core import ModelConfig, register


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    pass


@register("NAME", config=Config, tags=("retriever", "closed-form"))
class Model:
    pass
'''


def install(folder: Path, name: str, source: str, *, module: str = "model") -> None:
    package = name.replace("-", "_")
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text("")
    (folder / package / "model.py").write_text(source)
    metadata = folder / f"{package}-1.2.dist-info"
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    metadata.joinpath("entry_points.txt").write_text(f"[bowerbird.models]\nany = {package}.{module}\n")


def bowerbird(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(folder), "PATH": "", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "bowerbird", *words], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def broken(:", "SyntaxError: "),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("from bowerbird.core import register, RunOptions; RunOptions(seed=-1)", "ConfigError: seed is -1"),
    ],
)
def test_a_broken_package_is_left_out_with_a_warning_and_the_others_work(
    tmp_path: Path, source: str, says: str
) -> None:
    install(tmp_path, "broken-models", source)
    install(tmp_path, "good-models", GOOD.replace("NAME", "good"))
    ran = bowerbird(tmp_path, "models")
    assert ran.returncode == 0
    assert "A model of another package" in ran.stdout
    assert ran.stderr.count("\n") == 1
    assert f"warning: the models of broken-models 1.2 are left out: broken_models.model raised {says}" in ran.stderr
    assert ran.stderr.endswith("Mend it, or leave it out: pip uninstall broken-models\n")


def test_a_module_that_is_not_there_is_a_warning_too(tmp_path: Path) -> None:
    install(tmp_path, "broken-models", "", module="modle")
    ran = bowerbird(tmp_path, "models")
    assert ran.returncode == 0
    assert "No module named 'broken_models.modle'" in ran.stderr


def test_a_broken_package_disturbs_no_command_that_needs_no_model(tmp_path: Path) -> None:
    install(tmp_path, "broken-models", "1 / 0")
    assert bowerbird(tmp_path, "--version").stderr == ""


def test_a_name_that_is_taken_is_an_error_that_names_both(tmp_path: Path) -> None:
    install(tmp_path, "my-models", GOOD.replace("NAME", "ease"))
    ran = bowerbird(tmp_path, "models")
    assert ran.returncode == 2
    assert ran.stderr == (
        'DuplicateModelError: two models are named "ease": bowerbird.models.baselines.ease and my_models.model. '
        "Rename one of them. (my_models.model belongs to my-models 1.2)\n"
    )


def test_two_packages_with_one_name_are_both_named(tmp_path: Path) -> None:
    for name in ("a-models", "b-models"):
        install(tmp_path, name, GOOD.replace("NAME", "toy"))
    ran = bowerbird(tmp_path, "models")
    assert ran.returncode == 2
    assert 'two models are named "toy": ' in ran.stderr
    assert "a_models.model" in ran.stderr
    assert "b_models.model" in ran.stderr
