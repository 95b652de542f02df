"""Commands: thin doors onto the library. Rooms that need torch are imported inside a command."""

from bowerbird.cli.main import main

__all__ = ["main"]
