"""The findings of a search, in a sentence or two that claim no more than the data show."""

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from services.reporting import wording
from services.reporting.displayed_costs import COSTS, DisplayedCost
from services.reporting.report_data import Comparison, NetworkRow, NonInferiority, ReportContent


def findings(content: ReportContent) -> list[str]:
    """All that can be said, the most important first."""
    sentences = (key_finding(content), int8_finding(content), random_finding(content))
    return [sentence for sentence in sentences if sentence is not None]


def key_finding(content: ReportContent) -> str:
    """How much smaller (or faster) a network may be and still be shown to lose no more than the margin against the
    dense one, or that none was; of the costs that were traded, the first counts.

    Networks are tested from the highest of that cost to the lowest, each at one-sided 95 %, and only while all before
    passed: so the probability that any of them passes wrongly is at most 5 % (fixed-sequence testing, Westfall and
    Krishen 2001).
    """
    cost, dense = COSTS[content.objectives[0]], content.dense
    if not any(cost.required_of(row) < cost.required_of(dense) for row in content.front):
        return (
            f"No network on the front is {cost.comparative} than the dense one: "
            "this search found no network to replace it."
        )
    less = [row for row in content.reported if cost.required_of(row) < cost.required_of(dense)]
    tested = _tested(sorted(less, key=lambda row: -cost.required_of(row)))
    if not tested:
        return "The networks on the front were not compared with the dense network, so no loss or gain can be claimed."
    passed, margin = _passed(tested, content), _margin(content)
    if not passed:
        return (
            f"No network on the front was shown to lose at most {margin} against the dense network. "
            f"{_none_passed(tested[0], content, cost)}"
        )
    least = passed[-1]
    return (
        f"{_named(least.row)} is the {cost.superlative} network on the front that was shown to lose at most {margin} "
        f"against the dense network on the report part: {_gain_and_loss(least, dense, cost)}"
        f"{_first_not_passed(tested[len(passed) :])}"
    )


def int8_finding(content: ReportContent) -> str | None:
    """The same of the INT8 twins, by their memory; None if there are none that were compared."""
    tested = _tested(sorted(content.int8, key=lambda row: -row.bytes))
    if not tested:
        return None
    passed, margin = _passed(tested, content), _margin(content)
    if not passed:
        return (
            f"Re-measured in INT8, no network was shown to lose at most {margin} against the dense network. "
            f"{_none_passed(tested[0], content, COSTS['bytes'])}"
        )
    least = passed[-1]
    return (
        f"Re-measured in INT8, the smallest in memory that was shown to lose at most {margin} is {least.row.name}: "
        f"{_gain_and_loss(least, content.dense, COSTS['bytes'])}{_first_not_passed(tested[len(passed) :])}"
    )


def random_finding(content: ReportContent) -> str | None:
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


class _Tested(NamedTuple):
    """A network that was compared with the dense one."""

    row: NetworkRow
    difference: Comparison
    non_inferiority: NonInferiority


def _tested(rows: Sequence[NetworkRow]) -> list[_Tested]:
    """Those that were compared with the dense network."""
    return [
        _Tested(row, row.versus_dense, row.non_inferiority) for row in rows if row.versus_dense and row.non_inferiority
    ]


def _passed(tested: Sequence[_Tested], content: ReportContent) -> list[_Tested]:
    """Those that are shown to lose no more than the margin, up to the first that is not."""
    return list(takewhile(lambda each: each.non_inferiority.lower_bound > -content.margin, tested))


def _first_not_passed(rest: Sequence[_Tested]) -> str:
    """The network at which the sequence of tests ended."""
    return f" {_named(rest[0].row)}, the next, was not ({_loss(rest[0])})." if rest else ""


def _none_passed(first: _Tested, content: ReportContent, cost: DisplayedCost) -> str:
    """The network that was tested first, and how many items would have shown it."""
    loss_is_assumed = -content.margin < first.difference.difference < 0  # see PairedTable.items_needed
    return (
        f"The {cost.opposite} of those tested, {_named(first.row)}, has {_against_dense(first, content.dense)}. "
        f"If {'that is its true loss' if loss_is_assumed else 'its true loss were zero'}, "
        f"about {first.non_inferiority.items_needed:,} items would probably show it; "
        f"the report part has {content.report_items:,}."
    )


def _margin(content: ReportContent) -> str:
    return f"{100 * content.margin:g} point{'' if content.margin == 0.01 else 's'}"


def _named(row: NetworkRow) -> str:
    gene = row.architecture.quantization == "int8" and not row.name.endswith(" int8")
    return f"{row.name} (INT8)" if gene else row.name


def _gain_and_loss(network: _Tested, dense: NetworkRow, cost: DisplayedCost) -> str:
    return f"{_gain(network.row, dense, cost)}, with {_against_dense(network, dense)}."


def _against_dense(network: _Tested, dense: NetworkRow) -> str:
    return (
        f"an accuracy of {wording.percent(network.row.reported[0])} against {wording.percent(dense.reported[0])} "
        f"({_loss(network)})"
    )


def _loss(network: _Tested) -> str:
    return (
        f"{wording.points(network.difference.difference)} points; one-sided 95{wording.SPACE}% bound: "
        f"{wording.points(network.non_inferiority.lower_bound)}"
    )


def _gain(row: NetworkRow, dense: NetworkRow, cost: DisplayedCost) -> str:
    mine, whole = cost.required_of(row), cost.required_of(dense)
    shown = f"{cost.show(mine)}{{}} instead of {cost.show(whole)}"
    smaller = f"{row.ratio:.2f} times smaller in bytes"
    if cost.objective in ("prefill_seconds", "decode_seconds"):
        return f"{whole / mine:.2f} times faster ({cost.phrase} {shown.format('')}) and {smaller}"
    if cost.objective == "kv_cache_bytes":
        less = f"{whole / mine:.2f} times smaller in its" if mine else "without a"
        return f"{less} {cost.phrase} ({shown.format('')}) and {smaller}"
    return f"{smaller} ({shown.format(' parameters' if cost.objective == 'parameters' else '')})"
