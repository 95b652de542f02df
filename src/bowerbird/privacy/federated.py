"""Federated training: a model learns from people whose histories and vectors stay with them.

A round: the server draws clients and rows; each client is sent these rows, moves its own people's rows, and answers how
it would move the items; the server sums the answers and moves the items. Here all clients are simulated, side by side;
`privacy.flower` runs the same round between processes.

Papers:  McMahan et al., AISTATS 2017 (FedAvg); Reddi et al., ICLR 2021, arXiv:2003.00295, algorithm 2 (FedAdam);
         Ammad-ud-din et al. 2019, arXiv:1901.09888 (item side shared, person's side kept).
         McMahan et al., ICLR 2018, arXiv:1710.06963 (clipped per person, noise on the sum, clients drawn one by one).
Differs: the server's step goes through what makes the item vectors: towers and unit vectors need no other rule.
Shapes:  U people, G clients, M people of a client, S rows of a round, D vector size.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import ConfigError, RunOptions, check, numpy_stream, torch_stream
from bowerbird.data import Holdout, Interactions, Split
from bowerbird.evaluation import evaluate
from bowerbird.nn.losses import PairConfig
from bowerbird.privacy.accountant import Accountant
from bowerbird.privacy.bare import without_people
from bowerbird.privacy.people import Answer, ClientOptions, Clients
from bowerbird.privacy.sides import Side
from bowerbird.privacy.wire import Wire, WireOptions
from bowerbird.recommender import Recommender
from bowerbird.training import Adam

SERVERS = ("fedadam", "fedavg")


@dataclass(frozen=True, kw_only=True)
class FederatedOptions:
    """How a federated training goes."""

    rounds: int = 400
    silos: int = 0  # clients that people are dealt out to; 0: every person is a client
    share: float = 0.2  # of the clients asked in a round, each drawn by itself
    failing: float = 0.0  # share of those asked that never answer
    late: float = 0.0  # share of those asked that answer when the round is over
    least: int = 2  # answers below which a round is given up
    server: str = "fedadam"  # or fedavg
    server_rate: float = 0.06  # learning rate of the server
    client: ClientOptions = field(default_factory=ClientOptions)
    wire: WireOptions = field(default_factory=WireOptions)
    clip: float | None = None  # length that a client's answer is cut to
    noise: float = 0.0  # standard deviation of the noise on the sum, in clips; needs clip
    valid_every: int = 10  # rounds between two validations
    patience: int = 8  # validations without gain that end training

    def __post_init__(self) -> None:
        check(self.rounds >= 1, "rounds", self.rounds, "must be 1 or more", try_instead=400)
        check(self.silos >= 0, "silos", self.silos, "must be 0 or more", try_instead=0)
        check(0 < self.share <= 1, "share", self.share, "must be above 0, and 1 at most", try_instead=0.2)
        for name in ("failing", "late"):
            value = getattr(self, name)
            check(0 <= value < 1, name, value, "must be 0 or more and below 1", try_instead=0.2)
        check(self.failing + self.late < 1, "failing + late", self.failing + self.late, "must be below 1")
        check(self.least >= 1, "least", self.least, "must be 1 or more", try_instead=2)
        check(self.server in SERVERS, "server", self.server, "must be fedadam or fedavg", try_instead="fedadam")
        check(self.server_rate > 0, "server_rate", self.server_rate, "must be above 0", try_instead=0.06)
        check(self.clip is None or self.clip > 0, "clip", self.clip, "must be above 0", try_instead=1.0)
        check(self.noise >= 0, "noise", self.noise, "must be 0 or more", try_instead=1.0)
        if self.noise:
            check(self.clip is not None, "clip", self.clip, "must be given where there is noise", try_instead=1.0)
            told = "must be 0 where there is noise: a person more or less in a silo may turn its answer round"
            check(self.silos == 0, "silos", self.silos, told, try_instead=0)
            whole = self.wire.bits == 32
            check(whole, "bits", self.wire.bits, "must be 32 where there is noise, as rounding lengthens an answer",
                  try_instead=32)  # fmt: skip
        check(self.valid_every >= 1, "valid_every", self.valid_every, "must be 1 or more", try_instead=10)
        check(self.patience >= 1, "patience", self.patience, "must be 1 or more", try_instead=8)


@dataclass
class Round:
    """What happened in a round."""

    number: int  # from 1
    loss: float  # mean over the pairs of those who answered; NaN where the round was given up
    asked: int
    answered: int
    failed: int
    late: int
    bytes_down: int  # to all who were asked
    bytes_up: int  # of all who answered, late ones too
    value: float | None = None  # of the metric that chooses the round


@dataclass
class Federated:
    """A trained recommender, and how it came to be."""

    recommender: Recommender  # with everybody's own row, as if each asked on their own device
    options: FederatedOptions
    rounds: list[Round]
    best_round: int
    select: str
    client_bytes: int  # of a client and round, down and up
    table_bytes: int  # of the full item table in float32
    seconds: float

    @property
    def share_of_table(self) -> float:
        """Bytes of a client and round over those of the full item table."""
        return self.client_bytes / self.table_bytes

    @property
    def accountant(self) -> Accountant:
        """What all rounds give away of one person; the losses that rounds tell are not in it."""
        found = Accountant("person")
        found.step(self.options.noise, self.options.share, len(self.rounds))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON and a manifest keep."""
        kept = {key: value for key, value in vars(self).items() if key not in ("recommender", "options", "rounds")}
        rounds = [asdict(one) | {"loss": one.loss if np.isfinite(one.loss) else None} for one in self.rounds]
        return kept | {"share_of_table": self.share_of_table, "options": asdict(self.options), "rounds": rounds}

    def public(self) -> Recommender:
        """Return what a server has: the item side, and nobody. People ask it with their histories."""
        return without_people(self.recommender)


