import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird import core
from bowerbird.core import (
    BowerbirdDeprecationWarning,
    BowerbirdError,
    ConfigError,
    closest,
    deprecated,
    did_you_mean,
)

REFINED = {
    "ConfigError": ValueError,
    "DuplicateModelError": ValueError,
    "DataError": ValueError,
    "BundleError": ValueError,
    "RequestError": ValueError,
    "UnknownModelError": LookupError,
    "UnknownItemError": LookupError,
    "ScoreError": ArithmeticError,
    "MissingExtraError": ImportError,
}


@pytest.mark.parametrize(("name", "builtin"), REFINED.items())
def test_every_error_is_caught_by_our_base_and_by_the_builtin_it_refines(name: str, builtin: type) -> None:
    error = getattr(core, name)
    assert issubclass(error, BowerbirdError)
    assert issubclass(error, builtin)


def test_no_public_error_is_missing_from_the_table_above() -> None:
    public = {name for name in core.__all__ if name.endswith("Error")} - {"BowerbirdError"}
    assert public == set(REFINED)


def test_the_place_follows_the_message_in_brackets() -> None:
    error = ConfigError("hops is -1; it must be 0 or more.", where="recipe.toml, key model.hops")
    assert str(error) == "hops is -1; it must be 0 or more. (recipe.toml, key model.hops)"
    assert error.message == "hops is -1; it must be 0 or more."


def test_without_a_place_there_are_no_brackets() -> None:
    assert str(ConfigError("dim is 0.")) == "dim is 0."


def test_the_closest_name_is_suggested() -> None:
    assert did_you_mean("lightgnc", ["sasrec", "lightgcn"]) == ' Did you mean "lightgcn"?'


def test_nothing_is_suggested_when_nothing_is_close() -> None:
    assert did_you_mean("xylophone", ["mf", "ease"]) == ""


@given(st.lists(st.text(min_size=1), min_size=1), st.data())
def test_a_name_that_is_allowed_suggests_itself(allowed: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(allowed))
    assert did_you_mean(name, allowed) == f' Did you mean "{name}"?'


@pytest.mark.parametrize(
    ("name", "meant"), [("U7", "u7"), (" u7 ", "u7"), ("EASE", "ease"), ("Ease", "ease"), ("who", None), ("", None)]
)
def test_case_and_spaces_around_a_name_do_not_hide_what_was_meant(name: str, meant: str | None) -> None:
    assert closest(name, ["ease", "u7", "User-19"]) == meant


def test_of_two_names_that_differ_in_case_the_one_written_is_meant() -> None:
    assert closest("A", ["A", "a"]) == "A"
    assert closest("a", ["A", "a"]) == "a"


def test_a_deprecation_names_both_versions_and_the_new_way_and_points_at_the_caller() -> None:
    def old_name() -> None:
        deprecated("old_name()", since="0.2", removed_in="0.4", instead="new_name()")

    with pytest.warns(BowerbirdDeprecationWarning) as caught:
        old_name()
    assert str(caught[0].message) == (
        "old_name() is deprecated since bowerbird 0.2 and goes in 0.4. Write new_name() instead."
    )
    assert caught[0].filename == __file__


def test_a_deprecation_is_shown_by_default() -> None:
    assert issubclass(BowerbirdDeprecationWarning, FutureWarning)
