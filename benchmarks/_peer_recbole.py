"""Runs inside RecBole's own environment: trains and evaluates one model on a split that `peers.py` wrote, prints JSON.

It imports nothing of bowerbird. RecBole is used through its own configuration, data preparation, trainer and
full-ranking evaluation; only the clock around them is ours.
"""

import functools
import itertools
import json
import os
import resource
import statistics
import sys
import time

MODELS = {
    "popularity": "Pop", "itemknn": "ItemKNN", "ease": "EASE", "mf": "BPR", "lightgcn": "LightGCN", "ngcf": "NGCF",
    "sgl": "SGL",
}  # fmt: skip


def main(spec):
    sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed
    from recbole.utils.case_study import full_sort_topk

    torch.set_num_threads(spec["threads"])
    torch.load = functools.partial(torch.load, weights_only=False)  # its checkpoints hold a Config object
    name = MODELS[spec["model"]]
    config = Config(
        model=name,
        dataset="split",
        config_dict={
            "data_path": spec["folder"], "benchmark_filename": ["train", "valid", "test"], "use_gpu": False,
            "load_col": {"inter": ["user_id", "item_id"]}, "state": "CRITICAL", "show_progress": False,
            "eval_args": {"group_by": "user", "order": "RO", "split": {"RS": [0.8, 0.1, 0.1]}, "mode": "full"},
            "metrics": ["Recall", "NDCG"], "topk": [10, 20], "valid_metric": "Recall@20",
            "embedding_size": 64, "n_layers": 3, "train_batch_size": 2048, "learning_rate": 1e-3,
            "eval_batch_size": 4096, "epochs": spec["epochs"], "eval_step": 0, "seed": spec["seed"],
            "checkpoint_dir": os.path.join(spec["folder"], "saved"),
        },
    )  # fmt: skip
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    started = time.perf_counter()
    model = get_model(name)(config, train._dataset).to(config["device"])
    built = time.perf_counter() - started
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    epochs, curve, first = [], [], None
    whole = len(train)
    cut = min(spec["batches"] or whole, whole)
    for epoch in range(spec["epochs"]):
        batches = train if cut == whole else itertools.islice(iter(train), cut)
        started = time.perf_counter()
        trainer._train_epoch(batches, epoch, show_progress=False)
        epochs.append((time.perf_counter() - started) * whole / cut)
        if cut == whole or first is None:
            started = time.perf_counter()
            figures = trainer.evaluate(valid, load_best_model=False, show_progress=False)
            seconds = time.perf_counter() - started
            curve.append({key: float(value) for key, value in figures.items()} | {"seconds": seconds})
        if first is None:
            first = time.time() - spec["started"]
    if not curve:  # nothing to train
        trainer.evaluate(valid, load_best_model=False, show_progress=False)
        first = time.time() - spec["started"]
    started = time.perf_counter()
    trainer.evaluate(test, load_best_model=False, show_progress=False)
    evaluate = time.perf_counter() - started
    laps = []
    for row in range(1, 201):
        started = time.perf_counter()
        full_sort_topk([row], model, test, 10)
        laps.append(1000 * (time.perf_counter() - started))
    print(
        json.dumps(
            {
                "epoch": statistics.median(epochs[1:] or epochs or [built]),
                "evaluate": evaluate,
                "first_result": first,
                "recommend_one_ms": statistics.median(laps),
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "users": len(test.uid_list),
                "curve": curve,
                "batches_of_epoch": f"{cut} of {whole}",
            }
        )
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
