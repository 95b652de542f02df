"""The zoo, one model a file. Importing this package fills the registry.

A model may live in another package: name its module in the entry-point group `bowerbird.models`.
"""

import pkgutil
from importlib import import_module
from importlib.metadata import entry_points

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)
for _point in entry_points(group="bowerbird.models"):
    _point.load()
