"""Rankers under a promise to each row: one rating, one click. The unit is a row of the feature table, not a person.

Every step draws each row by itself, cuts its gradient to a length, sums, and adds noise. The length of a row's gradient
over all weights comes from the unreduced loss without making the gradient: from what went into each layer and what
came back (Opacus' ghost mode), which takes a second backward pass instead of a copy of the model for each row.

Papers:  Abadi et al., CCS 2016, arXiv:1607.00133, algorithm 1; Li et al., ICLR 2022, arXiv:2110.05679 (ghost clipping).
Differs: the penalty on the weights knows no row, so it joins the gradient after the noise. The bias of the linear part
         stays at `prior`: the weights of any column can take its place. The learning rate falls in the second half.
Public:  which values columns have, the number of rows, and `prior`. Validation rows are looked at without noise.
Shapes:  N rows, B rows of a piece, S slots, D columns of a table's vectors, T tasks.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bowerbird.core import ConfigError, RunOptions, check, entry_of, torch_stream
from bowerbird.data import Rows
from bowerbird.features import Column, Encoder, FeatureBatch, infer
from bowerbird.features.sources import EncodedRows
from bowerbird.nn.fields import FieldConfig, Linear, Table
from bowerbird.nn.losses import binary
from bowerbird.privacy.accountant import Accountant, need_opacus, noise_for
from bowerbird.recommender import Predictor
from bowerbird.recommender.ranking import Ranking
from bowerbird.training import Adam, device_of

PIECE = 65_536  # rows whose gradients are measured at once


@dataclass(frozen=True, kw_only=True)
class RowPrivacy:
    """What is promised to each row, and how the steps go."""

    epsilon: float = 8.0  # inf: no noise, and nothing is cut
    delta: float = 1e-6
    clip: float = 0.5  # length that the gradient of a row is cut to
    share: float = 1.0  # of the rows drawn in a step
    steps: int = 100
    prior: float = 0.5  # what any label is taken to be at first, by what everybody knows

    def __post_init__(self) -> None:
        check(self.epsilon > 0, "epsilon", self.epsilon, "must be above 0", try_instead=8.0)
        check(0 < self.delta < 1, "delta", self.delta, "must be above 0 and below 1", try_instead=1e-6)
        check(self.clip > 0, "clip", self.clip, "must be above 0", try_instead=0.5)
        check(0 < self.share <= 1, "share", self.share, "must be above 0, and 1 at most", try_instead=1.0)
        check(self.steps >= 1, "steps", self.steps, "must be 1 or more", try_instead=100)
        check(0 < self.prior < 1, "prior", self.prior, "must be above 0 and below 1", try_instead=0.5)


@dataclass
class PrivateRanker:
    """A predictor, and what was promised for it."""

    predictor: Predictor
    accountant: Accountant
    delta: float
    epsilon: float  # spent


def fit_private(
    train: Rows,
    config: FieldConfig,
    privacy: RowPrivacy | None = None,
    *,
    columns: Sequence[Column] | None = None,
    run: RunOptions | None = None,
) -> PrivateRanker:
    """Return a ranker trained under a promise to each row. Labels are 0 to 1: a share is told as a chance is.

    Raises `ConfigError` for a model with weights whose gradients nobody measures here, or with dropout, and
    `MissingExtraError` without Opacus.
    """
    privacy, run = privacy or RowPrivacy(), run or RunOptions()
    need_opacus()
    noise = noise_for(privacy.epsilon, privacy.delta, share=privacy.share, steps=privacy.steps)
    columns = infer(train.table) if columns is None else columns
    encoder = Encoder.fit({"": train.table}, {"": columns}, tasks=train.tasks)
    made = Predictor(Ranking(config, encoder, run))
    model = made.ranking.model
    _check_model(model, config)
    for part in model.modules():
        if isinstance(part, Linear):
            part.bias.data.fill_(torch.logit(torch.tensor(privacy.prior)).item())
            part.bias.requires_grad_(False)
    _steps(model, made.source(train), config, privacy, noise, run)
    model.eval()
    accountant = Accountant("rating")
    accountant.step(noise, privacy.share, privacy.steps)
    return PrivateRanker(made, accountant, privacy.delta, accountant.epsilon(privacy.delta))


def _check_model(model: nn.Module, config: FieldConfig) -> None:
    """Raise `ConfigError` unless all weights stand in tables and layers whose gradients can be measured."""
    dropout = getattr(config, "dropout", 0.0)
    check(dropout == 0, "dropout", dropout, "must be 0 under privacy, as noise is enough", try_instead=0)
    for name, part in model.named_modules():
        own = dict(part.named_parameters(recurse=False))
        if own and not isinstance(part, Table | nn.Linear | Linear):
            raise ConfigError(
                f"{entry_of(config).name} has weights of another kind ({name}.{next(iter(own))}), whose gradients are "
                "not measured row by row. Take logistic, fm, mlp, widedeep, deepfm or dcnv2."
            )


def _steps(
    model: nn.Module, source: EncodedRows, config: FieldConfig, privacy: RowPrivacy, noise: float, run: RunOptions
) -> None:
    """Take all steps."""
    device, n = device_of(run), len(source)
    measured = _measured(model, privacy.clip)
    learnt = [one for one in model.parameters() if one.requires_grad]
    adam = Adam(learnt, config.learning_rate)
    draw = torch_stream(run.seed, "private", "steps", device=device)
    model.train()
    for step in range(privacy.steps):
        adam.learning_rate = config.learning_rate * min(1.0, 2 * (1 - step / privacy.steps) + 0.05)
        drawn = torch.rand(n, generator=draw, device=device) < privacy.share
        total = [torch.zeros_like(one) for one in learnt]
        for some in torch.split(drawn.nonzero()[:, 0], PIECE):
            _add_clipped(measured, source.cut(some), learnt, total, cut=noise > 0)
        for one, summed in zip(learnt, total, strict=True):
            if noise:
                summed += noise * privacy.clip * torch.randn(one.shape, generator=draw, device=device)
            one.grad = summed / (privacy.share * n) + config.l2 * one.detach()
        adam.step()
    adam.zero_grad()
    measured.to_standard_module()


def _add_clipped(
    measured: Any, batch: FeatureBatch, learnt: list[nn.Parameter], total: list[Tensor], *, cut: bool
) -> None:
    """Add the gradients of a batch's rows, each cut to the length, to `total`."""
    assert batch.label is not None
    if not cut:
        measured.disable_hooks()
    loss = binary(measured(batch), batch.label)
    if cut:
        _backward(loss.sum(), retain_graph=True)  # measures, and leaves gradients that nobody needs
        loss = loss * measured.get_clipping_coef().detach()
        for one in learnt:
            one.grad = None
        measured.disable_hooks()
    _backward(loss.sum())
    measured.enable_hooks()
    for one, summed in zip(learnt, total, strict=True):
        if one.grad is not None:
            summed += one.grad.to_dense() if one.grad.is_sparse else one.grad
        one.grad = None


