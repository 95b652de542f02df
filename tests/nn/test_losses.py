"""Every loss against its formula written out, and what pair_loss leaves out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bowerbird.core import ConfigError
from bowerbird.features import Pairs
from bowerbird.nn import losses
from bowerbird.nn.losses import COSINE, NAMES, PairConfig, info_nce, pair_loss

finite = st.floats(-8, 8)
scored = st.tuples(finite, st.lists(finite, min_size=1, max_size=5))  # a positive and its negatives


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def value(loss: Tensor) -> float:
    assert loss.shape == (1,)
    return float(loss)


def pair(positive: float, negative: list[float]) -> tuple[Tensor, Tensor]:
    return torch.tensor([positive], dtype=torch.float64), torch.tensor([negative], dtype=torch.float64)


@given(scored)
def test_bpr_is_minus_log_sigmoid_of_the_gap(case: tuple[float, list[float]]) -> None:
    pos, neg = case
    expected = np.mean([-math.log(sigmoid(pos - one)) for one in neg])
    assert value(losses.bpr(*pair(pos, neg))) == pytest.approx(expected, abs=1e-9)


@given(scored)
def test_bce_weighs_the_positive_and_the_mean_negative_alike(case: tuple[float, list[float]]) -> None:
    pos, neg = case
    expected = -math.log(sigmoid(pos)) - np.mean([math.log(1 - sigmoid(one)) for one in neg])
    assert value(losses.bce(*pair(pos, neg))) == pytest.approx(expected, abs=1e-9)


@given(scored, st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_gbce_raises_the_positive_probability_to_beta(
    case: tuple[float, list[float]], rate: float, calibration: float
) -> None:
    pos, neg = case
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    expected = -math.log(sigmoid(pos) ** beta) - sum(math.log(1 - sigmoid(one)) for one in neg)
    mine = losses.gbce(*pair(pos, neg), rate=rate, calibration=calibration)
    assert value(mine) == pytest.approx(expected, abs=1e-9)


def test_gbce_without_calibration_or_without_sampling_is_bce_with_summed_negatives() -> None:
    scores = pair(0.7, [0.2, -1.0])
    expected = -math.log(sigmoid(0.7)) - math.log(1 - sigmoid(0.2)) - math.log(1 - sigmoid(-1.0))
    assert value(losses.gbce(*scores, rate=0.05, calibration=0.0)) == pytest.approx(expected)
    assert value(losses.gbce(*scores, rate=1.0, calibration=0.9)) == pytest.approx(expected)


@given(scored)
def test_softmax_is_minus_log_of_the_positives_share(case: tuple[float, list[float]]) -> None:
    pos, neg = case
    expected = -math.log(math.exp(pos) / (math.exp(pos) + sum(math.exp(one) for one in neg)))
    assert value(losses.softmax(*pair(pos, neg))) == pytest.approx(expected, abs=1e-7)


def test_a_score_of_minus_infinity_drops_out_of_the_softmax() -> None:
    with_it, without = losses.softmax(*pair(0.5, [1.0, -math.inf])), losses.softmax(*pair(0.5, [1.0]))
    assert value(with_it) == pytest.approx(value(without))


def test_softmax_stays_finite_for_scores_whose_exponentials_overflow() -> None:
    assert value(losses.softmax(*pair(-2000.0, [2000.0]))) == pytest.approx(4000.0)
    assert value(losses.softmax(*pair(2000.0, [-2000.0]))) == pytest.approx(0.0)


def test_cosine_contrastive_by_hand() -> None:
    # 1 − 0.9 + 150 · (max(0, 0.6 − 0.4) + max(0, 0.1 − 0.4)) / 2
    assert value(losses.cosine_contrastive(*pair(0.9, [0.6, 0.1]))) == pytest.approx(0.1 + 15.0)
    assert value(losses.cosine_contrastive(*pair(0.9, [0.6]), margin=0.5, weight=2.0)) == pytest.approx(0.3)


def test_info_nce_by_hand() -> None:
    one = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    other = torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # cosines: 1 and 1/√2 in row 0, 0 and 1/√2 in row 1
    half = 1 / math.sqrt(2)
    expected = [
        -math.log(math.exp(2) / (math.exp(2) + math.exp(2 * half))),
        -math.log(math.exp(2 * half) / (1 + math.exp(2 * half))),
    ]
    assert info_nce(one, other, temperature=0.5).tolist() == pytest.approx(expected, abs=1e-6)


def test_info_nce_of_identical_rows_cannot_tell_them_apart() -> None:
    same = torch.ones(5, 3)
    assert info_nce(same, same).tolist() == pytest.approx([math.log(5)] * 5)


def test_info_nce_of_two_views_is_symmetric_when_their_cosines_are() -> None:
    views = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    mirrored = views * torch.tensor([1.0, -1.0, 1.0, 1.0])  # a reflection: cos(v, Mw) = cos(Mv, w)
    forth, back = info_nce(views, mirrored), info_nce(mirrored, views)
    assert forth.tolist() == pytest.approx(back.tolist(), abs=1e-6)
    assert info_nce(views, views).sum() < info_nce(views, torch.roll(views, 1, dims=0)).sum()


def test_info_nce_ignores_lengths() -> None:
    one, other = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    assert info_nce(7 * one, 0.1 * other).tolist() == pytest.approx(info_nce(one, other).tolist(), abs=1e-5)


SCORE_LOSSES = {
    "bpr": losses.bpr,
    "bce": losses.bce,
    "gbce": lambda pos, neg: losses.gbce(pos, neg, rate=0.2),
    "softmax": losses.softmax,
    "cosine_contrastive": losses.cosine_contrastive,
}


@pytest.mark.parametrize("name", SCORE_LOSSES)
def test_gradients_pull_the_positive_up_and_push_every_near_negative_down(name: str) -> None:
    positive = torch.tensor([0.3, -0.2], requires_grad=True)
    negative = torch.tensor([[0.6, 0.5], [0.9, 0.45]], requires_grad=True)
    SCORE_LOSSES[name](positive, negative).sum().backward()
    assert positive.grad is not None
    assert negative.grad is not None
    assert (positive.grad < 0).all()
    assert (negative.grad > 0).all()


def test_a_negative_below_the_margin_is_left_alone_by_cosine_contrastive() -> None:
    negative = torch.tensor([[0.39, 0.41]], requires_grad=True)
    losses.cosine_contrastive(torch.tensor([0.3]), negative).sum().backward()
    assert negative.grad is not None
    assert negative.grad[0].tolist() == pytest.approx([0.0, 75.0])


# ── pair_loss ──

N_ITEMS, DIM = 7, 4


def vectors(seed: int = 0) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    query = torch.randn(3, DIM, generator=stream).requires_grad_()
    return query, torch.randn(N_ITEMS, DIM, generator=stream).requires_grad_()


def pairs(negative: Tensor, *, log_q: Tensor | None = None, rate: float = 0.5) -> Pairs:
    return Pairs(torch.tensor([0, 1, 2]), torch.tensor([2, 0, 5]), torch.ones(3), negative, log_q, rate)


def config(loss: str, **options: object) -> PairConfig:
    return PairConfig(loss=loss, temperature=0.5, **options)  # type: ignore[arg-type]


def batch_for(loss: str) -> Pairs:
    if loss == "sampled_softmax":
        return pairs(torch.tensor([1, 3, 3]), log_q=torch.full((3,), -0.5))
    return pairs(torch.tensor([[1, 3], [4, 6], [1, 1]]))


@pytest.mark.parametrize(
    ("loss", "cosine"), [(name, True) for name in NAMES] + [(name, False) for name in NAMES if name not in COSINE]
)
def test_pair_loss_is_the_loss_of_scores_over_the_temperature(loss: str, cosine: bool) -> None:
    query, items = vectors()
    batch = batch_for(loss)
    scores = []
    for row in range(3):
        lengths = query[row].norm() * items.norm(dim=1) if cosine else torch.ones(N_ITEMS)
        scores.append((items @ query[row]) / lengths / (1.0 if loss == "cosine_contrastive" else 0.5))
    table = torch.stack(scores)
    positive = table[torch.arange(3), batch.item]
    if loss == "softmax":
        expected = -torch.log_softmax(table, dim=1)[torch.arange(3), batch.item]
    elif loss == "sampled_softmax":
        total = positive.exp() + (table[:, batch.negative] + 0.5).exp().sum(1)
        expected = -(positive.exp() / total).log()
    else:
        named = SCORE_LOSSES | {"gbce": lambda pos, neg: losses.gbce(pos, neg, rate=0.5)}
        expected = named[loss](positive, table.gather(1, batch.negative))
    mine = pair_loss(config(loss, cosine=cosine), query, items, batch)
    assert mine.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("cosine", [True, False])
def test_sampling_every_item_once_is_the_softmax_over_all_items(cosine: bool) -> None:
    query, items = vectors()
    every = pairs(torch.randperm(N_ITEMS, generator=torch.Generator().manual_seed(3)), log_q=torch.zeros(N_ITEMS))
    found = []
    for loss, batch in (("sampled_softmax", every), ("softmax", pairs(torch.zeros(0, dtype=torch.int64)))):
        result = pair_loss(config(loss, cosine=cosine), query, items, batch)
        gradients = torch.autograd.grad(result.sum(), (query, items))
        found.append((result.tolist(), *(gradient.flatten().tolist() for gradient in gradients)))
    for sampled, full in zip(*found, strict=True):
        assert sampled == pytest.approx(full, abs=1e-5)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


LEFT_OUT = {  # the loss of a row with the positive's score p, another negative's n and its own positive drawn too
    "bpr": lambda p, n: softplus(n - p) / 2,
    "bce": lambda p, n: softplus(-p) + softplus(n) / 2,
    "gbce": lambda p, n: 0.5 * (0.75 * (1 - 2) + 2) * softplus(-p) + softplus(n),
    "sampled_softmax": lambda p, n: softplus(n - p),
    "cosine_contrastive": lambda p, n: 1 - p + 150 * max(0.0, n - 0.4) / 2,
}


@pytest.mark.parametrize("loss", LEFT_OUT)
def test_a_negative_that_is_the_rows_own_positive_is_left_out(loss: str) -> None:
    query, items = vectors(seed=2)
    if loss == "sampled_softmax":
        batch = pairs(torch.tensor([1, 5]), log_q=torch.zeros(2))
    else:
        batch = pairs(torch.tensor([[1, 2], [1, 0], [1, 5]]))
    temperature = 1.0 if loss == "cosine_contrastive" else 0.5
    scores = torch.cosine_similarity(query[2].detach(), items.detach(), dim=1) / temperature
    expected = LEFT_OUT[loss](float(scores[5]), float(scores[1]))
    assert pair_loss(config(loss), query, items, batch)[2].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss", [name for name in NAMES if name != "softmax"])
def test_when_nothing_but_the_own_positive_was_drawn_the_gradient_is_a_number(loss: str) -> None:
    query, items = vectors()
    batch = Pairs(torch.tensor([0, 1, 2]), torch.tensor([4, 4, 4]), torch.ones(3), torch.tensor([4]), torch.zeros(1))
    if loss != "sampled_softmax":
        batch = replace(batch, negative=torch.tensor([[4], [4], [4]]), log_q=None)
    result = pair_loss(config(loss), query, items, batch)
    gradients = torch.autograd.grad(result.sum(), (query, items))
    assert result.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_log_q_correction_cancels_how_often_a_negative_is_drawn() -> None:
    query, items = vectors()
    once = pairs(torch.tensor([1, 3]), log_q=torch.zeros(2))
    thrice = pairs(torch.tensor([1, 1, 1, 3]), log_q=torch.tensor([3.0, 3.0, 3.0, 1.0]).log())
    results = [pair_loss(config("sampled_softmax"), query, items, batch).tolist() for batch in (once, thrice)]
    assert results[0] == pytest.approx(results[1], abs=1e-5)


@pytest.mark.parametrize("loss", ["bpr", "bce", "cosine_contrastive"])
def test_shared_negatives_are_the_same_as_each_rows_own_copy_of_them(loss: str) -> None:
    query, items = vectors()
    shared = pair_loss(config(loss), query, items, pairs(torch.tensor([1, 3, 6])))
    copied = pair_loss(config(loss), query, items, pairs(torch.tensor([1, 3, 6]).repeat(3, 1)))
    assert shared.tolist() == pytest.approx(copied.tolist(), abs=1e-6)


def test_cosine_contrastive_takes_cosines_as_they_are_whatever_the_temperature() -> None:
    query, items = vectors()
    batch = batch_for("cosine_contrastive")
    cold, hot = (
        pair_loss(PairConfig(loss="cosine_contrastive", temperature=t), query, items, batch) for t in (0.1, 2.0)
    )
    assert cold.tolist() == hot.tolist()


@pytest.mark.parametrize("loss", NAMES)
def test_items_that_a_sampled_loss_does_not_need_get_no_gradient(loss: str) -> None:
    query, items = vectors()
    batch = batch_for(loss)
    pair_loss(config(loss, cosine=loss == "cosine_contrastive"), query, items, batch).sum().backward()
    assert items.grad is not None
    touched = set(items.grad.abs().sum(1).nonzero().flatten().tolist())
    named = set(batch.item.tolist()) | set(batch.negative.flatten().tolist())
    assert touched == set(range(N_ITEMS)) if loss == "softmax" else touched <= named


# ── configuration ──


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim is 0; it must be 1 or more. Try dim = 64."),
        ({"loss": "softmx"}, 'Did you mean "softmax"'),
        ({"loss": "hinge"}, "it must be one of bpr, bce, gbce, softmax, sampled_softmax, cosine_contrastive"),
        ({"negatives": 0}, "negatives is 0; it must be 1 or more. Try negatives = 256."),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0. Try temperature = 0.15."),
        ({"l2": -1e-3}, "l2 is -0.001; it must be 0 or more. Try l2 = 0.0001."),
        ({"loss": "cosine_contrastive", "cosine": False}, "cosine is False; it must be true for cosine_contrastive"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; it must be above 0"),
    ],
)
def test_a_wrong_option_names_itself_and_a_value_that_works(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        PairConfig(**options)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_scaled_vectors_have_length_one_only_where_cosine_is_asked_for() -> None:
    rows = torch.tensor([[3.0, 4.0]])
    assert PairConfig(cosine=True).scaled(rows).tolist() == [pytest.approx([0.6, 0.8])]
    assert PairConfig(cosine=False).scaled(rows).tolist() == [[3.0, 4.0]]
