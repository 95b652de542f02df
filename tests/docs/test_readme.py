"""What the README says is what happens; that its blocks run is seen to in test_blocks."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from pages import ROOT, Reader, blocks_of, lay_out, lines_of

README = ROOT / "README.md"
BOWERBIRD = str(Path(sys.executable).parent / "bowerbird")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything that the README says was done."""
    folder = tmp_path_factory.mktemp("readme")
    lay_out(folder)
    Reader(folder).read(README)
    return folder


def test_the_python_block_prints_figures_and_reasons(tmp_path: Path) -> None:
    lay_out(tmp_path)
    code = next(one.text for one in blocks_of(README) if one.language == "python")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "ndcg@10" in ran.stdout
    assert "because you chose" in ran.stdout


def test_the_recipe_trains_its_model(folder: Path) -> None:
    line = ["train", "recipe.toml", "--out", "runs/recipe"]
    ran = subprocess.run([BOWERBIRD, *line], cwd=folder, capture_output=True, text=True, check=False)
    assert "saved mf" in ran.stdout, ran.stderr


def test_make_knows_the_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    lines = [line for one in blocks_of(README) if one.language == "console" for line, _ in lines_of(one)]
    targets = [line.split()[1] for line in lines if line.startswith("make ")]
    assert targets == ["demo", "test"]
    assert all(f"\n{target}:" in makefile for target in targets)


def test_the_server_answers_as_a_process_of_its_own(folder: Path) -> None:
    with socket.socket() as free:  # the README's port may be taken
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [BOWERBIRD, "serve", "runs/shop", "--port", str(port)], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    base, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while time.monotonic() < end:
        try:
            httpx.get(f"{base}/readyz", timeout=1)
            break
        except httpx.TransportError:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
    body = httpx.post(f"{base}/v1/recommendations", json={"user_id": "u7", "k": 3}).json()
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert len(body["items"]) == 3
    assert "bowerbird serves" in said


def test_the_changelog_and_the_licence_are_there() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
    assert "Apache License" in (ROOT / "LICENSE").read_text()
