"""XSimGCL: one noisy pass, whose mean is contrasted with one of its layers."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from bowerbird.core import ConfigError
from bowerbird.data import Interactions
from bowerbird.features import Context, Pairs
from bowerbird.models.graph import xsimgcl
from bowerbird.models.graph.simgcl import SimGCL, SimGCLConfig
from bowerbird.models.graph.xsimgcl import XSimGCL, XSimGCLConfig

PAPER = {"loss": "bpr", "cosine": False, "temperature": 1.0, "negatives": 1, "l2": 0.0}
BATCH = Pairs(torch.tensor([1, 4, 1]), torch.tensor([0, 2, 5]), torch.ones(3), torch.tensor([[3], [6], [7]]))


@pytest.fixture(scope="module")
def random_table(table) -> Interactions:
    matrix = np.random.default_rng(0).random((12, 9)) < 0.5
    matrix[:, 0] = True
    return table(np.argwhere(matrix), 12, 9)


def made(train: Interactions, **settings: object) -> XSimGCL:
    torch.manual_seed(0)
    model = XSimGCL(XSimGCLConfig(**(PAPER | {"dim": 3, "hops": 3} | settings)), train.schema)  # type: ignore[arg-type]
    model.prepare(train)
    return model


def test_without_noise_and_contrast_it_is_simgcl_without_them(random_table: Interactions) -> None:
    model = made(random_table, noise=0.0, contrast=0.0)
    plain = SimGCL(SimGCLConfig(**(PAPER | {"dim": 3, "contrast": 0.0})), random_table.schema)  # type: ignore[arg-type]
    plain.load_state_dict(model.state_dict())
    plain.prepare(random_table)
    assert torch.equal(model.loss(BATCH), plain.loss(BATCH))
    assert all(torch.equal(one, other) for one, other in zip(model(), plain(), strict=True))


@pytest.mark.parametrize("layer", [1, 2])
@torch.no_grad()
def test_the_loss_by_a_slow_loop(layer: int, random_table: Interactions) -> None:
    model = made(random_table, contrast=0.5, contrast_temperature=0.4, noise=0.3, layer=layer)
    torch.manual_seed(5)
    found = model.loss(BATCH).tolist()
    torch.manual_seed(5)
    half, layers = model.graph.user_item.to_dense(), [(model.user, model.item)]
    for _ in range(3):
        moved = []
        for come in (half @ layers[-1][1], half.T @ layers[-1][0]):
            drawn = torch.rand(come.shape)
            moved.append(come + come.sign() * 0.3 * drawn / drawn.norm(dim=1, keepdim=True))
        layers.append((moved[0], moved[1]))
    users, items = (sum(one[side] for one in layers[1:]) / 3 for side in (0, 1))
    expected = []
    for row in range(3):
        u, i, j = int(BATCH.user[row]), int(BATCH.item[row]), int(BATCH.negative[row, 0])
        whole = -float(torch.log(torch.sigmoid(users[u] @ (items[i] - items[j]))))
        for side, (index, mean) in enumerate(((BATCH.user, users), (BATCH.item, items))):
            mine, early = int(index[row]), layers[layer][side]
            cosine = {n: functional.cosine_similarity(mean[mine], early[n], dim=0) for n in set(index.tolist())}
            total = sum(float((value / 0.4).exp()) for value in cosine.values())
            whole -= 0.5 * float(torch.log((cosine[mine] / 0.4).exp() / total))
        expected.append(whole)
    assert found == pytest.approx(expected, abs=1e-5)


def test_one_pass_is_enough(random_table: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    travel = xsimgcl.travel
    monkeypatch.setattr(xsimgcl, "travel", lambda *given, **how: passes.append(how) or travel(*given, **how))
    made(random_table, noise=0.2).loss(BATCH)
    assert passes == [{"noise": 0.2}]


def test_what_is_served_knows_no_noise(random_table: Interactions) -> None:
    quiet, loud = made(random_table, noise=0.0), made(random_table, noise=5.0)
    for model in (quiet, loud):
        model.freeze()
    assert torch.equal(quiet.items, loud.items)


def test_a_stranger_gets_the_vector_of_a_user_with_that_history(random_table: Interactions) -> None:
    model = made(random_table)
    model.freeze()
    known = Context.of_users(np.arange(12, dtype=np.int32), random_table)
    assert torch.allclose(model.query(Context(torch.full((12,), -1), known.history)), model.query(known), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hops": 0}, "hops is 0; it must be 1 or more: layer 0 is left out. Try hops = 3."),
        ({"layer": 4}, "layer is 4; it must be 1 to hops, 3. Try layer = 1."),
        ({"layer": 0}, "layer is 0; it must be 1 to hops, 3. Try layer = 1."),
        ({"noise": -0.1}, "noise is -0.1; it must be 0 or more. Try noise = 0.1."),
    ],
)
def test_options_out_of_range_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        XSimGCLConfig(**settings)  # type: ignore[arg-type]
    assert said in str(error.value)
