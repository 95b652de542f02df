"""A PostgreSQL of the tests' own, in a folder of its own, reached over a socket in it: it listens to no port."""

import getpass
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PLACES = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt")
FAST = "fsync=off full_page_writes=off"  # where no test pulls the plug


def binaries() -> Path:
    """Return the folder of initdb and pg_ctl, the newest there is."""
    found = shutil.which("pg_ctl")
    there = [path.parent for place in PLACES for path in Path(place).glob("*/bin/pg_ctl")]
    if not there and found is None:
        raise FileNotFoundError("no pg_ctl is here. Install PostgreSQL: apt-get install postgresql")
    return max(there, key=lambda path: (len(path.parts[-2]), path.parts[-2])) if there else Path(str(found)).parent


class Cluster:
    """A server, which can be stopped, frozen and started again."""

    def __init__(self, settings: str = FAST, *, bin: Path | None = None) -> None:
        self.bin, self.settings = bin or binaries(), settings
        self.folder = Path(tempfile.mkdtemp(prefix="bowerbird-pg-"))
        self.data = self.folder / "data"
        self._numbers = itertools.count(1)
        # root may not run a server: then whom Debian made for that does
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.user = "postgres" if self._as else getpass.getuser()
        if self._as:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "-D", str(self.data), "--auth=trust", "--encoding=UTF8", "--no-sync", "--locale=C.UTF-8")
        self.start()

    def start(self) -> None:
        options = " ".join(f"-c {one}" for one in self.settings.split())
        options += f" -c listen_addresses= -c unix_socket_directories={self.folder} -c shared_buffers=32MB"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast` ends what goes on, `immediate` is as a crash."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def url(self, name: str = "postgres") -> str:
        return f"postgresql:///{name}?host={self.folder}&user={self.user}"

    def new(self) -> str:
        """Return the address of a new database."""
        name = f"shop{next(self._numbers)}"
        self._run("createdb", "-h", str(self.folder), "-U", self.user, name)
        return self.url(name)

    def close(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run([*self._as, str(self.bin / program), *words], capture_output=True, text=True, cwd="/",
                              stdin=subprocess.DEVNULL)  # fmt: skip
        if done.returncode:
            raise OSError(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")
