"""The result of a search in words: what the data show, and no more."""

from services.reporting import wording
from services.reporting.finding import int8_finding, key_finding
from services.reporting.report_data import Comparison, NetworkRow, NonInferiority, ReportContent
from tests.support.report_content import report_content


def _against_dense(*bounds: float, **changes: object) -> ReportContent:
    """A front whose networks, from the largest, lose a point less than these one-sided bounds."""
    content = report_content(front=len(bounds))
    rows = tuple(
        row.model_copy(
            update={
                "versus_dense": Comparison(
                    difference=bound + 0.01, interval=(bound - 0.003, bound + 0.02), p_value=0.5
                ),
                "non_inferiority": NonInferiority(lower_bound=bound, items_needed=4321),
            }
        )
        for row, bound in zip(content.front, bounds, strict=True)
    )
    return content.model_copy(update={"front": rows, **changes})


def test_the_result_is_the_smallest_network_that_was_shown_to_lose_no_more_than_the_margin() -> None:
    result = key_finding(_against_dense(-0.005, -0.0199, -0.0201))
    assert result.startswith("N2 is the smallest network on the front that was shown to lose at most 2 points against")
    bound = f"one-sided 95{wording.SPACE}% bound: {wording.MINUS}"
    assert f"{wording.MINUS}1.0 points; {bound}2.0" in result
    assert "N3, the next, was not" in result


def test_no_network_counts_after_one_that_did_not_pass() -> None:
    assert key_finding(_against_dense(-0.01, -0.03, -0.01)).startswith("N1 is the smallest")
    assert key_finding(_against_dense(-0.03, -0.01, -0.01)).startswith("No network on the front was shown")


def test_the_margin_is_the_search_files() -> None:
    result = key_finding(_against_dense(-0.005, -0.04, margin=0.05))
    assert result.startswith("N2 is the smallest network on the front that was shown to lose at most 5 points")
    assert "the next" not in result


def test_the_result_says_that_none_passed_and_how_many_items_would_show_it() -> None:
    result = key_finding(_against_dense(-0.025, -0.06))
    assert result.startswith("No network on the front was shown to lose at most 2 points against the dense network.")
    assert "The largest of those tested, N1, has an accuracy of" in result
    assert result.endswith(
        "If that is its true loss, about 4,321 items would probably show it; the report part has 600."
    )
    assert "If its true loss were zero, about" in key_finding(_against_dense(-0.06))
    assert "If its true loss were zero, about" in key_finding(_gained())


def _gained() -> ReportContent:
    """A network that is better, on too few items to show anything."""
    content = _against_dense(-0.06)
    (row,) = content.front
    assert row.versus_dense is not None
    better = row.versus_dense.model_copy(update={"difference": 0.01})
    return content.model_copy(update={"front": (row.model_copy(update={"versus_dense": better}),)})


def test_networks_that_were_not_measured_on_the_report_items_are_left_out() -> None:
    content = report_content(front=6, unreported=3)
    assert not any(name in key_finding(content) for name in ("N2", "N3", "N4"))


def test_the_result_claims_nothing_without_a_comparison_or_a_smaller_network() -> None:
    content = report_content(front=2)
    alone = tuple(row.model_copy(update={"versus_dense": None}) for row in content.front)
    assert "not compared" in key_finding(content.model_copy(update={"front": alone}))
    whole: NetworkRow = content.dense.model_copy(update={"name": "N1"})
    assert "No network on the front is smaller" in key_finding(content.model_copy(update={"front": (whole,)}))


def test_the_result_speaks_of_time_if_time_was_traded_first() -> None:
    content = report_content(objectives=("decode_seconds",), timed=True)
    result = key_finding(content.model_copy(update={"margin": 0.5}))
    assert "the fastest network on the front" in result
    assert "times faster (decode time" in result
    assert "The slowest of those tested" in key_finding(content.model_copy(update={"margin": 0.0001}))


def test_the_result_in_int8_is_the_smallest_twin_that_passed_after_all_larger_ones() -> None:
    content = report_content(int8=True)
    twins = sorted(content.int8, key=lambda row: -row.bytes)
    bounds = [-0.01, -0.019, -0.03, *([-0.01] * (len(twins) - 3))]
    changed = tuple(
        row.model_copy(update={"non_inferiority": NonInferiority(lower_bound=bound, items_needed=1)})
        for row, bound in zip(twins, bounds, strict=True)
    )
    result = int8_finding(content.model_copy(update={"int8": changed}))
    assert result is not None
    assert f"is {twins[1].name}:" in result and f"{twins[2].name}, the next, was not" in result
    lost = content.model_copy(update={"int8": changed, "margin": 0.001})
    assert "no network was shown to lose at most 0.1 points" in str(int8_finding(lost))
    assert int8_finding(report_content()) is None
