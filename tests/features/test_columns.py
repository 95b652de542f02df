from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.features import Bag, Categorical, Column, Cross, History, Numeric, Vector
from bowerbird.features.columns import columns_of_dicts, read_columns, to_dict, to_toml

NAMES = st.text(min_size=1, max_size=12)
COUNTS = st.integers(1, 10**9)
BUCKETS = st.integers(0, 10**9)
COLUMNS: st.SearchStrategy[Column] = st.one_of(
    st.builds(Numeric, name=NAMES, transform=st.sampled_from(["standard", "log", "none"]), buckets=BUCKETS),
    st.builds(Categorical, name=NAMES, min_count=COUNTS, buckets=BUCKETS),
    st.builds(Bag, name=NAMES, separator=st.sampled_from(["", "|", " "]), most=COUNTS, pooling=st.just("attention")),
    st.builds(History, name=NAMES, of=NAMES, most=COUNTS),
    st.builds(Vector, name=NAMES, size=COUNTS),
    st.builds(Cross, name=NAMES, columns=st.lists(NAMES, min_size=2, max_size=4).map(tuple), buckets=COUNTS),
)
TABLE = st.lists(COLUMNS, min_size=1, max_size=5, unique_by=lambda column: column.name).map(tuple)


def written(folder: Path, text: str) -> Path:
    path = folder / "columns.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_toml_says_what_is_not_as_usual() -> None:
    columns = (Numeric(name="age"), Bag(name="genres", separator="|", most=9), Cross(columns=("sex", "city")))
    assert to_toml({"": columns}) == (
        '[[column]]\nname = "age"\nkind = "numeric"\n\n'
        '[[column]]\nname = "genres"\nkind = "bag"\nseparator = "|"\nmost = 9\n\n'
        '[[column]]\nname = "sex × city"\nkind = "cross"\ncolumns = ["sex", "city"]\n'
    )


def test_columns_of_tables_that_meet_stand_under_their_part(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[[user]]\nname = "age"\nkind = "numeric"\ntransform = "log"\n'
        '[[item]]\nname = "id"\nkind = "categorical"\nbuckets = 7\n'
        '[[request]]\nkind = "cross"\ncolumns = ["hour", "item.id"]\n',
    )
    assert read_columns(path) == {
        "user": (Numeric(name="age", transform="log"),),
        "item": (Categorical(name="id", buckets=7),),
        "request": (Cross(name="hour × item.id", columns=("hour", "item.id")),),
    }


@given(
    st.one_of(st.fixed_dictionaries({"": TABLE}), st.dictionaries(st.sampled_from(["user", "item"]), TABLE, min_size=1))
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, tuple[Column, ...]]
) -> None:
    assert read_columns(written(tmp_path_factory.mktemp("toml"), to_toml(columns))) == columns


@given(TABLE)
def test_dictionaries_keep_columns(columns: tuple[Column, ...]) -> None:
    assert columns_of_dicts([to_dict(column) for column in columns]) == columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[colum]]\n", 'colum is no table of columns. Did you mean "column"? Write [[column]] for'),
        ("", "write columns of one table as [[column]], or of several as user, item, request."),
        ('[[column]]\nname = "a"\nkind = "vector"\nsize = 2\n[[user]]\n', "write columns of one table as [[column]]"),
        ("[column]\n", 'write a table for each column: [[column]], name = "age", kind = "numeric".'),
        ("column = [1]\n", "write a table for each column: [[column]]"),
        ('[[column]]\nname = "a"\nknid = "numeric"', "kind is None; it must be one of numeric,"),
        ('[[column]]\nname = "a"\nknid = "numeric"', "knid is not it"),
        ('[[column]]\nname = "a"\nkind = ["numeric"]', "kind is ['numeric']; it must be one of"),
        ('[[column]]\nname = "a"\nkind = {a = 1}', "kind is {'a': 1}; it must be one of"),
        ('[[column]]\nname = "a"\nkind = 0x' + "f" * 5_000, "kind is a number of thousands of digits; it must be"),
        ('[[column]]\nkind = "bag"\nname = 0x' + "f" * 5_000, "name is a number of thousands of digits; it must be"),
        ("a = " + "[\n" * 5_000, "cannot be read as TOML: values are nested too deeply"),
        ("= 3", "cannot be read as TOML"),
        ('[[column]]\nname = "a"\nkind = "numerical"\n', "kind is 'numerical'; it must be one of numeric, categor"),
        ('[[column]]\nname = "a"\nkind = "numerical"\n', 'Did you mean "numeric"?'),
        ('[[column]]\nname = "a"\n', "kind is None; it must be one of"),
        ('[[column]]\nname = "a"\nkind = "history"\n', "a column of kind history needs of."),
        ('[[column]]\nkind = "vector"\n', "a column of kind vector needs name and size."),
        ('[[column]]\nname = "a"\nkind = "bag"\nmosst = 3\n', 'mosst is not an option of Bag. Did you mean "most"?'),
        ('[[column]]\nname = "a"\nkind = "bag"\nmost = 0\n', 'Try most = 50. ('),
        ('[[column]]\nname = "a"\nkind = "bag"\nmost = 0\n', 'columns.toml, column "a", key most)'),
        ('[[column]]\nname = "a"\nkind = "numeric"\n' * 2, 'column "a" is there twice. Leave one out.'),
    ],
)  # fmt: skip
def test_a_file_with_a_mistake_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_columns(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read as TOML"):
        read_columns(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Numeric, {"transform": "square"}, "transform is 'square'; it must be one of knots, standard, log, none."),
        (Numeric, {"buckets": -1}, "buckets is -1; it must be 0 or more. Try buckets = 20."),
        (Categorical, {"min_count": 0}, "min_count is 0; it must be 1 or more. Try min_count = 2."),
        (Categorical, {"buckets": -1}, "buckets is -1; it must be 0 or more. Try buckets = 100000."),
        (Bag, {"pooling": "max"}, "pooling is 'max'; it must be one of mean, sum, attention."),
        (Bag, {"min_count": 0}, "min_count is 0; it must be 1 or more."),
        (Bag, {"buckets": -2}, "buckets is -2; it must be 0 or more."),
        (Bag, {"most": 0}, "most is 0; it must be 1 or more. Try most = 50."),
        (History, {"of": "item", "most": 0}, "most is 0; it must be 1 or more."),
        (Vector, {"size": 0}, "size is 0; it must be 1 or more."),
        (Cross, {"columns": ("a",)}, "columns is ('a',); it must name two or more."),
        (Cross, {"columns": ("a", "b"), "buckets": 0}, "buckets is 0; it must be 1 or more. Try buckets = 100000."),
    ],
)
def test_a_wrong_option_says_what_is_right(kind: type[Column], values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(name="a", **values)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
