"""Why a model says what it says: causes, what would change its mind, and proof that the causes are the real ones."""

from bowerbird.explanation.counterfactual import Counterfactual, counterfactual
from bowerbird.explanation.explainer import Explainer
from bowerbird.explanation.faithfulness import Faith, agreement, faith, trial
from bowerbird.explanation.features import Reference, attribute
from bowerbird.explanation.past import Past
from bowerbird.explanation.paths import Parts, Paths

__all__ = [
    "Counterfactual",
    "Explainer",
    "Faith",
    "Parts",
    "Past",
    "Paths",
    "Reference",
    "agreement",
    "attribute",
    "counterfactual",
    "faith",
    "trial",
]
