"""How well lists are for people of much past and of little: a report, cut by how many events came before.

A mean over all hides whom a model serves badly, and it is mostly those of whom it knows little.
"""

from typing import Any

import numpy as np

from bowerbird.core import numpy_stream
from bowerbird.data.splits import Holdout
from bowerbird.evaluation.report import Report
from bowerbird.evaluation.statistics import interval

PARTS = 3  # of the people, as many in each as can be
FEW = 20  # people of whom a part speaks, at least


def by_activity(report: Report, holdout: Holdout, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return the parts from little past to much: `slice` in words, `users`, `metrics` and their 95 % `intervals`.

    `report` was measured on `holdout`. Empty where there are too few people to tell parts apart, or all are alike.
    """
    users = holdout.targets.user_ids.rows(report.per_user["user_id"])
    history = np.bincount(holdout.history.user, minlength=holdout.targets.n_users)[users]
    edges = np.unique(np.quantile(history, np.linspace(0, 1, PARTS + 1)[1:-1]).round().astype(int))
    part = np.searchsorted(edges, history)
    if len(users) < PARTS * FEW or len(np.unique(part)) < 2:
        return []
    rng = numpy_stream(seed, "activity")
    found = []
    for one in np.unique(part):
        mine = part == one
        values = {name: report.per_user[name].to_numpy()[mine] for name in report.intervals}
        low, high = int(history[mine].min()), int(history[mine].max())
        found.append(
            {
                "slice": f"{low:,}" if low == high else f"{low:,}–{high:,}",
                "users": int(mine.sum()),
                "metrics": {name: float(column.mean()) for name, column in values.items()},
                "intervals": {name: list(interval(column, rng)) for name, column in values.items()},
            }
        )
    return found
