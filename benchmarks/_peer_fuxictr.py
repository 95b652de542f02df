"""Runs inside FuxiCTR's own environment: trains one click-through model on rows in a folder, prints JSON.

It imports nothing of bowerbird. The folder holds train.csv, valid.csv and test.csv: a `label`, columns of whole numbers
(codes; 0 stands for unseen) and columns with a decimal point (numeric). FuxiCTR's data loader, layers, trainer, early
stop and metrics are used as they are; the models its wheel lacks are put together from its layers. Mode "quality"
trains until its early stop and saves the probabilities as valid.npy and test.npy; mode "speed" only times epochs.
"""

import itertools
import json
import os
import resource
import statistics
import sys
import time

import numpy as np
import pandas as pd
import torch
from fuxictr.features import FeatureMap
from fuxictr.metrics import evaluate_metrics
from fuxictr.pytorch import layers
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from model_zoo.LongCTR.FinalMLP.FinalMLP import FeatureSelection, InteractionAggregation
from torch import nn

PARTS = {
    "logistic": ["wide"],
    "fm": ["fm"],
    "mlp": ["deep"],
    "widedeep": ["wide", "deep"],
    "deepfm": ["fm", "deep"],
    "xdeepfm": ["wide", "cin", "deep"],
    "dcnv2": ["cross"],
    "autoint": ["attention", "deep"],
    "finalmlp": ["towers"],
    "finalnet": ["blocks"],
}


class Cross(nn.Module):
    """DCNv2: the cross network beside the MLP, one linear layer on both."""

    def __init__(self, width, s):
        super().__init__()
        self.cross = layers.CrossNetV2(width, s["cross_layers"])
        self.deep = mlp(width, s["hidden"], s)
        self.out = nn.Linear(width + s["hidden"][-1], 1)

    def forward(self, flat):
        return self.out(torch.cat([self.cross(flat), self.deep(flat)], dim=-1))


