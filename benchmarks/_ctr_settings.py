"""Settings of the click-through benchmarks, read by both sides: by ours, and by the scripts that drive other libraries.

FRAPPE: what the BARS benchmark published with its best `frappe_x1` runs, read in the configurations and logs of its
repository (reczoo/BARS, ranking/ctr); nothing is from memory. Its logs count the parameters of the models below, give
or take a row per column and a bias (DNN's counts its MLP twice). Each of its figures is one run, the best on test of
a grid of 2 to 32.
Its recipe, the same for every model: Adam, binary cross-entropy; `l2` adds l2 / 2 times the sum of squares of all rows
of every embedding table (those of the linear part included) to the mean loss of each batch; gradients are clipped to a
norm of 10; vectors start at N(0, 1e-4), matrices at Xavier normal; after an epoch without a better validation AUC the
learning rate is multiplied by `plateau`, down to 1e-6; after `patience` of them in a row training ends, and the best
epoch is kept.

COMMON: one setting that every library can be given, for speed.
"""

from typing import Any

LINEAR: dict[str, Any] = {
    "batch_size": 4096, "learning_rate": 1e-3, "l2": 1e-5, "epochs": 100, "patience": 2, "plateau": 0.1,
}  # fmt: skip
DEEP: dict[str, Any] = LINEAR | {
    "dim": 10, "l2": 0.05, "hidden": [400, 400, 400], "dropout": 0.2, "batch_norm": True,
}  # fmt: skip

FRAPPE: dict[str, dict[str, Any]] = {
    "logistic": LINEAR,
    "fm": LINEAR | {"dim": 10, "l2": 5e-6},
    "mlp": DEEP,
    "widedeep": DEEP | {"l2": 0.1, "dropout": 0.6},
    "deepfm": DEEP,
    "xdeepfm": DEEP | {"l2": 0.1, "cin": [64]},
    "dcnv2": DEEP | {"dropout": 0.4, "cross_layers": 4},  # cross network and MLP side by side
    "autoint": DEEP  # scaled, with a residual, layer norm and ReLU after each layer; attention_dim is that of all heads
    | {"l2": 0.1, "dropout": 0.1, "layers": 5, "heads": 4, "attention_dim": 128},
    "finalmlp": DEEP  # two towers; the gates of their inputs look at one column each
    | {
        "hidden": [400], "hidden2": [100], "dropout": 0.4, "heads": 5, "gate_hidden": [400],
        "gate_columns": [["user"], ["item"]],
    },
    "finalnet": DEEP  # two blocks, each also taught by their mean; the first sees the fields and their gated copies
    | {"l2": 0.1, "hidden": [400, 400], "hidden2": [400], "dropout": 0.1, "field_gate": True},
}  # fmt: skip

COMMON: dict[str, Any] = {
    "dim": 16, "batch_size": 2048, "learning_rate": 1e-3, "l2": 0.0, "hidden": [128, 128, 128], "dropout": 0.2,
    "batch_norm": False, "cin": [100, 100, 100], "cin_split": False, "cross_layers": 3, "epochs": 3,
}  # fmt: skip
