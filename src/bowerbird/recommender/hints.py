"""What an unknown id was probably meant to be. For people, who mistype; the answers to programs do not depend on it."""

from typing import Any

from bowerbird.core import closest
from bowerbird.core.ids import Ids

FEW = 10_000  # ids that are compared one by one, which takes half a second at most


def closest_id(value: Any, ids: Ids) -> Any | None:
    """Return the known id that was probably meant by `value`, or None.

    Spaces and case are forgiven among any number of ids, a wrong letter among few. A wrong digit never is: each
    integer is close to many others.
    """
    plain = "".join(str(value).split())
    for one in (plain, plain.lower(), plain.upper()):
        row = ids.row(one)
        if row >= 0:
            return ids[row]
    return None if ids.is_integer or len(ids) > FEW else closest(str(value), ids.values)


def not_known(what: str, value: Any, ids: Ids) -> str:
    """Return the sentence that `what` has no such id, with the one that was probably meant."""
    meant = closest_id(value, ids)
    return f'{what} "{value}" is not known here' + ("" if meant is None else f'; did you mean "{meant}"?')
