"""The demo, whole, as a newcomer runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = """
from pathlib import Path
from bowerbird.cli import main
try:
    main()
finally:  # of this process alone: what `wait4` tells starts at what its parent held
    lines = Path("/proc/self/status").read_text().splitlines()
    Path("peak.txt").write_text(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_the_demo_compares_picks_explains_and_saves(tmp_path: Path) -> None:
    words = [sys.executable, "-c", DEMO, "demo", "--no-serve", "--out", "run"]
    with (tmp_path / "said.txt").open("w") as file:
        subprocess.run(words, cwd=tmp_path, stdout=file, stderr=subprocess.DEVNULL, check=True)
    said = " ".join((tmp_path / "said.txt").read_text().split())
    for model in ("popularity", "itemknn", "ease", "mf", "lightgcn"):
        assert model in said
    assert "n = 943" in said
    assert "The pick: " in said
    assert "because you liked" in said
    assert "A stranger who chose Star Wars (1977)" in said
    assert (tmp_path / "run" / "current").read_text() == "000001"
    peak = int((tmp_path / "peak.txt").read_text()) / 1024
    assert peak <= 620, f"{peak:.0f} MB"


@pytest.mark.slow
def test_the_demo_speaks_json_and_its_pick_follows_its_own_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bowerbird.cli import demo

    monkeypatch.setattr(demo, "MODELS", ("popularity", "itemknn", "ease"))
    demo.run_demo("ml-100k", None, tmp_path / "run", 8321, as_json=True)
    found = json.loads(capsys.readouterr().out)
    valid = {row["model"]: row["valid"]["metrics"]["ndcg@10"] for row in found["models"]}
    assert valid["popularity"] < min(valid["itemknn"], valid["ease"])
    assert found["pick"] in ("itemknn", "ease")
    assert found["models"][0]["tests"][0]["users"] == 943
