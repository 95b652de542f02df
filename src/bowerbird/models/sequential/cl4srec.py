"""CL4SRec: SASRec whose histories, cut, masked or reordered at random, must still be told from those of others.

Paper:  Xie et al., ICDE 2022, arXiv:2010.14395, equations 3-11.
Differs: the loss of what comes next is a choice.
Cost:   three times SASRec's blocks, and O(B² * D) for the contrast.
Shapes: B windows, L positions, I items, D embedding size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.core import check, register
from bowerbird.data import Schema
from bowerbird.features import Windows
from bowerbird.nn.attention import AttentionConfig, Reader
from bowerbird.nn.losses import info_nce
from bowerbird.nn.sequences import SPREAD, SequenceModel


@dataclass(frozen=True, kw_only=True)
class CL4SRecConfig(AttentionConfig):
    """The views, and the weight of their contrast."""

    contrast: float = 0.1  # weight of the contrast
    contrast_temperature: float = 0.5  # cosines are divided by it
    cropped: float = 0.6  # share of a history that cropping keeps
    masked: float = 0.3  # share of its items that masking hides
    reordered: float = 0.6  # share of it that reordering shuffles

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.contrast >= 0, "contrast", self.contrast, "must be 0 or more", try_instead=0.1)
        warm = self.contrast_temperature
        check(warm > 0, "contrast_temperature", warm, "must be above 0", try_instead=0.5)
        for key in ("cropped", "masked", "reordered"):
            share = getattr(self, key)
            check(0 < share <= 1, key, share, "must be above 0, and 1 at most", try_instead=0.5)


@register(
    "cl4srec",
    config=CL4SRecConfig,
    batches=Windows,
    tags=("sequential", "contrastive", "retriever", "trained", "cold-user"),
    search={"dim": [32, 64, 128, 256], "learning_rate": (3e-4, 3e-3), "dropout": (0.1, 0.6), "contrast": (0.01, 1.0)},
)
class CL4SRec(SequenceModel):
    """Scores an item by the dot product of its vector with what the last position has gathered."""

    config: CL4SRecConfig

    def __init__(self, config: CL4SRecConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        self.mask = nn.Parameter(torch.randn(config.dim) * SPREAD)
        self.reader = Reader(config, places=config.history_len)

    def encode(self, item: Tensor, time: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """Return what each position (B, L) knows of its row up to there, (B, L, D); `hidden` ones are masked."""
        x = self.embedded(item, time)
        if hidden is not None:
            x = torch.where(hidden[:, :, None], self.mask, x)
        found: Tensor = self.reader(x, self.places(item))
        return found

    def loss(self, batch: Windows) -> Tensor:
        """Return the mean loss over the targets of each window, and that of its two views (B,)."""
        loss = self.loss_of(self.encode(batch.item, batch.time), batch, batch.target)
        one, other = (self._view(batch) for _ in range(2))
        return loss + self.config.contrast * info_nce(one, other, temperature=self.config.contrast_temperature)

    def _view(self, batch: Windows) -> Tensor:
        """Return what the end of a random view of each window knows (B, D)."""
        order, hidden = views(batch.item >= 0, self.config)
        item = torch.where(order >= 0, batch.item.gather(1, order.clamp(min=0)), -1)
        time = None if batch.time is None else batch.time.gather(1, order.clamp(min=0))
        ends = (item >= 0).sum(dim=1) - 1
        return self.encode(item, time, hidden)[torch.arange(len(item), device=item.device), ends]


def views(there: Tensor, config: CL4SRecConfig) -> tuple[Tensor, Tensor]:
    """Return, for rows whose positions `there` (B, L) are filled, places int64 (B, L) and what is masked, bool (B, L).

    Each row is cropped to a piece, has items masked, or a piece of it reordered, one of the three at random
    (equations 4-6). Places say where each item of the view was, −1 behind its end.
    """
    length = there.sum(dim=1, keepdim=True)
    place = torch.arange(there.shape[1], device=there.device)
    kind, spot = (torch.rand(2, len(there), 1, device=there.device)).unbind()
    kept = torch.where(kind < 1 / 3, config.cropped, config.reordered) * length
    kept = kept.long().clamp(min=1)  # positions of the piece
    start = (spot * (length - kept + 1)).long()
    piece = (place >= start) & (place < start + kept)
    lottery = torch.rand(there.shape, device=there.device)
    cropped = torch.where(place < kept, place + start, -1)
    reordered = torch.where(piece, start + lottery * kept, place + 0.5 * (place >= start + kept)).argsort(dim=1)
    order = torch.where(kind < 1 / 3, cropped, torch.where(kind < 2 / 3, place, reordered))
    hidden = (kind >= 1 / 3) & (kind < 2 / 3) & (lottery < config.masked) & there
    return torch.where((kind >= 1 / 3) & ~there, -1, order), hidden
