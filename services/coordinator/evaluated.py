"""What is known of a network once it was measured: all that strategies learn from and fronts are made of."""

from dataclasses import dataclass

from shared.architecture import Architecture


@dataclass(frozen=True)
class Evaluated:
    """A network, its costs in the order of the objectives, and its accuracy; None where the measurement failed."""

    architecture: Architecture
    costs: tuple[float, ...]
    accuracy: float | None
