"""The console on a real set: how soon pages are there, how fast a click shows, and what a console costs the API.

`--tasks` names, with commas, some of:

- `pages`: seconds from the request of a page to its content, each `--runs` times in fresh contexts of one browser; the
  slowest median, and the slowest of all;
- `click`: milliseconds from a click in *Try it* to the new list in the page, `--clicks` of them, as the browser counts;
- `load`: the API's p99 under `--rate` slates a second with a console of its own process open in a browser, over that
  without one: `--runs` pairs in turn, the median of their ratios.

A model is trained on `--data`, a name of a data set, and served. Browser, console, server and load share the cores of
one machine. Needs the extras `console` and `browser`, and Chromium.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import _load
import _shared
from bowerbird.core import BowerbirdError

PAGES = ("", "try", "pipeline", "quality", "choose", "map", "versions")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
READY = "document.querySelectorAll('#content .bb-card').length > 0 && !document.querySelector('.q-spinner')"
# From the click on the first item to the moment at which another one is first: in the browser, by its own clock.
CLICK = """() => new Promise(done => {
  const first = () => document.querySelector('.bb-list .bb-title')?.innerText;
  const before = first(), start = performance.now();
  new MutationObserver((_, watch) => {
    const now = first();
    if (now && now !== before) { watch.disconnect(); done(performance.now() - start); }
  }).observe(document.querySelector('#content'), {childList: true, characterData: true, subtree: true});
  document.querySelector('.bb-list button').click();
})"""
CLICK_MS = 500  # in which a click shows
PATIENCE_S = 90.0
BARS = ("pages.slowest_s<=2", "click.worst_ms<=500", "load.p99_ratio<=1.25")


@contextlib.contextmanager
def running(*words: str, ready: str) -> Iterator[int]:
    """Run a command that serves; yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "bowerbird", *words, "--port", str(port)], env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5):
                    break
            except (URLError, OSError):
                if process.poll() is not None or time.monotonic() > end:
                    raise BowerbirdError(f"`bowerbird {' '.join(words)}` does not answer.") from None
                time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def browsing() -> Iterator[Any]:
    """Yield a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise BowerbirdError(
            'the pages are opened by playwright. Install it with: pip install "bowerbird[browser]"'
        ) from None
    found = shutil.which("chromium")
    if found is None:
        raise BowerbirdError("there is no chromium. Install it with: apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


def pages(run: Path, runs: int) -> dict[str, float]:
    """Return how long pages of a console of its own process take."""
    took: dict[str, list[float]] = {name: [] for name in PAGES}
    with running("serve", str(run), "--no-console", ready="/readyz") as port, browsing() as browser:
        server = f"http://127.0.0.1:{port}"
        with running("console", "--server", server, ready="/console/login") as own:
            for _ in range(runs):
                for name in PAGES:
                    page = browser.new_context().new_page()  # nothing is in its cache
                    started = time.perf_counter()
                    page.goto(f"http://127.0.0.1:{own}/console/{name}")
                    page.wait_for_function(READY)
                    took[name].append(time.perf_counter() - started)
                    page.context.close()
    medians = {f"{name or 'home'}_s": statistics.median(some) for name, some in took.items()}
    return medians | {"slowest_s": max(medians.values()), "worst_s": max(max(some) for some in took.values())}


def click(run: Path, clicks: int) -> dict[str, float]:
    """Return how long it takes until a click shows."""
    with running("serve", str(run), ready="/readyz") as port, browsing() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/console/try")
        page.wait_for_function(READY)
        took = []
        for _ in range(clicks):
            page.wait_for_timeout(300)
            took.append(float(page.evaluate(CLICK)))
    p95 = statistics.quantiles(took, n=20)[-1]
    late = sum(one > CLICK_MS for one in took) / len(took)
    return {"median_ms": statistics.median(took), "p95_ms": p95, "worst_ms": max(took), "late_share": late}


def load(run: Path, runs: int, rate: float, seconds: float) -> dict[str, float]:
    """Return the API's p99 with a console over that without."""
    with running("serve", str(run), "--no-console", ready="/readyz") as port, browsing() as browser:
        asked = _load.Load(port, {"slates": rate}, 943, 1_682, seconds, warm_s=3.0, scenario="default")
        alone, beside, ratios = [], [], []
        for _ in range(runs):
            alone.append(p99(asked))
            with running("console", "--server", f"http://127.0.0.1:{port}", ready="/console/login") as own:
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{own}/console/")
                page.wait_for_function(READY)
                beside.append(p99(asked))
                page.close()
            ratios.append(beside[-1] / alone[-1])
    return {
        "p99_ratio": statistics.median(ratios), "p99_ratio_least": min(ratios), "p99_ratio_most": max(ratios),
        "alone_p99_ms": statistics.median(alone), "beside_p99_ms": statistics.median(beside),
    }  # fmt: skip


def p99(asked: _load.Load) -> float:
    """Return the p99 in milliseconds that a generator of its own process finds."""
    words = [sys.executable, str(Path(__file__).parent / "_load.py")]
    ran = subprocess.run(words, input=json.dumps(asdict(asked)), text=True, stdout=subprocess.PIPE, check=True)
    found = json.loads(ran.stdout)["kinds"]["slates"]
    if found["failed"]:
        raise BowerbirdError(f"{found['failed']} requests failed: {found['outcomes']}")
    return float(found["p99_ms"])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train, then run the tasks; return one row of all."""
    with tempfile.TemporaryDirectory(prefix="console-") as folder:
        run = Path(folder) / "run"
        words = [sys.executable, "-m", "bowerbird", "train", "--data", options.data, "--model", options.model]
        subprocess.run([*words, "--out", str(run)], stdout=subprocess.DEVNULL, check=True)
        tasks = {
            "pages": lambda: pages(run, options.runs),
            "click": lambda: click(run, options.clicks),
            "load": lambda: load(run, options.runs, options.rate, options.seconds),
        }
        protocol = f"tasks={options.tasks} runs={options.runs} clicks={options.clicks} rate={options.rate:g}/s"
        more = {"benchmark": "console", "model": options.model, "protocol": f"{protocol} seconds={options.seconds:g}"}
        return _shared.tasked(options, tasks, **more) | {"data": options.data, "seeds": [0]}


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(data="ml-100k", model="ease", threads=1)
    options.add_argument("--tasks", default="pages,click,load", help="with commas between them")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--clicks", type=int, default=30)
    options.add_argument("--rate", type=float, default=50.0, help="of load: slates a second")
    options.add_argument("--seconds", type=float, default=12.0, help="of load: how long each run counts")
    options.add_argument("--bars", action="store_true", help="ask for what docs/console.md states")
    found = options.parse_args(words)
    wanted = [one for one in BARS if one.partition(".")[0] in found.tasks.split(",")]
    found.require = found.require + (wanted if found.bars else [])
    return found


if __name__ == "__main__":
    options = options_of()
    sys.exit(_shared.figures("console") if options.table else _shared.main(options, measure))
