"""p-values corrected for the number of comparisons."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporting.statistics.multiple_testing import holm


def test_holms_correction_is_the_textbooks() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrected_p_values_keep_the_order_and_are_between_plain_and_bonferronis(p_values: list[float]) -> None:
    values = holm(p_values)
    for plain, new in zip(p_values, values, strict=True):
        assert plain <= new <= min(1.0, len(p_values) * plain) or new == pytest.approx(len(p_values) * plain)
    order = sorted(range(len(values)), key=lambda index: p_values[index])
    assert [values[index] for index in order] == sorted(values)


def test_holms_correction_keeps_the_chance_of_any_false_finding() -> None:
    rng = random.Random(0)
    found = sum(min(holm([rng.random() for _ in range(8)])) < 0.05 for _ in range(2000))
    assert found / 2000 == pytest.approx(0.05, abs=0.015)
