"""What side columns and times add to a history: cold items, hours, gaps, and words about what is missing."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import bowerbird as bb
from bowerbird.core import ConfigError
from bowerbird.core.ids import Ids
from bowerbird.data import Interactions
from bowerbird.features import Context
from bowerbird.models.sequential.sasrec import SASRec, SASRecConfig
from bowerbird.nn.sequences import VALUES, side_codes
from bowerbird.recommender import Recommender

QUIET = bb.RunOptions(progress=False)
HOUR = 3600


def shop(**columns: list[object]) -> Interactions:
    """Return 40 people who buy items 0 to 5 of one kind or 6 to 11 of another; items 12 and 13 are never bought."""
    rng = np.random.default_rng(0)
    item = np.concatenate([6 * (user % 2) + rng.permutation(6)[:5] for user in range(40)])
    ids = pl.Series([f"i{row}" for row in range(14)])
    events = Interactions.of(
        pl.Series(np.repeat(np.arange(40), 5)), pl.Series([f"i{row}" for row in item]), time=np.arange(200) * HOUR
    )
    known = events.item_ids.values
    table = pl.DataFrame({"item": pl.concat([known, ids.filter(~ids.is_in(known.implode()))])})
    kind = [["even", "odd"][int(int(one[1:]) % 12 >= 6 or one == "i13")] for one in table["item"]]
    more = pl.DataFrame({"item": table["item"], "kind": kind, **columns})
    return replace(events, item_ids=Ids(table["item"])).with_tables(items=more)


def test_a_cold_item_is_known_by_its_side_columns() -> None:
    past = shop()
    config = SASRecConfig(dim=16, sides=("kind",), side_buckets=100, batch_size=64, learning_rate=5e-3)
    rec = Recommender(config, past, run=QUIET)
    rec.learn(epochs=30)
    cold = {past.item_ids[row]: row for row in range(past.n_items)}
    scores = rec.model.scores(Context.of_histories([[cold["i0"], cold["i2"]], [cold["i7"], cold["i9"]]]))
    even, odd = scores[:, cold["i12"]], scores[:, cold["i13"]]
    assert bool(scores.isfinite().all())
    assert even[0] > odd[0]
    assert odd[1] > even[1]


def test_without_side_columns_a_cold_item_may_not_be_scored() -> None:
    past = shop()
    rec = Recommender(SASRecConfig(dim=16), past, run=QUIET)
    rec.learn(epochs=1)
    scores = rec.model.scores(Context.of_histories([[0]]))
    assert int(scores.isneginf().sum()) == 2


def test_values_of_side_columns() -> None:
    lists = [["a", "b"]] * 13 + [[f"v{place}" for place in range(20)]]
    past = shop(genres=["x|y"] * 13 + [None], tags=lists)  # type: ignore[arg-type]
    code = side_codes(past, SASRecConfig(sides=("genres", "tags"), side_buckets=1 << 40))
    assert (code >= 0).sum(dim=1).tolist() == [4] * 13 + [VALUES]
    assert torch.equal(code[0], code[1])
    assert len(code[0, :4].unique()) == 4
    assert not torch.isin(code[13], code[0, :4]).any()


def test_an_unknown_side_column_is_named() -> None:
    model = SASRec(SASRecConfig(sides=("kinds",)), shop().schema)
    with pytest.raises(ConfigError, match=r'no column "kinds". Did you mean "kind"\? Columns: kind\.'):
        model.prepare(shop())


@pytest.mark.parametrize("settings", [{"time_gaps": True}, {"time_of_day": True}], ids=["gaps", "hours"])
def test_times_change_what_comes_next(settings: dict[str, bool]) -> None:
    past = shop()
    rec = Recommender(SASRecConfig(dim=16, **settings), past, run=QUIET)  # type: ignore[arg-type]
    rec.learn(epochs=2)
    model = rec.model.eval()
    item, time = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 60, 120]])
    same = time + (1 if "time_gaps" in settings else 7 * 24) * HOUR  # the same gaps, the same hour of the week
    other = torch.tensor([[0, 60, 9 * HOUR]])
    before = model.encode(item, time)
    assert torch.equal(model.encode(item, same), before)
    assert torch.equal(model.encode(item, other)[:, :2], before[:, :2])
    assert not torch.isclose(model.encode(item, other)[:, 2], before[:, 2]).all()
    assert bool(model.encode(item, None).isfinite().all())  # a posted history need not say when


def test_times_must_be_there() -> None:
    past = Interactions.of(pl.Series([1, 1]), pl.Series([1, 2]))
    model = SASRec(SASRecConfig(time_gaps=True), past.schema)
    with pytest.raises(ConfigError, match="need events with times"):
        model.prepare(past)


def test_the_loss_is_chosen_by_size_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="bowerbird"):
        assert SASRecConfig().settled(1_000).loss == "softmax"
        assert SASRecConfig().settled(1_000_000).loss == "sampled_softmax"
    assert "SASRecConfig: sampled_softmax for 1,000,000 items" in caplog.text
    assert SASRecConfig(loss="gbce").settled(10).loss == "gbce"


def test_sides_survive_growth_and_the_disk(tmp_path: Path) -> None:
    past = shop()
    rec = Recommender(SASRecConfig(dim=16, sides=("kind",)), past, run=QUIET)
    rec.learn(epochs=2)
    rec.save(tmp_path)
    again = bb.load(tmp_path, options=QUIET)
    asked = Context.of_histories([[0, 3]])
    assert torch.equal(again.model.scores(asked), rec.model.scores(asked))
    rec.model.grow(50, 20)
    assert rec.model.code.shape == (20, VALUES)
    assert int(rec.model.code[14:].max()) == -1
    assert rec.model.scores(asked).shape == (1, 20)
