"""The same training between processes: an app of Flower, whose secure aggregation (SecAgg+) shows the server sums.

A server process holds the item side; a client process holds the events of its silo and nothing of anybody else's. Both
read the same plan (sizes, configuration, seed); a client keeps its people's rows in a file beside its events, which
never travels. Answers are whole numbers, so that the sum under masks is exact, and the item table is that of the
simulation. Bytes are another matter: Flower sends float32 down and, masked, eight bytes a number up, whatever `bits`
says. With 8 bits that is six times the budget, so that a quarter of the table needs a budget of 0.04.

Paper: Bell et al., CCS 2020, arXiv:2002.10514 (SecAgg+).
Needs: the extra `federated`, in an environment of its own; `make test-federated` makes one.
Shapes: S rows of a round, D vector size.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from flwr.client import ClientApp, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.common import FitIns, Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.parameter import bytes_to_ndarray
from flwr.server import LegacyContext, ServerApp, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from safetensors.torch import load_file, save_file

from bowerbird.core import ConfigError, RunOptions, build, lookup
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions
from bowerbird.nn.losses import PairConfig
from bowerbird.privacy.federated import FederatedOptions, Server, dealt
from bowerbird.privacy.people import Answer, ClientOptions
from bowerbird.privacy.wire import WireOptions
from bowerbird.recommender import Recommender

APP = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "federated-items"
version = "1.0.0"
description = "bowerbird between processes"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "bowerbird"

[tool.flwr.app.components]
serverapp = "federated_items.server:app"
clientapp = "federated_items.client:app"

[tool.flwr.app.config]
folder = ""
"""
PART = """from bowerbird.privacy.flower import {side}_app

app = {side}_app
"""
RANGE = 2**21  # whole numbers of an answer are below this, so that quantising them again changes none
WAIT_S = 120


@dataclass(frozen=True)
class Plan:
    """What all processes know."""

    model: str
    config: dict[str, Any]
    options: dict[str, Any]
    n_users: int
    n_items: int
    seed: int

    @classmethod
    def of(cls, events: Interactions, model: str, config: PairConfig, options: FederatedOptions, seed: int) -> "Plan":
        """Return the plan of a training; raises `ConfigError` where the options do not fit secure aggregation."""
        if options.wire.bits == 32 or not options.silos or options.share < 1 or options.noise or options.failing:
            raise ConfigError(
                "secure aggregation needs silos, a share of 1, whole numbers (bits 8 or 16) and no noise."
            )
        return cls(model, asdict(config), asdict(options), events.n_users, events.n_items, seed)

    def write(self, folder: Path, events: Interactions) -> None:
        """Write the plan, and for each silo a folder with the events of its people."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(json.dumps(asdict(self)))
        for silo, members in enumerate(dealt(self.n_users, self.asked.silos, self.seed)):
            mine = np.isin(events.user, members.numpy())
            (folder / f"silo{silo}").mkdir(exist_ok=True)
            np.savez(folder / f"silo{silo}" / "events.npz", user=events.user[mine], item=events.item[mine])

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        """Return the plan in a folder."""
        return cls(**json.loads((folder / "plan.json").read_text()))

    @property
    def asked(self) -> FederatedOptions:
        """The options of the training."""
        options = dict(self.options)
        client, wire = ClientOptions(**options.pop("client")), WireOptions(**options.pop("wire"))
        return FederatedOptions(**options, client=client, wire=wire)

    def side(self, user: np.ndarray, item: np.ndarray) -> Server:
        """Return this process's part of the training, which knows these events (E,) and no other."""
        ids = [Ids(pl.Series(range(n), dtype=pl.Int64)) for n in (self.n_users, self.n_items)]
        events = Interactions.encoded(
            (ids[0], user.astype(np.int32)), (ids[1], item.astype(np.int32)),
            time=None, weight=None, event=None, events=(EventType("interaction"),), extra=None, origin="",
        )  # fmt: skip
        config = build(lookup(self.model).config, self.config)
        assert isinstance(config, PairConfig)
        run = RunOptions(seed=self.seed, threads=1, device="cpu", progress=False)
        return Server(Recommender(config, events, run=run), config, self.asked, self.seed)


def write_app(folder: Path) -> None:
    """Write the app that `flwr run` wants: a project of two lines of code, for a run with `folder` in its config."""
    (folder / "federated_items").mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(APP)
    (folder / "federated_items" / "__init__.py").write_text("")
    for side in ("server", "client"):
        (folder / "federated_items" / f"{side}.py").write_text(PART.format(side=side))


