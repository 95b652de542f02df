import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bowerbird.core import BundleError, RealWorld
from bowerbird.store import bundles
from bowerbird.store.bundles import Bundle
from failing_world import FailsAt

MANIFEST = {"model": "ease", "config": {"l2": 5e-05, "name": "Bücher\x1f"}, "report": [1, None, True]}
WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([3], np.int64)}
TABLES = {"items": pl.DataFrame({"item_id": ["a", "b"], "title": ["A", None]}), "users": pl.DataFrame({"user_id": [7]})}


def publish(run: Path, number: int = 0, **options: Any) -> str:
    return bundles.publish(run, MANIFEST | {"number": number}, WEIGHTS, TABLES, **options)


class NeverReplaces(RealWorld):
    def replace(self, old: Path, new: Path) -> None:
        raise OSError("cut off before the rename")


class Stopped(RealWorld):
    def now(self) -> int:
        return 1_700_000_000


@pytest.fixture
def run(tmp_path: Path) -> Path:
    publish(tmp_path / "run")
    return tmp_path / "run"


def files(run: Path) -> list[Path]:
    return sorted(path for path in (run / "bundles").rglob("*") if path.is_file())


def test_what_was_published_is_read(run: Path) -> None:
    bundle = bundles.read(run)
    assert bundle.version == "000001"
    assert {key: bundle.manifest[key] for key in MANIFEST} == MANIFEST
    assert set(bundle.tensors) == set(WEIGHTS)
    for name, array in WEIGHTS.items():
        assert bundle.tensors[name].dtype == array.dtype
        assert np.array_equal(bundle.tensors[name], array)
    assert set(bundle.tables) == set(TABLES)
    for name, table in TABLES.items():
        assert bundle.tables[name].equals(table)


def test_a_bundle_is_a_manifest_tensors_and_tables(run: Path) -> None:
    assert [path.name for path in files(run)] == [
        "items.parquet", "manifest.json", "users.parquet", "weights.safetensors",
    ]  # fmt: skip
    assert sorted(path.name for path in run.iterdir()) == ["bundles", "current"]


def test_the_manifest_says_format_version_and_moment(tmp_path: Path) -> None:
    publish(tmp_path, world=Stopped())
    manifest = bundles.read(tmp_path).manifest
    assert (manifest["format"], manifest["version"], manifest["created"]) == (2, "000001", 1_700_000_000)


def test_an_array_that_is_a_view_is_written_as_it_looks(tmp_path: Path) -> None:
    bundles.publish(tmp_path, {}, {"w": WEIGHTS["w"].T}, {})
    assert np.array_equal(bundles.read(tmp_path).tensors["w"], WEIGHTS["w"].T)


@settings(max_examples=20)  # each is a dozen synced writes
@given(
    st.dictionaries(
        st.sampled_from("abc"), arrays(np.float32, st.tuples(st.integers(0, 3), st.integers(0, 3))), max_size=3
    ),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.none() | st.integers() | st.text('é"\\/\n')),
)
def test_any_tensors_and_any_words_come_back(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray], words: dict[str, Any]
) -> None:
    run = tmp_path_factory.getbasetemp() / "any"
    bundles.publish(run, {"config": words}, tensors, {})
    bundle = bundles.read(run)
    assert bundle.manifest["config"] == words
    assert set(bundle.tensors) == set(tensors)
    assert all(np.array_equal(bundle.tensors[name], array, equal_nan=True) for name, array in tensors.items())


