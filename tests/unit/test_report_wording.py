"""Numbers as text, as the report's page, figure and table share them."""

import pytest

from services.reporting import wording


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.0, "<0.001"),
        (0.0009, "<0.001"),
        (0.001, "0.001"),
        (0.03, "0.03"),
        (0.0344, "0.034"),
        (0.614, "0.61"),
        (1, "1.00"),
    ],
)
def test_p_values_have_as_many_digits_as_they_need(p: float, shown: str) -> None:
    assert wording.p_value(p) == shown


def test_sizes_carry_their_units() -> None:
    space = wording.SPACE
    assert wording.parameters(6_738_415_616) == f"6.738{space}B"
    assert wording.parameters(134_515_008) == f"134.5{space}M"
    assert wording.parameters(999) == "999"
    assert wording.size(9_020_000_000) == f"9.02{space}GB"
    assert wording.size(512) == f"512{space}B"


def test_times_and_rates_carry_their_units_and_spread() -> None:
    space = wording.SPACE
    assert wording.duration(1.2345) == f"1.23{space}s"
    assert wording.duration(0.0382) == f"38.2{space}ms"
    assert wording.duration(0.00038) == f"380{space}μs"
    assert wording.rate((1290.4, 1240.2, 1310.0)) == f"1290 (1240{wording.DASH}1310)"
    assert wording.rate((8.24, 8.0, 8.31)) == f"8.2 (8.0{wording.DASH}8.3)"


def test_differences_carry_their_sign() -> None:
    assert wording.points(0.0042) == "+0.4"
    assert wording.points(-0.0123) == f"{wording.MINUS}1.2"
    assert wording.points(-0.0001) == "0.0"


@pytest.mark.parametrize(
    ("applied", "multiturn", "words"),
    [
        (False, True, ""),
        (True, True, "chat template"),
        ("rag", True, "chat template rag"),
        (True, False, "chat template, examples in one turn"),
    ],
)
def test_a_chat_template_is_named_where_one_was_applied(applied: bool | str, multiturn: bool, words: str) -> None:
    assert wording.chat_template(applied, multiturn) == words