def _backward(loss: Tensor, *, retain_graph: bool = False) -> None:
    with warnings.catch_warnings():  # that the codes of a table have no gradient is no news
        warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
        torch.autograd.backward(loss, retain_graph=retain_graph)


def _measured(model: nn.Module, clip: float) -> Any:
    """Return the model with hooks that measure the gradient of every row."""
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
    from opacus.grad_sample.utils import register_norm_sampler

    register_norm_sampler(Table)(_table_lengths)
    for part in model.modules():
        if isinstance(part, Table):
            part.given = None  # of an earlier step, which cannot be copied
    return GradSampleModuleFastGradientClipping(
        model, loss_reduction="sum", max_grad_norm=clip, use_ghost_clipping=True, strict=False
    )


def _table_lengths(table: Table, given: list[Tensor], back: Tensor) -> dict[nn.Parameter, Tensor]:
    """Return the length of each row's gradient of a table (B,), from its codes (B, S) and what came back (B, S, D).

    A code that a row names twice gets the sum of what came back at both places.
    """
    code = given[0].flatten(1)
    back = back.reshape(len(code), code.shape[1], -1)
    same = (code[:, :, None] == code[:, None, :]).to(back.dtype)
    square = torch.einsum("bsd,bst,btd->b", back, same, back)
    return {table.weight: square.clamp(min=0).sqrt()}
