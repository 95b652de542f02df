"""Documents as programs: the blocks of a page, and a reader who does what the page says, from top to bottom."""

import io
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import tomllib
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import numpy as np
import polars as pl
import uvicorn
from fastapi import FastAPI

from bowerbird.cli import main
from bowerbird.pipeline.scenario import Scenario
from bowerbird.recommender import Recipe
from bowerbird.serving.bodies import ExperimentAsked

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
PAGES = [ROOT / name for name in NAMES] + sorted((ROOT / "docs").rglob("*.md"))
SHOWN = ("text",)  # what is only to be read: a file that is not ours, figures that another machine may round otherwise
# Lines that change the machine, or need the network or another day. Nothing else is left out.
NOT_RUN = ("make ",)
ELSEWHERE = {("CONTRIBUTING.md", "python"), ("CONTRIBUTING.md", "toml")}  # test_contributing installs that package
NODE = shutil.which("node")  # without it JavaScript is only shown
PORT = "127.0.0.1:8321"  # of the pages; a test serves at a free one
PRINTED = {"bb_…": r"bb_[\w-]{43}", "…": r'"request_id":\s*"(\w+)"'}  # what a page leaves out of an `export`
WAIT_S = 60  # for a server to start, and for a request


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int  # of the page on which its text starts
    title: str = ""  # the file that it is, where the page gives one a name


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order, without their indentation."""
    text = page.read_text(encoding="utf-8")
    fence = r"^( *)```(\w*)(?: title=\"(.+?)\")?\n(.*?)^\1```$"
    found = re.finditer(fence, text, flags=re.DOTALL | re.MULTILINE)
    return [Block(one[2], textwrap.dedent(one[4]), text[: one.start(4)].count("\n") + 1, one[3] or "") for one in found]


def lines_of(block: Block) -> list[tuple[str, str]]:
    """Return the command lines of a console block, with those that end in a backslash joined, and their comments.

    A comment may say what is to come: `# exits with 2`, `# answers 403`. `# after Ctrl-C` stops the server before.
    """
    joined = re.sub(r"\\\n\s*", "", block.text).splitlines()
    assert all(line.startswith("$ ") for line in joined), f"line {block.line}: $ starts a command, and nothing else"
    parted = [line[2:].partition(" # ") for line in joined]
    return [(line.strip(), said.strip()) for line, _, said in parted]


def told(said: str, what: str, usual: int) -> int:
    """Return the number that a comment gives for `exits with` or `answers`."""
    found = re.match(rf"{what} (\d+)", said)
    return int(found[1]) if found else usual


def lay_out(folder: Path) -> None:
    """Write the small tables that pages speak of: 60 people of two tastes, and 30 things."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", 1_700_000_000 + 60 * int(rng.integers(10_000)))
            for u in range(60) for i in rng.permutation(np.arange(u % 2, 30, 2))[:8]]  # fmt: skip
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row").sort("time")
    events.write_csv(folder / "events.csv")
    tonight = events.head(60).with_columns(
        pl.col("time") + 900_000, user_id=pl.lit("u") + pl.int_range(70, 130).cast(pl.String)
    )
    pl.concat([events.tail(60).with_columns(pl.col("time") + 900_000, item_id=pl.lit("i31")), tonight]).write_csv(
        folder / "today.csv"
    )
    actions = events.with_columns(event=pl.Series(["view", "purchase", "view", "cart"] * (len(events) // 4)))
    actions.write_csv(folder / "actions.csv")
    names = pl.DataFrame({"item_id": [f"i{i}" for i in range(32)]})
    names = names.with_columns(title=pl.lit("Thing ") + pl.col("item_id").str.slice(1), price=pl.int_range(32) * 0.5)
    names.write_csv(folder / "items.csv")
    goods = names.with_columns(
        category=pl.Series(["shoes", "hats", "bags", "coats"] * 8),
        brand=pl.Series(["ara", "bolt"] * 16),
        tags=pl.Series(["new|red", "red"] * 16),
        published_at=1_700_000_000 + 86_400 * pl.int_range(32),
    )
    goods.write_csv(folder / "goods.csv")
    users, things = rng.integers(60, size=2_000), rng.integers(30, size=2_000)
    chance = np.where(users % 2 == things % 2, 0.7, 0.1)
    clicks = {
        "click": (rng.random(2_000) < chance).astype(int), "user_id": users, "item_id": things,
        "device": rng.choice(["phone", "tablet", "desk"], 2_000), "age": 18 + users, "price": things * 0.5,
        "tags": np.array(["odd|small", "even|small", "odd|big", "even|big"])[things % 2 + 2 * (things > 14)],
    }  # fmt: skip
    pl.DataFrame(clicks).write_csv(folder / "clicks.csv")


class Served:
    """An application at a free port of this machine, in a thread, until it is stopped."""

    def __init__(self, app: FastAPI) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error", access_log=False))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.02)
            assert self._thread.is_alive()

    def stop(self) -> None:
        """Stop it, as Ctrl-C would."""
        self._server.should_exit = True
        self._thread.join()


@dataclass
class Reader:
    """Does in a folder what a page says.

    Python blocks share one namespace, JavaScript blocks one module; requests meet the server that was started last.
    """

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    root: Path = ROOT
    served: Served | None = None
    script: str = ""  # the JavaScript so far
    ran: list[str] = field(default_factory=list)  # lines and languages, so that a test can see what was left out
    said: io.StringIO = field(default_factory=io.StringIO)  # what was printed

    def read(self, page: Path) -> None:
        """Do everything on a page; raises at the first thing that does not work."""
        with ExitStack() as stack:
            for one in (chdir(self.folder), redirect_stdout(self.said), redirect_stderr(self.said)):
                stack.enter_context(one)
            stack.enter_context(mock.patch.dict(os.environ))  # a page may set variables
            stack.callback(self._close)
            for block in blocks_of(page):
                if block.language in SHOWN or (page.name, block.language) in ELSEWHERE:
                    continue
                try:
                    getattr(self, f"_{block.language}")(block)
                except Exception as error:
                    error.add_note(f"{page.relative_to(self.root)}, the block at line {block.line}")
                    raise

    def _here(self, text: str) -> str:
        """Return a text that asks the port which is served instead of that of the pages."""
        return text if self.served is None else text.replace(PORT, f"127.0.0.1:{self.served.port}")

    def _python(self, block: Block) -> None:
        exec(compile(self._here(block.text), f"<block at line {block.line}>", "exec"), self.names)
        self.ran.append("python")

    def _js(self, block: Block) -> None:
        """One module that grows: what stands further up runs again."""
        self.script += block.text
        if NODE is not None:
            program = [NODE, "--input-type=module", "-e", self._here(self.script)]
            done = subprocess.run(program, capture_output=True, text=True, timeout=WAIT_S, check=False)
            assert done.returncode == 0, done.stderr
            self.said.write(done.stdout)
        self.ran.append("js")

    def _toml(self, block: Block) -> None:
        """A recipe, recipe.toml unless it has another name, a scenario or an experiment: read, and left there."""
        file = self.folder / (block.title or "recipe.toml")
        file.parent.mkdir(exist_ok=True)
        file.write_text(block.text)
        document = tomllib.loads(block.text)
        if file.parent.name == "experiments":
            ExperimentAsked.model_validate({"name": file.stem} | document)
        elif file.parent == self.folder:
            Recipe.load(file)
        else:
            Scenario.load(file)
        self.ran.append("toml")

    def _output(self, block: Block) -> None:
        """What was printed before, wherever its lines were broken."""
        assert " ".join(block.text.split()) in " ".join(self.said.getvalue().split()), block.text

    def _json(self, block: Block) -> None:
        json.loads(block.text)

    def _console(self, block: Block) -> None:
        for line, said in lines_of(block):
            if not line.startswith(NOT_RUN):
                self._command(line, said)
                self.ran.append(line)

    def _sh(self, block: Block) -> None:
        """A script, line by line; what sets the shell up is the shell's."""
        for line in block.text.splitlines():
            if not line.startswith("set -"):
                self._command(line, "")
                self.ran.append(line)

    def _command(self, line: str, said: str) -> None:
        if said.startswith("after Ctrl-C"):
            assert self.served is not None, f"{line}: no server runs"
            self._stop()
        program, *words = shlex.split(os.path.expandvars(line))
        if program == "curl":
            assert self.served is not None, "a curl line needs a `bowerbird serve` before it"
            answer = ask(words, self._here)
            self.said.write(answer.text)
            expected = told(said, "answers", 0)
            fine = answer.status_code == expected if expected else answer.is_success
            assert fine, f"{line}: {answer.status_code} {answer.text}"
        elif program == "export":
            self._export(words[0])
        elif program == "python":
            runpy.run_path(str(ROOT / words[0]))["main"]([*words[1:], "--size", "tiny"])  # a story, at its smallest
        else:
            assert program == "bowerbird", f"{line}: neither run nor listed in NOT_RUN"
            words = [
                one
                for word in words
                for one in (sorted(map(str, Path().glob(word))) if "*" in word and " " not in word else [word])
            ]
            words = [self._here(word) for word in words]
            assert self._bowerbird(words) == told(said, "exits with", 0), line

    def _export(self, setting: str) -> None:
        """Set a variable to the secret, or the request_id, that was printed last."""
        name, _, value = setting.partition("=")
        os.environ[name] = re.findall(PRINTED[value], self.said.getvalue())[-1]

    def _bowerbird(self, words: list[str]) -> int:
        """Run the command line in this process and return its exit status; `serve` goes on in the background."""
        with (
            mock.patch.object(sys, "argv", ["bowerbird", *words]),
            mock.patch("uvicorn.run", self._serve),
            warnings.catch_warnings(),  # main changes how warnings are shown
        ):
            try:
                main()
            except SystemExit as end:
                return int(end.code or 0)
        return 0

    def _serve(self, app: FastAPI, **options: Any) -> None:
        self._stop()
        self.served = Served(app)

    def _stop(self) -> None:
        if self.served is not None:
            self.served.stop()
            self.served = None

    def _close(self) -> None:
        """Stop the server, and let go of what the page's own applications hold."""
        self._stop()
        for one in self.names.values():
            if isinstance(one, FastAPI):
                one.state.jobs.close()
                one.state.engine.close()


def ask(words: list[str], here: Callable[[str], str]) -> httpx.Response:
    """Return the answer to the words of a curl line: an address, -X method, -H header, -d body, -o file."""
    rest: Iterator[str] = iter(words)
    headers, body, url, method, file = {}, None, "", "", ""
    for word in rest:
        match word:
            case "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            case "-d":
                body = next(rest)
            case "-X":
                method = next(rest)
            case "-o":
                file = next(rest)
            case "-s":
                pass
            case _:
                assert not word.startswith("-"), f"curl {word} is not known here"
                url = word
    method = method or ("GET" if body is None else "POST")
    answer = httpx.request(method, here(url), content=body, headers=headers, timeout=WAIT_S)
    if file:
        Path(file).write_bytes(answer.content)
    return answer


def named(word: str) -> list[str]:
    """Return what a shell would make of a word: the files that it names by a star, else itself."""
    return sorted(map(str, Path().glob(word))) if "*" in word and " " not in word else [word]
