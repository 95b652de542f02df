"""xDeepFM: layers of products of whole vectors, each pooled to a logit, and a perceptron over the same vectors.

Paper:  Lian et al., KDD 2018, arXiv:1803.05170, equations 6 to 8 (the compressed interaction network).
Differs: in how it is computed. Without an activation, which the paper found best, the network is a polynomial, so its
        last two layers are multiplied out into coefficients of products of fields before they meet a row: the same
        logit and the same gradients, without the maps of those layers.
Cost:   O(B * D * Q * min(Q, H)) a step for up to three layers, O(B * D * K * H²) for each more, or for each with an
        activation; keeps R * (D + 1) weights of columns, the layers' and the perceptron's. Large batches go through in
        pieces, so that memory is bounded.
Shapes: B rows, K fields, D embedding size, N = B · D columns, R rows of the table, H maps of a layer,
        Q = (K + 1)(K + 2) / 2 products of two of [1, x].
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import ConfigError, check, did_you_mean, register
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.nn.fields import DeepConfig, FieldModel, Linear, Perceptron

ACTIVATIONS = ("none", "relu")
NUMBERS = 1 << 23  # that a piece of a batch may keep for its gradient: 32 MB


@dataclass(frozen=True, kw_only=True)
class XDeepFMConfig(DeepConfig):
    """The compressed interaction network, and the perceptron beside it."""

    cin: tuple[int, ...] = (100, 100, 100)  # maps H of its layers
    cin_activation: str = "none"  # of maps, "none" or "relu"; the latter takes some thirty times as long
    split_half: bool = False  # whether half of a layer's maps go on and the others to the output; else all do both

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.cin) and min(self.cin) >= 1, "cin", self.cin, "must list sizes of 1 or more")
        halves = not self.split_half or all(size % 2 == 0 for size in self.cin[:-1])
        check(halves, "cin", self.cin, "must list even sizes, the last one aside, where split_half is true")
        if self.cin_activation not in ACTIVATIONS:
            raise ConfigError(
                f"cin_activation is {self.cin_activation!r}; it must be one of {', '.join(ACTIVATIONS)}."
                f"{did_you_mean(self.cin_activation, ACTIVATIONS)}"
            )


class Interaction(nn.Module):
    """X^k[h] = Σ W^k[h, i, j] X^{k−1}[i] ⊙ X⁰[j]; the logit is a weighted sum of all X^k[h], summed over D."""

    def __init__(self, n_fields: int, config: XDeepFMConfig) -> None:
        super().__init__()
        sizes, self.rectifies = config.cin, config.cin_activation == "relu"
        going = [size // 2 if config.split_half else size for size in sizes[:-1]]
        self.read = [n_fields, *going]  # maps that each layer reads
        self.pooled = [*(going if config.split_half else [0] * len(going)), 0]  # the first map of each that is pooled
        self.formed = len(sizes) if self.rectifies else max(len(sizes) - 2, 0)  # layers whose maps are computed
        self.degree = 2 if self.formed or len(sizes) > 1 else 1  # of the terms that coefficients belong to
        self.weight, self.out = nn.ParameterList(), nn.ParameterList()
        for size, n_in, start in zip(sizes, self.read, self.pooled, strict=True):
            self.weight.append(torch.randn(size, n_in, n_fields) * (2 / (n_in * n_fields + size)) ** 0.5)
            self.out.append(torch.randn(size - start) * (2 / (sum(sizes) + 1)) ** 0.5)
        kept = (n_fields + 1) * (n_fields + 2) + n_fields * sum(self.read[1 : self.formed])
        self.most = max(1, NUMBERS // kept)  # columns of a piece

    def forward(self, fields: Tensor) -> Tensor:
        """Return logits (B, 1) from vectors (B, K, D)."""
        columns = fields.transpose(0, 1).flatten(1)
        if torch.compiler.is_exporting() or columns.shape[1] <= self.most:
            found = self.polynomial(columns)
        else:
            found = cast(Tensor, _Pieces.apply(self, columns, *self.parameters()))  # type: ignore[no-untyped-call]
        return found.view(-1, fields.shape[2]).sum(dim=1, keepdim=True)

    def polynomial(self, x: Tensor) -> Tensor:
        """Return the part of the logit (N,) that each column of x (K, N) makes."""
        terms = torch.cat([torch.ones_like(x[:1]), x])
        terms = products(terms) if self.degree == 2 else terms
        if self.formed == 1 and not self.rectifies and len(terms) <= 2 * self.read[1]:
            return (terms * (self._squares() @ terms)).sum(dim=0)
        maps, logit = x, torch.zeros_like(x[0])
        for layer in range(self.formed):
            made = self._first() @ terms if layer == 0 else self.weight[layer].flatten(1) @ _outer(maps, x)
            made = functional.relu(made) if self.rectifies else made
            logit = logit + self.out[layer] @ made[self.pooled[layer] :]
            maps = made[: self.read[layer + 1]] if layer + 1 < len(self.read) else made
        return logit if self.rectifies else logit + (maps * (self._last() @ terms)).sum(dim=0)

    def _first(self) -> Tensor:
        """Return the maps of the first layer as weights (H, Q) of products."""
        return packed(functional.pad(self.weight[0], (1, 0, 1, 0)))

    def _last(self) -> Tensor:
        """Return what the layers behind the formed ones weigh each map by: coefficients (H, Q) of the terms."""
        form, last = self.out[-1][:, None], len(self.weight) - 1
        for layer in range(last, self.formed - 1, -1):
            if layer < last:  # what goes on has coefficients already, what is pooled a constant
                constant = functional.pad(self.out[layer][:, None], (0, form.shape[1] - 1))
                form = torch.cat([form, constant]) if self.pooled[layer] else form + constant
            form = torch.einsum("hij,hm->ijm", self.weight[layer], form)
            form = functional.pad(form, (0, 0, 1, 0)).flatten(1)  # behind no factor x[j] there is nothing
        return packed(form.view(len(form), self.read[0] + 1, -1)) if self.degree == 2 else form

    def _squares(self) -> Tensor:
        """Return what three layers weigh products of products by, (Q, Q): less to do for few fields."""
        first = self._first()
        square = first[: self.read[1]].T @ self._last()
        constant = self.out[0] @ first[self.pooled[0] :]  # the product 1 · 1 stands first
        return square + functional.pad(constant[None], (0, 0, 0, len(square) - 1))


def products(x: Tensor) -> Tensor:
    """Return x[i] · x[j] for all i ≤ j, row by row."""
    return torch.cat([x[place] * x[place:] for place in range(len(x))])


def packed(form: Tensor) -> Tensor:
    """Return square matrices (H, n, n), which stand for sums over all i and j, as weights of `products`."""
    i, j = torch.triu_indices(form.shape[1], form.shape[1], device=form.device).unbind()
    return (form + form.transpose(1, 2)).flatten(1)[:, i * form.shape[1] + j] * torch.where(i == j, 0.5, 1.0)


def _outer(maps: Tensor, x: Tensor) -> Tensor:
    """Return maps[i] · x[j] for all i and j, row by row."""
    return (maps[:, None] * x).flatten(0, 1)


class _Pieces(torch.autograd.Function):
    """The polynomial of some columns at a time: each piece is computed anew for its gradient, and nothing is kept."""

    @staticmethod
    def forward(ctx: Any, network: Interaction, columns: Tensor, *parameters: Tensor) -> Tensor:
        ctx.network = network
        ctx.save_for_backward(columns)
        return torch.cat([network.polynomial(piece) for piece in torch.split(columns, network.most, dim=1)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (columns,), size = ctx.saved_tensors, ctx.network.most
        parameters = list(ctx.network.parameters())
        of_columns, of_parameters = [], [torch.zeros_like(one) for one in parameters]
        for piece, gradient in zip(torch.split(columns, size, dim=1), torch.split(gradients[0], size), strict=True):
            with torch.enable_grad():
                piece = piece.detach().requires_grad_()
                found = ctx.network.polynomial(piece)
            mine, *others = torch.autograd.grad(found, [piece, *parameters], gradient)
            of_columns.append(mine)
            for total, one in zip(of_parameters, others, strict=True):
                total += one
        return None, torch.cat(of_columns, dim=1), *of_parameters


@register(
    "xdeepfm",
    config=XDeepFMConfig,
    batches=FeatureBatch,
    tags=("ranking", "ranker", "trained"),
    search={"dim": (8, 64), "learning_rate": (1e-4, 1e-2), "dropout": (0.05, 0.5), "l2": (1e-7, 1e-1)},
)
class XDeepFM(FieldModel):
    """y = linear + interaction(v) + perceptron(v)."""

    def __init__(self, config: XDeepFMConfig, schema: FeatureSchema) -> None:
        super().__init__(config, schema)
        self.linear = Linear(schema)
        self.interaction = Interaction(self.fields.n_fields, config)
        width, dropout = self.fields.width, config.dropout
        self.deep = Perceptron(width, config.hidden, 1, dropout=dropout, batch_norm=config.batch_norm)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, 1)."""
        fields = self.fields(batch)
        logit: Tensor = (
            self.linear(batch) + self.interaction(fields) + self.deep(fields.flatten(1), self.fields.alike(batch))
        )
        return logit
