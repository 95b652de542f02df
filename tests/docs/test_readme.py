"""What the README says is what happens."""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BOWERBIRD = str(Path(sys.executable).parent / "bowerbird")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(first: str) -> list[str]:
    """The console lines that start with `first`."""
    lines = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    return [line.split(" # ")[0].strip() for line in lines if line.startswith(("$ " + first, first))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the events.csv and the recipe.toml that the README speaks of."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", 1_700_000_000 + 60 * int(rng.integers(10_000)))
            for u in range(60) for i in rng.permutation(np.arange(u % 2, 30, 2))[:8]]  # fmt: skip
    folder = tmp_path_factory.mktemp("readme")
    pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row").write_csv(folder / "events.csv")
    (folder / "recipe.toml").write_text(blocks("toml")[0])
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    line = next(line for line in commands("bowerbird train"))
    shell(line, folder)
    return folder / "runs" / "shop"


def shell(line: str, folder: Path) -> str:
    words = shlex.split(line)
    assert words[0] == "bowerbird"
    ran = subprocess.run([BOWERBIRD, *words[1:]], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_python_block_runs(folder: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks("python")[0]],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "ndcg@10" in ran.stdout
    assert "because you chose" in ran.stdout


@pytest.mark.parametrize("line", [line for line in commands("bowerbird") if "train" not in line])
def test_each_command_runs(line: str, folder: Path, run: Path) -> None:
    assert run.is_dir()
    assert shell(line, folder)


def test_the_recipe_trains(folder: Path) -> None:
    assert "saved mf" in shell("bowerbird train recipe.toml --out runs/recipe", folder)


def test_make_knows_the_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [line.split()[1] for line in commands("make")]
    assert targets == ["demo", "test"]
    assert all(f"\n{target}:" in makefile for target in targets)


@pytest.fixture(scope="module")
def server(folder: Path, run: Path) -> Iterator[str]:
    """The server on a free port; the README's port may be taken."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([BOWERBIRD, "serve", str(run), "--port", str(port)], stderr=subprocess.PIPE, text=True)
    base = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            httpx.get(f"{base}/readyz", timeout=1)
            break
        except httpx.TransportError:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
    yield base
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert "bowerbird serves" in said


@pytest.mark.parametrize("line", commands("curl"))
def test_each_curl_line_answers(line: str, server: str) -> None:
    words = shlex.split(line)
    url = next(word for word in words if word.startswith("http")).replace("http://127.0.0.1:8321", server)
    if "-d" in words:
        headers = dict([words[words.index("-H") + 1].split(": ")])
        response = httpx.post(url, content=words[words.index("-d") + 1], headers=headers)
    else:
        response = httpx.get(url)
    assert response.status_code == 200
    assert len(response.json()["items"]) >= 3


def test_the_changelog_and_the_licence_are_there() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
    assert "Apache License" in (ROOT / "LICENSE").read_text()
