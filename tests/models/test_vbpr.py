import math

import numpy as np
import polars as pl
import pytest
import torch

import bowerbird as bb
from bowerbird.core import ConfigError
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.models.multimodal.vbpr import VBPR, VBPRConfig
from bowerbird.recommender import RankingOptions
from bowerbird.recommender.update import UpdateOptions, update
from bowerbird.testing import halves
from bowerbird.testing.halves import things
from bowerbird.testing.subject import quiet

SMALL = {"dim": 8, "content_dim": 4, "epochs": 20, "batch_size": 256, "negatives": 16, "text_encoder": "words"}


def by_hand(**settings) -> tuple[VBPR, Interactions]:
    """Return a model of one user and three items with known numbers: nobody chose item 1, item 2 lacks content."""
    nan = math.nan
    past = Interactions.of(pl.Series([0, 0, 0]), pl.Series([0, 2, 1])).rows(np.array([0, 1]))
    past = past.reorder_ids(np.array([0]), np.array([0, 2, 1])).with_content(
        items={
            "text": np.array([[1.0, 0.0], [0.0, 1.0], [nan, nan]], np.float32),
            "look": np.array([[1.0], [nan], [nan]], np.float32),
        }
    )
    model = VBPR(VBPRConfig(dim=1, content_dim=1, loss="bpr", cosine=False, temperature=1.0, **settings), past.schema)
    model.begun.fill_(True)  # content is as it is: means are 0, and all has length 1
    model.user.data = torch.tensor([[2.0, 3.0]])  # γ_u, θ_u
    model.item.data = torch.tensor([[0.5], [7.0], [0.25]])  # γ_i
    model.bias.data = torch.tensor([[0.1], [7.0], [0.2]])  # β_i
    model.content.data = torch.tensor([[1.0], [-1.0], [2.0]])  # E
    model.looks.data = torch.tensor([[0.3], [0.4], [0.5]])  # β′
    model.prepare(past)
    model.freeze()
    return model, past


def test_the_score_is_that_of_the_paper_by_hand() -> None:
    model, past = by_hand()
    scores = model.scores(Context.of_users(np.array([0]), past))[0] * model.level
    both = 0.1 + 2 * 0.5 + (3 * (1 + 2) + 0.3 + 0.5) / math.sqrt(2)  # β_i + γ_u·γ_i + θ_u·(E f) + β′·f
    alone = 3 * -1 + 0.4  # nobody chose it: its content speaks, of one modality
    assert scores.tolist() == pytest.approx([both, alone, 0.2 + 2 * 0.25], rel=1e-5)


def test_what_people_chose_scores_1_on_average() -> None:
    model, past = by_hand()
    scores = model.scores(Context.of_users(np.array([0]), past))[0]
    assert scores[[0, 2]].mean().item() == pytest.approx(1.0, rel=1e-5)


def test_the_bpr_loss_by_hand() -> None:
    model, _ = by_hand()
    batch = Pairs(torch.tensor([0]), torch.tensor([2]), torch.ones(1), torch.tensor([[1]]))
    gap = (0.2 + 2 * 0.25) - (7.0 + 2 * 7.0 - 3 + 0.4)  # in training, every item has its own part
    assert model.loss(batch).item() == pytest.approx(math.log1p(math.exp(-gap)), rel=1e-5)


def test_l2_adds_the_squared_length_of_user_and_item() -> None:
    batch = Pairs(torch.tensor([0]), torch.tensor([2]), torch.ones(1), torch.tensor([[1]]))
    plain, heavy = (by_hand(**settings)[0].loss(batch).item() for settings in ({}, {"l2": 0.1}))
    assert heavy - plain == pytest.approx(0.1 * (4 + 9 + 0.0625), rel=1e-4)


def test_what_nobody_chose_is_served_where_it_has_content_and_only_there() -> None:
    model, past = by_hand()
    assert model.shaped_item.tolist() == [True, True, True]
    bare = past.rows(np.array([0]))  # now item 2 has neither choices nor content
    model.prepare(bare)
    model.freeze()
    scores = model.scores(Context.of_users(np.array([0]), bare))[0]
    assert scores.isfinite().tolist() == [True, True, False]


