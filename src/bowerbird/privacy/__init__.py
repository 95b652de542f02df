"""Learning without gathering people's data, privacy with an accountant, and a person erased with a certificate."""

from bowerbird.privacy.accountant import Accountant, noise_for
from bowerbird.privacy.federated import Federated, FederatedOptions, Round, federate
from bowerbird.privacy.membership import Attack, attack, most, person_losses
from bowerbird.privacy.people import ClientOptions
from bowerbird.privacy.rankers import PrivateRanker, RowPrivacy, fit_private
from bowerbird.privacy.release import Released, ReleaseOptions, release, release_popularity
from bowerbird.privacy.wire import WireOptions

__all__ = [
    "Accountant",
    "Attack",
    "ClientOptions",
    "Federated",
    "FederatedOptions",
    "PrivateRanker",
    "ReleaseOptions",
    "Released",
    "Round",
    "RowPrivacy",
    "WireOptions",
    "attack",
    "federate",
    "fit_private",
    "most",
    "noise_for",
    "person_losses",
    "release",
    "release_popularity",
]
