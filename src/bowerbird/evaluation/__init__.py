"""The one set of metrics: full ranking, intervals, paired tests, and the protocol beside every figure."""

from bowerbird.evaluation.health import Health, health
from bowerbird.evaluation.report import Report, Scorer, compare, evaluate
from bowerbird.evaluation.statistics import Difference

__all__ = ["Difference", "Health", "Report", "Scorer", "compare", "evaluate", "health"]
