"""What bowerbird loses, and what it answers wrongly, while it is being broken: the promises of docs/what-we-broke.md.

    python benchmarks/faults.py --json

Stages that need the system's help (a small file system, injected errors) say so where they do not get it, and count
nothing as tried. Exit status 1 means that something was lost or wrong, or that a control run lost nothing.
"""

import os
import sys

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # tables are small here, and threads cost more than they bring

import _breaking
import _faults_answers
import _faults_disk
import _faults_load
import _faults_machine
import _faults_process
import _faults_state
import _faults_tape
import _faults_update

PARTS = (
    _faults_disk, _faults_tape, _faults_process, _faults_machine, _faults_update, _faults_answers, _faults_load,
    _faults_state,
)  # fmt: skip
faults = _breaking.Stages({name: stage for part in PARTS for name, stage in part.stages.all.items()})
SUMS = {name: _breaking.total(name) for name in ("kills", "acked", "lost")}


if __name__ == "__main__":
    sys.exit(_breaking.main("faults", faults, _breaking.options_of(__doc__ or ""), **SUMS))
