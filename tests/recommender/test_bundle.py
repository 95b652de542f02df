import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file

import bowerbird as bb
from bowerbird.core import BundleError
from bowerbird.data import EventType, Interactions


@pytest.fixture(scope="module")
def saved(rec: bb.Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    rec.save(run)
    return run


def everyone(rec: bb.Recommender) -> pl.DataFrame:
    return rec.recommend([*rec.user_ids.values, "who"], k=6, explain=True).to_polars()


def test_a_loaded_recommender_answers_as_the_saved_one(rec: bb.Recommender, saved: Path) -> None:
    again = bb.load(saved)
    assert everyone(again).equals(everyone(rec))
    assert again.similar(["article-04"], k=5).to_polars().equals(rec.similar(["article-04"], k=5).to_polars())
    assert again.config == rec.config
    assert again.past.origin == rec.past.origin


def test_a_loaded_recommender_keeps_titles_prices_and_filters(rec: bb.Recommender, saved: Path) -> None:
    cheap = pl.col("price") < 5
    again = bb.load(saved).recommend(["customer-03"], k=3, where=cheap).to_polars()
    assert again.equals(rec.recommend(["customer-03"], k=3, where=cheap).to_polars())


def test_integer_ids_survive(numbered: Interactions, tmp_path: Path) -> None:
    rec = bb.fit(numbered, "itemknn")
    rec.save(tmp_path)
    again = bb.load(tmp_path)
    assert again.recommend([3], k=3).to_polars().equals(rec.recommend([3], k=3).to_polars())


def test_the_meaning_of_events_survives(tmp_path: Path) -> None:
    kinds = [EventType("view", hides=False, phrase="looked at"), EventType("buy", weight=3.0, phrase="bought")]
    frame = pl.DataFrame({"user": ["a", "a", "b", "b"], "item": ["x", "y", "x", "z"], "event": ["view", "buy"] * 2})
    rec = bb.fit(bb.read(frame, event_types=kinds), "itemknn", shrink=0.0)
    rec.save(tmp_path)
    again = bb.load(tmp_path)
    assert again.past.events == tuple(kinds)
    slate = again.recommend(["a"], k=3, explain=True).to_polars()
    assert set(slate["item_id"]) == {"x", "z"}  # what was looked at may come again, what was bought may not
    assert "because you bought y" in slate["reason"].to_list()


def test_each_save_is_a_new_version_and_the_newest_is_loaded(shop: Interactions, tmp_path: Path) -> None:
    first, second = bb.fit(shop, "ease", l2=5.0), bb.fit(shop, "ease", l2=50.0)
    assert (first.save(tmp_path), second.save(tmp_path)) == ("000001", "000002")
    newest, oldest = bb.load(tmp_path), bb.load(tmp_path, version="000001")
    assert (newest.version, newest.config.l2) == ("000002", 50.0)
    assert (oldest.version, oldest.config.l2) == ("000001", 5.0)
    assert torch.equal(oldest.model.weights, first.model.weights)
    assert oldest.recommend(k=1).body("r")["model_version"] == "000001"


def test_the_last_three_versions_are_kept(shop: Interactions, tmp_path: Path) -> None:
    rec = bb.fit(shop, "popularity")
    versions = [rec.save(tmp_path) for _ in range(5)]
    for part in ("bundles", "histories"):
        assert sorted(one.name for one in (tmp_path / part).iterdir()) == versions[2:]
    with pytest.raises(BundleError, match="version 000001 is gone"):
        bb.load(tmp_path, version="000001")


def test_a_bundle_holds_no_event_and_no_past(saved: Path, rec: bb.Recommender) -> None:
    bundle = saved / "bundles" / "000001"
    assert sorted(one.name for one in bundle.iterdir()) == [
        "items.parquet", "manifest.json", "users.parquet", "weights.safetensors",
    ]  # fmt: skip
    users, items = pl.read_parquet(bundle / "users.parquet"), pl.read_parquet(bundle / "items.parquet")
    assert users.columns == ["user_id"]
    assert items.columns == ["item_id", "title", "price"]
    assert (users.n_unique(), items.n_unique()) == (len(users), len(items)) == (30, 20)
    shapes = {name: array.shape for name, array in load_file(bundle / "weights.safetensors").items()}
    assert shapes == {"model.weights": (20, 20), "popularity.counts": (20,)}
    manifest = (bundle / "manifest.json").read_text()
    assert "customer-" not in manifest
    assert "article-" not in manifest


def test_pasts_are_kept_beside_the_bundles(saved: Path, rec: bb.Recommender) -> None:
    past = pl.read_parquet(saved / "histories" / "000001" / "histories.parquet")
    assert past.columns == ["user", "item", "event", "weight", "time"]
    assert len(past) == len(rec.past)
    assert past["time"].is_sorted()


def test_without_pasts_nothing_is_loaded(saved: Path, tmp_path: Path) -> None:
    run = shutil.copytree(saved, tmp_path / "run")
    (run / "histories" / "000001" / "histories.parquet").unlink()
    with pytest.raises(BundleError, match=r"histories\.parquet is missing: nobody's past is known"):
        bb.load(run)


@pytest.mark.parametrize("name", ["weights.safetensors", "users.parquet", "items.parquet", "manifest.json"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_changed_byte_is_refused(saved: Path, tmp_path: Path, name: str, share: float) -> None:
    run = shutil.copytree(saved, tmp_path / "run")
    path = run / "bundles" / "000001" / name
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} (was changed|cannot be read)"):
        bb.load(run)


@pytest.mark.parametrize("name", ["weights.safetensors", "users.parquet", "manifest.json"])
def test_a_missing_file_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    run = shutil.copytree(saved, tmp_path / "run")
    (run / "bundles" / "000001" / name).unlink()
    with pytest.raises(BundleError, match=name):
        bb.load(run)


def test_a_folder_that_is_no_run_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"this is not a run directory. Make one with: bowerbird train"):
        bb.load(tmp_path)


def test_what_was_measured_is_kept(shop: Interactions, tmp_path: Path) -> None:
    rec = bb.fit(shop, "popularity")
    rec.measured = {"metrics": {"ndcg@10": 0.25}, "trained_on": "the train part"}
    rec.save(tmp_path)
    assert bb.load(tmp_path).measured == rec.measured


def test_a_user_of_a_newer_save_is_a_stranger_to_an_older_version(shop: Interactions, tmp_path: Path) -> None:
    early = shop.rows(np.arange(len(shop)) < 60)
    rec = bb.fit(bb.read(_frame(early)), "itemknn")
    rec.save(tmp_path)
    bb.fit(shop, "itemknn").save(tmp_path)
    again = bb.load(tmp_path, version="000001")
    assert len(again.user_ids) == len(rec.user_ids)
    assert len(again.past) == 60  # it answers from what it knew


def test_a_run_of_before_with_one_file_of_histories_is_still_read(shop: Interactions, tmp_path: Path) -> None:
    rec = bb.fit(shop, "ease")
    rec.save(tmp_path)
    for one in (tmp_path / "histories" / "000001").iterdir():
        one.rename(tmp_path / one.name)
    shutil.rmtree(tmp_path / "histories")
    assert everyone(bb.load(tmp_path)).equals(everyone(rec))
    bb.fit(shop.rows(np.arange(len(shop)) < 60), "ease").save(tmp_path)
    assert len(bb.load(tmp_path, version="000001").past) == len(shop)
    assert len(bb.load(tmp_path).past) == 60


def test_the_offset_of_the_log_is_kept_until_a_save_names_another(shop: Interactions, tmp_path: Path) -> None:
    rec = bb.fit(shop, "popularity")
    offsets = []
    for given in (None, 7, None):
        rec.save(tmp_path, log_offset=given)
        offsets.append(bb.load(tmp_path).log_offset)
    assert offsets == [0, 7, 7]
    assert bb.load(tmp_path).parent == "000002"
    assert bb.load(tmp_path).refit(shop).log_offset == 7


def test_moments_of_the_optimiser_come_when_they_are_asked_for(
    shop: Interactions, quick: dict[str, object], tmp_path: Path
) -> None:
    rec = bb.fit(shop, "mf", **quick)
    rec.save(tmp_path)
    assert bb.load(tmp_path).moments == {}
    again = bb.load(tmp_path, moments=True).moments
    assert set(again) == {f"{name}.{key}" for name in ("user", "item") for key in ("mean", "square", "steps")}
    assert all(torch.equal(again[name], moment) for name, moment in rec.moments.items())
    assert again["item.square"].sum() > 0


def _frame(events: Interactions) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user": events.user_ids.names(events.user),
            "item": events.item_ids.names(events.item),
            "time": pl.Series(events.time),
        }
    )
