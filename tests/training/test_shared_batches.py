"""Workers: two processes of torch.distributed train what one process trains, and go on where both were ended."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed

from bowerbird.core import BowerbirdError, ConfigError, RunOptions, TrainedConfig, entry_of, lookup
from bowerbird.data import Interactions, read_rows
from bowerbird.features import Encoder, infer
from bowerbird.features.sources import EncodedRows
from bowerbird.models.ranking.dcnv2 import DCNv2
from bowerbird.nn.losses import WORKERS
from bowerbird.training import Batches, RowBatches, Training, Workers, batches_for, seeded, train
from two_workers import in_two

EPOCHS = 3
RUN = RunOptions(device="cpu", progress=False, threads=1)
ODD = 37  # rows of a batch: two workers have 19 and 18, and the last batch is short
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sampled softmax, tables of named rows": ("mf", {"negatives": 7, "batch_size": ODD}),
    "own negatives, tables of named rows": ("mf", {"loss": "bpr", "batch_size": ODD, "l2": 1e-3}),
    "softmax over all, whole tables": ("mf", {"loss": "softmax", "batch_size": 256}),
    "two towers": ("twotower", {"loss": "sampled_softmax", "negatives": 7, "batch_size": ODD, "hidden": 8}),
    "sequences": ("sasrec", {"dropout": 0.0, "batch_size": 101, "history_len": 6}),
    "sequences, one to a batch": ("sasrec", {"dropout": 0.0, "batch_size": 3, "history_len": 3}),
    "a graph": ("lightgcn", {"batch_size": 256, "negatives": 9}),
    "a ranker, a long table with a penalty": ("dcnv2", {"dropout": 0.0, "batch_size": 14, "l2": 1e-3}),
    "a ranker, a short table": ("deepfm", {"dropout": 0.0, "batch_size": 200, "l2": 1e-3}),
}


def events() -> Interactions:
    """600 users, 400 items, 2,400 events."""
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(600), 4), (rng.random(2400) ** 2 * 400).astype(np.int64)
    return Interactions.of(pl.Series(user), pl.Series(np.r_[np.arange(400), item[400:]]), time=np.arange(2400))


def rows() -> tuple[Encoder, EncodedRows]:
    rng = np.random.default_rng(1)
    table = pl.DataFrame(
        {"who": rng.integers(0, 300, 500).astype(str), "what": rng.integers(0, 200, 500).astype(str),
         "age": rng.random(500), "label": rng.integers(0, 2, 500)}
    )  # fmt: skip
    given = read_rows(table, labels=["label"])
    encoder = Encoder.fit({"": given.table}, {"": infer(given.table)}, tasks=given.tasks)
    return encoder, EncodedRows.of(encoder.encode(given.table), given, "cpu")


def made(name: str, settings: dict[str, Any]) -> tuple[Any, Batches, TrainedConfig]:
    """Return a model with its first weights, its batches and its configuration."""
    config: Any = lookup(name).config(dim=8, learning_rate=0.01, **settings)
    entry = entry_of(config)
    if "ranker" in entry.tags:
        encoder, source = rows()
        with seeded(RUN, "cpu", "init"):
            model = entry.model(config, encoder.schema)
        return model, RowBatches(source, config, seed=0, fingerprint="made"), config
    past = events()
    with seeded(RUN, "cpu", "init"):
        model = entry.model(config, past.schema)
    model.prepare(past)
    assert entry.batches is not None
    return model, batches_for(entry.batches, past, config, seed=0, device="cpu"), config


def trained(case: str, run: RunOptions = RUN, **how: Any) -> tuple[dict[str, Tensor], Training]:
    """Return the weights and the losses after a training, as one dictionary, and how it went."""
    model, batches, config = made(*CASES[case])
    result = train(model, batches, config, run, **{"epochs": EPOCHS, **how})
    curve = torch.tensor([row["loss"] for row in result.curve])
    return {"curve": curve, **{f"weights.{name}": one.clone() for name, one in model.state_dict().items()}}, result


# ── what each worker does; the first one writes what came of it ──


def every_case(folder: Path, rank: int) -> None:
    for place, case in enumerate(CASES):
        state, result = trained(case)
        assert result.rows_per_s > 0
        save_file(state, folder / f"{place}-{rank}.safetensors")


def ended_and_gone_on(folder: Path, rank: int) -> None:
    """End both after two epochs, as a crash would, and start again."""
    kept = replace(RUN, checkpoint=str(folder / "state"))
    case = next(iter(CASES))

    def stop(training: Training) -> None:
        if training.epochs == 2:
            raise SystemExit

    with pytest.raises(SystemExit):
        trained(case, kept, on_epoch=stop)
    distributed.barrier()
    state, result = trained(case, kept)
    assert result.resumed_from == 2
    assert len(list((folder / "state").iterdir())) == 1
    save_file(state, folder / f"resumed-{rank}.safetensors")


def validated(folder: Path, rank: int) -> None:
    """Only the first worker is asked; both stop after the same epoch with the best state."""
    values = iter([0.1, 0.3, 0.2, 0.25])
    asked = list[float]()

    def validate() -> float:
        asked.append(next(values))
        return asked[-1]

    model, batches, config = made(*CASES["sequences"])
    result = train(model, batches, replace(config, patience=2, epochs=9), RUN, validate=validate)
    assert (result.epochs, result.best_epoch, result.best) == (4, 2, 0.3)
    assert len(asked) == (4 if rank == 0 else 0)
    save_file(dict(model.state_dict()), folder / f"best-{rank}.safetensors")


def batch_norm(folder: Path, rank: int) -> None:
    model, batches, config = made("deepfm", {"batch_norm": True, "batch_size": 100})
    train(model, batches, config, RUN, epochs=2)
    save_file(dict(model.state_dict()), folder / f"norm-{rank}.safetensors")


def different(folder: Path, rank: int) -> None:
    model, batches, config = made("mf", {"batch_size": ODD})
    with pytest.raises(ConfigError, match="2 workers of one training differ in configuration, data or checkpoint"):
        train(model, batches, replace(config, learning_rate=0.01 * (rank + 1)), RUN, epochs=1)


WORK: tuple[Callable[[Path, int], None], ...] = (every_case, ended_and_gone_on, validated, batch_norm, different)


def work(folder: Path, rank: int) -> None:
    for one in WORK:
        one(folder, rank)
    (folder / f"done-{rank}").touch()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two workers left."""
    place = tmp_path_factory.mktemp("workers")
    in_two(work, place)
    assert all((place / f"done-{rank}").exists() for rank in (0, 1))
    return place


