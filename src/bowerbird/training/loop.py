"""The one training loop: batches by global step, early stopping on a validation metric, the best state kept.

It knows no model, no loss and no metric: a model brings `loss(batch) -> (B,)`, the caller brings `validate`.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.torch import save_file
from torch import Tensor, nn

from bowerbird.core import ConfigError, RunOptions, TrainedConfig, derive, numpy_stream


class Batches(Protocol):
    """What the loop draws from: `training.batches` holds one class for each batch type."""

    @property
    def n_rows(self) -> int:
        """The number of rows in an epoch."""
        ...

    def __len__(self) -> int: ...

    def batch(self, epoch: int, step: int, shard: tuple[int, int]) -> Any:
        """Return one worker's rows of one batch; it has a `weight` (B,)."""
        ...


@dataclass
class Training:
    """How a training went."""

    epochs: int = 0  # trained
    best_epoch: int = 0  # whose state the model now has, counted from 1
    select: str = ""  # the validation metric that chose it; empty where nothing was validated
    best: float = float("-inf")
    curve: list[dict[str, float]] = field(default_factory=list)  # one row an epoch: epoch, loss, metric
    seconds: float = 0.0  # without validation
    rows_per_s: float = 0.0
    data_share: float = 0.0  # of the seconds, spent cutting batches
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return what a manifest and a benchmark keep."""
        kept = {key: value for key, value in vars(self).items() if key != "curve"}
        return kept | {"best": self.best if self.select else None}


def device_of(run: RunOptions) -> str:
    """Return "cuda" or "cpu", and set torch's thread count where the run asks for one."""
    if run.threads:
        torch.set_num_threads(run.threads)
    there = torch.cuda.is_available()
    if run.device == "auto":
        return "cuda" if there else "cpu"
    if run.device.startswith("cuda") and not there:
        raise ConfigError("device is 'cuda', but torch sees no GPU here. Try device = auto, or a CUDA build of torch.")
    return run.device


