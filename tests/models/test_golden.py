"""Golden numbers on MovieLens 100K: each person's last 20 % left out, the tenth before it ranked, seed 0.

The tolerance is wide enough for another processor and narrow enough to catch a missing step.
"""

import pytest

import bowerbird as bb
from bowerbird.data import Interactions, Split

QUIET = bb.RunOptions(progress=False)


@pytest.fixture(scope="module")
def parts(films: Interactions) -> Split:
    return bb.split(films, "per-user", valid=0.1, test=0.2)


@pytest.mark.parametrize(
    ("name", "golden", "tolerance"),
    [
        ("popularity", 0.0620, 0.001),
        ("itemknn", 0.1345, 0.001),
        ("ease", 0.1240, 0.001),
        ("ials", 0.1286, 0.003),
        ("mf", 0.1211, 0.006),
        ("lightgcn", 0.1267, 0.006),
        ("spectral", 0.1126, 0.001),
    ],
)
@pytest.mark.slow
def test_validation_ndcg_is_what_it_was(parts: Split, name: str, golden: float, tolerance: float) -> None:
    report = bb.evaluate(bb.fit(parts, name, run=QUIET), parts.valid, metrics=["ndcg@10"])
    assert report.n_users == 943
    assert report.metrics["ndcg@10"] == pytest.approx(golden, abs=tolerance)
