"""Axes of a chart: a range with round ticks, and where on it a value lies, in percent of its length."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

PADDING = 0.06
"""Share of the range that stays free at either end, so that no mark touches the frame."""


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


def axis_over(title: str, values: Iterable[float], label: Callable[[float, float], str]) -> Axis:
    """An axis on which all values fit; `label` words a tick, given its value and the step between ticks."""
    seen = list(values)
    low, high = min(seen), max(seen)
    room = PADDING * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - room, high + room
    step = _round_step((high - low) / 5)
    first, last = math.ceil(low / step), math.floor(high / step)
    values_of_ticks = [step * index for index in range(first, last + 1)]
    ticks = tuple(Tick(_place(value, low, high), label(value, step)) for value in values_of_ticks)
    return Axis(title, low, high, ticks)


def count_axis(title: str, values: Iterable[float]) -> Axis:
    """An axis of whole numbers, with no tick between two of them and none below the first."""
    seen = list(values)
    axis = axis_over(title, seen, lambda value, step: f"{value:.0f}" if value >= 0 and float(value).is_integer() else "")
    return Axis(axis.title, axis.low, axis.high, tuple(tick for tick in axis.ticks if tick.label))


def decimals(step: float) -> int:
    """How many decimals tell neighbouring ticks apart."""
    return max(0, math.ceil(-math.log10(step) - 1e-9) + (0 if _leading(step) != 2.5 else 1))


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))


def _leading(step: float) -> float:
    return round(step / 10.0 ** math.floor(math.log10(step)), 3)


def _place(value: float, low: float, high: float) -> float:
    return round(100 * (value - low) / (high - low), 2)
