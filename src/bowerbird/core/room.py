"""Room in memory: an error with an estimate where work would need more than there is, before any of it is taken."""

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

from bowerbird.core.errors import ConfigError

ARENAS = -8  # the name of that setting in glibc
GROUP = Path("/sys/fs/cgroup")  # version 2
GB = 1e9


def free_memory() -> int | None:
    """Return the bytes that this process could still take; None where the system does not say.

    On Linux the least of what the machine has left and what its control group may have.
    """
    found = []
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(1024 * int(fields["MemAvailable"].split()[0]))
        limit = (GROUP / "memory.max").read_text().strip()
        if limit != "max":
            found.append(int(limit) - int((GROUP / "memory.current").read_text()))
    except (OSError, KeyError, ValueError):
        pass
    return min(found, default=None)


def check_room(what: str, size: float, *, instead: str) -> None:
    """Raise `ConfigError` where `what` takes more bytes than are free; `instead` says what would do."""
    free = free_memory()
    if free is not None and size > free:
        raise ConfigError(f"{what} take about {size / GB:,.1f} GB, and {free / GB:,.1f} GB are free. {instead}")


def one_heap() -> None:
    """Let threads share one heap, where the C library has one for each: what one of them frees, others then take.

    A process that loads models in several threads grew with each of them. Best called before there are threads.
    """
    with suppress(OSError, AttributeError, TypeError):  # another library, or another system
        ctypes.CDLL(None).mallopt(ARENAS, 1)


def give_back() -> None:
    """Give memory that was freed back to the system, where the C library can: what is held then is what is used."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
