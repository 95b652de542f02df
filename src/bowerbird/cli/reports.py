"""Reports as people read them."""

from typing import Any

from bowerbird.cli.output import show_table


def show_reports(document: dict[str, Any]) -> None:
    """Print the report of a recommender, after that of its ranker's rows where it has one."""
    if "rows" in document:
        show_report(document["rows"])
    show_report(document)


def show_relied_on(document: dict[str, Any]) -> None:
    """Print the section of a report that tells what a model relies on, where it has one."""
    if "relies_on" in document:
        from bowerbird.cli.explain import show_overview

        show_overview(document["relies_on"])


def show_report(document: dict[str, Any]) -> None:
    """Print a report as a table under its protocol line, without what does not exist."""
    intervals = document["intervals"]
    rows = [
        (name, f"{value:.4f}", f"{intervals[name][0]:.4f} – {intervals[name][1]:.4f}" if name in intervals else "")
        for name, value in document["metrics"].items()
        if value is not None
    ]
    show_table(document["protocol"], ("metric", "value", "95 % interval"), rows)
