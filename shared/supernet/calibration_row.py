"""Text that a network reads so that something of it can be measured."""

from dataclasses import dataclass

from torch import Tensor

from shared.supernet.packing import Packed


@dataclass(frozen=True)
class CalibrationRow:
    """Sequences in a row. All tokens are read; what is measured is taken at some `places` (P,) of the row, None: at all
    of them."""

    packed: Packed
    places: Tensor | None = None

    def __len__(self) -> int:
        return len(self.packed.tokens if self.places is None else self.places)

    def counted(self, states: Tensor) -> Tensor:
        """Those of the row's states (T, ...) that count, (P, ...)."""
        return states if self.places is None else states[self.places]
