"""The accountant, noise of a known size, and lengths of gradients, each beside a slow and obvious version."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

import bowerbird as bb
from bowerbird.core import ConfigError, RunOptions
from bowerbird.data import Interactions, Rows
from bowerbird.features import Categorical, Numeric
from bowerbird.models.ranking.autoint import AutoIntConfig
from bowerbird.models.ranking.dcnv2 import DCNv2Config
from bowerbird.models.ranking.deepfm import DeepFMConfig
from bowerbird.models.ranking.fm import FMConfig
from bowerbird.nn.fields import Linear
from bowerbird.nn.losses import binary
from bowerbird.privacy import (
    Accountant,
    ReleaseOptions,
    RowPrivacy,
    attack,
    fit_private,
    most,
    noise_for,
    person_losses,
    release,
    release_popularity,
)
from bowerbird.privacy.rankers import _add_clipped, _measured
from bowerbird.privacy.release import _directions, _symmetric, noisy_counts
from bowerbird.recommender import Predictor
from bowerbird.recommender.ranking import Ranking

pytest.importorskip("opacus")
RUN = RunOptions(seed=0, threads=1, progress=False)


def delta_of(epsilon: float, noise: float) -> float:
    """Return δ of one Gaussian release: Balle and Wang, ICML 2018, theorem 8."""
    mu = 1 / noise
    return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu))


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_one_release_costs_what_the_closed_form_says(noise: float) -> None:
    exact = brentq(lambda epsilon: delta_of(epsilon, noise) - 1e-5, 0.01, 60)
    found = Accountant("person", [(noise, 1.0, 1)]).epsilon(1e-5)
    assert exact <= found <= exact + 0.03  # an upper bound, and close


def test_two_releases_are_one_with_less_noise() -> None:
    """Precisions add: 1/2² + 1/2² = 1/√2²."""
    apart = Accountant("person", [(2.0, 1.0, 1), (2.0, 1.0, 1)]).epsilon(1e-5)
    assert apart == pytest.approx(Accountant("person", [(2**0.5, 1.0, 1)]).epsilon(1e-5), abs=0.03)


def test_drawing_a_share_costs_less() -> None:
    whole, part = (Accountant("rating", [(1.0, share, 10)]).epsilon(1e-5) for share in (1.0, 0.1))
    assert part < whole / 3


def test_the_noise_for_a_promise_keeps_it() -> None:
    noise = noise_for(4.0, 1e-5, steps=4)
    assert 3.95 < Accountant("rating", [(noise, 1.0, 4)]).epsilon(1e-5) <= 4.0
    assert noise_for(math.inf, 1e-5) == 0.0


def test_no_noise_promises_nothing() -> None:
    assert Accountant("person", [(0.0, 1.0, 1)]).epsilon(1e-5) == math.inf
    assert Accountant("person").epsilon(1e-5) == 0.0
    with pytest.raises(ConfigError, match="unit is 'household'"):
        Accountant("household")
    assert Accountant("person", [(1.0, 1.0, 1)]).told(1e-5).endswith("the unit is one person")


# ── one release ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_noise_of_a_symmetric_matrix_hides_any_direction_alike() -> None:
    """Of ⟨N, A⟩ for A of Frobenius length 1 the deviation is 1, on the diagonal or off it."""
    drawn = torch.stack([_symmetric(3, seed) for seed in range(4_000)])
    assert torch.equal(drawn[0], drawn[0].T)
    for one in (torch.diag(torch.tensor([1.0, 0, 0])), torch.full((3, 3), 1 / 3)):
        assert float((drawn * one.double()).sum(dim=(1, 2)).std()) == pytest.approx(1.0, rel=0.05)


def test_a_person_adds_length_one(even_odd: Interactions) -> None:
    """Popularity with and without a person differs by a vector of length 1; where they chose nothing, by nothing."""
    whole, without = (noisy_counts(part, 0.0, 0) for part in (even_odd, even_odd.rows(even_odd.user != 3)))
    assert float((whole - without).norm()) == pytest.approx(1.0, abs=1e-5)


def test_directions_get_back_what_noise_did_to_them() -> None:
    n, noise = 400, 1.0
    true = torch.linalg.qr(torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0][:, 0]
    gram = 60.0 * torch.outer(true, true) + noise * _symmetric(n, 1)
    values, vectors = _directions(gram, noise, rank=5)
    # s²n = 200: 60 grows to 60 + 200/60, and cos² is 1 − 200/3600
    assert len(values) == 1
    assert float((vectors[:, 0] @ true) ** 2) == pytest.approx(1 - 200 / 3600, abs=0.02)
    assert float(values[0]) == pytest.approx(60 * (1 - 200 / 3600), rel=0.05)


def test_a_release_without_noise_separates_even_from_odd(even_odd: Interactions) -> None:
    made = release(even_odd, ReleaseOptions(epsilon=math.inf, ridge=0.0, power=0.0, rank=2), run=RUN)
    assert made.epsilon == math.inf
    assert len(made.recommender.user_ids) == 0
    items = made.recommender.recommend(histories=[[0, 2], [1, 3]], k=4).to_polars()["item_id"].to_numpy().reshape(2, 4)
    assert (items % 2 == [[0], [1]]).all()


def test_a_release_keeps_its_promise_and_can_be_saved(even_odd: Interactions, tmp_path: object) -> None:
    made = release(even_odd, ReleaseOptions(epsilon=2.0, delta=1e-5), run=RUN)
    assert 1.9 < made.epsilon <= 2.01
    assert made.accountant.unit == "person"
    made.recommender.save(f"{tmp_path}/run")
    assert torch.equal(bb.load(f"{tmp_path}/run").model.weights, made.recommender.model.weights)
    popular = release_popularity(even_odd, 2.0, 1e-5, run=RUN)
    assert popular.recommender.recommend(k=3).to_polars().height == 3


# ── rankers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def table(n: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    user, item, size = rng.integers(0, 30, n), rng.integers(0, 20, n), rng.normal(size=n)
    label = (rng.random(n) < 1 / (1 + np.exp(-np.where((user + item) % 2 == 0, 2.0, -2.0)))).astype(np.float32)
    frame = pl.DataFrame({"user": user.astype(str), "item": item.astype(str), "size": size})
    return Rows(frame, label[:, None], ("click",))


COLUMNS = [Categorical(name="user"), Categorical(name="item"), Numeric(name="size")]


@pytest.mark.parametrize(
    "config", [FMConfig(dim=4), *(kind(dim=4, hidden=(8,), dropout=0.0) for kind in (DeepFMConfig, DCNv2Config))]
)
def test_clipped_sums_are_those_of_one_row_at_a_time(config: FMConfig) -> None:
    """The gradient of each row made and cut by itself, then summed."""
    from bowerbird.features import Encoder

    rows = table(12)
    made = Predictor(Ranking(config, Encoder.fit({"": rows.table}, {"": COLUMNS}, tasks=rows.tasks), RUN))
    model, source = made.ranking.model, made.source(rows)
    for part in model.modules():
        if isinstance(part, Linear):
            part.bias.requires_grad_(False)
    with torch.no_grad():
        for one in model.parameters():
            one.add_(0.3 * torch.randn(one.shape, generator=torch.Generator().manual_seed(one.numel())))
    learnt = [one for one in model.parameters() if one.requires_grad]
    model.train()
    slow = [torch.zeros_like(one) for one in learnt]
    for row in range(12):
        batch = source.cut(torch.tensor([row]))
        loss = binary(model(batch), batch.label).sum()
        found = torch.autograd.grad(loss, learnt, allow_unused=True)
        gradients = [torch.zeros_like(one) if g is None else g.to_dense() for one, g in zip(learnt, found, strict=True)]
        length = float(sum(g.square().sum() for g in gradients) ** 0.5)
        for total, g in zip(slow, gradients, strict=True):
            total += g * min(1.0, 0.2 / length)
    quick = [torch.zeros_like(one) for one in learnt]
    measured = _measured(model, 0.2)
    _add_clipped(measured, source.cut(torch.arange(12)), learnt, quick, cut=True)
    measured.to_standard_module()
    for one, other in zip(slow, quick, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_private_ranker_learns_and_keeps_its_promise() -> None:
    config = FMConfig(dim=4, learning_rate=0.05, l2=1e-4)
    made = fit_private(table(4_000), config, RowPrivacy(epsilon=8.0, steps=40), columns=COLUMNS, run=RUN)
    assert 7.9 < made.epsilon <= 8.01
    later = table(2_000, seed=1)
    told = made.predictor.predict(later, raw=True)[:, 0]
    from bowerbird.evaluation.binary import auc

    assert auc(later.labels[:, 0], told) > 0.6
    again = fit_private(table(4_000), config, RowPrivacy(epsilon=8.0, steps=40), columns=COLUMNS, run=RUN)
    assert np.array_equal(again.predictor.predict(later, raw=True)[:, 0], told)


def test_models_that_cannot_be_measured_are_refused() -> None:
    with pytest.raises(ConfigError, match="dropout is"):
        fit_private(table(50), DeepFMConfig(dim=4, hidden=(8,)), RowPrivacy(steps=1), columns=COLUMNS, run=RUN)
    with pytest.raises(ConfigError, match="not measured row by row"):
        fit_private(table(50), AutoIntConfig(dim=4, hidden=(8,), dropout=0.0), RowPrivacy(steps=1), columns=COLUMNS,
                    run=RUN)  # fmt: skip


# ── membership ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_attack_by_hand() -> None:
    """Of the pairs (1, 2), (1, 3), (2, 2), (2, 3) the member's loss is lower in three, and one is a tie."""
    assert attack(np.array([1.0, 2.0]), np.array([2.0, 3.0])).auc == pytest.approx(3.5 / 4)
    blind = attack(np.random.default_rng(0).random(900), np.random.default_rng(1).random(900))
    assert blind.low < 0.5 < blind.high
    assert str(blind).startswith("AUC 0.")


def test_the_most_that_a_promise_leaves() -> None:
    assert most(0.0, 0.0) == pytest.approx(0.5, abs=1e-4)
    # the region below min(e f, 1 − (1 − f) / e): two triangles and a corner, (e − 1) / (e + 1) / 2 above a half
    assert most(1.0, 0.0) == pytest.approx(0.5 + (math.e - 1) / (math.e + 1) / 2, abs=1e-4)
    assert most(50.0, 1e-5) == pytest.approx(1.0, abs=1e-4)


def test_a_model_that_learnt_by_heart_tells_its_people(even_odd: Interactions) -> None:
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(120), 8), rng.integers(0, 200, 960)
    events = Interactions.of(pl.Series(user), pl.Series(item))
    member, other = events.rows(user < 60), events.rows(user >= 60)
    ease = bb.fit(member, "ease", l2=0.5, run=RUN)
    found = attack(person_losses(ease, member), person_losses(ease, other))
    assert found.auc > 0.9
    with pytest.raises(bb.core.DataError, match="outsiders are missing"):
        attack(np.ones(3), np.ones(0))
