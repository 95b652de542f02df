from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bowerbird as bb
from bowerbird.core import ConfigError, UnknownModelError
from bowerbird.data import Interactions, Split
from bowerbird.models.baselines.ease import EASEConfig
from bowerbird.models.baselines.mf import MFConfig
from bowerbird.training import Training

QUIET = bb.RunOptions(progress=False)


@pytest.fixture(scope="module")
def split(shop: Interactions) -> Split:
    return bb.split(shop, "per-user", valid=0.2, test=0.2)


@pytest.fixture(scope="module")
def trained(split: Split, quick: dict) -> bb.Recommender:
    """Return a model that was trained past its best epoch."""
    return bb.fit(split, "mf", run=QUIET, **(quick | {"epochs": 60, "patience": 3}))


def test_a_name_with_settings_a_config_and_a_recipe_are_the_same_thing(shop: Interactions) -> None:
    one = bb.fit(shop, "ease", l2=7.0)
    two = bb.fit(shop, EASEConfig(l2=7.0))
    three = bb.fit(shop, bb.Recipe(model=EASEConfig(l2=7.0)))
    assert one.config == two.config == three.config == EASEConfig(l2=7.0)
    assert torch.equal(one.model.weights, two.model.weights)
    assert torch.equal(one.model.weights, three.model.weights)


def test_a_recipes_run_options_count_unless_others_are_given(shop: Interactions) -> None:
    recipe = bb.Recipe(model=EASEConfig(), run=bb.RunOptions(seed=9))
    assert bb.fit(shop, recipe).run.seed == 9
    assert bb.fit(shop, recipe, run=bb.RunOptions(seed=4)).run.seed == 4


@pytest.mark.parametrize("model", [EASEConfig(), bb.Recipe(model=EASEConfig())], ids=["config", "recipe"])
def test_settings_beside_a_config_are_refused(shop: Interactions, model: object) -> None:
    with pytest.raises(ConfigError, match=r"l2 cannot be given beside a config. Put them into it."):
        bb.fit(shop, model, l2=3.0)


def test_an_unknown_model_is_refused_with_the_closest_one(shop: Interactions) -> None:
    with pytest.raises(UnknownModelError, match=r'no model is named "lightgnc". Did you mean "lightgcn"\?'):
        bb.fit(shop, "lightgnc")


def test_an_unknown_setting_is_refused_with_the_closest_one(shop: Interactions) -> None:
    with pytest.raises(ConfigError, match=r'neighbors is not an option of ItemKNNConfig. Did you mean "neighbours"\?'):
        bb.fit(shop, "itemknn", neighbors=5)


def test_a_split_trains_on_its_train_part_only(split: Split, shop: Interactions) -> None:
    rec = bb.fit(split, "popularity")
    assert rec.model.counts.sum().item() == len(split.train.positives) < len(shop.positives)


def test_validation_picks_the_epoch(trained: bb.Recommender) -> None:
    training = trained.training
    values = [row["ndcg@10"] for row in training.curve]
    assert training.select == "ndcg@10"
    assert training.best == max(values)
    assert training.best_epoch == 1 + values.index(max(values)) == training.epochs - 3


def test_the_model_kept_is_that_of_the_best_epoch(trained: bb.Recommender, split: Split) -> None:
    assert trained.training.curve[-1]["ndcg@10"] < trained.training.best
    report = bb.evaluate(trained, split.valid, metrics=["ndcg@10"], intervals=False)
    assert report.metrics["ndcg@10"] == pytest.approx(trained.training.best)


def test_a_bare_table_is_trained_on_for_all_epochs(shop: Interactions, quick: dict) -> None:
    training = bb.fit(shop, "mf", run=QUIET, **quick).training
    assert (training.epochs, training.select) == (6, "")


def test_a_refit_trains_for_the_chosen_epochs_on_everything(trained: bb.Recommender, shop: Interactions) -> None:
    chosen = trained.training
    trained.training = replace(chosen, best_epoch=3)
    trained.measured = {"metrics": {"ndcg@10": 0.5}}
    try:
        fresh = trained.refit(shop)
    finally:
        trained.training = chosen
    assert fresh.training.epochs == 3
    assert fresh.config == trained.config
    assert fresh.past is shop
    assert fresh.measured == {"metrics": {"ndcg@10": 0.5}}


def test_a_refit_of_a_closed_form_model_equals_a_fit(split: Split, shop: Interactions) -> None:
    assert torch.equal(bb.fit(split, "ease").refit(shop).model.weights, bb.fit(shop, "ease").model.weights)


def test_a_loaded_recommender_is_refitted_for_the_chosen_epochs(
    trained: bb.Recommender, shop: Interactions, tmp_path: Path
) -> None:
    chosen = trained.training
    trained.training = replace(chosen, best_epoch=2)
    try:
        trained.save(tmp_path)
    finally:
        trained.training = chosen
    again = bb.load(tmp_path, options=QUIET)
    assert isinstance(again.training, Training)
    assert again.refit(shop).training.epochs == 2


def test_a_refit_keeps_a_checkpoint_of_its_own(split: Split, shop: Interactions, quick: dict, tmp_path: Path) -> None:
    run = bb.RunOptions(progress=False, checkpoint=str(tmp_path))
    rec = bb.fit(split, "mf", run=run, **quick)
    (chosen,) = tmp_path.iterdir()
    before = chosen.read_bytes()
    fresh = rec.refit(shop)
    assert len(list(tmp_path.iterdir())) == 2
    assert chosen.read_bytes() == before
    assert rec.refit(shop).training.resumed_from == fresh.training.epochs


def test_the_seed_decides_where_a_model_starts(shop: Interactions) -> None:
    def start(seed: int) -> torch.Tensor:
        return bb.Recommender(MFConfig(dim=4), shop, run=bb.RunOptions(seed=seed)).model.user

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))


def test_making_a_recommender_leaves_the_callers_random_numbers_alone(shop: Interactions) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    bb.Recommender(MFConfig(dim=4), shop)
    assert torch.equal(torch.rand(3), expected)


def test_a_recommender_says_what_it_is(rec: bb.Recommender) -> None:
    assert "ease, 30 users, 20 items" in repr(rec)
