"""Crossmodal: content speaks for items that nobody chose, behaviour for the others, and texts find both."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

import bowerbird as bb
from bowerbird.core import ConfigError, RequestError
from bowerbird.data import Interactions
from bowerbird.features import Context, Pairs
from bowerbird.models.multimodal.crossmodal import FUSIONS, Crossmodal, CrossmodalConfig
from bowerbird.nn.content import tensors
from bowerbird.recommender.update import UpdateOptions, add_items, update
from bowerbird.testing import halves
from bowerbird.testing.halves import things
from bowerbird.testing.subject import quiet

SMALL = {"dim": 16, "landmarks": 64, "hidden": 16, "batch_size": 128, "negatives": 16, "epochs": 20,
         "learning_rate": 0.01, "dropout": 0.0, "text_encoder": "words"}  # fmt: skip
RIGHT = {"early": 0.2, "late": 0.04, "gated": 0.03}  # scores above those for the other half, at least
COLD = ("i4", "i7", "i12", "i15")  # even and odd things that nobody has chosen in training
NAN = math.nan


def unseen() -> Interactions:
    """Return the halves without the choices of some things, which stay in the table."""
    train = halves().train
    return train.rows(~np.isin(train.item, train.item_ids.rows(list(COLD))))


@cache
def fitted(**settings: object) -> bb.Recommender:
    return bb.fit(unseen(), CrossmodalConfig(**(SMALL | settings)), run=quiet())


def embedded(rec: bb.Recommender, items: pl.DataFrame) -> Tensor:
    content = rec.contents.read(items)
    assert content is not None
    found = rec.contents.embed(content)
    assert found is not None
    return found


def odd(ids: pl.Series) -> Tensor:
    return torch.tensor([int(one[1:]) % 2 == 1 for one in ids])


def margin(rec: bb.Recommender, item_ids: tuple[str, ...]) -> float:
    """Return by how much people score these items of their own half above those of the other one."""
    past = rec.past
    context = Context.of_users(np.arange(past.n_users, dtype=np.int32), past)
    with torch.no_grad():
        scores = rec.model.scores(context)[:, past.item_ids.rows(list(item_ids)).astype(np.int64)]
    same = odd(past.user_ids.values)[:, None] == odd(pl.Series(item_ids))[None]
    return float(scores[same].mean() - scores[~same].mean())


# ── what nobody chose ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("contrast", [0.0, 0.1])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_things_that_nobody_chose_are_scored_for_the_half_that_they_belong_to(fusion: str, contrast: float) -> None:
    rec = fitted(fusion=fusion, contrast=contrast)
    assert rec.model.shaped_item.all()
    assert margin(rec, COLD) > RIGHT[fusion]
    slates = rec.recommend(["u2", "u3"], k=40)
    assert set(COLD) <= set(slates.ids[0])


def test_an_item_is_as_much_its_behaviour_as_people_have_chosen_it() -> None:
    rec = fitted(events=3.0)
    model, past = rec.model, rec.past
    chosen = torch.bincount(torch.from_numpy(past.positives.item).long(), minlength=past.n_items)
    assert {0, 4} <= set(chosen.clamp(max=4).tolist())
    content = model.embed(tensors(past.item_content))
    share = (chosen / (chosen + 3.0))[:, None]
    assert torch.allclose(model.item_vectors(), share * model.behaviour + (1 - share) * content, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_an_item_says_is_read_alike_in_training_and_later(fusion: str) -> None:
    rec = fitted(fusion=fusion, dropout=0.5)  # which is over when training is
    cold = rec.item_ids.rows(list(COLD)).astype(np.int64)
    later = embedded(rec, things([4, 7, 12, 15]))
    assert later is not None
    assert torch.allclose(later, rec.model.item_vectors()[cold], atol=1e-4)
    assert float(later.abs().max()) > 0.01


def test_where_events_count_at_once_behaviour_is_all_of_what_was_chosen() -> None:
    rec = fitted(events=0.0)
    warm = rec.model.chosen > 0
    assert int(warm.sum()) == 36
    assert torch.equal(rec.model.item_vectors()[warm], rec.model.behaviour[warm])
    assert not rec.model.behaviour[~warm].any()
    assert rec.model.item_vectors()[~warm].any()


def test_content_is_as_long_as_behaviour() -> None:
    model, past = fitted().model, unseen()
    warm = model.chosen > 0
    content, own = model.embed(tensors(fitted().past.item_content))[warm], model.behaviour[warm]
    assert len(past) > 0
    # the stretch is that of least squares: what is left of behaviour is at right angles to content
    assert float(((own - content) * content).sum() / own.square().sum()) == pytest.approx(0.0, abs=1e-3)


# ── what is missing ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fusion", FUSIONS)
def test_items_may_lack_modalities(fusion: str) -> None:
    past, silent = unseen(), ["i0", "i4", "i7"]  # i0 was chosen, the others were not
    table = things(range(40)).with_columns(
        title=pl.when(pl.col("item_id").is_in([*silent, "i12"])).then(None).otherwise("title"),
        kind=pl.when(pl.col("item_id").is_in([*silent, "i15"])).then(None).otherwise("kind"),
    )
    rec = bb.fit(past.with_tables(items=table), CrossmodalConfig(**SMALL, fusion=fusion), run=quiet())
    model, row = rec.model, rec.item_ids.row
    assert torch.equal(model.item_vectors()[row("i0")], model.behaviour[row("i0")])  # there is nothing else
    assert [bool(model.shaped_item[row(one)]) for one in ("i0", "i4", "i7", "i12", "i15")] == [
        True, False, False, True, True,
    ]  # fmt: skip
    assert margin(rec, ("i12", "i15")) > RIGHT[fusion] / 2  # each by what it has
    assert not {"i4", "i7"} & set(rec.recommend(["u2"], k=40).ids[0])
    assert not model.places[row("i4")].any()
    assert model.places.isfinite().all()


def test_a_new_item_without_content_has_no_vector() -> None:
    found = embedded(fitted(), pl.DataFrame({"title": [None, "Even thing"], "price": [1, 2]}))
    assert found is not None
    assert found.isnan().all(dim=1).tolist() == [True, False]


def test_items_without_any_content_are_refused(two_by_two: Interactions) -> None:
    with pytest.raises(ConfigError, match="the items have no content"):
        bb.fit(two_by_two, "crossmodal")


def test_a_batch_of_one_item_has_nothing_to_be_told_from() -> None:
    past = Interactions.of(pl.Series(["a", "b"]), pl.Series(["x", "x"])).with_content(
        items={"look": np.array([[1.0, 2.0]], np.float32)}
    )
    model = Crossmodal(CrossmodalConfig(**SMALL, loss="bpr"), past.schema)
    model.prepare(past)
    loss = model.loss(Pairs(torch.tensor([0]), torch.tensor([0]), torch.ones(1), torch.tensor([[0]])))
    loss.mean().backward()
    assert loss.isfinite().all()


def test_ready_vectors_are_content_too() -> None:
    past = unseen()
    half = odd(past.item_ids.values).numpy().astype(np.float32)
    look = np.stack([half, 1 - half, np.linspace(0, 0.1, 40, dtype=np.float32)], axis=1)
    rec = bb.fit(replace(past, items=None).with_content(items={"look": look}), CrossmodalConfig(**SMALL), run=quiet())
    assert rec.schema.item_content == (("look", 3),)
    assert margin(rec, COLD) > 0.2
    with pytest.raises(RequestError, match="crossmodal was trained without a column of kind text"):
        rec.search("even")


# ── search ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_text_finds_what_says_it(fusion: str) -> None:
    rec = fitted(fusion=fusion)
    for word, is_odd in (("even", False), ("an ODD thing", True)):
        slates = rec.search(word, k=20)
        right = (odd(pl.Series(slates.ids[0])) == is_odd).float().mean()
        assert right == 1.0 if fusion == "early" else right >= 0.8  # elsewhere the towers serve people's choices too
        assert slates.frame["score"].is_sorted(descending=True)
        assert slates.frame["score"].max() <= 1.0 + 1e-5
    place = rec.model.place(tensors(rec.past.item_content))
    assert torch.allclose(place, rec.model.places, atol=1e-5)
    assert torch.allclose(place.norm(dim=1), torch.ones(40), atol=1e-5)


def test_without_a_contrast_there_is_no_space_and_no_tower() -> None:
    rec = fitted(contrast=0.0)
    assert not any("tower" in name for name in rec.model.state_dict())
    with pytest.raises(RequestError, match="crossmodal has no space of contents to search"):
        rec.search("even")


# ── what changes ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_saved_model_is_the_same(fusion: str, tmp_path: Path) -> None:
    rec = fitted(fusion=fusion)
    rec.save(tmp_path)
    again = bb.load(tmp_path)
    for name, tensor in rec.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    users = [f"u{row}" for row in range(60)]
    assert again.recommend(users, k=7).frame.equals(rec.recommend(users, k=7).frame)
    assert again.search("odd").ids == rec.search("odd").ids
    new = things([101])
    assert torch.equal(embedded(again, new), embedded(rec, new))
    assert again.config == rec.config


def test_new_events_move_the_items_that_they_are_about_and_no_others() -> None:
    rec = fitted()
    users = [f"u{row}" for row in range(1, 21, 2)]
    events = pl.DataFrame({"user_id": users, "item_id": ["i7"] * 10, "time": 1_700_000_000})
    done = update(rec, events, options=UpdateOptions(holdout=0.0, epochs=1))
    assert done.accepted
    old, new = rec.model, done.recommender.model
    row = rec.item_ids.row("i7")
    same = torch.arange(40) != row
    assert torch.equal(new.behaviour[same], old.behaviour[same])
    assert new.chosen[row] == 10
    # a slow solver, with the vectors that all people have by the items as they were
    config, whole, table = rec.config, done.recommender.past, old.behaviour.double().numpy()
    pairs = np.zeros((60, 40), bool)
    pairs[whole.positives.user, whole.positives.item] = True
    alpha = min(1.0, config.unobserved / pairs.any(axis=0).sum())
    people = slow_half_step(pairs, table, alpha, config.penalty, int(pairs.any(axis=0).sum()))
    found = slow_half_step(pairs.T[[row]], people, alpha, config.penalty, int(pairs.any(axis=1).sum()))
    assert np.allclose(new.behaviour[row].numpy(), found[0], rtol=1e-2, atol=1e-3)
    assert margin(done.recommender, ("i7",)) > 0.1


def slow_half_step(pairs: np.ndarray, table: np.ndarray, alpha: float, penalty: float, n: int) -> np.ndarray:
    """Return each row's vector by least squares over all pairs, one by one."""
    found = np.zeros((len(pairs), table.shape[1]))
    for row, chosen in enumerate(pairs):
        if chosen.any():
            left = alpha * table.T @ table + table[chosen].T @ table[chosen]
            left += penalty * (chosen.sum() + alpha * n) * np.eye(table.shape[1])
            found[row] = np.linalg.solve(left, table[chosen].sum(axis=0))
    return found


