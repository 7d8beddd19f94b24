"""The interface of all strategies."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from services.coordinator.evaluated import Evaluated
from shared.architecture import Architecture


class Strategy(Protocol):
    """Decides which networks are measured next.

    Its state is a function of the cost model (with the space), settings (with the seed) and the calls made: a search is
    resumed by constructing the strategy again and repeating them. Nothing else matters: no clock, no global random
    state, no hash order.
    """

    @property
    def predictions(self) -> Mapping[Architecture, float]:
        """Predicted accuracy of each network of the last `ask`; empty without a predictor."""
        ...

    @property
    def predictor_name(self) -> str | None:
        """The predictor that made `predictions`; None without one."""
        ...

    @property
    def drawn(self) -> AbstractSet[Architecture]:
        """Those networks of the last `ask` that were drawn at random, not chosen for what is predicted of them."""
        ...

    def ask(self, limit: int) -> list[Architecture]:
        """The next generation: `population` networks, or `limit` if that is less, none asked or told before.

        Fewer where the space has no more; empty when it is exhausted (or `limit` is 0). `ask` may be called again
        before `tell`.
        """
        ...

    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        """Learn from measurements, in the order of the history; of several of one network the first counts.

        Networks that failed are never asked again and don't enter predictors, unless they are told again, measured.
        Networks that were never asked may be told, too. Raises UserError for a network that is not in the space.
        """
        ...
