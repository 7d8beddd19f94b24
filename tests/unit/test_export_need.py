"""What a network may cost at most, as people write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.application.export.need import Need
from services.reporting.displayed_costs import COSTS
from shared.errors import UserError
from tests.support.report_content import report_content

UNTIMED = report_content()


@pytest.mark.parametrize(
    ("text", "at_most"),
    [
        ("bytes=200MB", 200e6),
        ("bytes = 1.5 gb", 1.5e9),
        ("bytes=181_000", 181_000),
        ("parameters=100M", 100e6),
        ("parameters=0.1B", 1e8),
        ("parameters=1e8", 1e8),
    ],
)
def test_amounts_are_read_with_the_units_in_which_reports_show_them(text: str, at_most: float) -> None:
    assert Need.parse(text, UNTIMED).at_most == pytest.approx(at_most)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("0.02", 0.02), ("1.5 s", 1.5), ("3us", 3e-6), ("3\N{MICRO SIGN}s", 3e-6), ("3μs", 3e-6)],
)
def test_seconds_are_read_where_the_search_timed_networks(text: str, seconds: float) -> None:
    timed = report_content(timed=True)
    for phase in ("prefill", "decode"):
        assert Need.parse(f"{phase}_seconds={text}", timed).at_most == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "=", "=200MB", "parameters=5MB", "decode_seconds=5ms", "Bytes=5", "bytes"]
    + [f"bytes={amount}" for amount in ("", "MB", "two", "1,5GB", "200MB/s", "nan", "inf", "-1", "0", "1e400")],
)
def test_what_can_not_be_read_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError, match=r"^--at-most ") as error:
        Need.parse(text, UNTIMED)
    assert "\n" not in str(error.value)


@given(st.floats(min_value=1, max_value=1e12), st.sampled_from(["parameters", "bytes"]))
def test_an_amount_means_the_same_in_every_unit(amount: float, name: str) -> None:
    for scale, unit in COSTS[name].units:  # type: ignore[index]
        assert Need.parse(f"{name}={amount / scale!r}{unit}", UNTIMED).at_most == pytest.approx(amount)


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    for written in (text, f"bytes={text}"):
        try:
            assert Need.parse(written, UNTIMED).at_most > 0
        except UserError:
            continue
