"""Axes of a chart: a range with round ticks, and where on it a value lies, in percent of its length."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from matplotlib.ticker import MaxNLocator

from services.reporting import wording

PADDING = 0.06
"""Share of the range that stays free at either end, so that no mark touches the frame."""
TICKS = 6
"""Steps between ticks at most: about as many as a phone's width has room for."""
STEPS = (1, 2, 2.5, 5, 10)
"""Steps between ticks, times a power of 10."""
COUNT_STEPS = (1, 2, 2.5, 3, 5, 10)
"""The same of counts: of these, only whole products are used."""


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high`."""

    title: str
    low: float
    high: float
    ticks: tuple[Tick, ...]

    def place(self, value: float) -> float:
        """Distance of a value from the low end, in percent of the axis."""
        return _place(value, self.low, self.high)


TickLabel = Callable[[float, float], str]
"""The text of a tick, given its value and the step between ticks."""


def axis_over(title: str, values: Iterable[float], label: TickLabel) -> Axis:
    """An axis on which all values fit."""
    return _axis(title, values, MaxNLocator(TICKS, steps=STEPS), label)


def count_axis(title: str, values: Iterable[float]) -> Axis:
    """An axis of whole numbers, with no tick between two of them."""
    locator = MaxNLocator(TICKS, steps=COUNT_STEPS, integer=True, min_n_ticks=1)
    return _axis(title, values, locator, lambda tick, _: f"{tick:.0f}")


def scaled_label(units: wording.Units) -> TickLabel:
    """Labels each in the unit that suits it: `950 M`, `1.0 B`."""

    def label(value: float, step: float) -> str:
        if value == 0:
            return "0"
        scale, unit = wording.unit_for(value, units)
        return f"{value / scale:.{decimals(step / scale)}f}{wording.SPACE}{unit}".strip()

    return label


def decimals(step: float) -> int:
    """How many decimals tell neighbouring ticks apart: those of the step."""
    exponent = Decimal(f"{step:.3g}").normalize().as_tuple().exponent
    return max(0, -int(exponent))


def _axis(title: str, values: Iterable[float], locator: MaxNLocator, label: TickLabel) -> Axis:
    seen = list(values)
    low, high = min(seen), max(seen)
    room = PADDING * (high - low) or 0.1 * abs(high) or 0.5
    low, high = low - room, high + room
    located = [float(value) for value in locator.tick_values(low, high)]  # with one beyond either end
    step = located[1] - located[0]
    # The locator adds steps up: it may miss 0 by a rounding error.
    exact = [0.0 if abs(value) < step / 2 else value for value in located]
    ticks = tuple(Tick(_place(value, low, high), label(value, step)) for value in exact if low <= value <= high)
    return Axis(title, low, high, ticks)


def _place(value: float, low: float, high: float) -> float:
    return round(100 * (value - low) / (high - low), 2)
