"""How many networks a search measures altogether."""

from services.coordinator.history import History
from services.coordinator.plan import SearchPlan


def networks_to_measure(plan: SearchPlan, history: History) -> int:
    """Networks that will have been measured, or have failed, when the search is done.

    A budget may be raised at any time, but what has been asked for already is not forgotten if it is lowered; and no
    search measures more networks than there are.
    """
    return min(max(plan.settings.search.evaluations, history.asked()), plan.space.networks)
