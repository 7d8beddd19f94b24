"""The result of a search in a sentence or two that claims no more than the data show."""

from collections.abc import Sequence
from itertools import takewhile

from services.reporting import wording
from services.reporting.objectives import MEASURES, Measure
from services.reporting.report_data import Comparison, NetworkRow, NonInferiority, ReportContent


def results(content: ReportContent) -> list[str]:
    """All that can be said, the most important first."""
    found = (key_result(content), int8_result(content), random_result(content))
    return [result for result in found if result is not None]


def key_result(content: ReportContent) -> str:
    """How much smaller (or faster) a network may be and still be shown to lose no more than the margin against the
    dense one, or that none was; of the measures that were traded, the first counts.

    Networks are tested from the worst of that measure to the best, each at one-sided 95 %, and only while all before
    were shown to hold: so the probability that any of them is called as good wrongly is at most 5 % (fixed-sequence
    testing, Westfall and Krishen 2001).
    """
    measure, dense = MEASURES[content.objectives[0]], content.dense
    if not any(_value(row, measure) < _value(dense, measure) for row in content.front):
        return (
            f"No network on the front is {measure.better} than the dense one: "
            "this search found nothing to shrink it to."
        )
    smaller = [row for row in content.reported if _value(row, measure) < _value(dense, measure)]
    tested = _tested(sorted(smaller, key=lambda row: -_value(row, measure)))
    if not tested:
        return "The networks on the front were not compared with the dense network, so no loss or gain can be claimed."
    margin = _margin(content)
    held = _held(tested, content)
    if not held:
        return (
            f"No network on the front was shown to lose at most {margin} against the dense network. "
            f"{_none_held(tested[0], content, measure)}"
        )
    best, against, bound = held[-1]
    result = (
        f"{_named(best)} is the {measure.best} network on the front that was shown to lose at most {margin} against "
        f"the dense network on the report part: {_gain(best, dense, measure)}, with "
        f"{_against_dense(best, dense, against, bound)}."
    )
    return result + _next(tested[len(held) :])


def int8_result(content: ReportContent) -> str | None:
    """The same of the INT8 twins, by their memory; None if there are none that were compared."""
    tested = _tested(sorted(content.int8, key=lambda row: -row.bytes))
    if not tested:
        return None
    held, margin = _held(tested, content), _margin(content)
    if not held:
        return (
            f"Re-measured in INT8, no network was shown to lose at most {margin} against the dense network. "
            f"{_none_held(tested[0], content, MEASURES['bytes'])}"
        )
    best, against, bound = held[-1]
    result = (
        f"Re-measured in INT8, the smallest in memory that was shown to lose at most {margin} is {best.name}: "
        f"{_gain(best, content.dense, MEASURES['bytes'])}, with {_against_dense(best, content.dense, against, bound)}."
    )
    return result + _next(tested[len(held) :])


def random_result(content: ReportContent) -> str | None:
    """By how much the front's networks are better than random ones of their sizes; None if there are none."""
    gain = content.advantage
    if gain is None:
        return None
    interval = f"95{wording.SPACE}%: {wording.points_interval(gain.interval)}"
    pairs = "one pair" if gain.pairs == 1 else f"mean over {gain.pairs} pairs"
    low, high = gain.interval
    verdict = "better than" if low > 0 else "worse than" if high < 0 else "not shown to differ from"
    return (
        f"The networks of the front are {verdict} random ones of the same sizes: "
        f"{wording.points(gain.difference)} points ({pairs}, {interval})."
    )


Tested = tuple[NetworkRow, Comparison, NonInferiority]


def _tested(rows: Sequence[NetworkRow]) -> list[Tested]:
    """Those that were compared with the dense network."""
    return [(row, row.versus_dense, row.non_inferiority) for row in rows if row.versus_dense and row.non_inferiority]


def _held(tested: Sequence[Tested], content: ReportContent) -> list[Tested]:
    """Those that are shown to lose no more than the margin, up to the first that is not."""
    return list(takewhile(lambda each: each[2].lower_bound > -content.margin, tested))


def _next(rest: Sequence[Tested]) -> str:
    """Where the sequence ended."""
    if not rest:
        return ""
    row, against, bound = rest[0]
    return f" {_named(row)}, the next, was not ({_loss(against, bound)})."


def _none_held(first: Tested, content: ReportContent, measure: Measure) -> str:
    """The network that was tested first, and how many items would have shown it."""
    row, against, bound = first
    needed = f"about {bound.items_needed:,} items would probably show it"
    if against.difference <= -content.margin:
        outlook = f"If in truth nothing were lost, {needed}"
    elif against.difference < 0:
        outlook = f"If that is its loss in truth, {needed}"
    else:
        outlook = f"If in truth nothing is lost, {needed}"
    return (
        f"The {measure.worst} of those tested, {_named(row)}, has "
        f"{_against_dense(row, content.dense, against, bound)}. "
        f"{outlook}; the report part has {content.report_items:,}."
    )


def _margin(content: ReportContent) -> str:
    return f"{100 * content.margin:g} point{'' if content.margin == 0.01 else 's'}"


def _value(row: NetworkRow, measure: Measure) -> float:
    value = measure.of(row)
    if value is None:
        raise ValueError(f"{row.name} has no {measure.objective}, which the search traded")
    return value


def _named(row: NetworkRow) -> str:
    gene = row.architecture.quantization == "int8" and not row.name.endswith(" int8")
    return f"{row.name} (INT8)" if gene else row.name


def _against_dense(row: NetworkRow, dense: NetworkRow, against: Comparison, bound: NonInferiority) -> str:
    return (
        f"an accuracy of {wording.percent(row.reported[0])} against {wording.percent(dense.reported[0])} "
        f"({_loss(against, bound)})"
    )


def _loss(against: Comparison, bound: NonInferiority) -> str:
    return (
        f"{wording.points(against.difference)} points; one-sided 95{wording.SPACE}% bound: "
        f"{wording.points(bound.lower_bound)}"
    )


def _gain(row: NetworkRow, dense: NetworkRow, measure: Measure) -> str:
    mine, whole = _value(row, measure), _value(dense, measure)
    shown = f"{measure.show(mine)}{{}} instead of {measure.show(whole)}"
    smaller = f"{row.ratio:.2f} times smaller in bytes"
    if measure.objective in ("prefill_seconds", "decode_seconds"):
        return f"{whole / mine:.2f} times faster ({measure.phrase} {shown.format('')}) and {smaller}"
    return f"{smaller} ({shown.format(' parameters' if measure.objective == 'parameters' else '')})"
