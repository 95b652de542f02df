"""Our side of `ctr_speed.py`: trains one ranker on the rows that it wrote, in a process of its own, prints JSON."""

import itertools
import json
import resource
import statistics
import sys


def main(spec):
    import torch

    import bowerbird.models  # noqa: F401
    from bowerbird.core import RunOptions, build, lookup
    from bowerbird.data import read_rows
    from bowerbird.evaluation.binary import auc
    from bowerbird.features import Categorical, Numeric
    from bowerbird.recommender import Predictor

    torch.set_num_threads(spec["threads"])
    parts = {name: read_rows(f"{spec['folder']}/{name}.csv", labels="label") for name in ("train", "valid")}
    kinds = parts["train"].table.schema
    columns = [
        Numeric(name=name, transform="none") if kind.is_float() else Categorical(name=name)
        for name, kind in kinds.items()
    ]
    kind = lookup(spec["model"]).config
    keys = set(kind.__dataclass_fields__)
    config = build(kind, {key: value for key, value in spec["settings"].items() if key in keys})
    moments = [0.0]
    predictor = Predictor.fit(
        parts["train"], None, config, columns=columns, run=RunOptions(seed=spec["seed"], progress=False),
        on_epoch=lambda training: moments.append(training.seconds),
    )  # fmt: skip
    laps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    epoch = statistics.median(laps[1:] or laps)
    valid = parts["valid"]
    print(
        json.dumps(
            {
                "epoch": epoch,
                "rows_per_s": len(parts["train"]) / epoch,
                "data_share": predictor.training.data_share,
                "auc": auc(valid.labels[:, 0], predictor.predict(valid, raw=True)[:, 0]),
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
