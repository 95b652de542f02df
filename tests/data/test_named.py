import gzip
import hashlib
import inspect
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bowerbird.core import DataError
from bowerbird.data import REGISTRY, NamedData, get, load, load_rows, load_split, named, sets
from bowerbird.data.checks import warnings_of

RATINGS = "1\t10\t5\t300\n1\t20\t3\t100\n2\t10\t4\t200\n"
FILMS = "10|Amélie (2001)|rest\n20|Brazil (1985)|rest\n\n"
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t5\t300\n1\t20\t3\t100\n2\t10\t4\t200\n"
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    '10\tAmélie\t2001\tComedy\n20\t"Brazil"\t1985\tDrama\n'
)
USER = (
    "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "2\t53\tF\tother\t94043\n1\t24\tM\ttechnician\tT8H1N\n"
)
FILES = {"ml-100k.inter": INTER, "ml-100k.item": ITEM, "ml-100k.user": USER}
SUFFIXES = (".txt", ".csv", ".tsv", ".dat", ".gz", ".npy", ".json", ".ascii")


def owners_zip(folder: Path, **members: str) -> Path:
    path = folder / "ml-100k.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(f"ml-100k/u.{name}", text.encode("latin-1"))
    return path


def described(name: str, files: dict[str, bytes], **how: Any) -> NamedData:
    """A set with the checksums of `files`."""
    usual = {"kind": "interactions", "addresses": {}, "layout": {}, "prepare": "as told"} | how
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    return NamedData(
        name=name, title="title", scenario="scenario", terms="Its terms.", citation="citation",
        homepage="https://owner.example/set", files=sums, **usual,
    )  # fmt: skip


