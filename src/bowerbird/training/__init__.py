"""One training loop, and the batches it draws."""

from bowerbird.training.batches import PairBatches
from bowerbird.training.loop import Batches, Training, adam, device_of, grow, train

__all__ = ["Batches", "PairBatches", "Training", "adam", "device_of", "grow", "train"]
