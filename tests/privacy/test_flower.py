"""A server and three clients as processes over loopback gRPC, aggregated securely: `make test-federated` runs it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="Flower has an environment of its own: make test-federated")

from bowerbird.core import ConfigError, RunOptions
from bowerbird.data import Interactions
from bowerbird.models.baselines.mf import MFConfig
from bowerbird.privacy import FederatedOptions, WireOptions, federate
from bowerbird.privacy.federated import Server
from bowerbird.privacy.flower import Plan, write_app
from bowerbird.recommender import Recommender

BIN = Path(sys.executable).parent
WAIT_S = 540
OPTIONS = FederatedOptions(rounds=2, silos=3, share=1.0, wire=WireOptions(budget=1.0, bits=16))
CONFIG = MFConfig(dim=8)


@contextmanager
def process(log: Path, *words: str, env: dict[str, str]) -> Iterator[None]:
    with open(log, "w") as out:
        running = subprocess.Popen([str(BIN / words[0]), *words[1:]], env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        running.terminate()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def ports(n: int) -> list[str]:
    opened = [socket.socket() for _ in range(n)]
    for one in opened:
        one.bind(("127.0.0.1", 0))
    found = [f"127.0.0.1:{one.getsockname()[1]}" for one in opened]
    for one in opened:
        one.close()
    return found


def until(done: Path, log: Path, text: str | None = None) -> None:
    end = time.monotonic() + WAIT_S
    while not done.exists() or (text is not None and text not in done.read_text()):
        assert time.monotonic() < end, log.read_text()[-3_000:]
        time.sleep(0.5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training between processes."""
    folder = tmp_path_factory.mktemp("federated")
    events = even_odd_events()
    Plan.of(events, "mf", CONFIG, OPTIONS, 0).write(folder, events)
    write_app(folder / "app")
    home = folder / "home"
    home.mkdir()
    app_io, fleet, control, *own = ports(6)
    (home / "config.toml").write_text(f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{control}"\n'
                                      "insecure = true\n")  # fmt: skip
    env = os.environ | {
        "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "PATH": f"{BIN}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1", "NO_COLOR": "1",
    }  # fmt: skip
    link = folder / "link.log"
    with process(
        link, "flower-superlink", "--insecure", "--serverappio-api-address", app_io, "--fleet-api-address", fleet,
        "--control-api-address", control, env=env,
    ):  # fmt: skip
        until(link, link, "Fleet API")
        nodes = [
            process(
                folder / f"node{silo}.log", "flower-supernode", "--insecure", "--superlink", fleet,
                "--clientappio-api-address", own[silo], "--node-config", f"silo={silo}", env=env,
            )
            for silo in range(3)
        ]  # fmt: skip
        with nodes[0], nodes[1], nodes[2]:
            for _ in range(10):
                asked = subprocess.run(
                    [str(BIN / "flwr"), "run", str(folder / "app"), "here", "--run-config", f'folder="{folder}"'],
                    env=env, capture_output=True, text=True, check=False,
                )  # fmt: skip
                if asked.returncode == 0 and "unavailable" not in asked.stdout:
                    break
                time.sleep(3)
            assert asked.returncode == 0, asked.stdout + asked.stderr
            until(folder / "done", link)
    return folder


def even_odd_events() -> Interactions:
    import polars as pl

    user, turn = (column.ravel() for column in np.meshgrid(np.arange(40), np.arange(5), indexing="ij"))
    item = 2 * ((user // 2 + turn) % 6) + user % 2
    return Interactions.of(pl.Series(user), pl.Series(item), time=1_000 * turn + user)


def test_it_is_the_simulation(trained: Path) -> None:
    found = federate(even_odd_events(), CONFIG, OPTIONS, run=RunOptions(seed=0, threads=1))
    with np.load(trained / "server.npz") as server:
        assert np.abs(server["0"] - found.recommender.model.item.detach().numpy()).max() < 1e-5
        assert server["losses"] == pytest.approx([one.loss for one in found.rounds], abs=0.02)  # whole numbers travel


def test_what_the_server_received_is_masked(trained: Path) -> None:
    """Each client's numbers look drawn evenly from 2³², agree with its answer as chance does, and sum to the sum."""
    events = even_odd_events()
    server = Server(Recommender(CONFIG, events, run=RunOptions(seed=0, threads=1)), CONFIG, OPTIONS, 0)
    rows = server.wire.rows(0, 1)
    items, dither = server.wire.down(server.side.items(rows).detach()), server.wire.dither(0, 1)
    answers = [
        server.clients.answer(torch.tensor([silo]), torch.tensor([True]), rows, items, dither).total.numpy().ravel()
        for silo in range(3)
    ]
    with np.load(trained / "received1.npz") as notes:
        assert [int(notes[f"{place}.plain"]) for place in range(3)] == [0, 0, 0]
        kept = {name: notes[name] for name in notes.files}
    masked = [one.ravel().astype(np.float64) for one in kept.values() if one.size == answers[0].size]
    assert len(masked) == 3
    for one in masked:
        assert one.min() >= 0
        assert one.max() < 2**32
        tenths = np.histogram(one, bins=4, range=(0, 2**32))[0]
        assert ((tenths - len(one) / 4) ** 2 / (len(one) / 4)).sum() < 21  # chi-square, 3 degrees, 1 in 10,000
        for answer in answers:
            assert abs(np.corrcoef(one, answer)[0, 1]) < 4.5 / len(one) ** 0.5
            assert (one == (answer + 2**21) % 2**32).mean() < 0.1  # not the answer in the clear


def test_what_a_client_holds_is_its_own(trained: Path) -> None:
    users = []
    for silo in range(3):
        with np.load(trained / f"silo{silo}" / "events.npz") as mine:
            users.append(set(mine["user"].tolist()))
    assert sorted(one for some in users for one in some) == list(range(40))


def test_plans_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="secure aggregation needs"):
        Plan.of(even_odd_events(), "mf", CONFIG, FederatedOptions(), 0)
