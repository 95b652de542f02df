"""`bowerbird federate`: choose the round on what clients hold back, train again on everything, save the item side."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bowerbird.cli.data import Json, Root
from bowerbird.cli.output import command, say, show_json, show_table, tell, word
from bowerbird.core import ConfigError, RunOptions, build, lookup

SHOWN = 12  # rounds of the table, beside the chosen one


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    data: str
    data_root: str | None
    clients: int | None
    model: str
    settings: dict[str, str]
    out: Path | None
    epsilon: float | None
    delta: float
    keep_people: bool
    seed: int


def federate(
    data: Annotated[str, typer.Option("--data", help="A file, or the name of a data set such as ml-100k.")],
    clients: Annotated[
        int | None, typer.Option(help="Clients that people are dealt out to; as many as people, or left out: one each.")
    ] = None,
    model: Annotated[str, typer.Option(help="mf or twotower.")] = "mf",
    out_dir: Annotated[Path | None, typer.Option("--out", help="The run directory to publish into.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A hyper-parameter of the model; repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds at most.")] = 400,
    share: Annotated[float, typer.Option(help="Share of the clients asked in a round.")] = 0.2,
    failing: Annotated[float, typer.Option(help="Share of those asked that never answer.")] = 0.0,
    late: Annotated[float, typer.Option(help="Share of those asked whose answer comes too late.")] = 0.0,
    server: Annotated[str, typer.Option(help="fedadam or fedavg.")] = "fedadam",
    budget: Annotated[
        float, typer.Option(help="Bytes of a client and round, as a share of the item table in float32.")
    ] = 0.25,
    epsilon: Annotated[
        float | None,
        typer.Option(help="Promise to each person: clip answers and add noise for this ε, all rounds taken."),
    ] = None,
    delta: Annotated[float, typer.Option(help="With --epsilon: the chance that the promise does not hold.")] = 1e-6,
    keep_people: Annotated[
        bool, typer.Option("--keep-people", help="Save the simulated people's rows and histories too.")
    ] = False,
    data_root: Root = None,
    seed: Annotated[int, typer.Option(help="Every random stream derives from it.")] = 0,
    threads: Annotated[int, typer.Option(help="0 leaves it to torch.")] = 0,
    json: Json = False,
) -> None:
    """Train over simulated clients who keep their histories and their own vectors; only sums over items move."""
    from bowerbird.cli.main import settings

    given = {"rounds": rounds, "share": share, "failing": failing, "late": late, "server": server}
    asked = Asked(
        data, data_root, clients, model, settings(setting or []), out_dir,
        epsilon, delta, keep_people, seed,
    )  # fmt: skip
    run = RunOptions(seed=seed, threads=threads, progress=not json)
    _run(asked, given, budget, run, as_json=json)


def _run(asked: Asked, given: dict[str, Any], budget: float, run: RunOptions, *, as_json: bool) -> None:
    """Train, tell, and save where asked."""
    from bowerbird.data import split
    from bowerbird.evaluation import evaluate
    from bowerbird.nn.losses import PairConfig
    from bowerbird.privacy import Federated, FederatedOptions, Round, WireOptions
    from bowerbird.privacy import federate as train
    from bowerbird.recommender import DataOptions

    config = build(lookup(asked.model).config, asked.settings)
    if not isinstance(config, PairConfig):
        raise ConfigError(f"{asked.model} cannot be trained on clients. Take mf or twotower.")
    options = FederatedOptions(**given, wire=WireOptions(budget=budget))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
    events = DataOptions(path=asked.data, root=asked.data_root).load()
    options = _promised(asked, replace(options, silos=_silos(asked.clients, events.n_users)))
    parts = split(events, "leave-one-out")
    if not as_json:
        n = options.silos or events.n_users
        say(f"{events.origin}\n{len(events):,} events of {events.n_users:,} people with {n:,} clients")

    def on_round(one: Round) -> None:
        if run.progress and one.value is not None:
            say(f"round {one.number}: loss {one.loss:.4f}, {config.select} {one.value:.4f}")

    found: Federated = train(parts, config, options, run=run, on_round=on_round)
    report = evaluate(found.recommender, parts.valid, seed=run.seed).to_dict()
    report |= {"trained_on": "the train part", "split": parts.protocol}
    final = train(events, config, replace(options, rounds=found.best_round), run=run)
    promise = final.accountant.epsilon(asked.delta) if options.noise else None
    saved = final.recommender if asked.keep_people else final.public()
    saved.measured = report
    version = None if asked.out is None else saved.save(asked.out)
    if as_json:
        document = found.to_dict() | {"refit_rounds": len(final.rounds), "epsilon": promise, "delta": asked.delta}
        show_json({"model": asked.model, "data": asked.data, "seeds": [run.seed], "out": asked.out and str(asked.out),
                   "version": version, "people_kept": asked.keep_people, **document, **report})  # fmt: skip
        return
    _show(found, report)
    if promise is not None:
        told = f"trained with ε {promise:.3g} at δ {asked.delta:g} for each person; choosing the round is not in it"
        tell(told + (", and neither are the people's rows that are kept" if asked.keep_people else ""))
    if asked.out is not None:
        whom = "with everybody's row and history" if asked.keep_people else "the item side alone, which knows nobody"
        tell(f"saved {asked.model} as version {version} in {asked.out}: {whom}")
        item = word(saved.item_ids[0], "--history")
        tell(f"next: {command()} recommend {word(asked.out)} {item}")


def _silos(clients: int | None, people: int) -> int:
    """Return the silos that a number of clients means; 0 where everybody is one."""
    if clients is None or clients == people:
        return 0
    if not 1 <= clients <= people:
        raise ConfigError(f"clients is {clients:,}; it must be 1 to {people:,}, the number of people.")
    return clients


def _promised(asked: Asked, options: Any) -> Any:
    """Return the options with the noise that a promise needs: answers in float32, and all rounds counted."""
    if asked.epsilon is None:
        return options
    from bowerbird.privacy import noise_for

    noise = noise_for(asked.epsilon, asked.delta, share=options.share, steps=options.rounds)
    return replace(options, clip=1.0, noise=noise, wire=replace(options.wire, bits=32))


def _show(found: Any, report: dict[str, Any]) -> None:
    every = max(1, len(found.rounds) // SHOWN)
    rows = [
        (one.number, f"{one.loss:.4f}", one.asked, one.answered, one.failed, one.late, f"{one.bytes_down:,}",
         f"{one.bytes_up:,}", "" if one.value is None else f"{one.value:.4f}")
        for one in found.rounds
        if one.number % every == 0 or one.number == found.best_round
    ]  # fmt: skip
    head = ("round", "loss", "asked", "answered", "failed", "late", "bytes down", "bytes up", found.select)
    show_table(f"{len(found.rounds)} rounds, round {found.best_round} chosen", head, rows, left=0)
    tell(
        f"a client moves {found.client_bytes:,} bytes a round, down and up together: {found.share_of_table:.1%} of the "
        f"item table ({found.table_bytes:,} bytes)"
    )
    tell(", ".join(f"{name} {value:.4f}" for name, value in report["metrics"].items()))
