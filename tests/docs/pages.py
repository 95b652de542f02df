"""Documents as programs: the blocks of a page, and a reader who does what the page says, from top to bottom."""

import io
import json
import re
import shlex
import sys
import textwrap
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from bowerbird.cli import main
from bowerbird.recommender import Recipe

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
PAGES = [ROOT / name for name in NAMES] + sorted((ROOT / "docs").rglob("*.md"))
SHOWN = ("text",)  # what is only to be read: a file that is not ours, figures that another machine may round otherwise
# Lines that change the machine, or need the network or another day. Nothing else is left out.
NOT_RUN = ("make ",)
ELSEWHERE = {("CONTRIBUTING.md", "python"), ("CONTRIBUTING.md", "toml")}  # test_contributing installs that package


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int  # of the page on which its text starts


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order, without their indentation."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```([^\n]*)\n(.*?)^\1```$", text, flags=re.DOTALL | re.MULTILINE)
    return [Block(one[2], textwrap.dedent(one[3]), text[: one.start(3)].count("\n") + 1) for one in found]


def lines_of(block: Block) -> list[tuple[str, int]]:
    """Return the command lines of a console block, with those that end in a backslash joined, and their exit status.

    That is 0, unless the comment behind the command says otherwise: `# exits with 2`.
    """
    joined = re.sub(r"\\\n\s*", "", block.text).splitlines()
    assert all(line.startswith("$ ") for line in joined), f"line {block.line}: $ starts a command, and nothing else"
    parted = [line[2:].partition(" # ") for line in joined]
    return [(line.strip(), 2 if said.startswith("exits with 2") else 0) for line, _, said in parted]


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
    names = pl.DataFrame({"item_id": [f"i{i}" for i in range(32)]})
    names = names.with_columns(title=pl.lit("Thing ") + pl.col("item_id").str.slice(1), price=pl.int_range(32) * 0.5)
    names.write_csv(folder / "items.csv")
    users, things = rng.integers(60, size=2_000), rng.integers(30, size=2_000)
    chance = np.where(users % 2 == things % 2, 0.7, 0.1)
    clicks = {
        "click": (rng.random(2_000) < chance).astype(int), "user_id": users, "item_id": things,
        "device": rng.choice(["phone", "tablet", "desk"], 2_000), "age": 18 + users, "price": things * 0.5,
        "tags": np.array(["odd|small", "even|small", "odd|big", "even|big"])[things % 2 + 2 * (things > 14)],
    }  # fmt: skip
    pl.DataFrame(clicks).write_csv(folder / "clicks.csv")


@dataclass
class Reader:
    """Does in a folder what a page says; Python blocks share one namespace, and requests meet the app last served."""

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    root: Path = ROOT
    app: FastAPI | None = None
    ran: list[str] = field(default_factory=list)  # lines and languages, so that a test can see what was left out
    said: io.StringIO = field(default_factory=io.StringIO)  # what was printed

    def read(self, page: Path) -> None:
        """Do everything on a page; raises at the first thing that does not work."""
        with chdir(self.folder), redirect_stdout(self.said), redirect_stderr(self.said):
            for block in blocks_of(page):
                if block.language in SHOWN or (page.name, block.language) in ELSEWHERE:
                    continue
                try:
                    getattr(self, f"_{block.language}")(block)
                except Exception as error:
                    error.add_note(f"{page.relative_to(self.root)}, the block at line {block.line}")
                    raise

    def _python(self, block: Block) -> None:
        exec(compile(block.text, f"<block at line {block.line}>", "exec"), self.names)
        self.ran.append("python")

    def _toml(self, block: Block) -> None:
        """A recipe: it is read, and lies in the folder as recipe.toml for the commands that follow."""
        tomllib.loads(block.text)
        (self.folder / "recipe.toml").write_text(block.text)
        Recipe.load(self.folder / "recipe.toml")
        self.ran.append("toml")

    def _output(self, block: Block) -> None:
        """What was printed before, wherever its lines were broken."""
        assert " ".join(block.text.split()) in " ".join(self.said.getvalue().split()), block.text

    def _json(self, block: Block) -> None:
        json.loads(block.text)

    def _console(self, block: Block) -> None:
        for line, status in lines_of(block):
            if not line.startswith(NOT_RUN):
                self._command(line, status)
                self.ran.append(line)

    def _sh(self, block: Block) -> None:
        """A script, line by line; what sets the shell up is the shell's."""
        for line in block.text.splitlines():
            if not line.startswith("set -"):
                self._command(line, 0)
                self.ran.append(line)

    def _command(self, line: str, status: int) -> None:
        program, *words = shlex.split(line)
        if program == "curl":
            assert ask(self.app, words).status_code == 200, line
            return
        assert program == "bowerbird", f"{line}: neither run nor listed in NOT_RUN"
        assert self._bowerbird(words) == status, line

    def _bowerbird(self, words: list[str]) -> int:
        """Run the command line in this process and return its exit status; `serve` only hands over its app."""
        with (
            mock.patch.object(sys, "argv", ["bowerbird", *words]),
            mock.patch("uvicorn.run", self._served),
            warnings.catch_warnings(),  # main changes how warnings are shown
        ):
            try:
                main()
            except SystemExit as end:
                return int(end.code or 0)
        return 0

    def _served(self, app: FastAPI, **options: Any) -> None:
        self.app = app


def ask(app: FastAPI | None, words: list[str]) -> Response:
    """Return what the app answers to the words of a curl line: an address, headers with -H, a body with -d."""
    assert app is not None, "a curl line needs a `bowerbird serve` before it"
    rest: Iterator[str] = iter(words)
    headers, body, url = {}, None, ""
    for word in rest:
        if word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(rest)
        elif word != "-s":
            url = word
    with TestClient(app, base_url="http://127.0.0.1:8321") as client:
        return client.get(url) if body is None else client.post(url, content=body, headers=headers)
