"""One training loop, the batches it draws, and the optimiser it steps with."""

from bowerbird.training.adam import Adam
from bowerbird.training.batches import PairBatches, batches_for
from bowerbird.training.loop import Batches, Training, device_of, grow, seeded, train
from bowerbird.training.rows import RowBatches
from bowerbird.training.workers import Workers

__all__ = [
    "Adam",
    "Batches",
    "PairBatches",
    "RowBatches",
    "Training",
    "Workers",
    "batches_for",
    "device_of",
    "grow",
    "seeded",
    "train",
]
