"""Runs inside RecBole's own environment: times training of one click-through model on rows in a folder, prints JSON.

It imports nothing of bowerbird. The folder holds train.csv, valid.csv and test.csv: a `label`, columns of whole numbers
(codes) and columns with a decimal point (numeric). RecBole is used through its own configuration, data preparation,
row-wise loader and trainer; only the clock around `_train_epoch` is ours. Where its models differ from the settings:
DCNV2 always has batch norm in its MLP, and the xDeepFM and DCNV2 take the norm of their weights even at weight zero.
"""

import itertools
import json
import os
import resource
import statistics
import sys
import time

import pandas as pd

MODELS = {"deepfm": "DeepFM", "widedeep": "WideDeep", "xdeepfm": "xDeepFM", "dcnv2": "DCNV2"}


def write(folder):
    """Write the tables as RecBole's atomic files; return the columns of codes and the numeric ones."""
    target = os.path.join(folder, "rows")
    os.makedirs(target, exist_ok=True)
    for part in ("train", "valid", "test"):
        table = pd.read_csv(os.path.join(folder, f"{part}.csv")).astype({"label": float})
        kinds = {name: "float" if table[name].dtype.kind == "f" else "token" for name in table.columns}
        table = table.rename(columns={name: f"{name}:{kind}" for name, kind in kinds.items()})
        table.to_csv(os.path.join(target, f"rows.{part}.inter"), sep="\t", index=False)
    kinds.pop("label")
    return [name for name in kinds if kinds[name] == "token"], [name for name in kinds if kinds[name] == "float"]


def main(spec):
    sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    torch.set_num_threads(spec["threads"])
    name, s = MODELS[spec["model"]], spec["settings"]
    codes, numbers = write(spec["folder"])
    config = Config(
        model=name,
        dataset="rows",
        config_dict={
            "data_path": spec["folder"], "benchmark_filename": ["train", "valid", "test"], "use_gpu": False,
            "load_col": {"inter": [*codes, *numbers, "label"]}, "USER_ID_FIELD": codes[0], "ITEM_ID_FIELD": codes[1],
            "LABEL_FIELD": "label", "numerical_features": numbers, "train_neg_sample_args": None,
            "eval_args": {"group_by": None, "order": "RO", "split": {"RS": [0.8, 0.1, 0.1]}, "mode": "labeled"},
            "metrics": ["AUC", "LogLoss"], "valid_metric": "AUC", "state": "CRITICAL", "show_progress": False,
            "train_batch_size": s["batch_size"], "learning_rate": s["learning_rate"], "epochs": s["epochs"],
            "embedding_size": s["dim"], "mlp_hidden_size": s["hidden"], "dropout_prob": s["dropout"],
            "reg_weight": s["l2"], "cin_layer_size": s["cin"], "direct": not s["cin_split"],
            "cross_layer_num": s["cross_layers"], "structure": "parallel", "mixed": False,
            "seed": spec["seed"], "eval_step": 0, "checkpoint_dir": os.path.join(spec["folder"], "saved"),
        },
    )  # fmt: skip
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = get_model(name)(config, train._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    whole = len(train)
    cut = min(spec.get("batches") or whole, whole)
    rows = len(train._dataset)
    share = min(cut * s["batch_size"], rows) / rows
    epochs = []
    for epoch in range(s["epochs"]):
        batches = train if cut == whole else itertools.islice(iter(train), cut)
        started = time.perf_counter()
        trainer._train_epoch(batches, epoch, show_progress=False)
        epochs.append((time.perf_counter() - started) / share)
    seconds = statistics.median(epochs[1:] or epochs)
    print(
        json.dumps(
            {
                "model": spec["model"],
                "mode": "speed",
                "seed": spec["seed"],
                "epoch": seconds,
                "rows_per_s": rows / seconds,
                "epochs": len(epochs),
                "batches_of_epoch": f"{cut} of {whole}",
                "parameters": sum(weights.numel() for weights in model.parameters()),
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
