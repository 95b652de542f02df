"""The one training loop: batches by global step, early stopping on a validation metric, the best state kept.

It knows no model, no loss and no metric: a model brings `loss(batch) -> (B,)`, the caller brings `validate`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from bowerbird.core import ConfigError, RunOptions, TrainedConfig, derive, numpy_stream
from bowerbird.training import checkpoint
from bowerbird.training.adam import Adam
from bowerbird.training.workers import Workers


@runtime_checkable
class Batches(Protocol):
    """What the loop draws from: `training.batches` holds one class for each batch type."""

    @property
    def n_rows(self) -> int:
        """The number of rows in an epoch."""
        ...

    @property
    def fingerprint(self) -> str:
        """What the rows are cut from: equal data have equal fingerprints."""
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
    rates: list[float] = field(default_factory=list)  # the learning rate of each epoch
    seconds: float = 0.0  # without validation
    rows_per_s: float = 0.0
    data_share: float = 0.0  # of the seconds, spent cutting batches
    resumed_from: int = 0  # the epoch of the checkpoint that it went on from
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
def seeded(run: RunOptions, device: str, *names: str | int) -> Iterator[None]:
    """Let torch's own randomness (initial values, dropout) follow the named stream inside, and be as before outside."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derive(run.seed, *names))
        yield


def train(
    model: Any,
    batches: Batches,
    config: TrainedConfig,
    run: RunOptions,
    *,
    optimiser: Adam | None = None,
    validate: Callable[[], float] | None = None,
    epochs: "int | Training | None" = None,
    on_epoch: Callable[[Training], None] | None = None,
) -> Training:
    """Train until validation stops gaining, or for exactly `epochs`; leave the model with its best state, frozen.

    An earlier training as `epochs` means as many as it chose, each at the learning rate that it had then.

    `validate` returns the metric named `config.select` for the model as it is (frozen before the call). Ctrl-C ends
    training and keeps the best state so far. `on_epoch` is told after every epoch. With `run.checkpoint`, a training
    that was interrupted, however roughly, goes on after its last whole epoch and ends with the same model. With an
    `optimiser` of the model's parameters, training goes on with the moments that it has, and leaves it as it ends.

    Where torch.distributed has a default group, every process of it calls this alike. They cut shards of the same
    batches and sum their gradients before every step: each divides by the weight of the whole batch, so that the sum
    is the gradient one worker would have. The first one validates and writes checkpoints, and all see the same folder.
    Dropout and other noise is drawn by each for its rows. Raises `ConfigError` where they are not given the same.
    """
    optimiser = optimiser or Adam(model.parameters(), config.learning_rate)
    rates: list[float] = []
    if isinstance(epochs, Training):
        rates, epochs = epochs.rates, max(1, epochs.best_epoch)
    result = Training(select=config.select if validate else "")
    best: dict[str, Tensor] = {}
    last, device, workers = epochs or config.epochs, device_of(run), Workers.here()
    what = {"config": [type(config).__qualname__, asdict(config)], "seed": run.seed, "data": batches.fingerprint}
    what |= {"epochs": epochs, "select": result.select}
    keep = None
    if run.checkpoint:
        keep = checkpoint.place(run.checkpoint, what)
        kept = checkpoint.recall(keep, model, optimiser)
        if kept is not None:
            result, best = Training(**kept[0]), kept[1]
            result.resumed_from, result.interrupted = result.epochs, False
    workers.agree(f"{checkpoint.digest(what)} after epoch {result.epochs}")
    noise = ("worker", workers.rank) if workers.size > 1 else ()
    with _bar(run, last) as show, workers.sharing():
        try:
            while result.epochs < last and not _enough(result, config, epochs):
                rate = config.learning_rate * config.decay**result.epochs * config.plateau ** _idle(result)
                optimiser.learning_rate = rates[result.epochs] if result.epochs < len(rates) else rate
                result.rates.append(optimiser.learning_rate)
                with seeded(run, device, "train", result.epochs, *noise):
                    loss = workers.total(_one_epoch(model, batches, optimiser, result, run, workers))
                workers.share_buffers(model)
                row = {"epoch": float(result.epochs), "loss": loss}
                if validate is not None and (result.epochs % config.valid_every == 0 or result.epochs == last):
                    _frozen(model)
                    row[config.select] = value = workers.of_first(validate() if workers.first else 0.0)
                    if value > result.best:
                        result.best, result.best_epoch = value, result.epochs
                        best = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
                result.curve.append(row)
                if keep is not None and workers.first:
                    checkpoint.write(keep, asdict(result), model, optimiser, best)
                show(result)
                if on_epoch is not None:
                    on_epoch(result)
        except KeyboardInterrupt:
            result.interrupted = True
            model.eval()
    if best:
        model.load_state_dict(best)
    else:
        result.best_epoch = result.epochs
        _frozen(model)
    return result


def _frozen(model: Any) -> None:
    """Let a model keep what serving needs, where that is more than its parameters."""
    if hasattr(model, "freeze"):
        model.freeze()


def _idle(result: Training) -> int:
    """Return how many validations so far brought no gain."""
    values = [row[result.select] for row in result.curve if result.select in row]
    best, idle = float("-inf"), 0
    for value in values:
        idle += value <= best
        best = max(best, value)
    return idle


def _enough(result: Training, config: TrainedConfig, epochs: int | None) -> bool:
    """Return whether validation, where it decides, has not gained for too long."""
    if not result.curve or result.select not in result.curve[-1] or epochs is not None:
        return False
    return result.epochs - result.best_epoch >= config.patience * config.valid_every


def grow(model: Any, optimiser: Adam, n_users: int, n_items: int) -> None:
    """Let a model and its optimiser grow together: old rows keep their values and their moments, new moments are 0."""
    before = dict(model.named_parameters())
    model.grow(n_users, n_items)
    for name, parameter in model.named_parameters():
        old = before[name]
        if parameter is old:
            continue
        optimiser.parameters = [parameter if one is old else one for one in optimiser.parameters]
        state = optimiser.state.pop(old, None)
        if state is None:
            continue
        for key in ("mean", "square"):
            wider = torch.zeros_like(parameter)
            wider[tuple(slice(0, size) for size in old.shape)] = state[key]
            state[key] = wider
        optimiser.state[parameter] = state


def _one_epoch(
    model: Any,
    batches: Batches,
    optimiser: Adam,
    result: Training,
    run: RunOptions,
    workers: Workers,
) -> float:
    """Take every step of the next epoch, note it in `result`, and return the mean loss of this worker's rows."""
    started, cutting, losses, epoch = time.perf_counter(), 0.0, [], result.epochs
    if hasattr(model, "begin_epoch"):
        model.begin_epoch(numpy_stream(run.seed, "begin_epoch", epoch))
    model.train()
    for step in range(len(batches)):
        before = time.perf_counter()
        batch = workers.rows(batches, epoch, step)
        cutting += time.perf_counter() - before
        optimiser.zero_grad()
        whole = batch.weight.sum() if batch.whole is None else batch.whole
        loss: Tensor = torch.dot(model.loss(batch), batch.weight / whole)
        torch.autograd.backward(loss)
        workers.sum_gradients(optimiser.parameters)
        optimiser.step()
        losses.append(loss.detach())
    model.eval()
    mean = float(torch.stack(losses).mean())
    spent = result.data_share * result.seconds + cutting
    result.seconds += time.perf_counter() - started
    result.data_share = spent / result.seconds
    result.epochs += 1
    result.rows_per_s = result.epochs * batches.n_rows / result.seconds
    return mean


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
