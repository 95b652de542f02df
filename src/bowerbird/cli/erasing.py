"""`bowerbird erase`: one person out of a run and its server's data directory, with a certificate.

Exit statuses: 0 erased, 1 erased but the id is still found somewhere, 4 nothing is kept of this person.
"""

from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bowerbird.cli.output import say, show_json, show_table, tell
from bowerbird.core import RequestError
from bowerbird.privacy.erasure import Nobody, Place, erase
from bowerbird.store import bundles, erasures
from bowerbird.store.opening import opened

ERASED, FOUND, NOBODY = 0, 1, 4


def run_erase(user_id: str, run: Path, data_dir: Path | None, *, certify: bool, as_json: bool) -> int:
    """Erase a person from the directories of a server that is not running; return the exit status."""
    bundles.current(run)  # a folder that is no run is told before anything else
    place = Place(run, data_dir or run / "server")
    if data_dir is not None and not place.served:
        raise RequestError(f"{data_dir} is no data directory of a server. Leave --data-dir out where there is none.")
    with ExitStack() as stack:
        if place.served:
            place = Place(run, place.data, stack.enter_context(closing(opened(place.data))))
        try:
            certificate = erase(place, user_id)
        except Nobody as error:
            if as_json:
                show_json({"user_id": user_id, "erased": False, "reason": str(error)})
            else:
                say(str(error))
            return NOBODY
    hits = certificate["search"].get("hits", ())
    if as_json:
        show_json({"user_id": user_id, "erased": True, **(certificate if certify else _short(certificate))})
    else:
        _show(user_id, run, certificate, certify=certify)
        if hits:
            say(f"the id is still found in {', '.join(hits)}. Look whether it is somebody else's.")
    return FOUND if hits else ERASED


def _short(certificate: dict[str, Any]) -> dict[str, Any]:
    return {name: certificate[name] for name in ("id", "database", "models", "left")}


def _show(user_id: str, run: Path, certificate: dict[str, Any], *, certify: bool) -> None:
    """Print what was done, and with `certify` all of the certificate."""
    models, database = certificate["models"], certificate["database"] or {}
    events = database.get("events", 0) + database.get("events_of_sessions", 0)
    made = "no version knew them"
    if models["retired"]:
        made = f"version {', '.join(models['retired'])} retired"
        if "version" in models:
            made += f", version {models['version']} by {models['method']} in {models['seconds']:.1f} s"
    tell(f"{user_id} is erased: {events:,} events, {database.get('documents', 0)} documents; {made}")
    if not certify:
        tell(f"certificate {certificate['id']} is in {run / erasures.FOLDER}")
        return
    show_table(f"Certificate {certificate['id']}", ("what", ""), _lines(certificate), left=2)
    for text in certificate["not_covered"]:
        say(f"not covered: {text}")
    say(f"the key {certificate['key']} shows whom it is about, and is kept nowhere else: give it with the certificate")


def _lines(certificate: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a certificate says, for people."""
    models, found = certificate["models"], certificate["search"]
    times = [(name, f"{datetime.fromtimestamp(certificate[name], UTC):%Y-%m-%d %H:%M:%S} UTC") for name in
             ("asked", "finished", "deadline")]  # fmt: skip
    made = []
    if "method" in models:
        exact = "exact" if models["exact"] else "approximate"
        made = [("model", f"{models['model']}, {models['method']}, {exact}: {models['detail']}")]
    return [
        *times,
        *[("database", f"{n:,} {what.replace('_', ' ')}") for what, n in (certificate["database"] or {}).items()
          if what != "end"],
        *[("copy", f"{one['file']}: {one['rows']:,} rows") for one in certificate["copies"]],
        *[("backup", f"{one['backup']} {'made' if one.get('new') else 'removed'}") for one in certificate["backups"]],
        *made,
        *[("retired", f"version {name}, sha256 {one}") for name, one in models["retired"].items()],
        *[("current", f"{name}, sha256 {one}") for name, one in certificate["current"]["files"].items()],
        *[("elsewhere", f"{one['kind']} {one['path']}, rows of theirs: "
                        f"{'unknown' if one['rows'] is None else one['rows']}") for one in certificate["elsewhere"]],
        ("search", found.get("why_not") or f"{found['files']:,} files, {found['bytes']:,} bytes, "
                                           f"{len(found['hits'])} hits"),
        ("subject", certificate["subject"]),
        ("sha256", certificate["sha256"]),
    ]  # fmt: skip
