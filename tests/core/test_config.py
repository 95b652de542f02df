from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError, ModelConfig, RunOptions, TrainedConfig, build, check


@dataclass(frozen=True, kw_only=True)
class ToyConfig(ModelConfig):
    dim: int = 64
    rate: float = 0.1
    name: str = "toy"
    deep: bool = False
    layers: tuple[int, ...] = (8, 4)
    depth: int | None = None

    def __post_init__(self) -> None:
        check(self.dim >= 1, "dim", self.dim, "must be 1 or more", try_instead=64)


def test_check_says_key_value_rule_and_mend() -> None:
    with pytest.raises(ConfigError) as caught:
        check(False, "hops", -1, "must be 0 or more", try_instead=3)
    assert str(caught.value) == "hops is -1; it must be 0 or more. Try hops = 3."


def test_check_without_a_mend_ends_after_the_rule() -> None:
    with pytest.raises(ConfigError) as caught:
        check(False, "method", "x", "must be known")
    assert str(caught.value) == "method is 'x'; it must be known."


def test_a_mend_of_zero_is_shown() -> None:
    with pytest.raises(ConfigError, match="Try threads = 0"):
        RunOptions(threads=-1)


def test_values_of_the_right_type_pass_through() -> None:
    assert build(ToyConfig, {"dim": 3, "name": "n", "deep": True}) == ToyConfig(dim=3, name="n", deep=True)


def test_no_values_give_the_defaults() -> None:
    assert build(ToyConfig, {}) == ToyConfig()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("dim", "12", 12),
        ("rate", "1e-3", 1e-3),
        ("rate", "2", 2.0),
        ("name", "12", "12"),
        ("deep", "True", True),
        ("deep", "false", False),
        ("layers", "64,32,16", (64, 32, 16)),
        ("layers", "64", (64,)),
        ("depth", "3", 3),
        ("depth", "none", None),
        ("depth", "None", None),
    ],
)
def test_texts_become_the_declared_type(key: str, text: str, value: object) -> None:
    built = getattr(build(ToyConfig, {key: text}), key)
    assert built == value
    assert type(built) is type(value)


def test_an_integer_becomes_a_float_where_a_float_is_declared() -> None:
    assert type(build(ToyConfig, {"rate": 1}).rate) is float


def test_a_list_becomes_a_tuple() -> None:
    assert build(ToyConfig, {"layers": [3, 2]}).layers == (3, 2)


