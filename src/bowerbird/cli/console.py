"""`bowerbird console`: its options. What it does is in `serving`, which needs more to be loaded."""

from typing import Annotated

import typer

Server = Annotated[str, typer.Option(help="The address of a server.")]


def console(
    server: Server = "http://127.0.0.1:8321",
    host: Annotated[str, typer.Option(help="A loopback address of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 8322,
) -> None:
    """Look at a server in the browser, from a process of its own, until Ctrl-C."""
    from bowerbird.cli.serving import run_console

    run_console(server, host, port)