def both(folder: Path, name: str) -> dict[str, Tensor]:
    """Return what the two workers ended with, which is the same to the last bit."""
    one, other = (load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert set(one) == set(other)
    assert all(torch.equal(one[key], other[key]) for key in one)
    return one


def near(one: Tensor, other: Tensor) -> bool:
    """Return whether they differ by rounding, which Adam blows up where a gradient is next to nothing."""
    return bool((one.float() - other.float()).norm() <= 5e-3 * other.float().norm() + 1e-3)


@pytest.mark.parametrize("case", CASES)
def test_two_workers_train_what_one_process_trains(folder: Path, case: str) -> None:
    found = both(folder, str(list(CASES).index(case)))
    expected, _ = trained(case)
    assert found["curve"].tolist() == pytest.approx(expected["curve"].tolist(), rel=1e-5)
    assert expected["curve"][0] > expected["curve"][-1]
    for name, one in expected.items():
        assert near(found[name], one), name


def test_workers_that_were_ended_go_on_to_the_same_model(folder: Path) -> None:
    resumed, straight = both(folder, "resumed"), both(folder, "0")
    assert all(torch.equal(resumed[name], one) for name, one in straight.items())


def test_the_best_state_is_that_of_the_first_workers_validation(folder: Path) -> None:
    found = both(folder, "best")
    model, batches, config = made(*CASES["sequences"])
    train(model, batches, config, RUN, epochs=2)
    for name, one in model.state_dict().items():
        assert near(found[name], one), name


def test_statistics_of_batches_are_the_first_workers(folder: Path) -> None:
    found = both(folder, "norm")
    assert any("running_mean" in name for name in found)


# ── alone ──


def test_a_process_without_a_group_is_alone_and_sends_nothing() -> None:
    alone = Workers.here()
    assert (alone.rank, alone.size, alone.first, alone.shard) == (0, 1, True, (0, 1))
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    alone.sum_gradients([parameter])
    alone.agree("anything")
    assert parameter.grad.tolist() == [1.0, 2.0]
    assert (alone.of_first(0.5), alone.total(0.5)) == (0.5, 0.5)


def test_models_reckon_with_the_whole_batch_inside_and_not_after() -> None:
    seen = list[int]()

    def fail() -> None:
        with Workers(1, 3).sharing():
            seen.append(WORKERS.get())
            raise BowerbirdError("an epoch failed")

    with pytest.raises(BowerbirdError):
        fail()
    assert (seen, WORKERS.get()) == ([3], 1)


def test_the_cases_hold_long_tables_and_short_ones() -> None:
    """Else nothing would be said of gradients that name rows."""
    kinds = set()
    for case in CASES:
        model, batches, _ = made(*CASES[case])
        model.train()
        batch = batches.batch(0, 0, (0, 1))
        model.loss(batch).sum().backward()
        kinds |= {(case, one.grad.is_sparse) for one in model.parameters() if one.grad is not None}
    assert {sparse for case, sparse in kinds if case.startswith("sampled")} == {True}
    assert {sparse for case, sparse in kinds if case.startswith("softmax")} == {False}
    assert {sparse for case, sparse in kinds if "long" in case} == {True, False}
    assert isinstance(made(*CASES["a ranker, a long table with a penalty"])[0], DCNv2)
