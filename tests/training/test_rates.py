"""The learning rate falls after each epoch and each validation without a gain, and falls the same a second time."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bowerbird.core import ConfigError, RunOptions, TrainedConfig
from bowerbird.features import FeatureBatch
from bowerbird.training import Training, train

QUIET = RunOptions(device="cpu", progress=False)
CONFIG = TrainedConfig(learning_rate=1.0, plateau=0.5, epochs=7, patience=7, select="auc")
VALUES = (0.5, 0.4, 0.6, 0.6, 0.7, 0.1, 0.2)  # no gain in epochs 2, 4, 6 and 7
RATES = [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125]  # of each epoch


class OneRow:
    """Batches of one row, one an epoch."""

    n_rows = 1
    fingerprint = "one row"

    def __len__(self) -> int:
        return 1

    def batch(self, epoch: int, step: int, shard: tuple[int, int]) -> FeatureBatch:
        return FeatureBatch(torch.zeros(1, 1, dtype=torch.int64), weight=torch.ones(1))


class Slope(nn.Module):
    """Falls at a constant rate, so that a step of Adam is as long as the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros(1))

    def loss(self, batch: FeatureBatch) -> Tensor:
        return -self.number


def steps_of(
    config: TrainedConfig, values: tuple[float, ...], run: RunOptions = QUIET, stop_after: int = 0
) -> tuple[list[float], Training]:
    """Return how far each epoch moved the number, and how the training went."""
    model, at = Slope(), []
    given: Iterator[float] = iter(values)

    def note(training: Training) -> None:
        at.append(model.number.item())
        if training.epochs == stop_after:
            raise KeyboardInterrupt

    validate: Callable[[], float] = lambda: next(given)  # noqa: E731
    training = train(model, OneRow(), config, run, validate=validate if values else None, on_epoch=note)
    first = 0.0 if not training.resumed_from else sum(RATES[: training.resumed_from])
    return [one - other for one, other in zip(at, [first, *at[:-1]], strict=True)], training


def test_the_learning_rate_falls_after_each_validation_without_a_gain() -> None:
    steps, training = steps_of(CONFIG, VALUES)
    assert steps == pytest.approx(RATES, rel=1e-3)
    assert training.best_epoch == 5


def test_a_plateau_of_1_leaves_the_learning_rate_alone() -> None:
    steps, _ = steps_of(replace(CONFIG, plateau=1.0), VALUES)
    assert steps == pytest.approx([1.0] * 7, rel=1e-3)


def test_without_validation_nothing_falls() -> None:
    steps, _ = steps_of(CONFIG, ())
    assert steps == pytest.approx([1.0] * 7, rel=1e-3)


@pytest.mark.parametrize("stop_after", [1, 2, 4, 6])
def test_it_falls_the_same_after_an_interruption(stop_after: int, tmp_path: Path) -> None:
    run = replace(QUIET, checkpoint=str(tmp_path))
    first, _ = steps_of(CONFIG, VALUES, run, stop_after)
    again, training = steps_of(CONFIG, VALUES[stop_after:], run)
    assert training.resumed_from == stop_after
    assert first + again == pytest.approx(RATES, rel=1e-3)


def test_epochs_without_validation_do_not_count() -> None:
    steps, _ = steps_of(replace(CONFIG, valid_every=2), (0.5, 0.4, 0.3, 0.6))  # after epochs 2, 4, 6 and the last
    assert steps == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.25], rel=1e-3)


def test_decay_counts_every_epoch_beside_the_plateau() -> None:
    steps, training = steps_of(replace(CONFIG, decay=0.9), VALUES)
    expected = [rate * 0.9**epoch for epoch, rate in enumerate(RATES)]
    assert steps == pytest.approx(expected, rel=1e-3)
    assert training.rates == pytest.approx(expected)


def test_as_an_earlier_training_means_its_chosen_epochs_at_their_rates() -> None:
    _, earlier = steps_of(CONFIG, VALUES)
    assert earlier.best_epoch == 5
    model, at = Slope(), [0.0]
    again = train(model, OneRow(), CONFIG, QUIET, epochs=earlier, on_epoch=lambda _: at.append(model.number.item()))
    assert [later - one for one, later in itertools.pairwise(at)] == pytest.approx(RATES[:5], rel=1e-3)
    assert again.rates == RATES[:5]
    assert (again.epochs, again.best_epoch) == (5, 5)


def test_a_decay_that_is_none_is_refused() -> None:
    for decay in (0.0, 1.5):
        with pytest.raises(ConfigError, match=r"decay is .*; it must be above 0, and 1 at most\. Try decay = 0\.9"):
            TrainedConfig(decay=decay)


def test_a_plateau_that_is_none_is_refused() -> None:
    for plateau in (0.0, 1.5):
        with pytest.raises(ConfigError, match=r"plateau is .*; it must be above 0, and 1 at most\. Try plateau = 0\.1"):
            TrainedConfig(plateau=plateau)