def test_none_stays_none_where_it_is_allowed() -> None:
    assert build(ToyConfig, {"depth": None}).depth is None


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("dim", "twelve", "int"),
        ("dim", "3.0", "int"),
        ("dim", 3.0, "int"),
        ("dim", True, "int"),
        ("dim", None, "int"),
        ("rate", "fast", "float"),
        ("rate", True, "float"),
        ("name", 3, "str"),
        ("deep", "yes", "bool"),
        ("deep", 1, "bool"),
        ("depth", "deep", "int"),
    ],
)
def test_a_wrong_type_is_named_with_the_value_seen(key: str, value: object, kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(ToyConfig, {key: value})
    said = str(caught.value)
    assert said.startswith(f"{key} is {value!r}; it must be of type {kind}.")
    usual = getattr(ToyConfig(), key)
    assert said.endswith(f" Try {key} = {usual}." if usual is not None else f"of type {kind}.")


def test_a_wrong_part_of_a_tuple_is_named() -> None:
    with pytest.raises(ConfigError, match="layers is 'x'; it must be of type int"):
        build(ToyConfig, {"layers": "64,x"})


def test_a_number_where_a_list_is_declared_is_answered_with_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        build(ToyConfig, {"layers": 64}, where="recipe.toml")
    assert str(caught.value) == "layers is 64; it must be a list. Try layers = [64]. (recipe.toml, key layers)"


def test_an_unknown_key_is_answered_with_the_closest_and_all_others() -> None:
    with pytest.raises(ConfigError) as caught:
        build(ToyConfig, {"dimm": 3}, where="recipe.toml")
    assert str(caught.value) == (
        'dimm is not an option of ToyConfig. Did you mean "dim"?'
        " Allowed: deep, depth, dim, layers, name, rate. (recipe.toml, key dimm)"
    )


def test_an_unknown_key_without_a_place_shows_no_brackets() -> None:
    with pytest.raises(ConfigError) as caught:
        build(ToyConfig, {"zzzzzz": 3})
    assert caught.value.where == ""


def test_a_value_that_the_class_refuses_is_placed_in_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        build(ToyConfig, {"dim": 0}, where="recipe.toml")
    assert str(caught.value) == "dim is 0; it must be 1 or more. Try dim = 64. (recipe.toml, key dim)"


WHOLE = st.integers(-(2**63) + 1, 2**63 - 1)


@given(
    st.builds(
        ToyConfig, dim=st.integers(1, 10**6), rate=st.floats(allow_nan=False, allow_infinity=False), deep=st.booleans()
    )
)
def test_a_config_survives_its_own_dictionary(config: ToyConfig) -> None:
    assert build(ToyConfig, asdict(config)) == config


@given(st.integers(1, 10**9), st.floats(allow_nan=False, allow_infinity=False), st.lists(WHOLE, min_size=1))
def test_a_config_survives_the_command_line(dim: int, rate: float, layers: list[int]) -> None:
    config = ToyConfig(dim=dim, rate=rate, layers=tuple(layers))
    texts = {"dim": str(dim), "rate": repr(rate), "layers": ",".join(map(str, layers))}
    assert build(ToyConfig, texts) == config


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "nan", "inf", 16**6000], ids=range(6))
def test_a_number_is_finite(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^rate is (.*; it must be finite|a number of .*; it must be of type float)"):
        build(ToyConfig, {"rate": value})


@pytest.mark.parametrize("value", [2**63, 10**30, 16**6000], ids=range(3))
def test_a_whole_number_fits_64_bits(value: int) -> None:
    with pytest.raises(ConfigError, match=r"^dim is .*; it must be 9,223,372,036,854,775,807 at most\. Try dim = 64\."):
        build(ToyConfig, {"dim": value})


def test_what_is_needed_and_missing_is_named() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Needy:
        name: str
        layers: list[int] = field(default_factory=list)

    with pytest.raises(ConfigError) as caught:
        build(Needy, {}, where="a.toml")
    assert str(caught.value) == "name is missing; Needy needs it. (a.toml, key name)"
    assert build(Needy, {"name": "x"}) == Needy(name="x")


def test_neither_a_value_nor_a_key_is_shown_at_length() -> None:
    for values in ({"name": ["x" * 10**6]}, {"x" * 10**6: 1}, {"depth": "y" * 10**6}, {"layers": ["z" * 10**6]}):
        with pytest.raises(ConfigError) as caught:
            build(ToyConfig, values, where="recipe.toml")
        assert len(str(caught.value)) < 600


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        ToyConfig().dim = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("batch_size", 0),
        ("epochs", 0),
        ("patience", 0),
        ("valid_every", 0),
        ("select", "ndcg"),
    ],
)
def test_a_training_option_out_of_range_names_itself_and_a_value_that_works(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is .*; it must .*\. Try {key} = ") as caught:
        TrainedConfig(**{key: value})
    mend = str(caught.value).rsplit(" = ", 1)[1].rstrip(".")
    assert getattr(build(TrainedConfig, {key: mend}), key) == getattr(TrainedConfig(), key)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed is -1; it must be 0 or more"):
        RunOptions(seed=-1)


def test_nothing_about_the_run_is_an_option_of_the_model() -> None:
    run, model = ({field.name for field in fields(kind)} for kind in (RunOptions, TrainedConfig))
    assert not run & model
