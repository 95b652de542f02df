"""TorchRec's shards on two gloo processes: `make test-torchrec` runs it in an environment of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import bowerbird as bb
from bowerbird.core import ConfigError, RunOptions, build, lookup
from bowerbird.data import Interactions, read_rows
from bowerbird.distributed.tables import sharded
from bowerbird.recommender import Predictor, Recommender
from bowerbird.store import bundles
from bowerbird.training import Workers
from two_workers import in_two

WAIT_S = 400
pytestmark = pytest.mark.filterwarnings("default")  # of TorchRec, whose warnings are its own
RUN = RunOptions(device="cpu", progress=False, threads=1)
TOWERS = {"dim": 8, "hidden": 8, "loss": "sampled_softmax", "negatives": 15, "batch_size": 40, "learning_rate": 0.01}
RANKER = {"dim": 8, "hidden": (16,), "dropout": 0.0, "batch_size": 40, "learning_rate": 0.01}


def events() -> Interactions:
    rng = np.random.default_rng(0)
    user, item = np.arange(1200) % 500, (rng.random(1200) ** 2 * 400).astype(np.int64)
    item[:400] = np.arange(400)
    return Interactions.of(pl.Series(user), pl.Series(item), time=np.arange(1200))


def rows() -> Any:
    rng = np.random.default_rng(1)
    table = pl.DataFrame({"who": rng.integers(0, 900, 1000).astype(str), "what": rng.integers(0, 500, 1000).astype(str),
                          "label": rng.integers(0, 2, 1000)})  # fmt: skip
    return read_rows(table, labels=["label"])


def towers(kind: str | None) -> tuple[Recommender, str]:
    rec = Recommender(build(lookup("twotower").config, TOWERS), events(), run=RUN)
    if kind is None:
        rec.learn(epochs=2)
        return rec, ""
    with sharded(rec.model, kind, least=400) as plan:
        rec.learn(epochs=2)
    rec.model.freeze()
    return rec, plan


def ranker(kind: str | None) -> tuple[Predictor, str]:
    from bowerbird.features import Encoder, infer
    from bowerbird.recommender.ranking import Ranking

    given = rows()
    encoder = Encoder.fit({"": given.table}, {"": infer(given.table)}, tasks=given.tasks)
    made = Predictor(Ranking(build(lookup("deepfm").config, RANKER), encoder, RUN))  # type: ignore[arg-type]
    source = made.source(given, weighed=True)
    if kind is None:
        made.ranking.learn(source, epochs=2)
        return made, ""
    with sharded(made.ranking.model, kind, least=800) as plan:
        made.ranking.learn(source, epochs=2)
    return made, plan


def state(made: Recommender | Predictor) -> dict[str, torch.Tensor]:
    model = made.model if isinstance(made, Recommender) else made.ranking.model
    return {name: one.clone() for name, one in model.state_dict().items()}


MAKERS: dict[str, Callable[[str | None], tuple[Any, str]]] = {"towers": towers, "ranker": ranker}


def work(folder: Path, rank: int) -> None:
    untouched = Recommender(build(lookup("twotower").config, TOWERS), events(), run=RUN)
    before = state(untouched)
    for kind in ("table", "column"):
        with sharded(untouched.model, kind, least=400):
            assert all(one.is_meta for one in (untouched.model.user.id, untouched.model.item.id))
        assert all(torch.equal(one, before[name]) for name, one in state(untouched).items())
    for name, maker in MAKERS.items():
        plain, _ = maker(None)
        if Workers.here().first:
            plain.save(folder / f"{name}-plain")
        for kind in ("table", "column"):
            cut, plan = maker(kind)
            expected = state(plain)
            for key, one in state(cut).items():
                off = (one.float() - expected[key].float()).norm()
                assert off <= 1e-3 * expected[key].float().norm() + 1e-4, (name, kind, key, float(off))
            if Workers.here().first:
                cut.save(folder / f"{name}-{kind}")
                (folder / f"{name}-{kind}.txt").write_text(plan)
    with pytest.raises(ConfigError, match=r"kind is 'row'; it must be one of table, column\. Row-wise sharding needs"):
        sharded(untouched.model, "row").__enter__()
    with pytest.raises(ConfigError, match="no table of 999,999 rows"):
        sharded(untouched.model, least=999_999).__enter__()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two workers left."""
    place = tmp_path_factory.mktemp("shards")
    in_two(work, place, wait_s=WAIT_S)
    return place


@pytest.mark.parametrize("kind", ["table", "column"])
@pytest.mark.parametrize("name", MAKERS)
def test_the_bundle_from_shards_is_that_of_whole_tables(folder: Path, name: str, kind: str) -> None:
    whole, cut = (bundles.read(folder / f"{name}-{what}") for what in ("plain", kind))
    assert set(whole.tensors) == set(cut.tensors)
    for key, one in whole.tensors.items():
        off = np.linalg.norm(cut.tensors[key].astype(np.float64) - one.astype(np.float64))
        assert off <= 1e-3 * np.linalg.norm(one.astype(np.float64)) + 1e-4, key
    assert whole.manifest["model"] == cut.manifest["model"]


@pytest.mark.parametrize("kind", ["table", "column"])
def test_the_plan_says_who_has_what(folder: Path, kind: str) -> None:
    plan = (folder / f"towers-{kind}.txt").read_text()
    print(plan)
    assert f"user.id (500 × 8), {kind}-wise" in plan
    assert f"{kind}_wise" in plan
    assert "rank:0/cpu" in plan
    assert "rank:1/cpu" in plan


def test_a_recommender_from_shards_answers(folder: Path) -> None:
    one, other = (bb.load(folder / f"towers-{what}") for what in ("plain", "table"))
    asked = [one.recommend([7, 11], k=5).to_polars() for one in (one, other)]
    assert asked[0]["item_id"].to_list() == asked[1]["item_id"].to_list()


def test_one_process_alone_is_told_so() -> None:
    rec = Recommender(build(lookup("twotower").config, TOWERS), events(), run=RUN)
    with pytest.raises(ConfigError, match="one process has nobody to share tables with"):
        sharded(rec.model).__enter__()
