"""Databases: the rows that a query returns, by connection string. Passwords never reach a message or an origin."""

import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from bowerbird.core import DataError, MissingExtraError, did_you_mean
from bowerbird.data.places import Place

NEEDS = {  # scheme → packages
    "duckdb": ("duckdb",),
    "sqlite": ("adbc_driver_manager", "adbc_driver_sqlite"),
    "postgresql": ("adbc_driver_manager", "adbc_driver_postgresql"),
}


def is_address(source: object) -> bool:
    """Return whether a source is a connection string."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


def query_database(address: str, query: str | None) -> tuple[pl.DataFrame, Place]:
    """Return what a query gives; `address` is duckdb:///file, sqlite:///file or postgresql://user:password@host/name.

    Raises `DataError`, and `MissingExtraError` where the database's driver is not installed.
    """
    scheme, name = address.split("://")[0], _without_secrets(address)
    if scheme not in NEEDS:
        raise DataError(
            f"{name}: no database is reached by {scheme}://.{did_you_mean(scheme, NEEDS)} "
            f"Allowed: {', '.join(f'{one}://' for one in NEEDS)}."
        )
    if query is None:
        raise DataError(f'{name}: a database needs a query, such as query="select * from events".')
    for package in NEEDS[scheme]:
        if find_spec(package) is None:
            raise MissingExtraError(f'{scheme}:// needs {package}. Install it with: pip install "bowerbird[sql]"')
    try:
        frame = _duckdb(address, query) if scheme == "duckdb" else _adbc(address, query)
    except Exception as error:  # each driver has its own family of errors
        first = _hidden(str(error).strip().split("\n")[0], address)
        raise DataError(f"{name}: the query failed. {first}") from None
    return frame, Place(name)


def _duckdb(address: str, query: str) -> pl.DataFrame:
    import duckdb

    with duckdb.connect(_file(address), read_only=True) as connection:
        return pl.read_database(query, connection)


def _adbc(address: str, query: str) -> pl.DataFrame:
    if address.startswith("sqlite:"):
        address = f"sqlite:///{_file(address)}"  # a driver would make a file that is not there
    return pl.read_database_uri(query, address, engine="adbc")


def _file(address: str) -> str:
    """Return the file that an address names: after three slashes as seen from here, after four from the root."""
    path = Path(address.split("://", 1)[1].removeprefix("/"))
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no such file.{did_you_mean(path.name, (f.name for f in path.parent.glob('*')))}"
        )
    return str(path)


def _without_secrets(address: str) -> str:
    """Return an address without user, password and options."""
    scheme, rest = address.split("://", 1)
    return f"{scheme}://{rest.split('?')[0].rpartition('@')[2]}"


def _hidden(message: str, address: str) -> str:
    """Return a driver's message with the address and each of its secrets blotted out."""
    rest = address.split("://", 1)[1]
    login, options = rest.rpartition("@")[0], rest.partition("?")[2]
    secrets = [login.partition(":")[2], *(pair.partition("=")[2] for pair in options.split("&"))]
    secrets += [unquote(secret) for secret in secrets]
    for secret in (address, *sorted(filter(None, secrets), key=len, reverse=True)):
        message = message.replace(secret, _without_secrets(address) if secret == address else "***")
    return message
