"""BERT4Rec: self-attention looks at both sides of items that are masked, and recovers them.

Paper:  Sun et al., CIKM 2019, arXiv:1904.06690, equations 1-8.
Differs: no projection before the output; a row in which nothing was drawn has its last item masked, so that every row
        teaches something. The paper adds rows whose last item alone is masked, as in what will be asked; here that is
        drawn for each row anew.
Cost:   O(B * L * (L * D + D²)) a step for the blocks; softmax over all items takes O(M * I * D).
Shapes: B windows, L positions, M masked positions, I items, D embedding size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.core import check, register
from bowerbird.data import Schema
from bowerbird.features import Windows
from bowerbird.nn.attention import AttentionConfig, Reader
from bowerbird.nn.sequences import SPREAD, SequenceModel


@dataclass(frozen=True, kw_only=True)
class BERT4RecConfig(AttentionConfig):
    """How much is masked."""

    activation: str = "gelu"
    masked: float = 0.2  # share of the items that training masks
    last: float = 0.1  # share of the rows of which the last item alone is masked

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.masked < 1, "masked", self.masked, "must be above 0 and below 1", try_instead=0.2)
        check(0 <= self.last <= 1, "last", self.last, "must lie between 0 and 1", try_instead=0.1)


@register(
    "bert4rec",
    config=BERT4RecConfig,
    batches=Windows,
    tags=("sequential", "retriever", "trained", "cold-user"),
    search={"dim": [32, 64, 128, 256], "learning_rate": (3e-4, 3e-3), "dropout": (0.1, 0.6), "masked": (0.1, 0.6)},
)
class BERT4Rec(SequenceModel):
    """Scores an item by the dot product of its vector with what stands at a mask behind the history."""

    config: BERT4RecConfig

    def __init__(self, config: BERT4RecConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        self.mask = nn.Parameter(torch.randn(config.dim) * SPREAD)
        self.reader = Reader(config, places=config.history_len + 1, both=True)

    def filled(self, item: Tensor, hidden: Tensor, time: Tensor | None) -> Tensor:
        """Return what each position (B, L) knows of its row, (B, L, D), where `hidden` (B, L) positions are masked."""
        x = torch.where(hidden[:, :, None], self.mask, self.embedded(item, time))
        there = (item >= 0) | hidden
        found: Tensor = self.reader(x, self.places(torch.where(hidden, 0, item)), None if bool(there.all()) else there)
        return found

    def loss(self, batch: Windows) -> Tensor:
        """Return the mean loss over the masked items of each window (B,)."""
        ends = (batch.item >= 0).sum(dim=1, keepdim=True) - 1
        item, time, _ = behind(batch.item, batch.time, batch.target.gather(1, ends))
        there = item >= 0
        length = there.sum(dim=1, keepdim=True)
        hidden = (torch.rand(item.shape, device=item.device) < self.config.masked) & there
        last = torch.arange(item.shape[1], device=item.device) == length - 1
        alone = torch.rand(len(item), 1, device=item.device) < self.config.last
        hidden = torch.where(alone | ~hidden.any(dim=1, keepdim=True), last, hidden)
        return self.loss_of(self.filled(item, hidden, time), batch, torch.where(hidden, item, -1))

    def answer(self, item: Tensor, time: Tensor | None) -> Tensor:
        """Return what stands at a mask behind the end of each row (B, L), (B, D)."""
        item, time, length = behind(item, time, torch.full_like(item[:, :1], -1))
        hidden = torch.arange(item.shape[1], device=item.device) == length
        return self.filled(item, hidden, time)[torch.arange(len(item), device=item.device), length[:, 0]]


def behind(item: Tensor, time: Tensor | None, last: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return rows (B, L+1) with `last` (B, 1) behind their ends, at the time of what is before it, and lengths (B, 1).

    Rows of no item have theirs in front, at any time.
    """
    length = (item >= 0).sum(dim=1, keepdim=True)
    item = torch.cat([item, torch.full_like(item[:, :1], -1)], dim=1).scatter(1, length, last)
    if time is not None:
        moment = time.gather(1, (length - 1).clamp(min=0))
        time = torch.cat([time, time[:, -1:]], dim=1).scatter(1, length, moment)
    return item, time, length
