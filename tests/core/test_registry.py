from dataclasses import dataclass

import pytest

from bowerbird.core import ConfigError, ModelConfig, UnknownModelError, entries, entry_of, lookup, register, registry


@dataclass(frozen=True, kw_only=True)
class ToyConfig(ModelConfig):
    pass


@dataclass(frozen=True, kw_only=True)
class OtherConfig(ModelConfig):
    pass


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Entry]:
    """An empty table, put back afterwards."""
    empty: dict[str, registry.Entry] = {}
    monkeypatch.setattr(registry, "_ENTRIES", empty)
    return empty


def model(name: str, module: str = "here") -> type:
    return type(name, (), {"__module__": module})


def test_a_registered_model_is_found_by_its_name(table: dict[str, registry.Entry]) -> None:
    toy = register("toy", config=ToyConfig, tags=("baseline",))(model("Toy"))
    found = lookup("toy")
    assert (found.name, found.model, found.config, found.batches) == ("toy", toy, ToyConfig, None)
    assert found.tags == ("baseline",)


def test_registering_returns_the_class_itself(table: dict[str, registry.Entry]) -> None:
    toy = model("Toy")
    assert register("toy", config=ToyConfig)(toy) is toy


def test_models_are_listed_by_name(table: dict[str, registry.Entry]) -> None:
    for name in ("b", "c", "a"):
        register(name, config=ToyConfig)(model(name))
    assert [entry.name for entry in entries()] == ["a", "b", "c"]


def test_an_unknown_name_is_answered_with_the_closest_and_the_command(table: dict[str, registry.Entry]) -> None:
    register("lightgcn", config=ToyConfig)(model("LightGCN"))
    with pytest.raises(UnknownModelError) as caught:
        lookup("lightgnc")
    assert str(caught.value) == (
        'no model is named "lightgnc". Did you mean "lightgcn"? `bowerbird models` lists all 1.'
    )


@pytest.mark.parametrize(("name", "module"), [("Other", "here"), ("Toy", "elsewhere")])
def test_two_models_of_one_name_are_refused_with_both_places(
    table: dict[str, registry.Entry], name: str, module: str
) -> None:
    register("toy", config=ToyConfig)(model("Toy"))
    with pytest.raises(ConfigError, match=f'two models are named "toy": here and {module}'):
        register("toy", config=OtherConfig)(model(name, module))
    assert lookup("toy").config is ToyConfig


def test_a_reloaded_module_may_register_its_class_again(table: dict[str, registry.Entry]) -> None:
    register("toy", config=ToyConfig)(model("Toy"))
    again = register("toy", config=ToyConfig)(model("Toy"))
    assert lookup("toy").model is again


def test_a_configuration_finds_its_model(table: dict[str, registry.Entry]) -> None:
    register("toy", config=ToyConfig)(model("Toy"))
    register("other", config=OtherConfig)(model("Other"))
    assert entry_of(OtherConfig()).name == "other"


def test_a_configuration_without_a_model_is_refused(table: dict[str, registry.Entry]) -> None:
    with pytest.raises(UnknownModelError, match="no registered model takes a ToyConfig"):
        entry_of(ToyConfig())


def test_the_summary_is_the_first_line_of_the_model_file() -> None:
    import bowerbird.models  # noqa: F401  fills the table

    assert lookup("popularity").summary.startswith("Popularity: the same list for everyone")


def test_an_entry_says_where_to_search(table: dict[str, registry.Entry]) -> None:
    space = {"l2": (1.0, 9.0), "hops": (1, 4), "loss": ["bpr", "bce"]}
    register("toy", config=ToyConfig, search=space)(model("Toy"))
    register("other", config=OtherConfig)(model("Other"))
    assert lookup("toy").search == space
    assert lookup("other").search == {}
