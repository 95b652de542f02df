"""Two processes that save into one run directory at once take turns."""

import subprocess
import sys
from pathlib import Path

import polars as pl

import bowerbird as bb

SAVES = """
import sys
import bowerbird as bb
rec = bb.load(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(6):
    print(rec.save(sys.argv[2]), flush=True)
"""


def recommender(item: str) -> bb.Recommender:
    """A recommender whose people all chose one item more than they need."""
    frame = pl.DataFrame({"user": ["a", "a", "b", "b"], "item": ["x", item, "x", "z"]})
    return bb.fit(bb.read(frame), "itemknn", shrink=0.0)


def test_two_processes_that_save_at_once_get_versions_of_their_own_and_leave_a_whole_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    writers = []
    for item in ("ours", "theirs"):
        recommender(item).save(tmp_path / item)
        command = [sys.executable, "-c", SAVES, str(tmp_path / item), str(run)]
        writers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for one in writers:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in writers:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    versions = [one.communicate(timeout=60)[0].split() for one in writers]
    assert [one.returncode for one in writers] == [0, 0]
    assert sorted(versions[0] + versions[1]) == [f"{number:06d}" for number in range(1, 13)]
    last = bb.load(run)
    assert last.version == "000012"
    item = "ours" if "000012" in versions[0] else "theirs"
    assert item in last.item_ids.values.to_list()
    assert len(last.past) == 4  # the pasts are those of the same writer