def changes(data: bytes) -> Iterator[bytes]:
    """The same bytes with one of them changed, near the start, the end and in a dozen places between."""
    for place in sorted({0, 1, len(data) - 1, *range(0, len(data), max(len(data) // 12, 1))}):
        for mask in (0x01, 0x20, 0x80):
            yield data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


@pytest.mark.parametrize("name", ["items.parquet", "manifest.json", "users.parquet", "weights.safetensors"])
def test_one_changed_byte_in_any_file_is_refused_by_the_name_of_the_file(run: Path, name: str) -> None:
    path = run / "bundles" / "000001" / name
    whole = path.read_bytes()
    for changed in changes(whole):
        path.write_bytes(changed)
        with pytest.raises(
            BundleError, match=rf"{name} (was changed after it was written|cannot be read)\. Restore it"
        ):
            bundles.read(run)
    path.write_bytes(whole)
    assert bundles.read(run).version == "000001"


def test_a_changed_space_in_the_manifest_is_refused_too(run: Path) -> None:
    path = run / "bundles" / "000001" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b" ", 1))
    with pytest.raises(BundleError, match=r"manifest\.json was changed after it was written"):
        bundles.read(run)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", '"sha256"'])
def test_a_manifest_that_is_something_else_is_refused(run: Path, text: str) -> None:
    (run / "bundles" / "000001" / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read\. Restore it from a backup or train again"):
        bundles.read(run)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_a_changed_pointer_is_refused_with_the_versions_there_are(run: Path, mask: int) -> None:
    pointer = run / "current"
    whole = pointer.read_bytes()
    for place in range(len(whole)):
        pointer.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
        with pytest.raises(BundleError, match=r"version .* is gone\. Point to another one of \['000001'\]"):
            bundles.read(run)


@pytest.mark.parametrize("name", ["items.parquet", "weights.safetensors"])
def test_a_missing_file_is_refused_by_its_name(run: Path, name: str) -> None:
    (run / "bundles" / "000001" / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing\. Restore it from a backup or train again"):
        bundles.read(run)


def test_a_missing_manifest_is_refused(run: Path) -> None:
    (run / "bundles" / "000001" / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        bundles.read(run)


def staged(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A bowerbird of a later format, whose last change gave a name to a table that had another."""

    def renamed(old: Bundle) -> Bundle:
        tables = {"things" if name == "items" else name: table for name, table in old.tables.items()}
        return replace(old, tables=tables)

    monkeypatch.setattr(bundles, "FORMAT", number)
    monkeypatch.setattr(bundles, "MIGRATIONS", {number - 1: renamed})


def test_the_format_before_is_read_as_if_it_were_written_today(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged(monkeypatch, bundles.FORMAT + 1)
    bundle = bundles.read(run)
    assert set(bundle.tables) == {"things", "users"}
    assert bundle.tables["things"].equals(TABLES["items"])
    assert np.array_equal(bundle.tensors["w"], WEIGHTS["w"])


def test_todays_format_is_not_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged(monkeypatch, bundles.FORMAT + 1)
    publish(tmp_path)
    assert set(bundles.read(tmp_path).tables) == {"items", "users"}


def test_the_first_format_is_the_second_without_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as then:
        then.setattr(bundles, "FORMAT", 1)
        publish(tmp_path)
    bundle = bundles.read(tmp_path, moments=True)
    assert (bundle.manifest["format"], bundle.moments) == (1, {})
    assert np.array_equal(bundle.tensors["w"], WEIGHTS["w"])


def test_a_damaged_bundle_of_the_format_before_is_refused_all_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged(monkeypatch, bundles.FORMAT + 1)
    (run / "bundles" / "000001" / "items.parquet").write_bytes(b"")
    with pytest.raises(BundleError, match=r"items\.parquet was changed after it was written"):
        bundles.read(run)


@pytest.mark.parametrize(("written", "reading", "reads"), [(1, 3, "2 and 3"), (1, 9, "8 and 9"), (4, 3, "2 and 3")])
def test_other_formats_are_refused_with_what_is_read_and_who_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int, reading: int, reads: str
) -> None:
    staged(monkeypatch, written)
    bundles.publish(tmp_path, {"versions": {"bowerbird": "7.1"}}, WEIGHTS, TABLES)
    staged(monkeypatch, reading)
    with pytest.raises(BundleError) as caught:
        bundles.read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'bundles' / '000001'}: the bundle has format {written}; this bowerbird reads {reads}. "
        'Read it with: pip install "bowerbird==7.1", or train again.'
    )


def test_a_bundle_that_does_not_say_who_wrote_it_is_refused_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged(monkeypatch, 4)
    with pytest.raises(BundleError, match=r"has format 2; this bowerbird reads 3 and 4\. Read it with the one that"):
        bundles.read(run)


def test_the_last_two_formats_are_read_and_no_more() -> None:
    assert set(bundles.MIGRATIONS) == {bundles.FORMAT - 1} - {0}


class Slow(RealWorld):
    """Its sleep passes at once, and its clock moves by what was slept."""

    def __init__(self) -> None:
        self.moment, self.slept = 0.0, 0

    def monotonic(self) -> float:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += seconds
        self.slept += 1


def test_who_holds_a_run_keeps_others_out_until_they_give_up(tmp_path: Path) -> None:
    world = Slow()
    with (
        bundles.locked(tmp_path),
        pytest.raises(BundleError, match=r"another process has been publishing here for 60 s\. Wait for it or end it"),
        bundles.locked(tmp_path, world=world),
    ):
        pass
    assert world.moment == pytest.approx(60, abs=0.1)


def test_a_run_is_free_again_after_its_publication_and_after_its_failure(tmp_path: Path) -> None:
    world = Slow()
    with bundles.locked(tmp_path):
        publish(tmp_path)
    with pytest.raises(OSError, match="cut off"), bundles.locked(tmp_path):
        publish(tmp_path, world=FailsAt(0))
    with bundles.locked(tmp_path, world=world):
        assert publish(tmp_path) == "000002"
    assert world.slept == 0


def test_two_runs_do_not_wait_for_one_another(tmp_path: Path) -> None:
    world = Slow()
    with bundles.locked(tmp_path / "a"), bundles.locked(tmp_path / "b", world=world):
        assert world.slept == 0


HOLDS = """
import sys
from pathlib import Path
from bowerbird.store import bundles
with bundles.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_ends_with_the_process_that_held_it_however_that_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert RealWorld().lock(tmp_path / "lock") is None
        holder.kill()
    let_go = RealWorld().lock(tmp_path / "lock")
    assert let_go is not None
    let_go()


def test_a_folder_that_is_no_run_is_answered_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        bundles.read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: this is not a run directory. Make one with: bowerbird train … --out {tmp_path}"
    )


def test_a_version_that_is_gone_is_answered_with_those_that_are_there(run: Path) -> None:
    with pytest.raises(BundleError, match=r"version 000007 is gone\. Point to another one of \['000001'\]"):
        bundles.read(run, version="000007")


def test_three_versions_are_kept_and_the_pointer_follows(tmp_path: Path) -> None:
    assert [publish(tmp_path, number) for number in range(5)] == [f"{number:06d}" for number in range(1, 6)]
    assert RealWorld().names(tmp_path / "bundles") == ["000003", "000004", "000005"]
    assert bundles.read(tmp_path).manifest["number"] == 4


def test_the_version_that_was_served_is_kept_though_it_is_not_among_the_newest(tmp_path: Path) -> None:
    for number in range(3):
        publish(tmp_path, number)
    bundles.point(tmp_path, "000001")
    assert bundles.next_version(tmp_path) == publish(tmp_path, 3) == "000004"
    assert bundles.versions(tmp_path) == ["000001", "000003", "000004"]
    publish(tmp_path, 4)
    assert bundles.versions(tmp_path) == ["000003", "000004", "000005"]


def test_moments_are_a_file_of_their_own_that_is_read_when_asked_for(run: Path) -> None:
    publish(run, 1, moments={"w.mean": WEIGHTS["w"]})
    assert "optimiser.safetensors" in bundles.manifest_of(run)["files"]
    assert bundles.read(run).moments == {}
    assert np.array_equal(bundles.read(run, moments=True).moments["w.mean"], WEIGHTS["w"])
    assert bundles.read(run, version="000001", moments=True).moments == {}
    path = run / "bundles" / "000002" / "optimiser.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert bundles.read(run).version == "000002"
    with pytest.raises(BundleError, match=r"optimiser\.safetensors was changed after it was written"):
        bundles.read(run, moments=True)


def test_a_manifest_and_a_kind_are_read_without_the_weights(run: Path) -> None:
    (run / "bundles" / "000001" / "weights.safetensors").unlink()
    bundles.publish(run, MANIFEST | {"kind": "rows"}, WEIGHTS, TABLES)
    assert bundles.manifest_of(run, "000001")["model"] == "ease"
    assert (bundles.current(run), bundles.kind_of(run)) == ("000002", "rows")
    assert bundles.kind_of(run, "000001") == "recommender"


def test_a_named_version_is_read_beside_the_current_one(tmp_path: Path) -> None:
    for number in range(2):
        publish(tmp_path, number)
    assert bundles.read(tmp_path, version="000001").manifest["number"] == 0


def test_the_pointer_goes_back_and_the_next_version_still_gets_a_new_number(tmp_path: Path) -> None:
    for number in range(2):
        publish(tmp_path, number)
    bundles.point(tmp_path, "000001")
    assert bundles.read(tmp_path).version == "000001"
    assert publish(tmp_path, 2) == "000003"
    assert bundles.read(tmp_path).version == "000003"


def test_the_pointer_cannot_go_to_a_version_that_is_not_there(run: Path) -> None:
    with pytest.raises(BundleError, match="there is no version 000009"):
        bundles.point(run, "000009")
    assert bundles.read(run).version == "000001"


def test_a_crash_before_the_rename_leaves_the_old_version(run: Path) -> None:
    with pytest.raises(OSError, match="cut off before the rename"):
        publish(run, 1, world=NeverReplaces())
    assert bundles.read(run).version == "000001"


def test_a_crash_at_any_step_leaves_a_whole_version_and_the_next_publication_works(tmp_path: Path) -> None:
    steps = 7  # three files, the manifest, the rename, the pointer and its rename
    for step in range(steps):
        run = tmp_path / str(step)
        publish(run, 0)
        with pytest.raises(OSError, match="cut off"):
            publish(run, 1, world=FailsAt(step))
        assert bundles.read(run).manifest["number"] == 0
        publish(run, 2)
        assert bundles.read(run).manifest["number"] == 2
        assert not [name for name in RealWorld().names(run / "bundles") if name.startswith(".")]
    publish(tmp_path / "whole", 1, world=FailsAt(steps))
    assert bundles.read(tmp_path / "whole").manifest["number"] == 1


def test_a_crash_in_the_first_publication_leaves_no_run(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cut off"):
        publish(tmp_path, world=FailsAt(2))
    with pytest.raises(BundleError, match="this is not a run directory"):
        bundles.read(tmp_path)


def test_the_checksums_in_the_manifest_are_those_of_all_other_files(run: Path) -> None:
    manifest = json.loads((run / "bundles" / "000001" / "manifest.json").read_text())
    assert set(manifest["files"]) == {path.name for path in files(run)} - {"manifest.json"}
