"""One training loop, and the batches it draws."""

from bowerbird.training.batches import PairBatches, batches_for
from bowerbird.training.loop import Batches, Training, adam, device_of, grow, seeded, train

__all__ = ["Batches", "PairBatches", "Training", "adam", "batches_for", "device_of", "grow", "seeded", "train"]
