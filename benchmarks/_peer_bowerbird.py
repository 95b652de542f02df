"""Our side of `peers.py`: reads the split it wrote, trains and evaluates under the common setting, prints JSON.

It runs in a process of its own, as the peer does, so that memory and the time to a first result compare.
"""

import itertools
import json
import resource
import statistics
import sys
import time

PLAIN = {"dim": 64, "batch_size": 2048, "learning_rate": 1e-3, "loss": "bpr", "cosine": False, "temperature": 1.0}
COMMON = {
    "mf": PLAIN,
    "lightgcn": PLAIN | {"hops": 3, "l2": 1e-5},
    "ngcf": PLAIN | {"hops": 3, "l2": 1e-5, "dropout": 0.1},
    "sgl": PLAIN | {"hops": 3, "l2": 1e-5, "view": "edges", "dropped": 0.1, "contrast_temperature": 0.5},
}


def main(spec):
    import torch

    import bowerbird as bb
    from bowerbird.core import TrainedConfig, build, lookup
    from bowerbird.features import Context
    from bowerbird.recommender import Recommender
    from bowerbird.retrieval import hide_seen, top_k

    torch.set_num_threads(spec["threads"])
    train, valid, test = (bb.read(f"{spec['folder']}/split/split.{part}.inter") for part in ("train", "valid", "test"))
    split = bb.split(train, valid=valid, test=test)
    setting = {"select": "recall@20"} if spec["reach"] else COMMON.get(spec["model"], {})
    config = build(lookup(spec["model"]).config, setting)
    run = bb.RunOptions(threads=spec["threads"], seed=spec["seed"], progress=False)
    rec = Recommender(config, split.train, run=run)
    moments = [time.perf_counter()]

    def lap(training):
        moments.append(time.perf_counter())
        if spec["reach"] and training.best >= spec["reach"]:
            raise KeyboardInterrupt

    trained = isinstance(config, TrainedConfig)
    if spec["reach"]:
        rec.learn(valid=split.valid, on_epoch=lap)
        print(json.dumps({"reach": moments[-1] - moments[0], "recall@20": rec.training.best}))
        return
    rec.learn(epochs=spec["epochs"] if trained else None, on_epoch=lap)
    fitted = time.perf_counter() - moments[0]
    metrics = ["recall@20", "ndcg@20"]
    quality = bb.evaluate(rec, split.valid, metrics=metrics, intervals=False)
    first = time.time() - spec["started"]
    evaluate = []
    for _ in range(3):
        started = time.perf_counter()
        report = bb.evaluate(rec, split.test, metrics=metrics, intervals=False)
        evaluate.append(time.perf_counter() - started)
    whole, scorer = [], []
    for row in range(min(200, len(split.train.user_ids))):
        user = [split.train.user_ids[row]]
        started = time.perf_counter()
        rec.recommend(user, k=10).ids  # noqa: B018
        whole.append(1000 * (time.perf_counter() - started))
        context = Context.of_users(split.train.user_ids.rows(user), split.train)
        with torch.no_grad():
            started = time.perf_counter()
            scores = rec.model.scores(context)
            hide_seen(scores, context.history, None)
            top_k(scores, 10, torch.Generator)
            scorer.append(1000 * (time.perf_counter() - started))
    laps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    print(
        json.dumps(
            {
                "epoch": statistics.median(laps[1:] or laps or [fitted]),
                "evaluate": min(evaluate),
                "first_result": first,
                "recommend_one_ms": statistics.median(whole),
                "scorer_one_ms": statistics.median(scorer),
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "users": report.n_users,
                "metrics": {name: quality.metrics[name] for name in metrics},
            }
        )
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
