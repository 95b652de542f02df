"""From a request to a slate: ladder, filters, policy, reasons, trace."""

from bowerbird.pipeline.ladder import Ladder
from bowerbird.pipeline.pipeline import Pipeline, Slate, Step
from bowerbird.pipeline.policy import Greedy, Policy

__all__ = ["Greedy", "Ladder", "Pipeline", "Policy", "Slate", "Step"]
