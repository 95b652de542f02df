"""The loop: it learns, stops, keeps the best state, and gives the same model for the same seed."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from bowerbird.core import DataError, RunOptions, TrainedConfig
from bowerbird.data import Interactions, read
from bowerbird.models.baselines.mf import MF, MFConfig
from bowerbird.models.graph.lightgcn import LightGCN, LightGCNConfig
from bowerbird.nn.losses import NAMES
from bowerbird.training import Adam, PairBatches, Training, checkpoint, device_of, train

QUIET = RunOptions(device="cpu", progress=False)


@dataclass
class Target:
    """A batch of one: the number to approach, and its weight."""

    value: Tensor
    weight: Tensor
    whole: Tensor | None = None


class Targets:
    """Batches that ask for 1 and for 3, which weighs three times as much."""

    n_rows = 2
    fingerprint = "one and three"

    def __len__(self) -> int:
        return 1

    def batch(self, epoch: int, step: int, shard: tuple[int, int]) -> Target:
        return Target(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 3.0]))


class Number(nn.Module):
    """One number, moved by the loop; it remembers how often it was frozen and whether it was in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros(1))
        self.frozen: list[float] = []
        self.modes: list[bool] = []

    def loss(self, batch: Target) -> Tensor:
        self.modes.append(self.training)
        return (self.number - batch.value).square()

    def freeze(self) -> None:
        self.frozen.append(self.number.item())


def scripted(*values: float) -> Callable[[], float]:
    """Return a validation that gives these values one after another."""
    row: Iterator[float] = iter(values)
    return lambda: next(row)


def config(**options: Any) -> TrainedConfig:
    return TrainedConfig(**({"learning_rate": 0.1, "epochs": 10, "patience": 2} | options))


def after_each_epoch(model: Number) -> tuple[list[float], Callable[[Training], None]]:
    """Return a list and a callback that writes the model's number into it after every epoch."""
    numbers: list[float] = []
    return numbers, lambda _: numbers.append(model.number.item())


def mf(events: Interactions, **options: Any) -> tuple[MF, MFConfig, PairBatches]:
    """Return a model that starts the same every time, its configuration and its batches."""
    setting = MFConfig(**({"dim": 8, "batch_size": 50, "negatives": 8} | options))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MF(setting, events.schema)
    return model, setting, PairBatches(events, setting, seed=0, device="cpu")


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ── learning ──


def test_the_loss_is_the_weighted_mean_of_the_rows() -> None:
    result = train(Number(), Targets(), config(), QUIET, epochs=1)
    assert result.curve == [{"epoch": 1.0, "loss": pytest.approx((1 * 1 + 3 * 9) / 4)}]


def test_training_finds_the_weighted_mean() -> None:
    model = Number()
    train(model, Targets(), config(), QUIET, epochs=200)
    assert model.number.item() == pytest.approx(2.5, abs=0.01)


def test_training_in_two_halves_with_one_optimiser_is_training_in_one() -> None:
    halves, whole = Number(), Number()
    optimiser = Adam(halves.parameters(), 0.1)
    for _ in range(2):
        train(halves, Targets(), config(), QUIET, optimiser=optimiser, epochs=5)
    train(whole, Targets(), config(), QUIET, epochs=10)
    assert halves.number.item() == whole.number.item()
    assert optimiser.state[halves.number]["steps"].item() == 10
    train(halves, Targets(), config(), QUIET, epochs=5)
    assert optimiser.state[halves.number]["steps"].item() == 10


@pytest.mark.parametrize("loss", NAMES)
def test_the_loss_of_every_kind_goes_down_on_a_pattern_that_can_be_learnt(even_odd: Interactions, loss: str) -> None:
    model, setting, batches = mf(even_odd, loss=loss, learning_rate=0.02)
    curve = train(model, batches, setting, QUIET, epochs=15).curve
    assert curve[-1]["loss"] < 0.9 * curve[0]["loss"]


def test_gradients_are_cleared_between_steps() -> None:
    model = Number()
    gradients = []
    model.number.register_hook(lambda gradient: gradients.append(gradient.item()))
    train(model, Targets(), config(learning_rate=1e-9), QUIET, epochs=3)
    assert gradients == pytest.approx([-5.0] * 3, abs=1e-5)


def test_the_model_learns_in_training_mode_and_is_left_in_evaluation_mode() -> None:
    model = Number()
    train(model, Targets(), config(), QUIET, epochs=2)
    assert model.modes == [True, True]
    assert not model.training


def test_begin_epoch_is_told_each_epoch_with_its_own_repeatable_stream() -> None:
    def draws() -> list[float]:
        model, seen = Number(), []
        model.begin_epoch = lambda rng: seen.append(rng.random())  # type: ignore[assignment]
        train(model, Targets(), config(), QUIET, epochs=3)
        return seen

    first = draws()
    assert len(set(first)) == 3
    assert draws() == first


