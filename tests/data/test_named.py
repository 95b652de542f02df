import hashlib
import zipfile
from pathlib import Path

import pytest

from bowerbird.core import DataError
from bowerbird.data import NamedData, get, load, named

RATINGS = "1\t10\t5\t300\n1\t20\t3\t100\n2\t10\t4\t200\n"
FILMS = "10|Amélie (2001)|rest\n20|Brazil (1985)|rest\n\n"
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t5\t300\n1\t20\t3\t100\n2\t10\t4\t200\n"
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    '10\tAmélie\t2001\tComedy\n20\t"Brazil"\t1985\tDrama\n'
)


def owners_zip(folder: Path, **members: str) -> Path:
    path = folder / "ml-100k.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(f"ml-100k/u.{name}", text.encode("latin-1"))
    return path


def fake_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that holds a tiny ml-100k, with the checksums to match."""
    files = {"ml-100k.inter": INTER, "ml-100k.item": ITEM}
    (folder / "ml-100k").mkdir()
    for name, text in files.items():
        (folder / "ml-100k" / name).write_text(text, encoding="utf-8")
    sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    monkeypatch.setitem(named.REGISTRY, "ml-100k", NamedData("ml-100k", "title", "terms", "citation", sums))
    return folder


@pytest.fixture(autouse=True)
def no_fetching(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing here may reach for the network or for what somebody has cached."""

    def refuse(data: NamedData, folder: Path) -> None:
        raise AssertionError(f"{data.name} would be fetched")

    monkeypatch.setattr(named, "_fetch", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(named.ROOT_VARIABLE, raising=False)


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(DataError) as caught:
        get("ml-100")
    assert str(caught.value) == 'no data set is named "ml-100". Did you mean "ml-100k"?'


def test_a_word_that_is_neither_file_nor_data_set_is_answered_with_the_command() -> None:
    with pytest.raises(DataError) as caught:
        load("ml-10k")
    assert str(caught.value) == (
        'no file and no data set is named "ml-10k". Did you mean "ml-100k"? `bowerbird data list` shows the data sets.'
    )


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
    "members", [{"item": FILMS}, {"data": ""}, {"data": "a\tb\tc\td\n"}, {"data": RATINGS, "item": "ten|Amélie\n"}]
)
def test_another_zip_is_refused(tmp_path: Path, members: dict[str, str]) -> None:
    path = owners_zip(tmp_path, **members)
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: not a MovieLens 100K archive; u.data is needed. Read its table instead."


def test_a_file_that_is_only_called_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match="not a MovieLens 100K archive"):
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


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_a_file_that_differs_from_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = fake_root(tmp_path, monkeypatch) / "ml-100k" / "ml-100k.item"
    path.write_text(ITEM + " ", encoding="utf-8") if change == "changed" else path.unlink()
    with pytest.raises(DataError) as caught:
        get("ml-100k", data_root=str(tmp_path))
    assert str(caught.value) == (
        f"{path}: the file is missing or differs from the published one. Remove {path.parent}."
    )


def test_the_published_checksums_are_those_of_two_files() -> None:
    assert set(named.ML_100K.files) == {"ml-100k.inter", "ml-100k.item"}
    assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in named.ML_100K.files.values())


def test_the_first_use_shows_the_terms_and_keeps_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fake_root(tmp_path, monkeypatch)

    def bring(data: NamedData, folder: Path) -> None:
        folder.parent.mkdir(parents=True)
        (root / "ml-100k").rename(folder)

    monkeypatch.setattr(named, "_fetch", bring)
    assert get("ml-100k") == tmp_path / "cache" / "bowerbird" / "ml-100k"
    assert capsys.readouterr().err == "title\nterms\ncitation\n"
    get("ml-100k")
    assert capsys.readouterr().err == ""
