"""What bowerbird loses, and what it answers wrongly, while it is being broken: the promises of docs/what-we-broke.md.

    python benchmarks/faults.py --json

Stages that need the system's help (a small file system, injected errors) say so where they do not get it, and count
nothing as tried. Exit status 1 means that something was lost or wrong, or that a control run lost nothing.
"""

import sys

import _breaking

faults = _breaking.Stages()


if __name__ == "__main__":
    sys.exit(_breaking.main("faults", faults, _breaking.options_of(__doc__ or "")))