# ── stopping ──


def test_training_stops_after_patience_and_the_best_state_comes_back() -> None:
    model = Number()
    numbers, note = after_each_epoch(model)
    result = train(
        model, Targets(), config(patience=3), QUIET, validate=scripted(0.1, 0.5, 0.4, 0.5, 0.3, 0.9), on_epoch=note
    )
    assert (result.epochs, result.best_epoch, result.best, result.select) == (5, 2, 0.5, "ndcg@10")
    assert model.number.item() == numbers[1] != numbers[-1]
    assert [row["ndcg@10"] for row in result.curve] == [0.1, 0.5, 0.4, 0.5, 0.3]


def test_a_gain_within_patience_starts_the_wait_again() -> None:
    values = scripted(0.1, 0.0, 0.2, 0.1, 0.3, 0.0, 0.0)
    result = train(Number(), Targets(), config(patience=2), QUIET, validate=values)
    assert (result.epochs, result.best_epoch) == (7, 5)


def test_validation_only_every_few_epochs_counts_patience_in_validations() -> None:
    model = Number()
    settings = config(patience=2, valid_every=3, epochs=30)
    result = train(model, Targets(), settings, QUIET, validate=scripted(0.5, 0.4, 0.3))
    assert (result.epochs, result.best_epoch) == (9, 3)
    assert [row["epoch"] for row in result.curve if "ndcg@10" in row] == [3.0, 6.0, 9.0]


def test_the_last_epoch_is_always_validated() -> None:
    result = train(Number(), Targets(), config(valid_every=4, epochs=6), QUIET, validate=scripted(0.1, 0.2))
    assert (result.epochs, result.best_epoch) == (6, 6)


def test_the_model_is_frozen_before_each_validation() -> None:
    model = Number()
    at_validation: list[int] = []

    def validate() -> float:
        at_validation.append(len(model.frozen))
        return 0.0

    train(model, Targets(), config(patience=2), QUIET, validate=validate)
    assert at_validation == [1, 2, 3]


def test_exactly_the_epochs_asked_for_are_trained_and_the_last_state_kept() -> None:
    model = Number()
    numbers, note = after_each_epoch(model)
    result = train(model, Targets(), config(epochs=100), QUIET, epochs=4, on_epoch=note)
    assert (result.epochs, result.best_epoch, result.select, len(numbers)) == (4, 4, "", 4)
    assert model.number.item() == numbers[-1]
    assert model.frozen == [numbers[-1]]


def test_without_validation_or_a_number_the_configured_epochs_are_trained() -> None:
    assert train(Number(), Targets(), config(epochs=3), QUIET).epochs == 3


def test_a_score_that_never_becomes_a_number_stops_training_too() -> None:
    nan = float("nan")
    assert train(Number(), Targets(), config(patience=2), QUIET, validate=scripted(nan, nan)).epochs == 2


# ── interrupting ──


def test_ctrl_c_keeps_the_best_state_so_far() -> None:
    model = Number()
    numbers: list[float] = []

    def stop_in_third(result: Training) -> None:
        numbers.append(model.number.item())
        if result.epochs == 3:
            raise KeyboardInterrupt

    result = train(model, Targets(), config(), QUIET, validate=scripted(0.2, 0.9, 0.5), on_epoch=stop_in_third)
    assert result.interrupted
    assert (result.epochs, result.best_epoch) == (3, 2)
    assert model.number.item() == numbers[1] != numbers[2]


def test_ctrl_c_without_validation_keeps_the_state_as_it_is_frozen() -> None:
    model = Number()

    def stop(result: Training) -> None:
        raise KeyboardInterrupt

    result = train(model, Targets(), config(), QUIET, on_epoch=stop)
    assert (result.interrupted, result.epochs, result.best_epoch) == (True, 1, 1)
    assert model.frozen == [model.number.item()]


def test_ctrl_c_in_the_middle_of_an_epoch_leaves_evaluation_mode() -> None:
    class Cut(Targets):
        def batch(self, epoch: int, step: int, shard: tuple[int, int]) -> Target:
            if epoch == 1:
                raise KeyboardInterrupt
            return super().batch(epoch, step, shard)

    model = Number()
    result = train(model, Cut(), config(), QUIET, validate=scripted(0.2))
    assert (result.interrupted, result.epochs, result.best_epoch) == (True, 1, 1)
    assert not model.training


def test_any_other_error_passes_through() -> None:
    def fail(result: Training) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        train(Number(), Targets(), config(), QUIET, on_epoch=fail)


