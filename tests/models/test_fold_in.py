"""People who come after training are told by their edges nearly as well as if they had been there."""

from dataclasses import replace

import pytest

import bowerbird as bb
from bowerbird.core import build, lookup
from bowerbird.data import Interactions, Split
from bowerbird.recommender import Recommender

EPOCHS = {"lightgcn": 4, "ngcf": 4, "sgl": 4, "simgcl": 3, "xsimgcl": 3, "hetero": 4}
LATE = 10  # every so many-th user comes after training
ENOUGH = 0.9  # of the NDCG of the same people trained in


@pytest.fixture(scope="module")
def parts(films: Interactions) -> Split:
    return bb.split(films, "per-user")


@pytest.mark.parametrize("name", [*EPOCHS, "spectral"])
def test_who_comes_later_is_ranked_for_nearly_as_well(name: str, parts: Split) -> None:
    config = build(lookup(name).config, {"epochs": EPOCHS[name]} if name in EPOCHS else {})
    late = parts.valid.targets.user % LATE == 0
    asked = replace(parts.valid, targets=parts.valid.targets.rows(late))
    figures = []
    for train in (parts.train, parts.train.rows(parts.train.user % LATE != 0)):
        rec = Recommender(config, train, run=bb.RunOptions(progress=False))
        rec.learn()
        figures.append(bb.evaluate(rec, asked, metrics=["ndcg@20"], intervals=False).metrics["ndcg@20"])
    assert figures[0] > 0.05
    assert figures[1] >= ENOUGH * figures[0], figures
