"""What every registered model must do. A new model is picked up by being registered; nothing is added here.

The data has a known answer: even users like even items, odd users odd items, some items more than others.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import bowerbird as bb
import bowerbird.models  # fills the registry
from bowerbird.core import ConfigError, Entry, ModelConfig, TrainedConfig, build, entries, lookup, numpy_stream
from bowerbird.data import Interactions, Split
from bowerbird.features import Context, Retriever, VectorRetriever
from bowerbird.nn.losses import NAMES
from bowerbird.training import batches_for, train

USERS, ITEMS, LIKED = 60, 40, 12  # each user likes 12 of the 20 items of their half
SMALL = {"dim": 16, "epochs": 60, "batch_size": 256, "negatives": 16, "history_len": 12}  # where a config has the key
QUIET = bb.RunOptions(progress=False, device="cpu")

MODELS = [entry.name for entry in entries() if "retriever" in entry.tags]
CLOSED = [name for name in MODELS if lookup(name).batches is None]
TRAINED = [name for name in MODELS if lookup(name).batches is not None]
every_model = pytest.mark.parametrize("name", MODELS)
every_closed_model = pytest.mark.parametrize("name", CLOSED)
every_trained_model = pytest.mark.parametrize("name", TRAINED)


@cache
def halves() -> Split:
    """Return the split; cached, since nothing here changes it."""
    rng = np.random.default_rng(7)
    appeal = np.linspace(1.0, 4.0, ITEMS // 2)  # popularity differs within a half
    pairs = [
        (user, item)
        for user in range(USERS)
        for item in user % 2 + 2 * rng.choice(ITEMS // 2, LIKED, replace=False, p=appeal / appeal.sum())
    ]
    user, item = np.array(pairs)[rng.permutation(len(pairs))].T
    events = Interactions.of(
        pl.Series([f"u{row}" for row in user]),
        pl.Series([f"i{row}" for row in item]),
        time=1_600_000_000 + 60 * np.arange(len(user)),
    )
    return bb.split(events, "per-user", valid=0.17, test=0.17)


def config_of(name: str, **settings: Any) -> ModelConfig:
    """Return a small configuration of a model."""
    config = lookup(name).config
    known = {field.name for field in fields(config)}
    return build(config, {key: value for key, value in SMALL.items() if key in known} | settings)


@cache
def fitted(name: str, seed: int = 0) -> bb.Recommender:
    """Return the trained recommender; tests that change it take a copy."""
    return bb.fit(halves(), config_of(name), run=bb.RunOptions(progress=False, device="cpu", seed=seed))


def everyone() -> Context:
    past = halves().train
    return Context.of_users(np.arange(past.n_users, dtype=np.int32), past)


def strangers() -> Context:
    return Context.of_histories([[0, 2, 4], [1], [3, 5, 7, 9]])


@torch.no_grad()
def scores(model: Retriever, context: Context, items: torch.Tensor | None = None) -> torch.Tensor:
    return model.scores(context, items)


# ── the entry ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_every_entry_says_what_it_is(entry: Entry) -> None:
    assert {"retriever", "ranker"} & set(entry.tags)
    assert ("closed-form" in entry.tags) == (entry.batches is None)
    assert entry.summary.endswith(".")
    assert len(entry.summary) > 20


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_the_defaults_of_every_config_build(entry: Entry) -> None:
    config = build(entry.config, {})
    assert is_dataclass(config)
    assert isinstance(config, TrainedConfig if entry.batches else ModelConfig)


@every_model
def test_a_model_keeps_the_retriever_contract(name: str) -> None:
    model = fitted(name).model
    assert isinstance(model, Retriever)
    for method in ("fit",) if lookup(name).batches is None else ("prepare", "loss", "freeze"):
        assert callable(getattr(model, method))


@every_model
def test_an_unknown_key_is_refused_with_the_closest_one(name: str) -> None:
    known = [field.name for field in fields(lookup(name).config)]
    with pytest.raises(ConfigError, match="is not an option of") as caught:
        build(lookup(name).config, {f"{(known or ['nothing'])[0]}s": 1})
    assert not known or f'Did you mean "{known[0]}"?' in str(caught.value)


@pytest.mark.parametrize(("name", "key"), [(name, one.name) for name in MODELS for one in fields(lookup(name).config)])
def test_a_value_of_the_wrong_type_is_refused_with_the_right_one(name: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} is \[3\]; it must be of type (int|float|bool|str|tuple)"):
        build(lookup(name).config, {key: [3]})


# ── learning ──────────────────────────────────────────────────────────────────────────────────────────────────────


@every_model
def test_a_model_beats_popularity_where_popularity_cannot_know(name: str) -> None:
    def recall(one: str) -> float:
        return bb.evaluate(fitted(one), halves().test, metrics=["recall@10"], intervals=False).metrics["recall@10"]

    if name == "popularity":  # it cannot beat itself, but must be what everybody else falls back to
        assert torch.equal(fitted(name).scores(everyone()), fitted("ease").popularity.scores(everyone()))
        assert recall(name) < 0.7
    else:
        assert recall(name) > recall("popularity") + 0.2


@every_model
def test_training_repeats_under_one_seed(name: str) -> None:
    again = bb.fit(halves(), config_of(name), run=QUIET)
    assert torch.equal(scores(again.model, everyone()), scores(fitted(name).model, everyone()))


@every_trained_model
def test_another_seed_gives_another_model(name: str) -> None:
    assert not torch.allclose(scores(fitted(name, seed=1).model, everyone()), scores(fitted(name).model, everyone()))


@every_closed_model
def test_permuting_users_permutes_rows_exactly(name: str) -> None:
    past = halves().train
    order = np.random.default_rng(3).permutation(past.n_users)
    moved = past.reorder_ids(order, np.arange(past.n_items))
    model = lookup(name).model(config_of(name), past.schema)
    model.fit(moved, numpy_stream(0, "fit"))
    mine = scores(model, Context.of_users(np.arange(past.n_users, dtype=np.int32), moved))
    assert torch.equal(mine, scores(fitted(name).model, everyone())[order])


@every_trained_model
def test_permuting_users_and_their_vectors_permutes_rows(name: str) -> None:
    past = halves().train
    order = np.random.default_rng(3).permutation(past.n_users)
    moved = past.reorder_ids(order, np.arange(past.n_items))
    model = lookup(name).model(config_of(name), past.schema)
    state = fitted(name).model.state_dict()
    model.load_state_dict({key: one[order] if len(one) == past.n_users else one for key, one in state.items()})
    model.prepare(moved)
    model.freeze()
    mine = scores(model, Context.of_users(np.arange(past.n_users, dtype=np.int32), moved))
    assert torch.allclose(mine, scores(fitted(name).model, everyone())[order], atol=1e-5)


def loss_cases() -> list[tuple[str, dict[str, str]]]:
    """Return every trained model with every loss that its config lets one choose."""
    free = {name: "loss" in {one.name for one in fields(lookup(name).config)} for name in TRAINED}
    return [
        (name, settings) for name in TRAINED for settings in ([{"loss": one} for one in NAMES] if free[name] else [{}])
    ]


@pytest.mark.parametrize(("name", "settings"), loss_cases())
def test_the_loss_is_one_finite_number_a_row(name: str, settings: dict[str, str]) -> None:
    config, past = config_of(name, **settings), halves().train
    torch.manual_seed(0)
    model = lookup(name).model(config, past.schema)
    model.prepare(past)
    batch = batches_for(lookup(name).batches, past, config, seed=0, device="cpu").batch(0, 0)
    loss = model.loss(batch)
    assert loss.shape == (len(batch),)
    assert loss.isfinite().all()
    assert loss.std() > 0
    loss.sum().backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters())


class TheSameBatch:
    """Draws one and the same batch at every step."""

    def __init__(self, batch: Any, steps: int) -> None:
        self.same, self.steps = batch, steps
        self.n_rows = steps * len(batch)

    def __len__(self) -> int:
        return self.steps

    def batch(self, epoch: int, step: int, shard: tuple[int, int]) -> Any:
        return self.same


@every_trained_model
def test_the_gradient_is_cleared_between_steps(name: str) -> None:
    config, past = config_of(name, learning_rate=1e-12, epochs=1), halves().train  # steps that change nothing
    batch = batches_for(lookup(name).batches, past, config, seed=0, device="cpu").batch(0, 0)

    def gradients(steps: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = lookup(name).model(config, past.schema)
        model.prepare(past)
        train(model, TheSameBatch(batch, steps), config, QUIET)
        return [one.grad for one in model.parameters() if one.grad is not None]

    one, three = gradients(1), gradients(3)
    assert any(bool(gradient.abs().max() > 0) for gradient in one)
    for first, third in zip(one, three, strict=True):
        assert torch.allclose(first, third, rtol=1e-3, atol=1e-7)


# ── scoring ───────────────────────────────────────────────────────────────────────────────────────────────────────


@every_model
@pytest.mark.parametrize("asking", [everyone, strangers])
def test_scores_are_the_same_singly_and_in_batches(name: str, asking: Callable[[], Context]) -> None:
    model, context = fitted(name).model, asking()
    singly = torch.cat([scores(model, context.take(torch.tensor([row]))) for row in range(len(context))])
    assert torch.allclose(scores(model, context), singly, atol=1e-5)


@every_model
@pytest.mark.parametrize("asking", [everyone, strangers])
def test_a_list_of_items_is_scored_as_all_are(name: str, asking: Callable[[], Context]) -> None:
    model, context = fitted(name).model, asking()
    whole = scores(model, context)
    shared = torch.tensor([5, 0, 5, 31])
    own = torch.arange(3 * len(context)).reshape(-1, 3) % whole.shape[1]
    assert torch.allclose(scores(model, context, shared), whole[:, shared], atol=1e-5)
    assert torch.allclose(scores(model, context, own), whole.gather(1, own), atol=1e-5)


@every_model
@pytest.mark.parametrize("items", [None, torch.tensor([1, 2, 3])], ids=["all", "listed"])
def test_scores_are_the_callers_to_overwrite(name: str, items: torch.Tensor | None) -> None:
    model = fitted(name).model
    first = scores(model, everyone(), items)
    kept = first.clone()
    first.fill_(-torch.inf)
    assert torch.equal(scores(model, everyone(), items), kept)


@every_model
def test_a_vector_model_scores_by_dot_product(name: str) -> None:
    model = fitted(name).model
    assert isinstance(model, VectorRetriever) == (hasattr(model, "query") and hasattr(model, "item_vectors"))
    if isinstance(model, VectorRetriever):
        with torch.no_grad():
            product = model.query(everyone()) @ model.item_vectors().T
        assert torch.allclose(product, scores(model, everyone()), atol=1e-5)


@every_model
def test_growing_keeps_old_scores_and_adds_columns(name: str) -> None:
    past = halves().train
    model = lookup(name).model(config_of(name), past.schema)
    model.load_state_dict(fitted(name).model.state_dict())
    before = scores(model, everyone())
    model.grow(past.n_users + 3, past.n_items + 2)
    after = scores(model, everyone())
    assert after.shape == (past.n_users, past.n_items + 2)
    assert torch.equal(after[:, : past.n_items], before)
    assert not after.isnan().any()


@every_model
def test_a_model_survives_save_and_load(name: str, tmp_path: Path) -> None:
    rec = fitted(name)
    rec.save(tmp_path)
    again = bb.load(tmp_path)
    assert again.name == name
    assert again.config == rec.config
    for context in (everyone(), strangers()):
        assert torch.equal(scores(again.model, context), scores(rec.model, context))


# ── serving ───────────────────────────────────────────────────────────────────────────────────────────────────────


@every_model
def test_everyone_is_served_and_the_rung_is_named(name: str) -> None:
    rec = fitted(name)
    last = "model" if name == "popularity" else "popularity"
    assert rec.recommend(["u3"], k=5).rungs == ["model"]
    assert rec.recommend(histories=[["i0", "i2"], []], k=5).rungs == ["model", last]
    nobody = rec.recommend(k=5)
    assert nobody.rungs == [last]
    assert nobody.to_polars().height == 5


@every_model
def test_unknown_ids_never_raise_and_are_counted(name: str) -> None:
    rec = fitted(name)
    last = "model" if name == "popularity" else "popularity"
    slates = rec.recommend(["who", "u3", 17], k=4)
    assert slates.rungs == [last, "model", last]
    assert slates.to_polars().height == 12
    posted = rec.recommend(histories=[["i0", "what", "nothing"], ["what"], ["i1"]], k=4)
    assert posted.unknown_items == [2, 1, 0]
    assert posted.rungs == ["model", last, "model"]
    assert posted.to_polars().height == 12


@every_model
def test_a_strangers_slate_stays_in_their_half(name: str) -> None:
    frame = fitted(name).recommend(histories=[["i1", "i5", "i9", "i13"]], k=8).to_polars()
    odd = sum(int(item[1:]) % 2 for item in frame["item_id"])
    if name == "popularity":  # it hears nothing of the history
        assert odd < 8
    else:
        assert odd >= 7


@every_model
def test_places_are_filled_with_items_that_were_not_seen(name: str) -> None:
    past = halves().train
    frame = fitted(name).recommend(past.user_ids.values.to_list(), k=10).to_polars()
    seen = pl.DataFrame({"user_id": past.user_ids.names(past.user), "item_id": past.item_ids.names(past.item)})
    assert frame.join(seen, on=["user_id", "item_id"]).height == 0
    assert frame.height == 10 * past.n_users
    assert frame.n_unique(["user_id", "item_id"]) == frame.height
    assert frame["rank"].to_list() == list(range(1, 11)) * past.n_users


@every_model
def test_gives_each_place_a_reason_that_names_the_past_or_popularity(name: str) -> None:
    rec, past = fitted(name), halves().train
    users = [past.user_ids[row] for row in (0, 1)]
    for slates in (rec.recommend(users, k=5, explain=True), rec.recommend(k=5, explain=True)):
        frame = slates.to_polars()
        assert frame["reason"].null_count() == 0
        assert [len(reasons) for reasons in slates.reasons] == [5] * len(slates)
    own = set(past.item_ids.names(past.item[past.user == 0]))
    named = {item for reason in rec.recommend(users[:1], k=5, explain=True).reasons[0] for item, _ in reason.items}
    assert named <= own
    assert bool(named) == (name != "popularity")
