"""How many networks a search measures altogether."""

from shared.settings import StrategySettings
from shared.space import SearchSpace


def networks_to_measure(settings: StrategySettings, space: SearchSpace, asked: int = 0) -> int:
    """Networks that will have been measured, or have failed, when a search is done; `asked`: so many are asked for.

    A budget may be raised at any time, but what has been asked for already is not forgotten if it is lowered; and no
    search measures more networks than there are.
    """
    return min(max(settings.evaluations, asked), space.networks)
