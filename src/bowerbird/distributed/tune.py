"""Ray Tune as an executor of tries: each is a trial, with a CPU of its own, on whichever machine has one.

What to try next is not Tune's to say: the race and its sampler do (`selection.race`).
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, TypeVar

from bowerbird.distributed import cluster  # first: it says what to install where Ray is missing

from ray import tune  # isort: skip

T = TypeVar("T")


class Tries:
    """Runs tries as trials of Ray Tune, so many at once."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once

    def __call__(self, function: Callable[[T], Any], tries: Sequence[T], limit_s: float) -> list[Any]:
        """Return what the function makes of each, None where it had no answer after so many seconds in all."""
        listed, held = list(tries), cluster.put(function)

        def trial(config: dict[str, Any]) -> None:
            tune.report({"place": config["place"], "answer": cluster.got(held)(listed[config["place"]])})

        with tempfile.TemporaryDirectory(prefix="bowerbird-tune-") as folder:
            tuner = tune.Tuner(
                tune.with_resources(trial, {"cpu": 1}),
                param_space={"place": tune.grid_search(list(range(len(listed))))},
                tune_config=tune.TuneConfig(max_concurrent_trials=self.at_once, time_budget_s=limit_s),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            )
            answers: list[Any] = [None] * len(listed)
            with redirect_stdout(sys.stderr):  # Tune tells how it goes, where programs read an answer
                found = tuner.fit()
            for one in found:
                if one.metrics and "answer" in one.metrics:
                    answers[one.metrics["place"]] = one.metrics["answer"]
        return answers
