import numpy as np
import polars as pl
import pytest

from bowerbird.core import ConfigError, RequestError
from bowerbird.features.attributes import attributes
from bowerbird.nn.people import PeopleConfig

USERS = pl.DataFrame(
    {
        "age": [31, 22, 31, 45] * 8,
        "zip_code": ["01234", "98765", "55555", "01234"] * 8,
        "member": [True, False, None, True] * 8,
        "likes": [["jazz", "rock"], ["folk"], [], None] * 8,
        "name": [f"Person number {row}" for row in range(32)],
    }
)


def config(*columns: str) -> PeopleConfig:
    return PeopleConfig(user_attributes=columns).settled_on(USERS)


def test_columns_that_seem_to_be_attributes_are_found_and_numbers_among_them() -> None:
    found = config()
    assert found.user_attributes == ("age", "zip_code", "member", "likes")
    assert found.user_numbers == ("age",)


def test_columns_that_are_named_are_taken_and_unknown_ones_refused_with_the_closest() -> None:
    assert config("zip_code").user_attributes == ("zip_code",)
    with pytest.raises(ConfigError, match=r'the user table has no column "zip_cod"\. Did you mean "zip_code"\?'):
        config("zip_cod")
    with pytest.raises(ConfigError, match=r'the user table has no column "age"\. Columns: none\.'):
        PeopleConfig(user_attributes=("age",)).settled_on(None)


def test_without_a_table_nothing_is_read() -> None:
    assert PeopleConfig().settled_on(None) == PeopleConfig()
    assert PeopleConfig().read_users(USERS) == {}


@pytest.mark.parametrize("row", range(4))
def test_a_request_is_read_as_a_row_of_the_table_is(row: int) -> None:
    found = config()
    table = found.read_users(USERS)["attributes"][row]
    told = {name: USERS[name].to_list()[row] for name in found.user_attributes}
    typed = {name: str(value) if name == "age" else value for name, value in told.items()}
    for request in (told, typed):
        assert np.array_equal(found.read_requests([request])["attributes"][0], table)


def test_what_a_request_leaves_out_is_as_if_empty() -> None:
    found = config("age", "zip_code")
    asked = found.read_requests([{}, {"age": 31}, {"zip_code": "01234", "age": ""}])["attributes"]
    assert np.isnan(asked[0]).all()
    assert np.array_equal(asked[1], attributes(pl.DataFrame({"age": [31.0]}))[0])
    assert np.array_equal(asked[2], attributes(pl.DataFrame({"zip_code": ["01234"]}))[0])
    assert found.read_requests([])["attributes"].shape == (0, 256)


def test_a_column_that_a_table_lacks_is_left_out() -> None:
    found = config("age", "zip_code")
    assert np.array_equal(
        found.read_users(USERS.select("age"))["attributes"], config("age").read_users(USERS)["attributes"]
    )


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(RequestError, match=r'people have no attribute "ages"\. Did you mean "age"\? Known: age, zip'):
        config("age", "zip_code").read_requests([{"age": 3}, {"ages": 3}])
    with pytest.raises(RequestError, match=r"age is 'old'; it must be a number\."):
        config("age").read_requests([{"age": "old"}])
    with pytest.raises(
        RequestError, match=r"the model knows no attributes of people\. Train it on events with a user table"
    ):
        PeopleConfig().read_requests([{"age": 3}])
