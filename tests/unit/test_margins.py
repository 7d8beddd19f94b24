"""By how much right choices win, as lm-eval's metrics compare them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.margins import margin, margins_by_metric


@pytest.mark.parametrize(
    ("golds", "expected"), [((0,), -3.0), ((2,), 1.0), ((0, 2), 1.0), ((0, 1), -1.0), ((0, 1, 2), 0.0)]
)
def test_the_margin_is_from_the_best_right_choice_to_the_best_wrong_one(
    golds: tuple[int, ...], expected: float
) -> None:
    assert margin([-5.0, -3.0, -2.0], golds) == expected


def test_lengths_are_those_of_the_metric_and_the_margin_is_in_nats_of_the_right_choice() -> None:
    found = margins_by_metric([-4.0, -9.0], ["äb", "abcdef"], (0,), {"acc", "acc_norm", "acc_bytes"})
    assert found == pytest.approx({"acc_norm": (-2.0 + 1.5) * 2, "acc_bytes": (-4 / 3 + 1.5) * 3})


def test_mutual_information_takes_away_what_the_choices_have_without_the_question() -> None:
    found = margins_by_metric([-4.0, -3.0, -5.0, -1.0], ["one", "two"], (0,), {"acc", "acc_mutual_info"})
    assert found == {"acc_mutual_info": 1.0 - -2.0}


def test_what_a_task_has_not_and_choices_without_text_have_no_margin() -> None:
    assert margins_by_metric([-4.0, -3.0], ["one", "two"], (0,), {"acc", "exact_match"}) == {}
    assert margins_by_metric([-4.0, -3.0], ["", "two"], (1,), {"acc_norm"}) == {}


@given(st.lists(st.tuples(st.floats(-99, -0.01), st.integers(1, 9)), min_size=2, max_size=5), st.data())
def test_the_sign_says_whether_the_answer_is_right(choices: list[tuple[float, int]], data: st.DataObject) -> None:
    gold = data.draw(st.integers(0, len(choices) - 1))
    rates = [likelihood / length for likelihood, length in choices]
    found = margins_by_metric([one for one, _ in choices], ["x" * n for _, n in choices], (gold,), {"acc_norm"})
    best_other = max(rate for index, rate in enumerate(rates) if index != gold)
    assert (found["acc_norm"] > 0) == (rates[gold] > best_other)
