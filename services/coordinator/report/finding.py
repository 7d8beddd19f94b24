"""The result of a search in a sentence or two that claims no more than the data show."""

from services.coordinator.report import wording
from services.coordinator.report.content import NetworkRow, ReportContent
from services.coordinator.report.objectives import MEASURES, Measure

LEVEL = 0.05
"""A difference whose p-value is below this is called significant."""


def key_result(content: ReportContent) -> str:
    """How much smaller (or faster) a network may be before it is significantly worse than the dense one, or that none
    is; of the measures that were traded, the first counts."""
    measure, dense = MEASURES[content.objectives[0]], content.dense
    smaller = [row for row in content.front if _value(row, measure) < _value(dense, measure)]
    if not smaller:
        return (
            f"No network on the front is {measure.better} than the dense one: "
            "this search found nothing to shrink it to."
        )
    compared = [row for row in smaller if row.versus_dense is not None]
    if not compared:
        return "The networks on the front were not compared with the dense network, so no loss or gain can be claimed."
    kept = [row for row in compared if not _significantly_worse(row)]
    if not kept:
        closest = max(compared, key=lambda row: row.report_accuracy)
        return (
            f"Every network on the front that is {measure.better} than the dense one is significantly worse than it "
            f"on the report part. The closest is {_named(closest)}: {_against_dense(closest, dense, measure)}."
        )
    best = min(kept, key=lambda row: _value(row, measure))
    return (
        f"{_named(best)} is the {measure.best} network on the front that is not significantly worse than the dense "
        f"network on the report part: {_against_dense(best, dense, measure)}."
    )


def int8_result(content: ReportContent) -> str | None:
    """The same of the INT8 twins, by their memory; None if there are none that were compared."""
    compared = [row for row in content.int8 if row.versus_dense is not None]
    if not compared:
        return None
    kept = [row for row in compared if not _significantly_worse(row)]
    if not kept:
        return "Re-measured in INT8, every network of the front is significantly worse than the dense network."
    best = min(kept, key=lambda row: row.bytes)
    return (
        f"Re-measured in INT8, the smallest in memory that is not significantly worse is {best.name}: "
        f"{_against_dense(best, content.dense, MEASURES['bytes'])}."
    )


def _value(row: NetworkRow, measure: Measure) -> float:
    value = measure.of(row)
    if value is None:
        raise ValueError(f"{row.name} has no {measure.objective}, which the search traded")
    return value


def _named(row: NetworkRow) -> str:
    return f"{row.name} (INT8)" if row.architecture.quantization == "int8" else row.name


def _significantly_worse(row: NetworkRow) -> bool:
    against = row.versus_dense
    return against is not None and against.difference < 0 and against.p_value < LEVEL


def _against_dense(row: NetworkRow, dense: NetworkRow, measure: Measure) -> str:
    against = row.versus_dense
    if against is None:
        raise ValueError(f"{row.name} was not compared with the dense network")
    return (
        f"{_gain(row, dense, measure)}, with an accuracy of {wording.percent(row.report_accuracy)} against "
        f"{wording.percent(dense.report_accuracy)} ({wording.points(against.difference)} points, "
        f"{wording.p_equation(against.p_value)})"
    )


def _gain(row: NetworkRow, dense: NetworkRow, measure: Measure) -> str:
    mine, whole = _value(row, measure), _value(dense, measure)
    shown = f"{measure.show(mine)}{{}} instead of {measure.show(whole)}"
    smaller = f"{row.ratio:.2f} times smaller in bytes"
    if measure.objective in ("prefill_seconds", "decode_seconds"):
        return f"{whole / mine:.2f} times faster ({measure.phrase} {shown.format('')}) and {smaller}"
    return f"{smaller} ({shown.format(' parameters' if measure.objective == 'parameters' else '')})"
