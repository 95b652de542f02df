"""The benchmark of content on a folder of made-up films, and on a small published split."""

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import _shared
import content

SMALL = ["dim=8", "landmarks=64", "hidden=8", "batch_size=256", "negatives=16", "text_encoder=words", "epochs=1"]
FILMS, PEOPLE = 120, 60


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which even people like even films, and titles say which those are."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    rows = [(user, 2 * film + user % 2) for user in range(PEOPLE) for film in rng.choice(FILMS // 2, 30, replace=False)]
    lines = ["user_id,movie_id", *(f"{user},{film}" for user, film in rows)]
    (folder / "interactions.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    words = ("even", "odd")
    said = [f"{row}::An {words[row % 2]} film ({1950 + row % 50})::{words[row % 2]}" for row in range(FILMS)]
    (folder / "movies.dat").write_text("\n".join(said), "latin-1")
    (folder / "text").mkdir()
    plots = {str(row): f"an {words[row % 2]} story" for row in range(0, FILMS, 3)}
    (folder / "text" / "dbpedia_abstracts.json.gz").write_bytes(gzip.compress(json.dumps(plots).encode()))
    (folder / "images").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "images" / "0.jpg")
    with zipfile.ZipFile(folder / "images" / "posters_64x96.zip", "w") as posters:
        posters.write(folder / "images" / "0.jpg", "0.jpg")
    return folder


def run(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """Return the row of a run."""
    sets = [word for pair in SMALL for word in ("--set", pair)]
    options = content.parser().parse_args(["--data", str(folder), "--threads", "1", "--json", *sets, *words])
    assert _shared.main(options, content.measure) == 0
    row: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return row


def test_content_beats_chance_on_cold_items_and_the_genres_are_a_baseline(
    films: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "K", 3)
    monkeypatch.setattr(content, "NEIGHBOURS", (5,))
    monkeypatch.setattr(content, "REPLICATES", 20)
    columns = ("--set", "text=title", "--set", "attributes=genres", "--folds", "2")
    metrics = run(films, capsys, *columns)["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["cold.recall@20"] > 1.3 * metrics["cold.random"]
    assert metrics["cold.ridge"] > 1.3 * metrics["cold.random"]
    assert "cold.gain_over_content_knn" in metrics


def test_a_published_split_with_ready_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    chosen = [user % 2 + 2 * rng.choice(20, 12, replace=False) for user in range(PEOPLE)]
    for part, cut in (("train", slice(0, 8)), ("valid", slice(8, 10)), ("test", slice(10, 12))):
        lines = [" ".join(map(str, [user, *items[cut]])) for user, items in enumerate(chosen)]
        (tmp_path / f"{part}.txt").write_text("\n".join(lines))
    vectors = np.where(np.arange(40)[:, None] % 2, 1.0, -1.0) + 0.1 * rng.normal(size=(40, 4))
    np.save(tmp_path / "look_feat.npy", vectors.astype(np.float16))
    row = run(tmp_path, capsys, "--report", "valid")
    metrics = row["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["recall@20"] > 0.6
    assert 0 < metrics["ease.recall@20"] <= 1


def test_hits_are_recalled_by_hand() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    content_k, content.K = content.K, 1
    try:
        hits = content.Hits.of(scores, np.array([0, 0, 1]), np.array([0, 2, 2]), 0)
    finally:
        content.K = content_k
    assert hits.hit.tolist() == [True, False, True]
    assert hits.recall() == pytest.approx((0.5 + 1) / 2)
    assert hits.recall(items=np.array([1.0, 0.0, 1.0])) == pytest.approx(1.0)
