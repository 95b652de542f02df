"""What strangers can do to bowerbird: attacks over HTTP, over raw sockets and by files, for docs/what-we-broke.md.

    python benchmarks/security.py --json

Exit status 1 means that something came through: an answer of 500, code that was run, a secret or somebody else's data
that was told, an item that was hidden, a file elsewhere that was opened, or memory beyond its bound.
"""

import os
import sys

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # tables are small here, and threads cost more than they bring

import _attacks_code
import _attacks_config
import _attacks_data
import _attacks_exports
import _attacks_files
import _attacks_http
import _attacks_wire
import _breaking

PARTS = (
    _attacks_http, _attacks_wire, _attacks_files, _attacks_data, _attacks_exports, _attacks_config, _attacks_code,
)  # fmt: skip
security = _breaking.Stages({name: stage for part in PARTS for name, stage in part.stages.all.items()})
SUMS = {"leaks": _breaking.total("leaks")}


if __name__ == "__main__":
    sys.exit(_breaking.main("security", security, _breaking.options_of(__doc__ or ""), **SUMS))