@contextmanager
def seeded(run: RunOptions, name: str, device: str) -> Iterator[None]:
    """Let torch's own randomness (initial values, dropout) follow the named stream inside, and be as before outside."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derive(run.seed, name))
        yield


def train(
    model: Any,
    batches: Batches,
    config: TrainedConfig,
    run: RunOptions,
    *,
    validate: Callable[[], float] | None = None,
    epochs: int | None = None,
    shard: tuple[int, int] = (0, 1),
    on_gradients: Callable[[nn.Module], None] | None = None,
    on_epoch: Callable[[Training], None] | None = None,
) -> Training:
    """Train until validation stops gaining, or for exactly `epochs`; leave the model with its best state, frozen.

    `validate` returns the metric named `config.select` for the model as it is (frozen before the call). Ctrl-C ends
    training and keeps the best state so far. `on_epoch` is told after every epoch. Several workers cut shards of the
    same batches and sum their gradients in `on_gradients`, called before every step: each divides by the weight of
    the whole batch, so that the sum is the gradient one worker would have.
    """
    optimiser = adam(model, config.learning_rate)
    result = Training(select=config.select if validate else "")
    kept: dict[str, Tensor] = {}
    spent_on_data = 0.0
    last = epochs or config.epochs
    with _bar(run, last) as show, seeded(run, "train", device_of(run)):
        try:
            for epoch in range(last):
                started = time.perf_counter()
                if hasattr(model, "begin_epoch"):
                    model.begin_epoch(numpy_stream(run.seed, "begin_epoch", epoch))
                loss, seconds = _one_epoch(model, batches, optimiser, epoch, shard, on_gradients)
                spent_on_data += seconds
                result.seconds += time.perf_counter() - started
                result.epochs = epoch + 1
                result.rows_per_s = result.epochs * batches.n_rows / shard[1] / result.seconds
                result.data_share = spent_on_data / result.seconds
                row = {"epoch": float(epoch + 1), "loss": loss}
                due = validate is not None and ((epoch + 1) % config.valid_every == 0 or epoch + 1 == last)
                if due:
                    assert validate is not None
                    model.freeze()
                    row[config.select] = value = validate()
                    if value > result.best:
                        result.best, result.best_epoch = value, epoch + 1
                        kept = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
                        if run.checkpoint:
                            _write(kept, Path(run.checkpoint))
                result.curve.append(row)
                show(result)
                if on_epoch is not None:
                    on_epoch(result)
                if due and epochs is None and result.epochs - result.best_epoch >= config.patience * config.valid_every:
                    break
        except KeyboardInterrupt:
            result.interrupted = True
            model.eval()
    if kept:
        model.load_state_dict(kept)
    else:
        result.best_epoch = result.epochs
        model.freeze()
        if run.checkpoint:
            _write(model.state_dict(), Path(run.checkpoint))
    return result


def adam(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Return Adam in its fused form, which on large tables is several times faster than the plain one."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)


def grow(model: Any, optimiser: torch.optim.Optimizer, n_users: int, n_items: int) -> None:
    """Let a model and its optimiser grow together: old rows keep their values and their moments, new moments are 0."""
    before = dict(model.named_parameters())
    model.grow(n_users, n_items)
    for name, parameter in model.named_parameters():
        old = before[name]
        if parameter is old:
            continue
        for group in optimiser.param_groups:
            group["params"] = [parameter if one is old else one for one in group["params"]]
        state = optimiser.state.pop(old, {})
        for key, value in state.items():
            if torch.is_tensor(value) and value.shape == old.shape:
                wider = torch.zeros_like(parameter)
                wider[tuple(slice(0, size) for size in old.shape)] = value
                state[key] = wider
        if state:
            optimiser.state[parameter] = state


def _one_epoch(
    model: Any,
    batches: Batches,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    shard: tuple[int, int],
    on_gradients: Callable[[nn.Module], None] | None,
) -> tuple[float, float]:
    """Take every step of one epoch; return the mean loss and the seconds spent on cutting batches."""
    model.train()
    cutting, losses = 0.0, []
    for step in range(len(batches)):
        started = time.perf_counter()
        batch = batches.batch(epoch, step, shard)
        cutting += time.perf_counter() - started
        optimiser.zero_grad(set_to_none=True)
        whole = batch.weight.sum() if batch.whole is None else batch.whole
        loss = (model.loss(batch) * batch.weight).sum() / whole
        loss.backward()
        if on_gradients is not None:
            on_gradients(model)
        optimiser.step()
        losses.append(loss.detach())
    model.eval()
    return float(torch.stack(losses).mean()), cutting


def _write(state: dict[str, Tensor], path: Path) -> None:
    """Write a checkpoint so that a crash leaves the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, scratch)
    os.replace(scratch, path)


def _bar(run: RunOptions, epochs: int) -> Any:
    """Return a context that gives a function to call after each epoch; it draws nothing unless asked to."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[line]}"), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True, disable=not run.progress,
    )  # fmt: skip
    if not run.progress or not progress.console.is_terminal:
        return nullcontext(lambda result: None)
    return _Drawn(progress, epochs)


class _Drawn:
    """A progress bar with the metric and a throughput line."""

    def __init__(self, progress: Progress, epochs: int) -> None:
        self.progress, self.epochs = progress, epochs

    def __enter__(self) -> Callable[[Training], None]:
        self.progress.__enter__()
        task = self.progress.add_task("epoch", total=self.epochs, line="")

        def show(result: Training) -> None:
            row = result.curve[-1]
            metric = f"  {result.select} {row[result.select]:.4f}" if result.select in row else ""
            line = (
                f"{result.epochs}/{self.epochs}  loss {row['loss']:.4f}{metric}  "
                f"{result.rows_per_s:,.0f} rows/s ({result.data_share:.0%} data)"
            )
            self.progress.update(task, completed=result.epochs, line=line)

        return show

    def __exit__(self, *error: object) -> None:
        self.progress.__exit__(None, None, None)
