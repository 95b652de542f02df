import json

from bowerbird.core import Cause, Reason


def test_a_reason_becomes_json_with_rounded_shares() -> None:
    causes = (Cause("alien", "Alien", 2 / 3), Cause(7, "Seven", 1 / 3))
    reason = Reason("history", "because you liked Alien", "因为你喜欢过《Alien》", "sum", causes)
    assert reason.to_dict() == {
        "kind": "history",
        "method": "sum",
        "text": "because you liked Alien",
        "text_zh": "因为你喜欢过《Alien》",
        "causes": [
            {"id": "alien", "label": "Alien", "share": 0.6667},
            {"id": 7, "label": "Seven", "share": 0.3333},
        ],
        "people": None,
    }


def test_a_reason_without_causes_has_an_empty_list_and_says_of_how_many_it_speaks() -> None:
    document = Reason("popularity", "chosen by 12 people", "有 12 人选择", people=12).to_dict()
    assert (document["causes"], document["people"], document["method"]) == ([], 12, "count")
    assert json.loads(json.dumps(document)) == document
