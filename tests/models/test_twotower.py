import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import bowerbird as bb
from bowerbird.core import ConfigError
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.models.multimodal.twotower import TwoTower, TwoTowerConfig
from bowerbird.recommender.update import UpdateOptions, update
from bowerbird.testing import halves
from bowerbird.testing.halves import known_users
from bowerbird.testing.subject import quiet

SMALL = {"dim": 8, "hidden": 8, "epochs": 30, "batch_size": 256, "learning_rate": 0.01, "text_encoder": "words"}


def content(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float32)


@pytest.fixture
def past() -> Interactions:
    """Three users and four items; item 3 and user 2 chose or were chosen by nobody; item 0 and user 0 say nothing."""
    nan = math.nan
    whole = Interactions.of(pl.Series([0, 0, 1, 1, 1, 2]), pl.Series([0, 1, 1, 2, 0, 3]))
    return whole.rows(np.arange(5)).with_content(
        items={"text": content([[nan, nan], [0, 1], [1, 0], [0, 1]]), "look": content([[nan], [nan], [1], [1]])},
        users={"attributes": content([[nan, nan], [1, 0], [0, 1]])},
    )


def model_of(past: Interactions, **settings) -> TwoTower:
    model = TwoTower(TwoTowerConfig(dim=3, hidden=4, **settings), past.schema)
    model.begun.fill_(True)  # content is as it is: means are 0, and all has length 1
    model.prepare(past)
    return model.eval()


# ── the towers ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tower_by_hand() -> None:
    past = Interactions.of(pl.Series([0]), pl.Series([0])).with_content(
        items={"text": content([[1, 0]]), "look": content([[1]])}
    )
    model = TwoTower(TwoTowerConfig(dim=1, hidden=1, cosine=False), past.schema)
    model.begun.fill_(True)
    model.item.id.data = torch.tensor([[0.5]])
    model.item.maps[0].data, model.item.maps[1].data = torch.tensor([[2.0], [9.0]]), torch.tensor([[4.0]])
    for layer, weight, bias in ((model.item.first, 2.0, -1.0), (model.item.second, 3.0, 0.25)):
        layer.weight.data, layer.bias.data = torch.tensor([[weight]]), torch.tensor([bias])
    model.prepare(past)
    model.freeze()
    # the row 0.5 beside the mean of 2 and 4 is 3.5; the hidden layer adds 3 * (2 * 3.5 - 1) + 0.25
    assert model.item_vectors().tolist() == [[3.5 + 18.25]]
    assert model.embed({"look": torch.tensor([[1.0]])}).tolist() == [[4.0 + 3 * (2 * 4 - 1) + 0.25]]


def test_who_and_what_nothing_is_chosen_by_is_served_by_content_alone(past: Interactions) -> None:
    model = model_of(past)
    model.freeze()
    assert model.shaped_user.tolist() == [True, True, True]
    assert model.shaped_item.tolist() == [True, True, True, True]
    text, look = past.item_content["text"], past.item_content["look"]
    alone = model.embed({"text": torch.tensor(text[[3, 1]]), "look": torch.tensor(look[[3, 1]])})
    assert torch.allclose(model.items[3], alone[0])
    assert not torch.allclose(model.items[1], alone[1], atol=1e-3)  # it has a row of its own
    assert torch.allclose(model.users[2], model.embed_users({"attributes": torch.tensor([[0.0, 1.0]])})[0])
    assert torch.allclose(model.average, model.users[:2].mean(dim=0))


def test_without_choices_and_without_content_nothing_is_served(past: Interactions) -> None:
    model = model_of(replace(past, item_content={"text": content([[math.nan] * 2] * 4)}, user_content={}))
    model.freeze()
    assert model.shaped_item.tolist() == [True, True, True, False]
    assert model.shaped_user.tolist() == [True, True, False]


def test_rows_are_left_out_in_training_where_content_can_stand_for_them(past: Interactions) -> None:
    model = model_of(past, id_dropout=0.9)
    everything = torch.arange(4).repeat(500)
    assert model._kept(1, everything).all()
    model.train()
    kept = model._kept(1, everything).view(500, 4).float().mean(dim=0)
    assert kept[0] == 1.0
    assert kept[1:].tolist() == pytest.approx([0.1] * 3, abs=0.05)


# ── the loss ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("drawn", [[], [[3], [0], [1], [3]]])
def test_the_loss_within_the_batch_is_that_of_a_slow_reading(past: Interactions, drawn: list[list[int]]) -> None:
    model = model_of(past, temperature=0.5)
    user, item = [0, 1, 1, 0], [0, 1, 2, 1]  # item 1 is there twice
    negative = torch.tensor(drawn, dtype=torch.int64)
    loss = model.loss(Pairs(torch.tensor(user), torch.tensor(item), torch.ones(4), negative))
    with torch.no_grad():
        people = model._vectors(0, torch.arange(3), torch.ones(3, dtype=torch.bool))
        things = model._vectors(1, torch.arange(4), torch.ones(4, dtype=torch.bool))
        unit = torch.nn.functional.normalize
        score = (unit(people, dim=1) @ unit(things, dim=1).T / 0.5).tolist()
    share = [2 / 5, 2 / 5, 1 / 5, 0.0]
    others = [*item, *(one for row in drawn for one in row)]
    for row in range(4):
        mine = score[user[row]]
        total = math.exp(mine[item[row]])
        for other in others:
            if other != item[row]:
                total += math.exp(mine[other]) / (4 * share[other] + len(drawn) / 4)  # over the draws to be expected
        assert loss[row].item() == pytest.approx(math.log(total) - mine[item[row]], rel=1e-4)