# ── checkpoints ──


def kept_in(folder: Path, **options: Any) -> RunOptions:
    return RunOptions(**({"device": "cpu", "progress": False, "checkpoint": str(folder)} | options))


def stop_after(n: int) -> Callable[[Training], None]:
    """Return a callback that ends the process, as far as the loop can tell, after its n-th epoch."""
    rest = iter(range(n - 1))

    def fall(_: Training) -> None:
        if next(rest, None) is None:
            raise SystemExit("the machine went down")

    return fall


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax"])
@pytest.mark.parametrize("fallen", [1, 3, 4])
def test_an_interrupted_training_ends_with_the_model_of_an_undisturbed_one(
    tmp_path: Path, even_odd: Interactions, loss: str, fallen: int
) -> None:
    figures = (0.3, 0.5, 0.4, 0.45, 0.2, 0.1)
    whole, setting, batches = mf(even_odd, loss=loss, patience=3)
    straight = train(whole, batches, setting, QUIET, validate=scripted(*figures))
    torn, _, batches = mf(even_odd, loss=loss, patience=3)
    with pytest.raises(SystemExit):
        train(torn, batches, setting, kept_in(tmp_path), validate=scripted(*figures), on_epoch=stop_after(fallen))
    again, _, batches = mf(even_odd, loss=loss, patience=3, dim=8)
    again.user.data.fill_(7.0)  # where it starts must not matter
    resumed = train(again, batches, setting, kept_in(tmp_path), validate=scripted(*figures[fallen:]))
    assert resumed.resumed_from == fallen
    assert equal(state_of(again), state_of(whole))
    assert resumed.curve == straight.curve
    assert (resumed.epochs, resumed.best_epoch, resumed.best) == (straight.epochs, 2, 0.5)


def test_a_checkpoint_of_a_long_table_keeps_its_moments_by_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"user": rng.integers(0, 300, 1000), "item": rng.integers(0, 400, 1000)})
    events = read(table.unique(maintain_order=True))
    options = {"batch_size": 16, "loss": "bpr"}  # few rows of many: gradients are sparse
    whole, setting, batches = mf(events, **options)
    train(whole, batches, setting, QUIET, epochs=3)
    torn, _, batches = mf(events, **options)
    with pytest.raises(SystemExit):
        train(torn, batches, setting, kept_in(tmp_path), epochs=3, on_epoch=stop_after(2))
    again, _, batches = mf(events, **options)
    train(again, batches, setting, kept_in(tmp_path), epochs=3)
    assert equal(state_of(again), state_of(whole))


def test_a_finished_training_is_not_repeated(tmp_path: Path, even_odd: Interactions) -> None:
    model, setting, batches = mf(even_odd)
    first = train(model, batches, setting, kept_in(tmp_path), epochs=3)
    again, _, batches = mf(even_odd)
    second = train(again, batches, setting, kept_in(tmp_path), epochs=3)
    assert (second.epochs, second.resumed_from, second.seconds) == (3, 3, first.seconds)
    assert equal(state_of(again), state_of(model))


def test_another_run_keeps_its_own_checkpoint(tmp_path: Path, even_odd: Interactions) -> None:
    model, setting, batches = mf(even_odd)
    train(model, batches, setting, kept_in(tmp_path), epochs=2)
    other, longer, _ = mf(even_odd, learning_rate=0.5)
    fewer = even_odd.rows(even_odd.user > 0)
    runs: list[tuple[MF, MFConfig, PairBatches, RunOptions]] = [
        (other, longer, PairBatches(even_odd, longer, seed=0, device="cpu"), kept_in(tmp_path)),
        (mf(even_odd)[0], setting, PairBatches(even_odd, setting, seed=1, device="cpu"), kept_in(tmp_path, seed=1)),
        (mf(fewer)[0], setting, PairBatches(fewer, setting, seed=0, device="cpu"), kept_in(tmp_path)),
    ]
    for n, (one, what, cutter, run) in enumerate(runs):
        assert train(one, cutter, what, run, epochs=2).resumed_from == 0
        assert len(list(tmp_path.iterdir())) == n + 2


def test_a_crash_while_writing_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        train(Number(), Targets(), config(), kept_in(tmp_path), epochs=5, on_epoch=stop_after(1))

    def half(tensors: dict[str, Tensor], scratch: Path, metadata: dict[str, str]) -> None:
        scratch.write_bytes(b"half a file")
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", half)
        with pytest.raises(OSError, match="no space left"):
            train(Number(), Targets(), config(), kept_in(tmp_path), epochs=5)
    assert train(Number(), Targets(), config(), kept_in(tmp_path), epochs=5).resumed_from == 1


