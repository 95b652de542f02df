"""Servers of made shops, and a browser: Debian's Chromium, without a network of its own."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bower import Running, bowerbird, films, free_port, race, settled

sync = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
SIZE = {"width": 1200, "height": 760}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, for all tests."""
    with sync.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an open server of films with three versions, the first of which ranks."""
    folder = tmp_path_factory.mktemp("films")
    films(folder)
    data = ("train", "--data", "events.csv", "--items", "items.csv", "--out", "run")
    bowerbird(*data, "--model", "fm", "--set", "epochs=3", "--retriever", "mf", "--candidates", "40", cwd=folder)
    bowerbird(*data, "--model", "itemknn", cwd=folder)
    bowerbird(*data, "--model", "mf", "--set", "epochs=8", cwd=folder)
    with Running("serve", "run", cwd=folder, port=free_port(), ready="/readyz") as one:
        yield one.base


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str], Path]]:
    """The address of a server with keys, whose most popular titles mean no good; keys by name, and its run."""
    folder = tmp_path_factory.mktemp("hostile")
    films(folder, hostile=True)
    data = ("train", "--data", "events.csv", "--items", "items.csv", "--out", "run")
    bowerbird(*data, "--model", "itemknn", cwd=folder)
    keys = {}
    for name, scopes in {"admin": ["admin"], "shop": ["recommend", "events:write"]}.items():
        more = [word for scope in scopes for word in ("--scope", scope)]
        keys[name] = bowerbird("key", "create", "--data-dir", "run/server", "--name", name, *more, cwd=folder).split()[
            0
        ]
    with Running("serve", "run", cwd=folder, port=free_port(), ready="/readyz") as one:
        yield one.base, keys, folder / "run"


@pytest.fixture(scope="session")
def apart(shop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a console of its own process, of the open server."""
    folder = tmp_path_factory.mktemp("apart")
    with Running("console", "--server", shop, cwd=folder, port=free_port(), ready="/") as one:
        yield one.base


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """How to open a page: nothing may be loaded from elsewhere, no policy broken and no script fail on the way."""
    contexts, wrong = [], []

    def begin(address: str, *, spoken: str = "en", shade: str = "light") -> Any:
        context = browser.new_context(viewport=SIZE, locale="en-GB")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        own = address.split("/console")[0]
        page.on("request", lambda one: None if one.url.startswith((own, "data:", "blob:")) else wrong.append(one.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(f"{own}/console/prefs?lang={spoken}&shade={shade}")
        page.goto(address)
        settled(page)
        return page

    yield begin
    for one in contexts:
        one.close()
    assert wrong == []


@pytest.fixture(scope="session")
def selection() -> str:
    """A report of `bowerbird select`."""
    return race()
