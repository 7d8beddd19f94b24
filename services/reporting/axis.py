"""Axes of a chart: a range with round ticks, and where on it a value lies, in percent of its length."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.reporting import wording

PADDING = 0.06
"""Share of the range that stays free at either end, so that no mark touches the frame."""
TICKS = 6
"""About as many steps as a telephone's width has room for."""


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
    low, high = _range(values)
    return _ticked(title, low, high, _round_step((high - low) / TICKS), label)


def count_axis(title: str, values: Iterable[float]) -> Axis:
    """An axis of whole numbers, with no tick between two of them."""
    low, high = _range(values)
    step = max(1.0, math.ceil(_round_step((high - low) / TICKS)))
    return _ticked(title, low, high, step, lambda value, _: f"{value:.0f}")


def scaled_label(units: wording.Units) -> Callable[[float, float], str]:
    """Words ticks each in the unit that suits it: `950 M`, `1.0 B`."""

    def label(value: float, step: float) -> str:
        if value == 0:
            return "0"
        scale, unit = wording.unit_for(value, units)
        return f"{value / scale:.{decimals(step / scale)}f}{wording.SPACE}{unit}".strip()

    return label


def decimals(step: float) -> int:
    """How many decimals tell neighbouring ticks apart."""
    return max(0, math.ceil(-math.log10(step) - 1e-9) + (0 if _leading(step) != 2.5 else 1))


def _range(values: Iterable[float]) -> tuple[float, float]:
    seen = list(values)
    low, high = min(seen), max(seen)
    room = PADDING * (high - low) or 0.1 * abs(high) or 0.5
    return low - room, high + room


def _ticked(title: str, low: float, high: float, step: float, label: Callable[[float, float], str]) -> Axis:
    values = [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
    ticks = tuple(Tick(_place(value, low, high), label(value, step)) for value in values)
    return Axis(title, low, high, ticks)


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))


def _leading(step: float) -> float:
    return round(step / 10.0 ** math.floor(math.log10(step)), 3)


def _place(value: float, low: float, high: float) -> float:
    return round(100 * (value - low) / (high - low), 2)
