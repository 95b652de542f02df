"""`bowerbird serve`: a banner, then the HTTP API on loopback."""

import ipaddress

from bowerbird.cli.output import say
from bowerbird.core import ConfigError
from bowerbird.recommender import Recommender


def run_server(recommender: Recommender, host: str, port: int) -> None:
    """Serve until Ctrl-C; raises `ConfigError` for an address that others can reach, since there are no keys yet."""
    import uvicorn

    from bowerbird.serving import create_app

    if host != "localhost" and not _is_loopback(host):
        raise ConfigError(
            f"host is {host!r}; the server has no keys yet, so it must be a loopback address. Try 127.0.0.1, and put "
            "a proxy that checks who asks in front of it."
        )
    base = f"http://{host}:{port}"
    say(f" serves {recommender!r}", mark="\n[bold]bowerbird[/]")
    say(f"  recommendations  {base}/v1/recommendations    documentation  {base}/docs")
    say("  open to everyone on this machine, and to nobody else; Ctrl-C stops it")
    uvicorn.run(create_app(recommender), host=host, port=port, log_level="warning")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
