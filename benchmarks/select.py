"""`python benchmarks/select.py`: the advisor beside the truth; `_selecting` says how.

Python has a module of this name too, and a script's folder comes first where modules are looked for: whoever imports
`select` from here is given that one.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

if __name__ == "__main__":
    import _selecting

    sys.exit(_selecting.run())
else:
    here = Path(__file__).resolve().parent
    found = PathFinder.find_spec("select", [path for path in sys.path if Path(path or ".").resolve() != here])
    assert found is not None
    assert found.loader is not None
    sys.modules[__name__] = module_from_spec(found)
    found.loader.exec_module(sys.modules[__name__])
