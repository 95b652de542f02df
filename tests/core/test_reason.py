from bowerbird.core import Reason


def test_a_reason_becomes_json_with_rounded_shares() -> None:
    reason = Reason("history", "because you liked Alien", (("alien", 2 / 3), (7, 1 / 3)))
    assert reason.to_dict() == {
        "kind": "history",
        "text": "because you liked Alien",
        "items": [{"item_id": "alien", "share": 0.6667}, {"item_id": 7, "share": 0.3333}],
    }


def test_a_reason_without_items_has_an_empty_list() -> None:
    assert Reason("popularity", "chosen by 12 people").to_dict()["items"] == []
