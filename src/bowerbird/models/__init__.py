"""The zoo, one model a file. Importing this package fills the registry.

A model may live in another package: name its module in the entry-point group `bowerbird.models`.
"""

import pkgutil
import warnings
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from bowerbird.core import DuplicateModelError

GROUP = "bowerbird.models"


def _welcome(point: EntryPoint) -> None:
    """Import a module of another package; a broken one is left out with a warning, so that the others still work."""
    who = f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"
    try:
        import_module(point.module)
    except DuplicateModelError as error:
        raise DuplicateModelError(error.message, where=f"{point.module} belongs to {who}") from None
    except Exception as error:  # whatever a stranger's module raises
        mend = f"Mend it, or leave it out: pip uninstall {point.dist.name}" if point.dist else "Mend it."
        text = f"the models of {who} are left out: {point.module} raised {type(error).__name__}: {error}. {mend}"
        warnings.warn(text, stacklevel=2)


for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)
for _point in entry_points(group=GROUP):
    _welcome(_point)
