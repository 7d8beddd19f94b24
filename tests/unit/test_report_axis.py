"""The axes of the page's charts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporting import wording
from services.reporting.charts.axis import axis_over, count_axis, decimals, scaled_label


@pytest.mark.parametrize(
    "values", [[0.2], [0.0], [0.31, 0.44], [0.4, 0.4001], [3.4e9, 6.7e9], [-0.2, 1.0], [1e-5, 2e-5]]
)
def test_ticks_are_few_and_told_apart(values: list[float]) -> None:
    axis = axis_over("any", values, lambda value, step: f"{value:.{decimals(step)}f}")
    labels = [tick.label for tick in axis.ticks]
    assert 2 <= len(labels) <= 8
    assert len(set(labels)) == len(labels)
    assert all(0 <= tick.at <= 100 for tick in axis.ticks)
    assert all(0 < axis.place(value) < 100 for value in values)


@pytest.mark.parametrize("values", [[0], [1], [0, 1], [0, 4], [0, 250], [1, 12]])
def test_counts_have_whole_ticks(values: list[float]) -> None:
    labels = [tick.label for tick in count_axis("any", values).ticks]
    assert labels == list(dict.fromkeys(labels))
    assert all(int(label) >= 0 for label in labels)
    assert labels


def test_steps_are_1_2_2_and_a_half_or_5_times_a_power_of_10() -> None:
    def labels(low: float, high: float) -> list[str]:
        axis = axis_over("any", [low, high], lambda value, step: f"{value:.{decimals(step)}f}")
        return [tick.label for tick in axis.ticks]

    assert labels(0.31, 0.44) == ["0.325", "0.350", "0.375", "0.400", "0.425"]
    assert labels(-0.2, 1.0) == ["-0.25", "0.00", "0.25", "0.50", "0.75", "1.00"]
    assert labels(0, 9) == ["0", "2", "4", "6", "8"]


@given(st.floats(1e-4, 1e4), st.floats(0.05, 1))
def test_zero_is_a_tick_without_unit_or_rounding_error(high: float, below: float) -> None:
    axis = axis_over("any", [-below * high, high], scaled_label(wording.SECONDS))
    assert "0" in [tick.label for tick in axis.ticks]


@pytest.mark.parametrize(
    ("step", "expected"), [(1, 0), (20, 0), (2.5, 1), (25, 0), (0.5, 1), (0.25, 2), (0.02, 2), (2.5e-7, 8), (5e8, 0)]
)
def test_labels_have_the_decimals_of_the_step(step: float, expected: int) -> None:
    assert decimals(step) == expected
