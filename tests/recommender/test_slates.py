import pandas as pd
import pytest

import bowerbird as bb
from bowerbird.serving.bodies import ItemBody, SlateBody


def test_a_slate_becomes_a_pandas_frame(rec: bb.Recommender) -> None:
    slates = rec.recommend(["customer-03"], k=3)
    frame = slates.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["item_id"].tolist() == slates.to_polars()["item_id"].to_list()


def test_a_slate_prints_its_items(rec: bb.Recommender) -> None:
    slates = rec.recommend(["customer-03"], k=3, explain=True)
    text = str(slates)
    assert all(item in text for item in slates.to_polars()["item_id"])
    assert "because you chose Article" in text


def test_the_body_has_exactly_these_keys(rec: bb.Recommender) -> None:
    body = rec.recommend(["customer-03"], k=2, explain=True).body("r1")
    assert list(body) == [
        "request_id", "user_id", "scenario", "model", "model_version", "policy", "rung", "fallback", "stale",
        "experiment", "unknown_items", "items", "trace", "timings_ms",
    ]  # fmt: skip
    assert set(body) == set(SlateBody.model_fields)
    assert list(body["items"][0]) == list(ItemBody.model_fields)
    assert list(body["items"][0]["reasons"][0]) == ["kind", "method", "text", "text_zh", "causes", "people"]
    assert list(body["items"][0]["reasons"][0]["causes"][0]) == ["id", "label", "share"]
    assert list(body["timings_ms"]) == ["sources", "filter", "slate"]


def test_the_body_says_who_answered_whom_with_what(rec: bb.Recommender) -> None:
    slates = rec.recommend(["customer-03", "who"], k=2)
    known, unknown = slates.body("r1", 0), slates.body("r2", 1)
    frame = slates.to_polars()
    assert (known["request_id"], known["user_id"], known["model"]) == ("r1", "customer-03", "ease")
    assert (known["rung"], known["fallback"]) == ("model", [])
    assert (unknown["request_id"], unknown["user_id"]) == ("r2", "who")
    assert (unknown["rung"], unknown["fallback"]) == ("popularity", ["cold"])
    assert [one["item_id"] for one in known["items"] + unknown["items"]] == frame["item_id"].to_list()
    assert [one["position"] for one in known["items"]] == [1, 2]
    assert [one["propensity"] for one in known["items"]] == [1.0, 1.0]
    assert [one["reasons"] for one in known["items"]] == [[], []]
    assert [one["sources"] for one in unknown["items"]] == [["popularity"], ["popularity"]]
    assert known["items"][0]["title"] == f"Article {int(known['items'][0]['item_id'][-2:])}"


def test_the_body_counts_unknown_items(rec: bb.Recommender) -> None:
    slates = rec.recommend(histories=[["article-01"], ["article-01", "lamp"]], k=2)
    assert [slates.body("r", row)["unknown_items"] for row in range(2)] == [0, 1]
    assert slates.body("r", 1)["user_id"] is None


def test_reasons_come_only_when_asked_for(rec: bb.Recommender) -> None:
    assert rec.recommend(["customer-03"], k=2).to_polars()["reason"].to_list() == [None, None]
    asked = rec.recommend(["customer-03", "who"], k=2, explain=True)
    texts = asked.to_polars()["reason"].to_list()
    assert all(text.startswith("because you chose Article ") for text in texts[:2])
    assert all(text.startswith("chosen by ") for text in texts[2:])
    assert [len(reasons) for reasons in asked.reasons] == [2, 2]


def test_a_reason_names_something_the_person_chose(rec: bb.Recommender) -> None:
    shop = rec.past
    mine = shop.item_ids.names(shop.item[shop.user == shop.user_ids.row("customer-06")]).to_list()
    for reason, *_ in rec.recommend(["customer-06"], k=3, explain=True).reasons[0]:
        assert {cause.id for cause in reason.causes} <= set(mine)
        assert 0 < sum(cause.share for cause in reason.causes) <= 1 + 1e-6


def test_every_place_has_a_propensity(rec: bb.Recommender) -> None:
    assert rec.recommend(["customer-03"], k=4).propensities == [[1.0] * 4]


@pytest.mark.parametrize("k", [1, 20])
def test_there_is_a_slate_for_every_request_whatever_k(rec: bb.Recommender, k: int) -> None:
    assert len(rec.recommend(["customer-03", "who", "customer-04"], k=k)) == 3