# ── a client ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Silo(NumPyClient):  # type: ignore[misc]
    """Answers for the people of one silo."""

    def __init__(self, folder: Path, silo: int) -> None:
        self.plan, self.home, self.silo = Plan.read(folder), folder / f"silo{silo}", silo

    def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> tuple[list[np.ndarray], int, dict[str, Any]]:
        """Return the answer to a round, whole numbers, and the loss and its pairs with them; keep the people's rows."""
        with np.load(self.home / "events.npz") as mine:
            part = self.plan.side(mine["user"], mine["item"])
        clients, kept, number = part.clients, self.home / "people.safetensors", int(config["round"])
        if kept.exists():
            state = load_file(kept)
            part.side.own.copy_(state.pop("own"))
            clients.mean, clients.square, clients.steps = (state[name] for name in ("mean", "square", "steps"))
        found = clients.answer(
            torch.tensor([self.silo]), torch.tensor([True]), part.wire.rows(self.plan.seed, number),
            torch.from_numpy(parameters[0].copy()), part.wire.dither(self.plan.seed, number),
        )  # fmt: skip
        state = {"own": part.side.own, "mean": clients.mean, "square": clients.square, "steps": clients.steps}
        save_file({name: one.detach().contiguous().clone() for name, one in state.items()}, kept)
        told = np.array([min(found.loss, RANGE - 1), min(found.pairs, RANGE - 1)]).round()
        return [found.total.numpy(), told], 1, {}


def _client(context: Any) -> Any:
    return Silo(Path(str(context.run_config["folder"])), int(context.node_config["silo"])).to_client()


client_app = ClientApp(client_fn=_client, mods=[secaggplus_mod])


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────────


class Rounds(FedAvg):  # type: ignore[misc]
    """Offers rows, and moves the items along the sum of the answers."""

    def __init__(self, server: Server, clients: int) -> None:
        super().__init__(min_available_clients=clients)
        self.server, self.clients = server, clients
        self.losses: list[float] = []
        self.offered: torch.Tensor | None = None

    def initialize_parameters(self, client_manager: Any) -> Parameters:
        """Return nothing of weight: what travels is made for each round."""
        return ndarrays_to_parameters([np.zeros(1)])

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> list[tuple[Any, FitIns]]:
        """Return the item vectors of the round for every client."""
        client_manager.wait_for(self.clients, WAIT_S)
        server = self.server
        self.offered = server.side.items(server.wire.rows(server.seed, server_round))
        sent = ndarrays_to_parameters([server.wire.down(self.offered.detach()).numpy()])
        return [(one, FitIns(sent, {"round": server_round})) for one in client_manager.all().values()]

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> tuple[Parameters | None, dict[str, Any]]:
        """Move the items; all results hold the same mean, which is all that secure aggregation gives away."""
        assert self.offered is not None
        if results:
            total, told = (len(results) * one for one in parameters_to_ndarrays(results[0][1].parameters))
            whole = torch.from_numpy(total.round())
            found = Answer(whole, float(told[0]), round(float(told[1])))
            self.server.move(self.offered, self.server.noised(found, server_round), len(results))
            self.losses.append(found.loss / max(found.pairs, 1))
        return None, {}

    def configure_evaluate(self, server_round: int, parameters: Any, client_manager: Any) -> list[Any]:
        """Ask for no evaluation."""
        return []


class Watched(SecAggPlusWorkflow):  # type: ignore[misc]
    """Secure aggregation that notes what the server is sent of each client, for those who want to look."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(**options)
        self.folder, self.rounds = folder, 0

    def collect_masked_vectors_stage(self, grid: Any, context: Any, state: Any) -> bool:
        """Collect masked answers through a grid that notes them."""
        self.rounds += 1
        noting = _Noting(grid, self.folder / f"received{self.rounds}.npz")
        found: bool = super().collect_masked_vectors_stage(noting, context, state)
        return found


class _Noting:
    """A grid that writes down the numbers of every reply: one array for each that a client sent."""

    def __init__(self, grid: Any, file: Path) -> None:
        self.grid, self.file = grid, file

    def send_and_receive(self, messages: Any, **options: Any) -> list[Any]:
        replies = list(self.grid.send_and_receive(messages, **options))
        notes: dict[str, np.ndarray] = {}
        for place, one in enumerate(reply for reply in replies if not reply.has_error()):
            plain = sum(len(record) for record in one.content.array_records.values())
            notes[f"{place}.plain"] = np.array(plain)  # arrays beside the masked ones: there should be none
            for record in one.content.config_records.values():
                for name, value in record.items():
                    if isinstance(value, list) and all(isinstance(part, bytes) for part in value):
                        for number, part in enumerate(value):
                            notes[f"{place}.{name}.{number}"] = bytes_to_ndarray(part)
        np.savez(self.file, **cast(Any, notes))
        return replies


server_app = ServerApp()


@server_app.main()  # type: ignore[untyped-decorator]
def _serve(grid: Any, context: Any) -> None:
    """Take all rounds; write the item table, losses and what was received into the folder of the plan."""
    folder = Path(str(context.run_config["folder"]))
    plan = Plan.read(folder)
    nobody, silos = np.zeros(0, np.int64), plan.asked.silos
    strategy = Rounds(plan.side(nobody, nobody), silos)
    secure = Watched(
        folder, num_shares=silos, reconstruction_threshold=max(2, silos - 1), max_weight=1.0,
        clipping_range=float(RANGE), quantization_range=2 * RANGE,
    )  # fmt: skip
    rounds = ServerConfig(num_rounds=plan.asked.rounds)
    DefaultWorkflow(fit_workflow=secure)(grid, LegacyContext(context=context, config=rounds, strategy=strategy))
    learnt = {str(place): one.detach().numpy() for place, one in enumerate(strategy.server.side.parameters())}
    np.savez(folder / "server.npz", losses=np.array(strategy.losses), **cast(Any, learnt))
    (folder / "done").touch()
