"""Erasure: a canary is planted in everything that a run and a server keep, and afterwards no byte of it is left."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import polars as pl
import pytest
from canary import NOW, THING, WHO, event, found, table, told, versions

import bowerbird as bb
from bowerbird.core import BundleError, RequestError
from bowerbird.data import read_rows
from bowerbird.privacy.erasure import STEPS, Nobody, Place, begin, certify, do, erase
from bowerbird.recommender import load
from bowerbird.store import bundles, erasures, exports, histories
from bowerbird.store.database import Database, DatabaseError, read_only
from bowerbird.store.events import TableLog
from failing_world import FailsAt


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("planted") / "run"
    versions(run)
    told(run, run / "server")
    return run


@pytest.fixture
def place(planted: Path, tmp_path: Path) -> Place:
    run = copytree(planted, tmp_path / "run")
    exports.note(run, "lists", run / "lists.parquet")
    return Place(run, run / "server")


class CutOff(FailsAt):
    """The same for calls that remove a folder too."""

    def remove_folder(self, path: Path) -> None:
        self._spend()
        super().remove_folder(path)


def test_no_byte_of_a_canary_is_left(place: Place) -> None:
    before = found(place.run)
    holders = {Path(one.split(":")[0]).relative_to(place.run).as_posix() for one in before}
    assert holders == {
        "server/bowerbird.db", "server/backups/first/bowerbird.db", "server/exports/events-1.parquet",
        "server/exports/users-1.jsonl", "server/imports/old.jsonl", "lists.parquet", "state/loop.safetensors",
        *(f"{root}bundles/{one}/{name}.parquet" for root, one in (("", "000002"), ("", "000003"),
          ("server/backups/first/run/", "000003")) for name in ("users", "items")),
    }  # fmt: skip
    certificate = erase(place, WHO)
    assert found(place.run) == []
    assert certificate["search"]["hits"] == ()
    assert certificate["search"]["files"] > 15
    assert not any(certificate["left"].values())


def test_the_canary_is_in_the_wal_of_a_server_that_runs_and_then_is_not(place: Place) -> None:
    with closing(Database(place.data)) as database:
        TableLog(database).append([event("news", THING, user_id=WHO)])
        wal = place.data / "bowerbird.db-wal"
        assert WHO.encode() in wal.read_bytes()
        erase(replace(place, database=database), WHO)
        assert wal.stat().st_size == 0
        assert found(place.run) == []
        assert TableLog(database).end == 60 + 5 + 41 + 1 + 0


def test_everybody_else_stays(place: Place) -> None:
    erase(place, WHO)
    rec = load(place.run)
    assert rec.version == "000004"
    assert rec.past.fingerprint == bb.read(table(canary=False)).fingerprint
    assert rec.recommend(["u0"]).ids == load(place.run, version="000001").recommend(["u0"]).ids
    with closing(Database(place.data)) as database:
        log = TableLog(database)
        assert {one.user_id for _, one in log.walk()} == {f"u{n}" for n in range(24)} | {None}
        assert [one.session_id for _, one in log.walk() if one.user_id is None] == ["tab-of-others"]
    assert pl.read_parquet(place.data / "exports" / "events-1.parquet")["user_id"].drop_nulls().n_unique() == 24
    assert [json.loads(one)["user_id"] for one in (place.data / "imports" / "old.jsonl").read_text().splitlines()] == [
        "u1"
    ]
    assert pl.read_parquet(place.run / "lists.parquet")["user_id"].n_unique() == 24


def test_a_certificate_says_what_was_done(place: Place) -> None:
    lists = pl.read_parquet(place.run / "lists.parquet")
    mine = lists.filter((pl.col("user_id") == WHO) | (pl.col("item_id") == THING))
    certificate = erase(place, WHO)
    assert certificate["database"] == {
        "events": 3, "events_of_sessions": 2, "documents": 1, "answers": 0, "end": certificate["database"]["end"]
    }  # fmt: skip
    assert {one["file"]: one["rows"] for one in certificate["copies"]} == {
        "lists.parquet": len(mine), "events-1.parquet": 5, "users-1.jsonl": 1, "old.jsonl": 1
    }  # fmt: skip
    models = certificate["models"]
    assert (models["method"], models["from"], models["version"], models["exact"]) == ("refit", "000003", "000004", True)
    assert (models["events"], models["items_gone"]) == (4, 1)
    assert list(models["retired"]) == ["000002", "000003"]
    assert models["kept"] == bundles.versions(place.run) == ["000001", "000004"]
    files = certificate["current"]["files"]
    assert "histories/000004/histories.parquet" in files
    assert files["bundles/000004/users.parquet"] == bundles.manifest_of(place.run)["files"]["users.parquet"]
    assert [one["backup"] for one in certificate["backups"] if "new" not in one] == ["first"]
    [kept] = erasures.all_of(place.run)
    assert kept == {name: one for name, one in json.loads(json.dumps(certificate)).items() if name != "key"}
    assert kept["state"] == "done"
    assert kept["deadline"] - kept["asked"] == 30 * 86_400
    assert erasures.subject_of(WHO, certificate["key"]) == kept["subject"]
    assert erasures.digest_of(json.loads(json.dumps(certificate))) == kept["sha256"]


def test_an_erasure_is_done_once(place: Place) -> None:
    erase(place, WHO)
    with pytest.raises(Nobody, match=r"nothing is kept of 'Zyzzyva-Quokka'.*Nothing was changed"):
        erase(place, WHO)
    assert bundles.current(place.run) == "000004"


def test_somebody_who_is_not_known_changes_nothing(place: Place) -> None:
    before = {path: path.read_bytes() for path in place.run.rglob("*") if path.is_file() and path.suffix != ".db-shm"}
    with pytest.raises(Nobody, match="no event and no document"):
        erase(place, "nobody-at-all")
    assert {path: path.read_bytes() for path in before} == before
    assert not (place.run / "erasures").exists()


def test_whatever_a_stop_leaves_the_same_call_ends_it(planted: Path, tmp_path: Path) -> None:
    step, done = 0, False
    while not done:
        run = copytree(planted, tmp_path / f"run{step}")
        try:
            erase(Place(run, run / "server", world=CutOff(step)), WHO)
            done = True
        except (OSError, BundleError):
            assert erasures.going_on(run) or found(run)  # not silently half-done
        if not done:
            try:
                certificate = erase(Place(run, run / "server"), WHO)
                assert certificate["models"]["version"] == bundles.current(run)
                assert "000003" in certificate["models"]["retired"]
                assert certificate["database"]["events"] == 3
            except Nobody:  # the stop came after the certificate was written
                assert [one["state"] for one in erasures.all_of(run)] == ["done"]
        assert found(run) == []
        step += 2
    assert step > 40


def test_a_run_without_a_server(tmp_path: Path) -> None:
    versions(tmp_path, "mf", dim=4, epochs=2)
    certificate = erase(Place(tmp_path, tmp_path / "server"), WHO)
    assert found(tmp_path) == []
    assert certificate["database"] is None
    assert certificate["models"]["method"] == "refit"
    assert load(tmp_path).model.user.shape == (24, 4)


def test_closed_forms_are_reversed(tmp_path: Path) -> None:
    versions(tmp_path, "ease", l2=5.0)
    certificate = erase(Place(tmp_path, tmp_path / "server"), WHO)
    assert certificate["models"]["method"] == "closed form"
    again = bb.fit(bb.read(table(canary=False)), "ease", l2=5.0)
    assert load(tmp_path).model.weights.numpy() == pytest.approx(again.model.weights.numpy(), abs=1e-6)


def test_what_the_catalogue_describes_stays(place: Place) -> None:
    from bowerbird.store.catalogue import Catalogue

    with closing(Database(place.data)) as database:
        Catalogue(database).put("item", THING, {"title": "A thing"})
    assert erase(place, WHO)["models"]["items_gone"] == 0
    assert load(place.run).item_ids.row(THING) >= 0


def test_numbers_are_people_too(tmp_path: Path) -> None:
    rows = [(u, i) for u in range(8) for i in range(u % 3, 6)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    bb.fit(bb.read(frame), "itemknn").save(tmp_path)
    with closing(Database(tmp_path / "server")) as database:
        TableLog(database).append([event("a", 1, user_id=3), event("b", 1, user_id="3"), event("c", 1, user_id=33)])
    certificate = erase(Place(tmp_path, tmp_path / "server"), "3")
    assert certificate["database"]["events"] == 2
    assert "digits alone" in certificate["search"]["why_not"]
    assert load(tmp_path).user_ids.values.to_list() == [0, 1, 2, 4, 5, 6, 7]


def test_what_lies_elsewhere_is_named_and_left(place: Place, tmp_path: Path) -> None:
    away, lost = tmp_path / "away.parquet", tmp_path / "lost.parquet"
    pl.DataFrame({"user_id": [WHO, "u1"], "item_id": ["i1", "i1"]}).write_parquet(away)
    exports.note(place.run, "feedback", away)
    exports.note(place.data, "download", lost)
    certificate = erase(place, WHO)
    assert [(one["path"], one["rows"]) for one in certificate["elsewhere"]] == [(str(away), 1), (str(lost), None)]
    assert pl.read_parquet(away).height == 2


def test_what_was_learnt_from_a_retired_version_is_not_published(place: Place) -> None:
    slow = load(place.run)
    erase(place, WHO)
    with pytest.raises(BundleError, match="version 000003, from which this one was learnt, was retired"):
        slow.refit(slow.past).save(place.run)
    assert bundles.versions(place.run) == ["000001", "000004"]
    assert found(place.run) == []


def test_names_of_retired_versions_are_not_used_again(tmp_path: Path) -> None:
    versions(tmp_path)
    bundles.point(tmp_path, "000001")
    certificate = erase(Place(tmp_path, tmp_path / "server"), WHO)
    assert "version" not in certificate["models"]
    assert bundles.versions(tmp_path) == histories_of(tmp_path) == ["000001"]
    assert bundles.next_version(tmp_path) == "000004"
    with pytest.raises(BundleError, match="000001 is the current one"):
        bundles.retire(tmp_path, ["000001"])


def histories_of(run: Path) -> list[str]:
    return sorted(path.name for path in (run / histories.FOLDER).iterdir())


def test_a_running_server_is_told_of(place: Place) -> None:
    with closing(Database(place.data)), pytest.raises(DatabaseError, match="another process has this data directory"):
        erase(place, WHO)


def test_a_predictor_keeps_nothing_to_train_again_on(tmp_path: Path) -> None:
    rows = pl.DataFrame({"who": ["a-person", "b-person"] * 40, "n": range(80), "label": [0, 1, 1, 0] * 20})
    bb.fit(read_rows(rows, labels="label"), "logistic", epochs=1).save(tmp_path)
    with pytest.raises(RequestError, match="predictor of feature rows"):
        erase(Place(tmp_path, tmp_path / "server"), "a-person")
    with pytest.raises(Nobody):
        erase(Place(tmp_path, tmp_path / "server"), "c-person")


def test_a_session_of_two_people_is_parted_where_it_changed_hands(tmp_path: Path) -> None:
    bb.fit(bb.read(table()), "itemknn").save(tmp_path)
    with closing(Database(tmp_path / "server")) as database:
        log = TableLog(database)
        log.append([event(0, "i0", session_id="tab")])
        log.append([event("m1", None, event="merge", user_id=WHO, session_id="tab"), event(1, "i1", session_id="tab")])
        log.append([event("m2", None, event="merge", user_id="u1", session_id="tab"), event(2, "i2", session_id="tab")])
        certificate = erase(Place(tmp_path, tmp_path / "server", database), WHO)
        assert certificate["database"]["events_of_sessions"] == 2
        assert [(one.user_id, one.item_id) for _, one in log.walk()] == [("u1", None), (None, "i2")]


def test_events_that_come_meanwhile_are_a_new_beginning(place: Place) -> None:
    with closing(Database(place.data)) as database:
        living = replace(place, database=database)
        begun = begin(living, WHO)
        for step in STEPS:
            begun = do(living, begun, step)
        TableLog(database).append([event("again", "i1", user_id=WHO)])
        certificate = certify(living, begun)
    assert certificate["left"]["events"] == 0
    assert [Path(one).name for one in certificate["search"]["hits"]] == ["bowerbird.db", "bowerbird.db-wal"]
    with closing(read_only(place.data)) as connection:
        assert connection.execute("SELECT count(*) FROM events WHERE user_id = ?", (WHO,)).fetchone() == (1,)


def test_a_backup_that_replaces_others_can_be_restored(place: Place, tmp_path: Path) -> None:
    from bowerbird.store.backups import restore

    certificate = erase(place, WHO)
    [name] = [one["backup"] for one in certificate["backups"] if one.get("new")]
    assert restore(place.data / "backups" / name, tmp_path / "again", tmp_path / "data") == "000004"
    assert load(tmp_path / "again").recommend(["u0"]).ids == load(place.run).recommend(["u0"]).ids
    assert NOW  # the clock of the log, which a backup keeps


def test_graphs_of_retired_versions_go_and_others_are_named(place: Place, tmp_path: Path) -> None:
    for folder in (place.run, tmp_path):
        (folder / "model.onnx").write_bytes(b"weights")
        (folder / "model.onnx.json").write_text("{}")
        exports.note(place.run, "graph", (folder / "model.onnx").resolve(), version="000003")
    certificate = erase(place, WHO)
    assert certificate["models"]["graphs"] == ["model.onnx", "model.onnx.json"]
    assert not list(place.run.glob("model.*"))
    assert [(one["path"], one["rows"]) for one in certificate["elsewhere"]] == [(str(tmp_path / "model.onnx"), None)]


def test_a_model_that_cannot_be_trained_again_is_replaced_first(tmp_path: Path) -> None:
    run, place = tmp_path / "run", Place(tmp_path / "run", tmp_path / "run" / "server")
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(24)], "age": range(24)})

    def trained(canary: bool) -> None:
        past = bb.read(table(canary=canary)).with_tables(users=users)
        bb.fit(past, "twotower", dim=4, epochs=1).save(run)

    trained(True)
    with pytest.raises(
        RequestError, match=r"which a run does not keep\. Train it again from a table without the person"
    ):
        erase(place, WHO)
    trained(False)
    certificate = erase(place, WHO)  # it goes on
    assert list(certificate["models"]["retired"]) == ["000001"]
    assert "method" not in certificate["models"]
    assert found(run) == []
