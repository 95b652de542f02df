"""Trains models of the shop, publishes them and asks them, in a process of its own: once more gives the same.

    python _same.py FOLDER SEED MODEL…

FOLDER/MODEL is the run, FOLDER/MODEL.json what everybody, a stranger with a history and nobody are shown.
"""

import json
import sys
from pathlib import Path

import bowerbird as bb
from bowerbird.testing import halves

SETTINGS = {"mf": {"epochs": 3}, "sasrec": {"dim": 16, "epochs": 3}, "deepfm": {"epochs": 2}}


def main(folder: Path, seed: int, models: list[str]) -> None:
    """Train, publish and ask."""
    for model in models:
        run = bb.RunOptions(seed=seed, progress=False)
        rec = bb.fit(halves(), model, run=run, **SETTINGS.get(model, {}))
        rec.save(folder / model)
        users = [f"u{user}" for user in range(60)]
        slates = [rec.recommend(users), rec.recommend(histories=[["i0", "i2"], ["i1"]]), rec.recommend()]
        told = [[one.ids, one.slate.scores.tolist(), one.rungs] for one in slates]
        (folder / f"{model}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
