"""What is known of a network once it was measured: all that strategies learn from and fronts are made of."""

from dataclasses import dataclass

from shared.architecture import Architecture


@dataclass(frozen=True)
class Evaluated:
    """A network, its costs in the order of the objectives, and its accuracy; None where the measurement failed.

    `sureness` says of each item how sure the network is of the right answer, from 0 to 1: the mean over items says more
    of the accuracy on others than the accuracy on these does. Empty where it isn't known. `items` names the items that
    it was measured on: equal names for equal items.
    """

    architecture: Architecture
    costs: tuple[float, ...]
    accuracy: float | None
    sureness: tuple[float, ...] = ()
    items: str = ""