def test_within_the_batch_every_parameter_has_a_gradient(past: Interactions) -> None:
    model = model_of(past)
    batch = Pairs(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]), torch.ones(3), torch.tensor([[3], [3], [0]]))
    model.loss(batch).sum().backward()
    assert [name for name, one in model.named_parameters() if one.grad is None or not one.grad.isfinite().all()] == []


# ── strangers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def rec() -> bb.Recommender:
    return bb.fit(halves().train, TwoTowerConfig(**SMALL), run=quiet())


def test_a_request_is_answered_by_what_it_brings_first_a_row_then_a_history_then_attributes(
    rec: bb.Recommender,
) -> None:
    model, vectors = rec.model, torch.randn(4, 256)
    vectors[3] = math.nan
    asked = replace(
        Context.of_histories([[], [0, 2], [], []]), user=torch.tensor([5, -1, -1, -1]), content={"attributes": vectors}
    )
    with torch.no_grad():
        assert model.can(asked).tolist() == [True, True, True, False]
        query = model.query(asked)
        assert torch.equal(query[0], model.users[5])
        assert torch.allclose(query[1], model.query(Context.of_histories([[0, 2]]))[0], atol=1e-5)
        assert torch.allclose(query[2], model.embed_users({"attributes": vectors})[2], atol=1e-5)


def test_people_of_whom_only_attributes_are_known_get_items_of_their_half(rec: bb.Recommender) -> None:
    slates = rec.recommend(features=[{"group": "even"}, {"group": "odd"}, {}, {"age": None, "group": ""}], k=10)
    assert slates.rungs == ["model", "model", "popularity", "popularity"]
    frame = slates.to_polars()
    odd = [sum(int(item[1:]) % 2 for item in frame.filter(pl.col("request") == row)["item_id"]) for row in (0, 1)]
    assert odd[0] < 4
    assert odd[1] > 6


def test_a_loaded_model_reads_features_as_the_saved_one(rec: bb.Recommender, tmp_path) -> None:
    rec.save(tmp_path)
    again = bb.load(tmp_path)
    assert again.past.users is None
    assert again.schema.user_content == rec.schema.user_content == (("attributes", 256),)
    asked = [{"age": 25, "group": "odd"}]
    mine, other = (one.recommend(features=asked, k=5).to_polars() for one in (rec, again))
    assert mine["item_id"].to_list() == other["item_id"].to_list()
    typed = again.recommend(features=[{"age": "25", "group": "odd"}], k=5).to_polars()  # as a command line has them
    assert typed["score"].to_list() == other["score"].to_list()


def test_a_loaded_model_learns_on_though_user_tables_are_not_kept(rec: bb.Recommender, tmp_path) -> None:
    rec.save(tmp_path)
    again = bb.load(tmp_path)
    fresh = TwoTower(again.config, again.schema)
    fresh.load_state_dict(again.model.state_dict())
    fresh.prepare(again.past)
    fresh.freeze()
    assert torch.allclose(fresh.users, again.model.users, atol=1e-6)  # what people said of themselves is still there
    users = [f"u{row}" for row in range(1, 60, 2)]
    events = pl.DataFrame({"user_id": [*users, "new"], "item_id": ["i101"] * 31, "time": 1_700_000_000})
    items = pl.DataFrame({"item_id": ["i101"], "title": ["Odd thing 101"]})
    done = update(again, events, items=items, options=UpdateOptions(holdout=0.0, epochs=2))
    assert done.accepted
    learnt = done.recommender
    assert learnt.model.said.shape == (61, 8)
    assert torch.equal(learnt.model.said[:60], again.model.said)
    assert not learnt.model.said[60].any()
    place = learnt.item_ids.row("i101")
    scores = learnt.scores(replace(known_users(), history=known_users().history))[:, place]
    even = torch.tensor([int(user[1:]) % 2 == 0 for user in halves().train.user_ids.values])
    assert scores[~even].mean() > scores[even].mean() + 0.2


def test_without_a_user_table_and_without_item_content_rows_are_all_there_is(even_odd: Interactions) -> None:
    rec = bb.fit(even_odd, TwoTowerConfig(**SMALL | {"epochs": 3}), run=quiet())
    assert rec.schema.user_content == rec.schema.item_content == ()
    assert rec.recommend([0], k=3).rungs == ["model"]
    assert "said" not in rec.model.state_dict()
    with torch.no_grad():
        told = replace(Context.nobody(), content={"attributes": torch.zeros(1, 256)})
        assert rec.model.can(told).tolist() == [False]


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "value"), [("hidden", 0), ("id_dropout", 1.0), ("id_dropout", -0.1), ("temperature", 0.0), ("dim", 0)]
)
def test_values_out_of_range_are_refused_with_one_that_works(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is {value!r}; it must .*\. Try {key} = "):
        TwoTowerConfig(**{key: value})


def test_within_the_batch_one_negative_is_drawn_beside_each_row_and_other_losses_draw_as_usual() -> None:
    assert TwoTowerConfig().draws == 1
    assert TwoTowerConfig(loss="sampled_softmax").draws == 256
    with pytest.raises(
        ConfigError, match=r"loss is 'in_bach'; it must be one of in_batch, .* Did you mean \"in_batch\""
    ):
        TwoTowerConfig(loss="in_bach")


def test_a_model_grows_by_rows_that_are_small_and_random() -> None:
    model = TwoTower(TwoTowerConfig(dim=8), Schema(2, 3, user_content=(("attributes", 4),)))
    model.grow(40, 30)
    assert (model.users.shape, model.items.shape, model.said.shape) == ((40, 8), (30, 8), (40, 8))
    assert 0.05 < model.user.id[2:].std().item() < 0.2
