"""Self-attention over histories: blocks that read a row of vectors from left to right, or from both sides.

Paper:  Vaswani et al., NeurIPS 2017, arXiv:1706.03762.
Differs: attention itself drops nothing. Sums are normalised, as in the paper, and not what is added, as is usual for
        large models: that was tried on Amazon Beauty and ended lower, though with twice as many positions a step.
Shapes: B rows, L positions, D vector size, H heads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import check
from bowerbird.nn.dropout import dropout
from bowerbird.nn.sequences import SPREAD, WindowConfig

Past = tuple[Tensor, Tensor]  # keys and values of what was read, (B, H, L, D / H) each
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": functional.relu, "gelu": functional.gelu}


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(WindowConfig):
    """What models that attend to histories have in common."""

    blocks: int = 2  # one behind another
    heads: int = 2  # of each block
    inner: int = 4  # width of the feedforward layer, in embedding sizes
    activation: str = "relu"  # between its two halves: relu, max(0, x), or gelu, x times the normal distribution of x

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = " or ".join(ACTIVATIONS)
        check(self.activation in ACTIVATIONS, "activation", self.activation, f"must be {allowed}", try_instead="relu")
        check(self.blocks >= 1, "blocks", self.blocks, "must be 1 or more", try_instead=2)
        fits = self.heads >= 1 and self.dim % self.heads == 0
        check(fits, "heads", self.heads, f"must divide dim ({self.dim})", try_instead=1)
        check(self.inner >= 1, "inner", self.inner, "must be 1 or more", try_instead=4)


def linear(n_in: int, n_out: int, *, both: bool) -> nn.Linear:
    """Return a layer that begins small, so that what it is added to counts most at first.

    What looks at `both` sides begins as large as what it is added to: a mask knows nothing but what layers bring it.
    """
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_normal_(layer.weight) if both else nn.init.normal_(layer.weight, std=SPREAD)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Each position gathers what the positions it may see hold for it: those up to it, or with `both` all."""

    def __init__(self, dim: int, heads: int, *, both: bool = False) -> None:
        super().__init__()
        self.heads, self.both = heads, both
        self.project = linear(dim, 3 * dim, both=both)  # queries, keys and values in one product
        self.out = linear(dim, dim, both=both)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return (B, L, D) for (B, L, D); `seen` (B, L) marks what is there, where that is not all."""
        query, key, value = self.project(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if seen is None or not self.both else seen[:, None, None]  # what is not there stands at the end
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=not self.both)
        found: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return found

    def further(self, x: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Return (B, N, D) for what comes after `past` (B, N, D), and the past with it: not for `both`."""
        query, key, value = self.project(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        new, length = query.shape[2], key.shape[2]
        seen = torch.ones(new, length, dtype=torch.bool, device=x.device).tril(length - new)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return self.out(mixed.transpose(1, 2).flatten(2)), (key, value)


class Feedforward(nn.Module):
    """Two linear layers with an activation between them, on each position by itself."""

    def __init__(self, config: AttentionConfig, *, both: bool = False) -> None:
        super().__init__()
        dim, inner = config.dim, config.inner * config.dim
        self.wide, self.out = linear(dim, inner, both=both), linear(inner, dim, both=both)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, D) for (B, L, D)."""
        found: Tensor = self.out(self.activation(self.wide(x)))
        return found


class Block(nn.Module):
    """Attention, then a feedforward layer, each added to what it was given and normalised."""

    def __init__(self, config: AttentionConfig, *, both: bool = False) -> None:
        super().__init__()
        dim, self.share = config.dim, config.dropout
        self.attention, self.feed = Attention(dim, config.heads, both=both), Feedforward(config, both=both)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return (B, L, D) for (B, L, D)."""
        x = self.norms[0](x + dropout(self.attention(x, seen), self.share, self.training))
        found: Tensor = self.norms[1](x + dropout(self.feed(x), self.share, self.training))
        return found

    def further(self, x: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Return (B, N, D) for what comes after `past` (B, N, D), and the past with it, without dropout."""
        mixed, past = self.attention.further(x, past)
        x = self.norms[0](x + mixed)
        return self.norms[1](x + self.feed(x)), past


class Reader(nn.Module):
    """What attention reads: vectors of items and of their places, normalised, then block after block."""

    def __init__(self, config: AttentionConfig, *, places: int, both: bool = False) -> None:
        super().__init__()
        self.share = config.dropout
        self.place = nn.Parameter(torch.randn(places, config.dim) * SPREAD)
        self.norm = nn.LayerNorm(config.dim)
        self.blocks = nn.ModuleList(Block(config, both=both) for _ in range(config.blocks))

    def forward(self, x: Tensor, place: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return (B, L, D) for (B, L, D) at places (B, L) or (L,); `seen` (B, L) as for attention."""
        x = dropout(self.norm(x + functional.embedding(place, self.place)), self.share, self.training)
        for block in self.blocks:
            x = block(x, seen)
        return x

    def further(self, x: Tensor, place: Tensor, pasts: Sequence[Past | None]) -> tuple[Tensor, list[Past]]:
        """Return (B, N, D) for what comes after `pasts`, one of each block (B, N, D), and these with it."""
        x, kept = self.norm(x + functional.embedding(place, self.place)), []
        for block, past in zip(self.blocks, pasts, strict=True):
            assert isinstance(block, Block)
            x, now = block.further(x, past)
            kept.append(now)
        return x, kept
