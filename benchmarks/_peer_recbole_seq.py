"""Runs inside RecBole's own environment: trains SASRec on the events of a CSV file, prints JSON.

It imports nothing of bowerbird. RecBole's data preparation, model and trainer are used as they are. Importing one of
its models turns torch's anomaly detection on for everybody; mode "mended" turns it off again.
"""

import itertools
import json
import resource
import statistics
import sys
import time


def main(spec):
    sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
    import pandas as pd
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    torch.set_num_threads(spec["threads"])
    s, folder = spec["settings"], spec["folder"]
    events = pd.read_csv(f"{folder}/train.csv")
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    with open(f"{folder}/seq.inter", "w") as file:
        file.write(header)
        events[["user", "item", "place"]].to_csv(file, sep="\t", header=False, index=False)
    config = Config(
        model="SASRec",
        dataset="seq",
        config_dict={
            "data_path": folder, "use_gpu": False, "state": "CRITICAL", "show_progress": False,
            "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "MAX_ITEM_LIST_LENGTH": s["history_len"],
            "hidden_size": s["dim"], "inner_size": 4 * s["dim"], "n_layers": s["blocks"], "n_heads": s["heads"],
            "hidden_dropout_prob": s["dropout"], "attn_dropout_prob": s["dropout"], "loss_type": "CE",
            "train_neg_sample_args": None, "train_batch_size": s["rows"], "learning_rate": s["learning_rate"],
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
            "epochs": s["epochs"], "eval_step": 0, "seed": spec["seed"], "checkpoint_dir": f"{folder}/saved",
        },
    )  # fmt: skip
    config["data_path"] = folder
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train = data_preparation(config, dataset)[0]
    model = get_model("SASRec")(config, train._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
    if spec["mode"] == "mended":
        torch.autograd.set_detect_anomaly(False)
    whole = len(train)
    cut = min(spec.get("batches") or whole, whole)
    laps = []
    for epoch in range(s["epochs"]):
        batches = train if cut == whole else itertools.islice(iter(train), cut)
        started = time.perf_counter()
        trainer._train_epoch(batches, epoch, show_progress=False)
        laps.append((time.perf_counter() - started) * whole / cut)
    epoch, rows = statistics.median(laps[1:] or laps), len(train._dataset)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"epoch": epoch, "rows": rows, "rows_per_s": rows / epoch, "memory_mb": memory}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
