"""Unlearning: what a closed form, a shard or a refit makes is what training without the person makes."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bowerbird as bb
from bowerbird.core import DataError, RequestError
from bowerbird.data import Interactions
from bowerbird.models.baselines.mf import MFConfig
from bowerbird.privacy.shards import fit_shards, shard_of
from bowerbird.privacy.unlearning import reversed_weights, silenced, unlearn, without

MF = MFConfig(dim=4, epochs=3)


@pytest.fixture(scope="module")
def events() -> Interactions:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", 100 * n + u) for u in range(60) for n, i in enumerate(rng.permutation(15)[:6])]
    return bb.read(pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row"))


def test_one_person_is_reversed_by_hand(two_by_two: Interactions) -> None:
    # without bob the Gram matrix of x and y is [[1, 0], [0, 0]]: nothing foretells anything
    rec = bb.fit(two_by_two, "ease", l2=1.0)
    assert rec.model.weights[0, 1].item() == pytest.approx(1 / 3, abs=1e-6)  # of [[2, 1], [1, 1]] + I: 1/5 over 3/5
    weights, wrong = reversed_weights(rec.model, two_by_two, np.array([1]))
    assert weights.numpy() == pytest.approx(np.zeros((2, 2)), abs=1e-6)
    assert wrong < 1e-5


@given(people=st.sets(st.integers(0, 59), min_size=1, max_size=30))
def test_whoever_leaves_ease_is_what_the_others_make(events: Interactions, people: set[int]) -> None:
    rec = bb.fit(events, "ease", l2=20.0)
    weights, wrong = reversed_weights(rec.model, events, np.array(sorted(people)))
    left = events.rows(~np.isin(events.user, list(people)))
    again = bb.fit(left, "ease", l2=20.0)
    assert weights.numpy() == pytest.approx(again.model.weights.numpy(), abs=2e-6)
    assert wrong < 1e-4


def test_many_in_a_row_are_as_good_as_all_at_once(events: Interactions) -> None:
    rec = bb.fit(events, "ease", l2=20.0)
    for number in range(30):
        rec = unlearn(rec, [f"u{number}"]).recommender
    again = bb.fit(bb.read(frame_of(events, range(30, 60))), "ease", l2=20.0)
    order = again.item_ids.rows(rec.item_ids.values)
    assert rec.model.weights.numpy() == pytest.approx(again.model.weights.numpy()[np.ix_(order, order)], abs=5e-6)


def frame_of(events: Interactions, people: range) -> pl.DataFrame:
    frame = pl.DataFrame({"user_id": events.user_ids.names(events.user), "item_id": events.item_ids.names(events.item),
                          "time": events.time})  # fmt: skip
    return frame.filter(pl.col("user_id").is_in([f"u{one}" for one in people]))


def test_weights_that_are_not_of_this_past_are_fitted_again(events: Interactions) -> None:
    rec = bb.fit(events, "ease", l2=20.0)
    rec.model.weights += 0.01
    found = unlearn(rec, ["u3"])
    assert found.method == "refit"
    assert "it would miss 1 by" in found.detail


def test_a_shard_is_trained_again_and_the_others_are_not_touched(events: Interactions) -> None:
    rec = fit_shards(events, MF, shards=3, key="k")
    found = unlearn(rec, ["u7"])
    assert found.method == "shards"
    shard = int(shard_of(rec.user_ids, rec.shards or {})[rec.user_ids.row("u7")])
    assert found.detail == f"1 of 3 shards trained again: {shard}"
    again = fit_shards(without(events, ["u7"])[0], MF, shards=3, key="k").model.state_dict()
    for name, tensor in found.recommender.model.state_dict().items():
        assert (tensor == again[name]).all(), name
    before = rec.model.items.reshape(-1, 3, 4)
    for other in {0, 1, 2} - {shard}:
        assert (found.recommender.model.items.reshape(-1, 3, 4)[:, other] == before[:, other]).all()
    assert not (found.recommender.model.items.reshape(-1, 3, 4)[:, shard] == before[:, shard]).all()


def test_one_model_of_shards_is_the_mean_of_theirs(events: Interactions) -> None:
    rec = fit_shards(events, MF, shards=3, key="k")
    vectors = rec.model.user.detach().reshape(-1, 3, 4), rec.model.items.reshape(-1, 3, 4)
    summed = np.einsum("usd,isd->ui", *(one.numpy() for one in vectors))
    length = np.linalg.norm(rec.model.user.detach().numpy(), axis=1)
    from bowerbird.features import Context

    scores = rec.model.scores(Context.of_users(np.arange(5, dtype=np.int32), events)).detach().numpy()
    assert scores == pytest.approx((summed / length[:, None])[:5], abs=1e-5)
    assert np.linalg.norm(vectors[0].numpy(), axis=2) == pytest.approx(1.0, abs=1e-5)


def test_a_shard_depends_on_the_id_and_the_key_alone(events: Interactions) -> None:
    one, other = ({"n": 4, "key": key} for key in ("a", "b"))
    found = shard_of(events.user_ids, one)
    assert (found == shard_of(events.user_ids, one)).all()
    assert (found != shard_of(events.user_ids, other)).any()
    assert (shard_of(events.user_ids.head(7), one) == found[:7]).all()
    assert set(found) == {0, 1, 2, 3}


def test_shards_are_kept_and_found_again(events: Interactions, tmp_path: object) -> None:
    rec = fit_shards(events, MF, shards=3)
    rec.save(f"{tmp_path}/run")
    again = bb.load(f"{tmp_path}/run")
    assert again.shards == rec.shards
    assert again.recommend(["u1"]).ids == rec.recommend(["u1"]).ids
    assert unlearn(again, ["u1"]).method == "shards"
    assert again.refit(events).shards is None


@pytest.mark.parametrize("model", ["itemknn", "popularity"])
def test_other_models_are_fitted_again(events: Interactions, model: str) -> None:
    rec, again = bb.fit(events, model), bb.fit(without(events, ["u9"])[0], model)
    found = unlearn(rec, ["u9"])
    assert (found.method, found.exact) == ("refit", True)
    for name, tensor in found.recommender.model.state_dict().items():
        assert (tensor == again.model.state_dict()[name]).all()


def test_things_of_nobody_else_leave_unless_somebody_describes_them() -> None:
    frame = pl.DataFrame({"user_id": ["a", "a", "a", "b", "b"], "item_id": ["x", "mine", "told", "x", "y"]})
    past = bb.read(frame, items=pl.DataFrame({"item_id": ["told"], "title": ["A title"]}))
    left, items = without(past, ["a"])
    assert left.item_ids.values.to_list() == ["x", "told", "y"]
    assert past.item_ids.names(items).to_list() == ["x", "told", "y"]
    assert left.items is not None
    assert left.items["title"].to_list() == [None, "A title", None]
    assert without(past, ["a"], ["mine"])[0].n_items == 4
    assert left.user_ids.values.to_list() == ["b"]


def test_where_nobody_is_left_there_is_nothing_to_learn(two_by_two: Interactions) -> None:
    with pytest.raises(DataError, match="nobody else is left"):
        unlearn(bb.fit(two_by_two, "itemknn"), ["ann", "bob"])


def test_what_a_run_does_not_keep_is_asked_for(events: Interactions, tmp_path: object) -> None:
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(60)], "age": range(60)})
    rec = bb.fit(events.with_tables(users=users), "twotower", dim=4, epochs=1)
    assert unlearn(rec, ["u2"]).method == "refit"  # the table is there still
    rec.save(f"{tmp_path}/run")
    with pytest.raises(RequestError, match="what people tell of themselves, which a run does not keep"):
        unlearn(bb.load(f"{tmp_path}/run"), ["u2"])


def test_a_silenced_user_is_a_stranger(events: Interactions) -> None:
    rec = bb.fit(events, "mf", dim=4, epochs=3)
    quiet = silenced(rec, ["u7"])
    assert quiet.user_ids.row("u7") == -1
    assert quiet.recommend(["u7"]).ids == quiet.recommend(["a stranger"]).ids
    assert quiet.recommend(["u8"]).ids == rec.recommend(["u8"]).ids
    assert len(quiet.past) == len(rec.past) - 6
    assert float(quiet.popularity.counts.sum()) == float(rec.popularity.counts.sum()) - 6
    assert rec.user_ids.row("u7") >= 0
    assert silenced(rec, ["nobody"]) is rec


def test_a_silenced_user_is_in_no_reason(events: Interactions) -> None:
    rec = bb.fit(events, "mf", dim=4, epochs=3)
    user = rec.user_ids.row("u7")
    item = int(rec.past.item[rec.past.user == user][0])
    before = len(rec.explainer.choosers(item))
    assert len(silenced(rec, ["u7"]).explainer.choosers(item)) == before - 1
    assert len(rec.explainer.choosers(item)) == before


def test_users_that_are_numbers_are_silenced_by_their_text() -> None:
    numbers = bb.fit(bb.read(pl.DataFrame({"user_id": [1, 1, 2, 3], "item_id": [1, 2, 1, 2]})), "itemknn")
    assert silenced(numbers, ["1", "3"]).user_ids.row(2) == 1
    assert silenced(numbers, ["1", "3"]).user_ids.row(1) == -1