def test_items_can_be_added_without_training() -> None:
    rec = fitted()
    more = add_items(rec, things([100, 101]))
    assert more.item_ids.values[40:].to_list() == ["i100", "i101"]
    old, new = rec.model, more.model
    assert torch.allclose(new.item_vectors()[:40], old.item_vectors(), atol=1e-5)
    assert torch.equal(new.behaviour[:40], old.behaviour)
    for name in ("map", "dual", "stretch", "directions.centre0", "kernel.mark0"):
        assert torch.allclose(new.state_dict()[name], old.state_dict()[name], atol=1e-5), name
    assert margin(more, ("i100", "i101")) > 0.2
    assert "i101" in more.search("odd", k=21).ids[0]


# ── what makes no sense ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fusion", "middle"), ("dim", 0), ("penalty", 0.0), ("unobserved", 0.0), ("sweeps", 0), ("landmarks", 0),
        ("width", 0.0), ("ridge", 0.0), ("events", -1.0), ("contrast", -0.1), ("hidden", 0), ("dropout", 1.0),
        ("dropout", -0.1), ("negatives", 0), ("temperature", 0.0), ("l2", -1.0), ("senses", 0.0),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_with_one_that_works(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is .*{value}.*; it must .*\. Try {key} = "):
        CrossmodalConfig(**{key: value})


@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_each_modality_in_one_go_is_read_again_one_by_one(fusion: str) -> None:
    rec = fitted(fusion=fusion)
    content = tensors(rec.past.item_content)
    asked = [content] + [content | {name: torch.full_like(content[name], NAN)} for name in content]
    torch.testing.assert_close(
        rec.model.embed_without_each(content), torch.stack([rec.model.embed(one) for one in asked])
    )