def test_a_damaged_checkpoint_is_told_with_its_place(tmp_path: Path) -> None:
    train(Number(), Targets(), config(), kept_in(tmp_path), epochs=1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match=rf"{file.name}: the checkpoint is damaged .* Remove it to start again\.$"):
        train(Number(), Targets(), config(), kept_in(tmp_path), epochs=1)


# ── the same again ──


def test_one_seed_gives_one_set_of_parameters_and_another_seed_another(even_odd: Interactions) -> None:
    states = []
    for seed in (0, 0, 1):
        model, setting, _ = mf(even_odd)
        train(model, PairBatches(even_odd, setting, seed=seed, device="cpu"), setting, QUIET, epochs=3)
        states.append(state_of(model))
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


def test_stopping_early_gives_the_parameters_of_as_many_epochs_exactly(even_odd: Interactions) -> None:
    stopped, setting, batches = mf(even_odd, patience=1)
    train(stopped, batches, setting, QUIET, validate=scripted(0.1, 0.2, 0.3, 0.2))
    exact, setting, batches = mf(even_odd)
    train(exact, batches, setting, QUIET, epochs=3)
    assert equal(state_of(stopped), state_of(exact))


# ── workers ──


def gradient(model: Any, batch: Any) -> dict[str, Tensor]:
    model.zero_grad()
    loss = (model.loss(batch) * batch.weight).sum() / batch.whole
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", ["mf", "lightgcn"])
@pytest.mark.parametrize("loss", NAMES)
def test_the_gradients_of_two_workers_sum_to_that_of_the_whole_batch(
    even_odd: Interactions, name: str, loss: str
) -> None:
    options = {"dim": 8, "loss": loss, "batch_size": 41, "negatives": 8, "l2": 1e-3}
    setting: Any = MFConfig(**options) if name == "mf" else LightGCNConfig(**options)
    model: Any = MF(setting, even_odd.schema) if name == "mf" else LightGCN(setting, even_odd.schema)
    model.prepare(even_odd)
    batches = PairBatches(even_odd, setting, seed=0, device="cpu")
    whole, *parts = (gradient(model, batches.batch(0, 1, shard)) for shard in ((0, 1), (0, 2), (1, 2)))
    for parameter, expected in whole.items():
        summed = parts[0][parameter] + parts[1][parameter]
        assert torch.allclose(summed, expected, atol=1e-5, rtol=1e-4)
        assert expected.abs().sum() > 0


def test_a_worker_whose_share_of_a_batch_is_empty_adds_nothing(even_odd: Interactions) -> None:
    model, _, batches = mf(even_odd, batch_size=199)  # of 200 pairs: the second step has one row
    batch = batches.batch(0, 1, (1, 2))
    assert len(batch) == 0
    assert all(not one.any() for one in gradient(model, batch).values())


# ── telling ──


def test_a_training_is_kept_as_json_without_its_curve() -> None:
    validated = train(Number(), Targets(), config(patience=1), QUIET, validate=scripted(0.5, 0.4))
    kept = json.loads(json.dumps(validated.to_dict()))
    assert (kept["epochs"], kept["best_epoch"], kept["best"], kept["select"]) == (2, 1, 0.5, "ndcg@10")
    assert "curve" not in kept
    assert train(Number(), Targets(), config(), QUIET, epochs=1).to_dict()["best"] is None


def test_throughput_counts_rows_of_all_epochs_over_the_seconds() -> None:
    result = train(Number(), Targets(), config(), QUIET, epochs=5)
    assert result.rows_per_s == pytest.approx(5 * 2 / result.seconds)
    assert 0.0 <= result.data_share <= 1.0


def test_the_progress_bar_is_drawn_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any stream for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    run = RunOptions(device="cpu", progress=True)
    train(Number(), Targets(), config(epochs=2), run, validate=scripted(0.25, 0.5))
    written = capsys.readouterr()
    assert written.out == ""
    assert "2/2  loss" in written.err
    assert "ndcg@10 0.5000" in written.err


@pytest.mark.parametrize("progress", [True, False])
def test_nothing_is_drawn_where_there_is_no_terminal_or_no_wish(
    progress: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if progress:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
    else:
        monkeypatch.setenv("FORCE_COLOR", "1")
    train(Number(), Targets(), config(), RunOptions(device="cpu", progress=progress), epochs=2)
    assert capsys.readouterr() == ("", "")


def test_threads_are_set_where_a_run_asks_for_them() -> None:
    before = torch.get_num_threads()
    try:
        assert device_of(RunOptions(device="cpu", threads=1)) == "cpu"
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_device_is_the_gpu_only_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda present=present: present)
        assert device_of(RunOptions()) == device
        assert device_of(RunOptions(device="cpu")) == "cpu"
