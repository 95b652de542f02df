"""The suite finds what it looks for: a right model passes, and each wrong one is caught by the promise it breaks."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import wrong_models
from wrong_models import WRONG, Right, RightRanker, RightTrained

import bowerbird
import bowerbird.models  # fills the registry
from bowerbird.core import BowerbirdError, ConfigError, ModelConfig, UnknownModelError, register, registry
from bowerbird.features import FeatureBatch, Pairs
from bowerbird.nn.fields import RankerConfig
from bowerbird.nn.losses import PairConfig
from bowerbird.testing import ContractError, Subject, check_model, checks

SOURCE = Path(bowerbird.__file__).parent


@dataclass(frozen=True, kw_only=True)
class RightConfig(ModelConfig):
    pass


@dataclass(frozen=True, kw_only=True)
class RightTrainedConfig(PairConfig):
    learning_rate: float = 5e-3


@dataclass(frozen=True, kw_only=True)
class RightRankerConfig(RankerConfig):
    pass


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that may be added to, put back afterwards."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


def right() -> None:
    register("right", config=RightConfig, tags=("retriever", "closed-form"))(Right)


def test_a_right_model_in_closed_form_passes_by_class_and_by_name() -> None:
    right()
    check_model(Right)
    check_model("right")


def test_a_right_trained_model_passes() -> None:
    register("right-trained", config=RightTrainedConfig, batches=Pairs, tags=("retriever", "trained"))(RightTrained)
    check_model(RightTrained)


def test_a_right_ranker_passes_and_is_asked_nothing_that_only_retrievers_promise() -> None:
    register("right-ranker", config=RightRankerConfig, batches=FeatureBatch, tags=("ranker",))(RightRanker)
    check_model(RightRanker)
    asked, of_retrievers = set(checks("right-ranker")), set(checks("vbpr")) | set(checks("ease"))
    assert asked & of_retrievers == {
        "says_what_it_is", "has_defaults", "refuses_unknown_options", "refuses_wrong_types", "refuses_bad_values",
    }  # fmt: skip
    assert asked | of_retrievers == set(checks())


def test_each_check_has_a_model_that_breaks_it() -> None:
    assert set(WRONG) == set(checks())


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_model_is_caught_with_what_was_seen(check: str) -> None:
    enter, says = WRONG[check]
    enter()
    with pytest.raises(ContractError, match=says) as caught:
        checks()[check](Subject.of("wrong"))
    assert str(caught.value).startswith(f'broken: "{checks()[check].__doc__}" ')
    assert_is_written(caught.value.where)


def assert_is_written(where: str) -> None:
    """The place of a promise is a file of ours, and the names after it are in that file."""
    path, names = re.fullmatch(r"promised in ([\w/]+\.py), (.*)", where).groups()  # type: ignore[union-attr]
    source = (SOURCE / path).read_text()
    for name in re.split(r" and |\.", names):
        assert re.search(rf"(class|def) {name}\b|^    {name}:", source, re.MULTILINE), (path, name)


@pytest.mark.parametrize("check", ["scores_singly_as_in_batches", "grows", "survives_save_and_load"])
def test_the_whole_suite_says_which_promise_was_broken(check: str) -> None:
    enter, says = WRONG[check]
    enter()
    with pytest.raises(AssertionError, match=rf"wrong breaks \d+ of 22 promises:(\n.*)*- {check}: .*{says}"):
        check_model("wrong")


def test_all_broken_promises_are_told_and_not_only_the_first() -> None:
    class Twice(wrong_models.StartsAgain, wrong_models.SortsItems):
        pass

    register("wrong", config=RightConfig, tags=("retriever", "closed-form"))(Twice)
    with pytest.raises(ContractError) as caught:
        check_model(Twice)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()[1:]] == [
        "- scores_listed_items_as_all", "- grows",
    ]  # fmt: skip
    assert str(caught.value).startswith("wrong breaks 2 of 22 promises:\n")


def test_a_model_that_cannot_be_trained_is_told_so_once() -> None:
    class Stumbles(Right):
        fit = None  # type: ignore[assignment]

    register("wrong", config=RightConfig, tags=("retriever", "closed-form"))(Stumbles)
    with pytest.raises(ContractError) as caught:
        check_model("wrong")
    assert str(caught.value).count("It cannot be trained: TypeError: 'NoneType' object is not callable") == 1
    assert "beats_popularity, " in str(caught.value)


def test_a_ranker_that_cannot_be_trained_is_told_so_once_for_rows_and_once_for_interactions() -> None:
    class Stumbles(RightRanker):
        loss = None  # type: ignore[assignment]

    register("wrong", config=RightRankerConfig, batches=FeatureBatch, tags=("ranker",))(Stumbles)
    with pytest.raises(ContractError) as caught:
        check_model("wrong")
    assert "ranks_behind_a_retriever: It cannot be trained: TypeError" in str(caught.value)
    assert "(promised in features/contracts.py, Ranker)" in str(caught.value)


def test_a_check_left_out_is_not_run() -> None:
    enter, _ = WRONG["grows"]
    enter()
    check_model("wrong", skip=("grows",))


def test_leaving_out_a_check_that_is_none_is_answered_with_the_closest() -> None:
    with pytest.raises(ConfigError, match=r'no check is named "grow"\. Did you mean "grows"\? checks\(\) lists them'):
        check_model("ease", skip=("grow",))


def test_a_model_that_learns_too_slowly_is_told_under_what_it_was_tried() -> None:
    with pytest.raises(
        ContractError, match=r"0\.\d+ is needed, with .*epochs=2.*Other options go into settings="
    ) as caught:
        check_model("mf", settings={"epochs": 2})
    assert "- beats_popularity" in str(caught.value)


def test_settings_reach_the_model_and_are_checked() -> None:
    assert Subject.of("mf", {"dim": 3}).config.dim == 3  # type: ignore[attr-defined]
    with pytest.raises(ContractError, match=r'dimm is not an option of MFConfig\. Did you mean "dim"'):
        check_model("mf", settings={"dimm": 3})


def test_a_class_that_is_not_registered_is_answered_with_how_to() -> None:
    with pytest.raises(UnknownModelError, match=r"Right is not registered\. Put @register\(…\) above the class"):
        check_model(Right)


def test_a_contract_error_is_an_assertion_and_ours() -> None:
    assert issubclass(ContractError, AssertionError)
    assert issubclass(ContractError, BowerbirdError)


@pytest.mark.parametrize("check", checks())
def test_each_promise_is_one_sentence_on_one_line(check: str) -> None:
    assert re.fullmatch(r"[A-Z`].*[^.]\.", checks()[check].__doc__ or "")


def test_nothing_in_the_suite_needs_a_test_framework() -> None:
    for path in (SOURCE / "testing").glob("*.py"):
        assert "pytest" not in path.read_text()
