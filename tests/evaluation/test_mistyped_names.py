import pytest

import bowerbird as bb
from bowerbird.core import ConfigError
from bowerbird.data import Interactions


@pytest.fixture(scope="module")
def parts() -> bb.Interactions:
    frame = {"user": [0, 0, 0, 1, 1, 1], "item": [0, 1, 2, 0, 2, 1], "time": [1, 2, 3, 1, 2, 3]}
    return bb.read(frame)


def test_who_and_metrics_are_answered_with_the_closest(parts: Interactions) -> None:
    split = bb.split(parts, "leave-one-out")
    rec = bb.fit(split.train, "popularity")
    with pytest.raises(ConfigError, match=r"who is 'stranger'; .* Try who = strangers\."):
        bb.evaluate(rec, split.test, who="stranger")
    with pytest.raises(ConfigError, match=r'Did you mean "ndcg"\?'):
        bb.evaluate(rec, split.test, metrics=["nDGC@10"])
    report = bb.evaluate(rec, split.test)
    with pytest.raises(ConfigError, match=r"metrics is 'ndcg10'; .* Try metrics = ndcg@10\."):
        bb.compare(report, report, metrics=["ndcg10"])
