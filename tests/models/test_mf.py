import math

import numpy as np
import pytest
import torch

from bowerbird.core import ConfigError, RunOptions
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.models.baselines.mf import MF, MFConfig
from bowerbird.training import PairBatches, train


@pytest.fixture(scope="module")
def halves(table) -> Interactions:
    """Even users like even items, odd users odd items."""
    rng = np.random.default_rng(5)
    return table(
        [(user, item) for user in range(40) for item in user % 2 + 2 * rng.choice(10, 6, replace=False)], 40, 20
    )


@pytest.fixture(scope="module")
def trained(halves: Interactions) -> MF:
    torch.manual_seed(0)
    config = MFConfig(dim=8, epochs=60, batch_size=128, negatives=16, learning_rate=0.02)
    model = MF(config, halves.schema)
    model.prepare(halves)
    train(model, PairBatches(halves, config, seed=0, device="cpu"), config, RunOptions(progress=False))
    return model


def by_hand(**settings) -> tuple[MF, Pairs]:
    """Return a model of one user and two items with known vectors, and a batch with the second as negative."""
    model = MF(MFConfig(dim=2, cosine=False, temperature=1.0, **settings), Schema(1, 2))
    model.shaped_user.fill_(True)
    model.shaped_item.fill_(True)
    model.user.data = torch.tensor([[1.0, 2.0]])
    model.item.data = torch.tensor([[3.0, 0.5], [1.0, -1.0]])  # scores 4 and -1
    model.freeze()
    batch = Pairs(torch.tensor([0]), torch.tensor([0]), torch.ones(1), torch.tensor([[1]]))
    return model, batch


def test_the_score_is_the_dot_product() -> None:
    model, _ = by_hand()
    context = Context(torch.tensor([0]), Context.nobody().history)
    assert model.scores(context).tolist() == [[4.0, -1.0]]


def test_the_bpr_loss_by_hand() -> None:
    model, batch = by_hand(loss="bpr")
    assert model.loss(batch).item() == pytest.approx(math.log1p(math.exp(-5)), rel=1e-5)


def test_the_softmax_loss_by_hand() -> None:
    model, batch = by_hand(loss="softmax")
    assert model.loss(batch).item() == pytest.approx(math.log1p(math.exp(-5)), rel=1e-4)


def test_the_temperature_divides_the_scores() -> None:
    model, batch = by_hand(loss="bpr")
    cold = MF(MFConfig(dim=2, cosine=False, temperature=5.0, loss="bpr"), Schema(1, 2))
    cold.load_state_dict(model.state_dict())
    assert cold.loss(batch).item() == pytest.approx(math.log1p(math.exp(-1)), rel=1e-5)


def test_l2_adds_the_squared_length_of_user_and_item() -> None:
    plain, batch = by_hand(loss="bpr")
    heavy, _ = by_hand(loss="bpr", l2=0.1)
    added = (heavy.loss(batch) - plain.loss(batch)).item()
    assert added == pytest.approx(0.1 * (1 + 4 + 9 + 0.25), rel=1e-5)


def test_with_cosine_the_score_stays_between_minus_one_and_one(trained: MF, halves: Interactions) -> None:
    with torch.no_grad():
        scores = trained.scores(Context.of_users(np.arange(40, dtype=np.int32), halves))
    assert scores.abs().max() <= 1 + 1e-6
    assert scores.max() > 0.5


def test_a_stranger_with_a_known_users_history_is_served_from_that_users_half(
    trained: MF, halves: Interactions
) -> None:
    known = Context.of_users(np.arange(40, dtype=np.int32), halves)
    stranger = Context(torch.full((40,), -1), known.history)
    with torch.no_grad():
        folded, own = trained.scores(stranger), trained.scores(known)
    half = torch.arange(20)[None, :] % 2 == torch.arange(40)[:, None] % 2
    for scores in (folded, own):
        top = scores.topk(10, dim=1).indices
        assert half.gather(1, top).float().mean() > 0.85
    together = torch.nn.functional.cosine_similarity(folded, own, dim=1)
    assert together.mean() > 0.85


def test_a_mixed_batch_folds_in_strangers_only(trained: MF, halves: Interactions) -> None:
    context = Context.of_users(np.array([4, 5, 6], np.int32), halves)
    mixed = Context(torch.tensor([4, -1, 6]), context.history)
    with torch.no_grad():
        query = trained.query(mixed)
        assert torch.equal(query[[0, 2]], trained.query(context)[[0, 2]])
        assert torch.allclose(query[1], trained.query(mixed.take(torch.tensor([1])))[0], atol=1e-5)
        assert not torch.allclose(query[1], trained.query(context)[1], atol=1e-3)


def test_a_stranger_is_between_the_average_user_and_the_history(trained: MF) -> None:
    with torch.no_grad():
        users, items = trained.config.scaled(trained.user), trained.item_vectors()
        average = trained.config.scaled(users.mean(dim=0))
        nothing, some, much = trained.query(Context.of_histories([[], [2], [2, 4, 6, 8, 10, 12, 14, 16]]))
    assert torch.allclose(nothing, average, atol=1e-5)
    assert average @ items[2] < some @ items[2] < much @ items[2]


def test_who_and_what_nothing_has_shaped_is_no_one_and_may_not_be_scored() -> None:
    model, _ = by_hand()
    model.shaped_user[0], model.shaped_item[1] = False, False
    context = Context(torch.tensor([0]), Context.nobody().history)
    assert model.can(context).tolist() == [False]
    scores = model.scores(Context.of_histories([[0]]))
    assert scores[0, 1].item() == -math.inf
    assert scores[0, 0].isfinite()


def test_growing_adds_small_random_rows(trained: MF, halves: Interactions) -> None:
    model = MF(trained.config, halves.schema)
    model.load_state_dict(trained.state_dict())
    model.grow(45, 22)
    assert torch.equal(model.user[:40], trained.user)
    assert torch.equal(model.item[:20], trained.item)
    fresh = torch.cat([model.user[40:], model.item[20:]])
    assert 0.05 < fresh.std().item() < 0.2


@pytest.mark.parametrize(
    ("key", "value"), [("dim", 0), ("negatives", 0), ("temperature", 0.0), ("l2", -1.0), ("learning_rate", 0.0),
                       ("batch_size", 0), ("epochs", 0), ("patience", 0), ("valid_every", 0), ("select", "ndcg")],
)  # fmt: skip
def test_values_out_of_range_are_refused_with_one_that_works(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is {value!r}; it must .*\. Try {key} = "):
        MFConfig(**{key: value})


def test_an_unknown_loss_is_refused_with_the_closest_one() -> None:
    with pytest.raises(ConfigError, match=r"loss is 'brp'; it must be one of .* Did you mean \"bpr\"\?"):
        MFConfig(loss="brp")


def test_a_cosine_loss_needs_unit_vectors() -> None:
    with pytest.raises(ConfigError, match="cosine is False; it must be true for cosine_contrastive"):
        MFConfig(loss="cosine_contrastive", cosine=False)