def federate(
    data: Split | Interactions,
    config: PairConfig,
    options: FederatedOptions | None = None,
    *,
    run: RunOptions | None = None,
    on_round: Callable[[Round], None] | None = None,
) -> Federated:
    """Train `config`, an mf or a twotower, over simulated clients; choose the round on the split's validation part.

    With a bare table there is nothing to choose on: all rounds are taken. Raises `ConfigError` for another model.
    """
    train, valid = (data.train, data.valid) if isinstance(data, Split) else (data, None)
    options, run = options or FederatedOptions(), run or RunOptions()
    rec = Recommender(config, train, run=run)
    started = time.perf_counter()
    server = Server(rec, config, options, run.seed)
    best, best_round, idle = server.side.state(), 0, 0
    highest = -np.inf
    rounds: list[Round] = []
    for number in range(1, options.rounds + 1):
        rounds.append(server.round(number))
        if valid is not None and (number % options.valid_every == 0 or number == options.rounds):
            rounds[-1].value = value = _measured(rec, config.select, valid)
            idle = 0 if value > highest else idle + 1
            if value > highest:
                highest, best, best_round = value, server.side.state(), number
        if on_round is not None:
            on_round(rounds[-1])
        if idle >= options.patience:
            break
    if valid is not None:
        rec.model.load_state_dict(best)
    rec.model.freeze()
    rec.popularity.fit(rec.past, numpy_stream(run.seed, "popularity"))
    wire = server.wire
    return Federated(
        rec, options, rounds, best_round or len(rounds), config.select if valid is not None else "",
        wire.down_bytes + wire.up_bytes, wire.table_bytes, time.perf_counter() - started,
    )  # fmt: skip


def _measured(rec: Recommender, select: str, valid: Holdout) -> float:
    """Return the metric that chooses a round. Each person would rank on their device, and send a number into a sum."""
    rec.model.freeze()
    return evaluate(rec, valid, metrics=[select], who="all", intervals=False).metrics[select]


class Server:
    """The server's side of a training, beside clients that are simulated."""

    def __init__(self, rec: Recommender, config: PairConfig, options: FederatedOptions, seed: int) -> None:
        if rec.device != "cpu":
            raise ConfigError(f"device is {rec.device!r}; a federated training is simulated on the CPU.")
        self.side = Side(rec.model, rec.past)
        self.options, self.seed = options, seed
        members = dealt(rec.past.n_users, options.silos, seed)
        self.wire = Wire(options.wire, rec.past.n_items, config.dim, members.shape[1])
        self.clients = Clients(rec.past, self.side, options.client, self.wire, members, options.clip)
        self.adam = Adam(self.side.parameters(), options.server_rate)

    def round(self, number: int) -> Round:
        """Take a round; return what happened."""
        n, options, wire = len(self.clients.members), self.options, self.wire
        draw = numpy_stream(self.seed, "clients", number)
        asked = np.flatnonzero(draw.random(n) < options.share)
        fate = draw.random(len(asked))
        failed, late = fate < options.failing, (fate >= options.failing) & (fate < options.failing + options.late)
        working = torch.from_numpy(asked[~failed])
        keep = torch.from_numpy(~late[~failed])
        answered = int(keep.sum())
        rows = wire.rows(self.seed, number)
        items = self.side.items(rows)
        found = self.clients.answer(
            working, keep, rows, wire.down(items.detach()), wire.dither(self.seed, number)
        )  # fmt: skip
        enough = answered >= options.least
        if enough:
            self.move(items, self.noised(found, number), answered)
        return Round(
            number, found.loss / max(found.pairs, 1) if enough else float("nan"), len(asked), answered,
            int(failed.sum()), int(late.sum()), len(asked) * wire.down_bytes, len(working) * wire.up_bytes,
        )  # fmt: skip

    def noised(self, found: Answer, number: int) -> Tensor:
        """Return the sum of answers (S, D) with noise where it is asked for."""
        total = (found.total * self.wire.step).float()
        if not self.options.noise:
            return total
        assert self.options.clip is not None
        draw = torch_stream(self.seed, "noise", number)
        return total + self.options.noise * self.options.clip * torch.randn(total.shape, generator=draw)

    def move(self, items: Tensor, total: Tensor, answered: int) -> None:
        """Move what the server holds along the mean of the answers; under noise, over the number expected."""
        expected = self.options.share * len(self.clients.members)
        mean = total / (expected if self.options.noise else answered)
        self.adam.zero_grad()
        torch.autograd.backward(items, -mean)
        if self.options.server == "fedadam":
            self.adam.step()
            return
        rate = self.options.server_rate * self.options.client.local_rate
        with torch.no_grad():
            for parameter in self.adam.parameters:
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad


def dealt(n_users: int, silos: int, seed: int) -> Tensor:
    """Return the people of each client, int64 (clients, M), −1 behind the end: one each, or dealt out to silos."""
    if not silos:
        return torch.arange(n_users)[:, None]
    check(silos <= n_users, "silos", silos, f"must be {n_users:,} at most, the number of people", try_instead=3)
    order = numpy_stream(seed, "silos").permutation(n_users)
    width = -(-n_users // silos)
    padded = np.full(silos * width, -1, np.int64)
    padded[:n_users] = order
    return torch.from_numpy(np.sort(padded.reshape(width, silos).T, axis=1)[:, ::-1].copy())