def fake_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that holds a tiny ml-100k, with the checksums to match."""
    (folder / "ml-100k").mkdir()
    for name, text in FILES.items():
        (folder / "ml-100k" / name).write_text(text, encoding="utf-8")
    tiny = described(
        "ml-100k", {name: text.encode() for name, text in FILES.items()}, layout=REGISTRY["ml-100k"].layout
    )
    monkeypatch.setattr(named, "REGISTRY", {"ml-100k": tiny})
    return folder


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing here may reach for what somebody has cached."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(named.ROOT_VARIABLE, raising=False)


def texts(value: Any) -> Iterator[str]:
    """Every text in a nest of tables and lists."""
    if isinstance(value, str):
        yield value
    else:
        for part in value.values() if hasattr(value, "values") else value:
            yield from texts(part)


@pytest.mark.parametrize("data", REGISTRY.values(), ids=list(REGISTRY))
def test_every_set_says_what_it_is_and_whose(data: NamedData) -> None:
    assert data.kind in named.READ_WITH
    for text in (data.title, data.scenario, data.terms, data.citation):
        assert text.strip() == text != ""
    assert data.title[-1] != "."
    assert data.terms[-1] == data.citation[-1] == "."
    assert data.homepage.startswith(("https://", "http://"))


@pytest.mark.parametrize("data", REGISTRY.values(), ids=list(REGISTRY))
def test_every_file_has_a_checksum_and_a_way_to_be_had(data: NamedData) -> None:
    assert data.files
    assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in data.files.values())
    assert set(data.addresses) <= set(data.files)
    assert all(address.startswith(("https://", "wheel:")) for address in data.addresses.values())
    assert (set(data.addresses) == set(data.files)) != bool(data.prepare)


@pytest.mark.parametrize("data", REGISTRY.values(), ids=list(REGISTRY))
def test_every_layout_is_one_that_its_reader_takes(data: NamedData) -> None:
    layout = dict(data.layout)
    readers = sets.ROW_FORMATS if named.READ_WITH[data.kind] == "load_rows" else sets.EVENT_FORMATS
    inspect.signature(readers[layout.pop("format")]).bind(Path(), **layout)
    assert all({"file", "ends"} <= set(how) <= {"file", "ends", "separator"} for how in data.relations.values())
    read = {text for text in texts([layout, data.relations]) if Path(text).suffix in SUFFIXES}
    assert read <= set(data.files)


def test_variants_of_a_set_agree_on_the_files_they_share() -> None:
    seen: dict[str, tuple[str, str | None]] = {}
    for data in REGISTRY.values():
        for file, sha256 in data.files.items():
            told = sha256, data.addresses.get(file)
            assert seen.setdefault(f"{data.folder}/{file}", told) == told


def test_the_registry_is_read_when_it_is_first_asked() -> None:
    registry = named.Registry()
    assert vars(registry) == {}
    assert "ml-100k" in registry
    assert list(registry) == list(REGISTRY)
    assert len(registry) == len(REGISTRY)
    assert all(data.name == name for name, data in registry.items())


@pytest.mark.parametrize("reader", [get, load_split, load_rows])
def test_an_unknown_name_is_answered_with_the_closest(reader: Any) -> None:
    with pytest.raises(DataError) as caught:
        reader("ml-100")
    assert str(caught.value) == 'no data set is named "ml-100". Did you mean "ml-100k"?'


@pytest.mark.parametrize(("name", "meant"), [("ml-10k", "ml-100k"), ("ml-1m/sasrek", "ml-1m/sasrec")])
def test_a_word_that_is_neither_file_nor_data_set_is_answered_with_the_command(name: str, meant: str) -> None:
    with pytest.raises(DataError) as caught:
        load(name)
    assert str(caught.value) == (
        f'no file and no data set is named "{name}". Did you mean "{meant}"? `bowerbird data list` shows the data sets.'
    )


@pytest.mark.parametrize(
    ("reader", "name", "kind", "right"),
    [
        (load, "yelp2018", "split", "load_split"),
        (load, "frappe", "rows", "load_rows"),
        (load_split, "ml-100k", "interactions", "load"),
        (load_rows, "lastfm-2k/lightgcn_split", "split", "load_split"),
        (load_split, "obd-small", "logged", "load_rows"),
    ],
)
def test_the_wrong_function_is_answered_with_the_right_one(reader: Any, name: str, kind: str, right: str) -> None:
    with pytest.raises(DataError) as caught:
        reader(name)
    assert str(caught.value) == f'{name} is a set of kind "{kind}". Read it with {right}("{name}").'


def test_a_named_set_brings_its_own_columns() -> None:
    with pytest.raises(DataError) as caught:
        load("ml-100k", user="who", time="when")
    assert str(caught.value) == "ml-100k brings its own columns; leave out user, time."


def test_a_path_is_read_with_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("who,what\n1,2\n")
    events = load(tmp_path / "a.csv", user="who", item="what")
    assert (events.user_ids[0], events.item_ids[0]) == ("1", "2")


def test_a_missing_path_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        load(tmp_path / "events.csv")


def test_the_owners_zip_is_read(tmp_path: Path) -> None:
    events = load(owners_zip(tmp_path, data=RATINGS, item=FILMS))
    assert events.time is not None
    assert events.time.tolist() == [100, 200, 300]
    assert events.user_ids.names(events.user).to_list() == [1, 2, 1]
    assert events.item_ids.names(events.item).to_list() == [20, 10, 10]
    assert [events.title(events.item_ids.row(item)) for item in (10, 20)] == ["Amélie (2001)", "Brazil (1985)"]


def test_four_stars_are_a_like_and_three_are_not(tmp_path: Path) -> None:
    events = load(owners_zip(tmp_path, data=RATINGS, item=FILMS))
    assert [events.events[code].phrase for code in events.event] == ["watched", "liked", "liked"]


def test_a_zip_without_titles_shows_ids(tmp_path: Path) -> None:
    assert load(owners_zip(tmp_path, data=RATINGS)).title(0) == "10"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"item": FILMS}, "no table of this zip is plainly the one of interactions"),
        ({"data": ""}, "the file is empty"),
        ({"data": "a\tb\tc\td\n"}, 'column "timestamp": 1 of 1 rows are not times'),
    ],
)
def test_a_zip_without_interactions_is_refused(tmp_path: Path, members: dict[str, str], said: str) -> None:
    path = owners_zip(tmp_path, **members)
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def test_the_zip_of_ml_1m_is_read_with_its_films_and_people(tmp_path: Path) -> None:
    path = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "1::10::5::300\n1::20::3::100\n2::10::4::200\n")
        archive.writestr("ml-1m/movies.dat", "10::Amélie (2001)::Comedy\n20::Brazil (1985)::Sci-Fi\n".encode("latin-1"))
        archive.writestr("ml-1m/users.dat", "1::F::25::4::02139\n2::M::1::0::00001\n")
    events = load(path)
    assert events.title(events.item_ids.row(10)) == "Amélie (2001)"
    assert events.users is not None
    assert events.users["zip_code"][events.user_ids.row(1)] == "02139"
    assert [events.events[code].name for code in events.event] == ["watch", "like", "like"]
    assert not [text for text in warnings_of(events, now=10**9) if "rating" in text]


def test_a_zip_with_columns_of_its_own_is_read_as_they_are_named(tmp_path: Path) -> None:
    path = tmp_path / "shop.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("shop.csv", "who,what\nann,lamp\n")
    assert load(path, user="who", item="what").user_ids[0] == "ann"


def test_a_file_that_is_only_called_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match="this zip is damaged, or none"):
        load(path)


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOWERBIRD_DATA", str(fake_root(tmp_path, monkeypatch)))
    assert get("ml-100k") == tmp_path / "ml-100k"


def test_the_option_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOWERBIRD_DATA", str(tmp_path / "elsewhere"))
    root = fake_root(tmp_path, monkeypatch)
    assert get("ml-100k", data_root=str(root)) == root / "ml-100k"


def test_the_named_set_says_the_same_as_the_owners_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = load("ml-100k", data_root=str(fake_root(tmp_path, monkeypatch)))
    assert events.fingerprint == load(owners_zip(tmp_path, data=RATINGS, item=FILMS)).fingerprint
    assert events.items is not None
    assert events.items.select("title", "year", "genres").row(0) == ("Amélie (2001)", 2001, "Comedy")


def test_the_people_of_ml_100k_are_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = load("ml-100k", data_root=str(fake_root(tmp_path, monkeypatch)))
    assert events.users is not None
    assert events.users.columns == ["age", "gender", "occupation", "zip_code"]
    assert events.users.row(events.user_ids.row(1)) == (24, "M", "technician", "T8H1N")


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake_root(tmp_path, monkeypatch) / "ml-100k" / "ml-100k.item"
    path.unlink()
    with pytest.raises(DataError) as caught:
        get("ml-100k", data_root=str(tmp_path))
    assert str(caught.value) == (
        f"{path}: the file is missing. ml-100k needs ml-100k.inter, ml-100k.item, ml-100k.user."
    )


@pytest.mark.parametrize("content", [b"other", b""])
def test_a_file_that_differs_from_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    path = fake_root(tmp_path, monkeypatch) / "ml-100k" / "ml-100k.item"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        get("ml-100k", data_root=str(tmp_path))
    assert str(caught.value) == (
        f"{path}: the file differs from the published one. Put that in its place, or remove it."
    )


@pytest.mark.parametrize("level", [1, 9])
def test_how_a_file_was_packed_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    content = b"0 1 2\n" * 100
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "train.txt.gz").write_bytes(gzip.compress(content, level))
    monkeypatch.setattr(named, "REGISTRY", {"own": described("own", {"train.txt.gz": content})})
    assert get("own", data_root=str(tmp_path)) == tmp_path / "own"


@pytest.mark.parametrize("damage", [lambda whole: whole[:-9], lambda whole: b"0 1 2\n", lambda whole: b""])
def test_a_damaged_gz_is_one_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any) -> None:
    content = b"0 1 2\n" * 100
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "train.txt.gz").write_bytes(damage(gzip.compress(content)))
    monkeypatch.setattr(named, "REGISTRY", {"own": described("own", {"train.txt.gz": content})})
    with pytest.raises(DataError, match=r"train\.txt\.gz: the file differs from the published one"):
        get("own", data_root=str(tmp_path))


@pytest.mark.parametrize("rooted", [True, False])
def test_what_nobody_publishes_in_this_form_is_told_how_to_prepare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rooted: bool
) -> None:
    own = described("own/half", {"a.txt": b"0 1", "b.txt": b"0 2"}, addresses={"a.txt": "https://owner.example/a"})
    monkeypatch.setattr(named, "REGISTRY", {"own/half": own})
    with pytest.raises(DataError) as caught:
        get("own/half", data_root=str(tmp_path) if rooted else None)
    looked = f", and {tmp_path} holds no folder own" if rooted else ""
    assert str(caught.value) == (
        f"own/half cannot be fetched: its files are published nowhere in this form{looked}. "
        "The owner publishes the set at https://owner.example/set. Its terms. Prepare a.txt, b.txt in DIR/own "
        "(as told), and name DIR with --data-root or BOWERBIRD_DATA."
    )
