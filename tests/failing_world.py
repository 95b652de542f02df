"""A world whose disk goes away in the middle of a job."""

from pathlib import Path

from bowerbird.core import RealWorld


class FailsAt(RealWorld):
    """The operating system, until it is cut off at the n-th call that changes a file."""

    def __init__(self, step: int) -> None:
        self.left = step

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError("cut off")

    def write(self, path: Path, data: bytes) -> None:
        self._spend()
        super().write(path, data)

    def replace(self, old: Path, new: Path) -> None:
        self._spend()
        super().replace(old, new)
