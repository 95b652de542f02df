"""The six stories of examples/ on real sets: a strong baseline and a deep model, paired over people on test.

`--model` names the story, `--data` the set, a name or its folder. Each story chooses on validation, trains again on all
before the test cut, and looks at test once; so a row is one of test.
"""

import argparse
import hashlib
import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import _shared
from bowerbird.core import ConfigError

EXAMPLES = Path(__file__).parents[1] / "examples"
STORIES = ("goods", "video", "news", "music", "friends", "ads")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Tell one story; return its row."""
    if options.model not in STORIES:
        raise ConfigError(f"--model is {options.model!r}; the stories are {', '.join(STORIES)}.")
    [seed] = _shared.seeds(options.seeds)
    started = time.perf_counter()
    main = runpy.run_path(str(EXAMPLES / options.model / "run.py"))["main"]
    told = main(["--data", options.data, "--seed", str(seed)])
    rows = {row["role"]: row for row in told.rows}
    config = {role: [row["model"], row["settings"]] for role, row in rows.items()}
    one = told.difference
    return {
        "benchmark": "stories",
        "data": told.data,
        "model": options.model,
        "config": config,
        "config_sha256": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "protocol": told.protocol,
        "report": "test",
        "seeds": [seed],
        "metrics": {f"{role}.{told.metric}": row["test"] for role, row in rows.items()} | {"difference": one.mean},
        "intervals": {f"{role}.{told.metric}": [row["low"], row["high"]] for role, row in rows.items()}
        | {"difference": [one.low, one.high]},
        "verdict": one.verdict,
        "seconds": {role: row["seconds"] for role, row in rows.items()} | {"whole": time.perf_counter() - started},
    }


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(model="video", report="test")
    return options.parse_args(words)


if __name__ == "__main__":
    options = options_of()
    sys.exit(_shared.table("stories", {}) if options.table else _shared.main(options, measure))
