"""Every block of every document runs, in order, as a reader would run it; what does not run is listed in pages.py."""

from pathlib import Path

import pytest
from pages import ELSEWHERE, NODE, NOT_RUN, PAGES, ROOT, SHOWN, Block, Reader, blocks_of, lay_out, lines_of, told

from bowerbird.core import UnknownModelError

RUN = ("python", "js", "console", "sh", "toml", "json", "output")
ENGLISH = [page for page in PAGES if ".zh-CN" not in page.name]  # a page in Chinese has the blocks of its English one


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    lay_out(tmp_path)
    reader = Reader(tmp_path)
    reader.read(page)
    meant = [one for one in blocks_of(page) if (page.name, one.language) not in ELSEWHERE]
    lines = [line for one in meant if one.language == "console" for line, _ in lines_of(one)]
    assert [line for line in lines if line not in reader.ran] == [line for line in lines if line.startswith(NOT_RUN)]
    for language in ("python", "js"):
        assert reader.ran.count(language) == sum(one.language == language for one in meant)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_what_it_is(page: Path) -> None:
    assert {one.language for one in blocks_of(page)} <= {*RUN, *SHOWN}
    assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks_of(page))


def test_what_is_not_run_is_met_somewhere() -> None:
    lines = [
        line for page in PAGES for one in blocks_of(page) if one.language == "console" for line, _ in lines_of(one)
    ]
    unmet = [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)]
    assert unmet == []


@pytest.mark.parametrize(
    ("page", "error", "said"),
    [
        (
            "```console\n$ bowerbird train --data nowhere.csv --model ease\n```\n",
            AssertionError,
            r"--data nowhere\.csv",
        ),
        ("```console\n$ bowerbird models # exits with 2\n```\n", AssertionError, "bowerbird models"),
        ("```console\n$ rm -r runs\n```\n", AssertionError, "rm -r runs: neither run nor listed in NOT_RUN"),
        ("```console\n$ bowerbird models\nand what it prints\n```\n", AssertionError, "line 2: [$] starts a command"),
        ("```console\n$ curl -s http://127.0.0.1:8321/healthz\n```\n", AssertionError, "a `bowerbird serve` before it"),
        ("```console\n$ bowerbird models # after Ctrl-C\n```\n", AssertionError, "no server runs"),
        ("```python\n1 / 0\n```\n", ZeroDivisionError, "division by zero"),
        pytest.param(
            "```js\nthrow new Error('no good');\n```\n",
            AssertionError,
            "no good",
            marks=pytest.mark.skipif(NODE is None, reason="needs node"),
        ),
        ("```toml\n[model]\nname = 'eas'\n```\n", UnknownModelError, 'Did you mean "ease"'),
        ("```python\nprint('a b')\n```\n\n```output\na\nb\n```\n\n```output\nc\n```\n", AssertionError, "^c"),
    ],
)
def test_the_reader_notices_what_fails(page: str, error: type[Exception], said: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(error, match=said) as caught:
        Reader(tmp_path, root=tmp_path).read(tmp_path / "page.md")
    assert caught.value.__notes__[0].startswith("page.md, the block at line ")


def test_lines_are_joined_and_their_status_is_read() -> None:
    block = Block("console", "$ bowerbird train \\\n    --model ease # exits with 2: no data\n$ make test   # all\n", 1)
    [train, test] = lines_of(block)
    assert train == ("bowerbird train --model ease", "exits with 2: no data")
    assert test == ("make test", "all")
    assert told(train[1], "exits with", 0) == 2
    assert told(test[1], "exits with", 0) == 0
