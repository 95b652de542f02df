"""Our side of `sequential_speed.py`: trains SASRec on the events that it wrote, in a process of its own."""

import itertools
import json
import resource
import statistics
import sys


def main(spec):
    import polars as pl
    import torch

    import bowerbird.models  # noqa: F401
    from bowerbird.core import RunOptions, build, lookup
    from bowerbird.data import Interactions
    from bowerbird.recommender import Recommender
    from bowerbird.training.windows import WindowBatches

    torch.set_num_threads(spec["threads"])
    events = pl.read_csv(f"{spec['folder']}/train.csv")
    past = Interactions.of(events["user"], events["item"])
    kind, s = lookup("sasrec").config, spec["settings"]
    config = build(kind, {key: value for key, value in s.items() if key in kind.__dataclass_fields__})
    moments = [0.0]
    rec = Recommender(config, past, run=RunOptions(seed=spec["seed"], progress=False))
    rec.learn(epochs=s["epochs"], on_epoch=lambda training: moments.append(training.seconds))
    laps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    epoch = statistics.median(laps[1:] or laps)
    batches = WindowBatches(past, config, seed=0, device="cpu")
    print(
        json.dumps(
            {
                "epoch": epoch,
                "rows": batches.n_rows,
                "rows_per_s": batches.n_rows / epoch,
                "padding": batches.padding,
                "loss": rec.training.curve[-1]["loss"],
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
