"""The attacks over HTTP, gathered: who may not ask, what is no question, and what must not come out."""

import _attacks_access
import _attacks_doors
import _attacks_filters
import _attacks_ids
import _attacks_input
import _attacks_limits
import _attacks_pages
import _attacks_races
import _attacks_schema
import _attacks_secrets
import _attacks_shapes
import _breaking

PARTS = (
    _attacks_access, _attacks_secrets, _attacks_doors, _attacks_pages, _attacks_limits, _attacks_input, _attacks_ids,
    _attacks_shapes, _attacks_filters, _attacks_races, _attacks_schema,
)  # fmt: skip

stages = _breaking.Stages({name: one for part in PARTS for name, one in part.stages.all.items()})
