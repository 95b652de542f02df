"""Runs inside RecTools' own environment: trains SASRec on the events of a CSV file, prints JSON.

It imports nothing of bowerbird. RecTools' data set, model, loss and PyTorch Lightning trainer are used as they are;
only a callback looks at the clock.
"""

import json
import logging
import resource
import statistics
import sys
import time
import warnings


def main(spec):
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import pandas as pd
    import pytorch_lightning
    import torch
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(spec["seed"])
    s, laps, batches = spec["settings"], [], []

    class Clock(pytorch_lightning.Callback):
        def on_train_start(self, trainer, module):
            batches.append(len(trainer.train_dataloader))

        def on_train_epoch_start(self, *_):
            laps.append(time.perf_counter())

        def on_train_epoch_end(self, *_):
            laps[-1] = time.perf_counter() - laps[-1]

    def trainer():
        return pytorch_lightning.Trainer(
            max_epochs=s["epochs"], min_epochs=s["epochs"], enable_progress_bar=False, enable_model_summary=False,
            logger=False, enable_checkpointing=False, devices=1, accelerator="cpu", callbacks=[Clock()],
            limit_train_batches=spec.get("batches") or 1.0,
        )  # fmt: skip

    events = pd.read_csv(f"{spec['folder']}/train.csv")
    lengths = events.groupby("user").size()
    events = pd.DataFrame(
        {
            "user_id": events["user"],
            "item_id": events["item"],
            "weight": 1.0,
            "datetime": pd.to_datetime(events["place"], unit="s", origin="2020-01-01"),
        }
    )
    model = SASRecModel(
        n_factors=s["dim"], n_blocks=s["blocks"], n_heads=s["heads"], session_max_len=s["history_len"],
        dropout_rate=s["dropout"], lr=s["learning_rate"], batch_size=s["sequences"], epochs=s["epochs"],
        loss="softmax", get_trainer_func=trainer, verbose=0, recommend_torch_device="cpu",
    )  # fmt: skip
    model.fit(Dataset.construct(events))
    rows = int((lengths.clip(upper=s["history_len"] + 1) - 1).clip(lower=0).sum())
    whole = batches[0]
    cut = min(spec.get("batches") or whole, whole)
    epoch = statistics.median(laps[1:] or laps) * whole / cut
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"epoch": epoch, "rows": rows, "rows_per_s": rows / epoch, "memory_mb": memory}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