class Attention(nn.Module):
    """One interacting layer of AutoInt: attention between the fields, a residual, layer norm, ReLU."""

    def __init__(self, width, s):
        super().__init__()
        self.heads, self.width = s["heads"], s["attention_dim"]
        self.project = nn.ModuleList(nn.Linear(width, self.width, bias=False) for _ in range(3))
        self.residual = nn.Identity() if width == self.width else nn.Linear(width, self.width, bias=False)
        self.attend = layers.ScaledDotProductAttention(s["dropout"])
        self.norm = nn.LayerNorm(self.width)

    def forward(self, fields):
        shape = (*fields.shape[:2], self.heads, self.width // self.heads)
        query, key, value = (project(fields).view(shape).transpose(1, 2) for project in self.project)
        mixed, _ = self.attend(query, key, value, scale=shape[-1] ** 0.5)
        mixed = mixed.transpose(1, 2).reshape(*fields.shape[:2], self.width)
        return self.norm(mixed + self.residual(fields)).relu()


class Towers(nn.Module):
    """FinalMLP: two gated towers and the bilinear fusion of their outputs."""

    def __init__(self, features, width, s):
        super().__init__()
        self.gates = FeatureSelection(features, width, s["dim"], s["gate_hidden"], *s["gate_columns"])
        self.towers = nn.ModuleList(mlp(width, s[key], s) for key in ("hidden", "hidden2"))
        self.fuse = InteractionAggregation(s["hidden"][-1], s["hidden2"][-1], 1, s["heads"])

    def forward(self, inputs, flat):
        return self.fuse(*(tower(gated) for tower, gated in zip(self.towers, self.gates(inputs, flat), strict=True)))


class Factorised(nn.Module):
    """FinalNet's layer: half of its output is a linear map of the input, half is that times another."""

    def __init__(self, width, out, dropout):
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.after = nn.Sequential(nn.BatchNorm1d(out), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, flat):
        first, second = self.linear(flat).chunk(2, dim=-1)
        return self.after(torch.cat([first, first * second], dim=-1))


class FieldGate(nn.Module):
    """FinalNet's gate: the fields, and the fields times a linear map over all of them; it starts at one."""

    def __init__(self, fields):
        super().__init__()
        self.linear = nn.Linear(fields, fields)

    def init_weights(self):  # FuxiCTR calls it after its own initialisation
        nn.init.zeros_(self.linear.weight)
        nn.init.ones_(self.linear.bias)

    def forward(self, fields):
        gates = self.linear(fields.transpose(1, 2)).transpose(1, 2)
        return torch.cat([fields, fields * gates], dim=1)


class Blocks(nn.Module):
    """FinalNet: one logit from each of two blocks, (B, 2)."""

    def __init__(self, fields, s):
        super().__init__()
        self.gate = FieldGate(fields)
        width = fields * s["dim"]
        self.blocks = nn.ModuleList()
        for start, hidden in ((2 * width, s["hidden"]), (width, s["hidden2"])):
            chain = [Factorised(a, b, s["dropout"]) for a, b in itertools.pairwise([start, *hidden])]
            self.blocks.append(nn.Sequential(*chain, nn.Linear(hidden[-1], 1)))

    def forward(self, fields):
        gated, plain = self.gate(fields).flatten(1), fields.flatten(1)
        return torch.cat([self.blocks[0](gated), self.blocks[1](plain)], dim=-1)


def mlp(width, hidden, s, out=None):
    return layers.MLP_Block(
        width, list(hidden), output_dim=out, dropout_rates=s["dropout"], batch_norm=s["batch_norm"]
    )  # fmt: skip


def part(name, features, s):
    """Return one part of a model; see `Net.logits` for what it is given."""
    fields, width = features.num_fields, features.num_fields * s.get("dim", 1)
    if name == "wide":
        return layers.LogisticRegression(features)
    if name == "fm":
        return layers.FactorizationMachine(features)
    if name == "deep":
        return mlp(width, s["hidden"], s, out=1)
    if name == "cin":
        return layers.CompressedInteractionNet(fields, list(s["cin"]))
    if name == "cross":
        return Cross(width, s)
    if name == "attention":
        widths = [s["dim"]] + [s["attention_dim"]] * s["layers"]
        chain = [Attention(one, s) for one in widths[:-1]]
        return nn.Sequential(*chain, nn.Flatten(), nn.Linear(fields * widths[-1], 1))
    return Towers(features, width, s) if name == "towers" else Blocks(fields, s)


class Net(BaseModel):
    """A model of FuxiCTR whose logit is the sum of its parts', trained by FuxiCTR's own trainer with a clock around."""

    def __init__(self, features, spec):
        s = spec["settings"]
        super().__init__(
            features,
            model_id=spec["model"],
            verbose=0,
            model_root=spec["folder"],
            metrics=["AUC", "logloss"],
            early_stop_patience=s.get("patience", 2),
            embedding_regularizer=s["l2"] or None,
        )
        self.quality, self.plateau = spec["mode"] == "quality", s.get("plateau", 1.0)
        self.epochs, self.curve, self.evaluating = [], [], 0.0
        parts = PARTS[spec["model"]]
        self.fields = layers.FeatureEmbedding(features, s["dim"]) if parts != ["wide"] else None
        self.parts = nn.ModuleDict({name: part(name, features, s) for name in parts})
        self.compile("adam", "binary_crossentropy", s["learning_rate"])
        self.reset_parameters()
        os.makedirs(self.model_dir, exist_ok=True)

    def logits(self, inputs):
        """Return a logit per row and stream, (B, 1), or (B, 2) for FinalNet."""
        if self.fields is None:
            return self.parts["wide"](inputs)
        fields = self.fields(inputs)
        flat = fields.flatten(1)
        given = {
            "wide": (inputs,), "fm": (inputs, fields), "deep": (flat,), "cin": (fields,), "cross": (flat,),
            "attention": (fields,), "towers": (inputs, flat), "blocks": (fields,),
        }  # fmt: skip
        return sum(one(*given[name]) for name, one in self.parts.items())

    def forward(self, inputs):
        streams = self.logits(self.get_inputs(inputs))
        return {"y_pred": self.output_activation(streams.mean(dim=1, keepdim=True)), "streams": streams}

    def add_loss(self, out, label):
        loss = super().add_loss(out, label)
        if out["streams"].shape[1] > 1:  # each stream learns from what they say together
            target = out["y_pred"].detach().expand_as(out["streams"])
            loss = loss + out["streams"].shape[1] * self.loss_fn(self.output_activation(out["streams"]), target)
        return loss

    def train_epoch(self, rows):
        self.evaluating, started = 0.0, time.perf_counter()
        super().train_epoch(rows)
        self.epochs.append(time.perf_counter() - started - self.evaluating)

    def eval_step(self):  # the trainer calls it within an epoch, after the last batch
        started = time.perf_counter()
        if self.quality:
            super().eval_step()
        self.evaluating = time.perf_counter() - started

    def checkpoint_and_earlystop(self, logs):
        self.curve.append(float(logs["AUC"]))
        super().checkpoint_and_earlystop(logs)

    def lr_decay(self):
        return super().lr_decay(factor=self.plateau)

    def load_weights(self, path):  # after training; in mode "speed" none were saved
        if self.quality:
            super().load_weights(path)


class First:
    """The first batches of a data loader."""

    def __init__(self, rows, batches):
        self.rows, self.batches = rows, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        return itertools.islice(iter(self.rows), self.batches)


def loaders(tables, spec):
    """Return FuxiCTR's description of the columns and its three data loaders, over files in the form they read."""
    folder, form = os.path.join(spec["folder"], "fuxictr"), spec.get("loader", "npz")
    os.makedirs(folder, exist_ok=True)
    features = FeatureMap("rows", folder)
    features.labels = ["label"]
    for name in tables["train"].columns.drop("label"):
        codes = pd.concat([table[name] for table in tables.values()])
        if codes.dtype.kind == "f":
            features.features[name] = {"source": "", "type": "numeric"}
        else:
            size = int(codes.max()) + 1
            features.features[name] = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}
    features.num_fields = features.get_num_fields()
    features.set_column_index()
    paths = {f"{name}_data": os.path.join(folder, f"{name}.{form}") for name in tables}
    for path, table in zip(paths.values(), tables.values(), strict=True):
        if form == "npz":
            np.savez(path, **{name: table[name].to_numpy() for name in table.columns})
        else:
            table.to_parquet(path)
    return features, RankDataLoader(features, **paths, batch_size=spec["settings"]["batch_size"], data_format=form)


