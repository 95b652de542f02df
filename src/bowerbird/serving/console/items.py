"""A field to choose an item by its title, from the items that are chosen most."""

from typing import Any

from nicegui import ui

from bowerbird.serving.console.api import Refused
from bowerbird.serving.console.charts import cut
from bowerbird.serving.console.frame import Visit

MOST = 1_000  # items to choose from: as many as a list of the server may have


def title_of(item: dict[str, Any]) -> str:
    """Return what to call an item."""
    return str(item["title"] or item["item_id"])


async def titles(visit: Visit) -> dict[str, tuple[Any, str]]:
    """Return id and title of the items chosen most, by the id as a text; nothing where the key may not ask."""
    try:
        found = await visit.api.get("/v1/lists/popular", k=MOST)
    except Refused:
        return {}
    return {str(one["item_id"]): (one["item_id"], title_of(one)) for one in found["items"]}


def item_field(known: dict[str, tuple[Any, str]], label: str) -> ui.select:
    """Draw the field; its value is an id as a text."""
    options = {key: cut(title, 80) for key, (_, title) in known.items()}
    field = ui.select(options, label=label, with_input=True, clearable=True).props("outlined dense")
    return field.style("width: 100%")
