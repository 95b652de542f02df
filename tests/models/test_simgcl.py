"""SimGCL: layers by hand, its noise, its contrast by a slow loop, and strangers who are served as users are."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from bowerbird.core import ConfigError
from bowerbird.data import Interactions
from bowerbird.features import Context, Pairs
from bowerbird.models.graph.simgcl import SimGCL, SimGCLConfig

# two_by_two: user 0 chose item 0; user 1 chose items 0 and 1
PAPER = {"loss": "bpr", "cosine": False, "temperature": 1.0, "negatives": 1, "l2": 0.0}
BATCH = Pairs(torch.tensor([1, 4, 1]), torch.tensor([0, 2, 5]), torch.ones(3), torch.tensor([[3], [6], [7]]))


@pytest.fixture(scope="module")
def random_table(table) -> Interactions:
    matrix = np.random.default_rng(0).random((12, 9)) < 0.5
    matrix[:, 0] = True
    return table(np.argwhere(matrix), 12, 9)


def made(train: Interactions, **settings: object) -> SimGCL:
    torch.manual_seed(0)
    model = SimGCL(SimGCLConfig(**(PAPER | {"dim": 3, "hops": 2} | settings)), train.schema)  # type: ignore[arg-type]
    model.prepare(train)
    return model


def test_layers_by_hand(two_by_two: Interactions) -> None:
    model = made(two_by_two, dim=1, hops=2)
    model.user.data, model.item.data = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])
    users, items = model()
    # user 0: 3 / √2 after one hop; item 0 is then 1 / √2 + 2 / 2, which reaches user 0 over √2. Layer 0 is left out
    assert users[0].item() == pytest.approx((2.1213 + 1.2071) / 2, abs=1e-4)
    # item 1: 2 / √2 after one hop; user 1 is then 3 / 2 + 4 / √2, which reaches item 1 over √2
    assert items[1].item() == pytest.approx((1.4142 + 3.0607) / 2, abs=1e-4)


@torch.no_grad()
def test_the_loss_by_a_slow_loop(random_table: Interactions) -> None:
    model = made(random_table, contrast=0.5, contrast_temperature=0.4, noise=0.3)
    torch.manual_seed(5)
    found = model.loss(BATCH).tolist()
    torch.manual_seed(5)
    half, views = model.graph.user_item.to_dense(), []
    for _ in range(2):
        users, items, whole = model.user, model.item, [0.0, 0.0]
        for _ in range(2):
            moved = []
            for come in (half @ items, half.T @ users):
                drawn = torch.rand(come.shape)
                moved.append(come + come.sign() * 0.3 * drawn / drawn.norm(dim=1, keepdim=True))
            users, items = moved
            whole = [whole[0] + users / 2, whole[1] + items / 2]
        views.append(whole)
    expected = made(random_table, contrast=0.0).loss(BATCH).tolist()
    for row in range(3):
        for side, index in ((0, BATCH.user), (1, BATCH.item)):
            mine, (one, other) = int(index[row]), (view[side] for view in views)
            cosine = {n: functional.cosine_similarity(one[mine], other[n], dim=0) for n in set(index.tolist())}
            total = sum(float((value / 0.4).exp()) for value in cosine.values())
            expected[row] -= 0.5 * float(torch.log((cosine[mine] / 0.4).exp() / total))
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_stranger_gets_the_vector_of_a_user_with_that_history(random_table: Interactions) -> None:
    model = made(random_table, dim=4, hops=3, cosine=True)
    model.freeze()
    known = Context.of_users(np.arange(12, dtype=np.int32), random_table)
    strangers = Context(torch.full((12,), -1), known.history)
    assert torch.allclose(model.query(strangers), model.query(known), atol=1e-6)


def test_what_is_served_knows_no_noise(random_table: Interactions) -> None:
    quiet, loud = made(random_table, noise=0.0), made(random_table, noise=5.0)
    for model in (quiet, loud):
        model.freeze()
    assert torch.equal(quiet.items, loud.items)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hops": 0}, "hops is 0; it must be 1 or more: layer 0 is left out. Try hops = 3."),
        ({"noise": -0.1}, "noise is -0.1; it must be 0 or more. Try noise = 0.1."),
    ],
)
def test_options_out_of_range_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        SimGCLConfig(**settings)  # type: ignore[arg-type]
    assert said in str(error.value)
