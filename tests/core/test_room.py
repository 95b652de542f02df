import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bowerbird.core import ConfigError, check_room, free_memory, room


def test_there_is_some_memory_and_no_more_than_the_machine_says() -> None:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = free_memory()
    assert free is not None
    assert 0 < free <= 1024 * int(fields["MemTotal"].split()[0])


def test_a_control_group_may_have_less(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("1500\n")
    monkeypatch.setattr(room, "GROUP", tmp_path)
    assert free_memory() == 3500


def test_a_group_without_a_limit_has_what_the_machine_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(room, "GROUP", tmp_path)
    assert (free_memory() or 0) > 3500


def test_too_much_is_refused_with_an_estimate_and_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: 2_000_000_000)
    check_room("The vectors", 2e9, instead="Choose fewer.")
    with pytest.raises(ConfigError, match=r"The vectors take about 12\.5 GB, and 2\.0 GB are free\. Choose fewer\."):
        check_room("The vectors", 12.5e9, instead="Choose fewer.")


def test_where_nothing_is_known_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: None)
    check_room("The vectors", 1e30, instead="Choose fewer.")


HEAPS = """
import ctypes, sys, threading
from bowerbird.core.room import one_heap
if sys.argv[1] == "one":
    one_heap()
library, together = ctypes.CDLL(None), threading.Barrier(4)
def take():
    together.wait()
    library.malloc(1000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
library.malloc_info(0, ctypes.c_void_p.in_dll(library, "stdout"))
library.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have no such heaps")
@pytest.mark.parametrize(("how", "several"), [("one", False), ("each", True)])
def test_threads_share_one_heap(how: str, several: bool) -> None:
    said = subprocess.run([sys.executable, "-c", HEAPS, how], capture_output=True, text=True, check=True).stdout
    assert (said.count("<heap nr=") > 1) == several


HELD = """
from pathlib import Path
from bowerbird.core.room import give_back
def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
kept = [bytearray(100_000) for _ in range(1_000)]  # small enough to lie on the heap
kept[:-1] = []  # the last one keeps its end where it is
before = held()
give_back()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep what was freed in other ways")
def test_what_was_freed_is_given_back() -> None:
    said = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True).stdout
    assert float(said) > 50