def scores(net, rows, table, seen, path):
    """Return AUC and logloss of a table, and the AUC of the rows whose pair is no positive of training."""
    probability = net.predict(rows)
    np.save(path, probability)
    label = table["label"].to_numpy()
    figures = evaluate_metrics(label, probability, ["AUC", "logloss"])
    if seen is not None:
        new = ~pd.MultiIndex.from_frame(table[seen.names]).isin(seen)
        figures |= {"AUC_new": evaluate_metrics(label[new], probability[new], ["AUC"])["AUC"], "rows_new": new.sum()}
    return {name.lower(): float(value) for name, value in figures.items()}


def main(spec):
    torch.set_num_threads(spec["threads"])
    seed_everything(spec["seed"])
    tables = {name: pd.read_csv(os.path.join(spec["folder"], f"{name}.csv")) for name in ("train", "valid", "test")}
    features, (train, valid, test) = loaders(tables, spec)
    net = Net(features, spec)
    whole = len(train)
    cut = min(spec.get("batches") or whole, whole)
    count = len(tables["train"])
    share = min(cut * spec["settings"]["batch_size"], count) / count
    net.fit(train if cut == whole else First(train, cut), epochs=spec["settings"]["epochs"], validation_data=valid)
    epoch = statistics.median(net.epochs[1:] or net.epochs) / share
    row = {
        "model": spec["model"],
        "mode": spec["mode"],
        "seed": spec["seed"],
        "epoch": epoch,
        "rows_per_s": count / epoch,
        "epochs": len(net.epochs),
        "batches_of_epoch": f"{cut} of {whole}",
        "parameters": sum(weights.numel() for weights in net.parameters()),
    }
    if net.quality:
        pair = spec.get("pair")
        liked = tables["train"].query("label == 1")
        seen = pd.MultiIndex.from_frame(liked[pair]) if pair else None
        row |= {"best_epoch": int(np.argmax(net.curve)) + 1, "curve": net.curve}
        for name, rows in (("valid", valid), ("test", test)):
            row[name] = scores(net, rows, tables[name], seen, os.path.join(spec["folder"], f"{name}.npy"))
    row["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(row))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
