"""The one set of metrics: full ranking, intervals, paired tests, and the protocol beside every figure."""

from bowerbird.evaluation.activity import by_activity
from bowerbird.evaluation.health import Health, health
from bowerbird.evaluation.report import Report, Scorer, compare, evaluate
from bowerbird.evaluation.rows_report import RowReport, compare_rows, evaluate_rows
from bowerbird.evaluation.statistics import Difference

__all__ = [
    "Difference",
    "Health",
    "Report",
    "RowReport",
    "Scorer",
    "by_activity",
    "compare",
    "compare_rows",
    "evaluate",
    "evaluate_rows",
    "health",
]