def test_an_item_is_embedded_as_it_is_served_before_anybody_chose_it() -> None:
    model, _ = by_hand()
    found = model.embed({"text": torch.tensor([[0.0, 1.0]])})  # a modality left out is one that it lacks
    assert torch.allclose(found[0], model.item_vectors()[1])
    lacking = model.embed({"text": torch.tensor([[0.0, 1.0]]), "look": torch.tensor([[math.nan]])})
    assert torch.equal(found, lacking)


def test_without_content_there_is_nothing_to_learn_from(two_by_two: Interactions) -> None:
    with pytest.raises(ConfigError, match="the items have no content"):
        bb.fit(two_by_two, "vbpr")


@pytest.fixture(scope="module")
def rec() -> bb.Recommender:
    return bb.fit(halves().train, VBPRConfig(**SMALL), run=quiet())


def test_items_that_only_have_a_row_in_the_table_are_recommended() -> None:
    train = halves().train
    unseen = train.rows(train.item != train.item_ids.row("i4"))
    rec = bb.fit(unseen, VBPRConfig(**SMALL), run=quiet())
    context = Context.of_users(np.arange(train.n_users, dtype=np.int32), unseen)
    even = torch.tensor([int(user[1:]) % 2 == 0 for user in train.user_ids.values])
    with torch.no_grad():
        score = rec.scores(context)[:, train.item_ids.row("i4")]
    assert score[even].mean() > score[~even].mean() + 0.1


def test_a_loaded_model_learns_on_and_knows_new_items_by_their_titles(rec: bb.Recommender, tmp_path) -> None:
    rec.save(tmp_path)
    again = bb.load(tmp_path)
    assert again.past.item_content["text"].shape == (40, 512)
    users = [f"u{row}" for row in range(0, 60, 2)]
    events = pl.DataFrame({"user_id": users, "item_id": ["i100"] * len(users), "time": 1_700_000_000})
    new = pl.DataFrame({"item_id": ["i100", "i102", "i103"], "title": ["Even thing 100", "Even thing", "Odd thing"]})
    done = update(again, events, items=new, options=UpdateOptions(holdout=0.0, epochs=1))
    assert done.accepted
    assert done.recommender.past.n_items == 41  # i102 has no event yet
    vectors = done.recommender.model.item_vectors()
    assert done.recommender.model.shaped_item.all()
    near = torch.nn.functional.cosine_similarity(vectors[40][None], vectors[:40], dim=1)
    even = torch.tensor([int(item[1:]) % 2 == 0 for item in done.recommender.item_ids.values[:40]])
    assert near[even].mean() > near[~even].mean()


def test_new_content_is_read_like_the_old(rec: bb.Recommender) -> None:
    from bowerbird.nn.content import tensors

    content = tensors(rec.config.read(things([101, 104])))
    assert rec.model.embed(content).shape == (2, 8 + 4 + 1)


def test_it_finds_candidates_for_a_ranker_with_the_content_that_it_reads(tmp_path) -> None:
    ranking = RankingOptions(retriever=VBPRConfig(**SMALL))
    rec = bb.fit(halves().train, "logistic", epochs=2, run=quiet(), ranking=ranking)
    rec.save(tmp_path)
    again = bb.load(tmp_path)
    for one in (rec, again):
        assert one.source.config.text == ("title",)  # type: ignore[union-attr]
        assert dict(one.schema.item_content) == {"text": 512, "attributes": 256}
    mine, other = (one.recommend(["u3"], k=5).to_polars()["item_id"].to_list() for one in (rec, again))
    assert mine == other


@pytest.mark.parametrize(
    ("key", "value"), [("dim", 0), ("content_dim", 0), ("temperature", 0.0), ("l2", -1.0), ("negatives", 0)]
)
def test_values_out_of_range_are_refused_with_one_that_works(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is {value!r}; it must .*\. Try {key} = "):
        VBPRConfig(**{key: value})


def test_a_model_without_content_can_be_built_and_grown() -> None:
    model = VBPR(VBPRConfig(dim=2, content_dim=2), Schema(2, 3))
    model.grow(4, 5)
    assert model.item_vectors().shape == (5, 5)
    assert not model.item[3:].any()
