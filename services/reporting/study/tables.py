"""The tables of a study as CSV: one row a line, units in the header, full precision, empty where nothing was measured.
Accuracies and differences are shares between 0 and 1 (-1 and 1). No texts of items."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from services.reporting.study.study_data import (
    ALL,
    Accuracy,
    FrontRow,
    StudyComparison,
    StudyContent,
    StudyFront,
    StudyRow,
)

Cell = str | int | float | bool | None
Row = Mapping[str, Cell]


def tables(content: StudyContent) -> dict[str, str]:
    """The text of each file by its name."""
    made: dict[str, Iterable[Row]] = {
        "fronts.csv": _fronts(content),
        "throughput.csv": _throughput(content),
        "selected.csv": _selected(content),
        "equal_size.csv": _equal_size(content),
        "int8.csv": _int8(content),
        "depths.csv": (each.model_dump() for each in content.depths),
        "narrow.csv": (each.model_dump() for each in content.narrow),
        "heuristics.csv": _heuristics(content),
        "transfer.csv": _transfer(content),
        "comparisons.csv": (_comparison(each) for each in content.comparisons),
        "claims.csv": _claims(content),
    }
    return {name: _text(HEADERS[name], rows) for name, rows in made.items()}


ACCURACY = ("accuracy_share", "low_share", "high_share")
DIFFERENCE = ("difference_share", "difference_low_share", "difference_high_share", "p_value", "corrected_p_value")
FRONT = (
    *("supernet", "chosen_on", "network", "int8", "layers", "mlp_neurons", "skipped_attentions"),
    *("parameters", "weight_bytes"),
)
NETWORK = (
    *("times_smaller_at_least", "network", "kind", "supernet", "chosen_on", "fine_tuning", "tuned_tokens"),
    *("parameters", "weight_bytes", "true_times_smaller"),
)
HEADERS: dict[str, tuple[str, ...]] = {
    "fronts.csv": (
        *FRONT,
        "times_smaller_than_dense",
        "search_accuracy_share",
        *ACCURACY,
        *(f"versus_dense_{name}" for name in DIFFERENCE),
        *(f"versus_base_{name}" for name in DIFFERENCE),
    ),
    "throughput.csv": (
        *FRONT,
        "engine",
        "device",
        *(f"{phase}_{of}_tokens_per_second" for phase in ("prefill", "decode") for of in ("median", "least", "most")),
        *ACCURACY,
    ),
    "selected.csv": (
        "supernet",
        "chosen_on",
        "times_smaller_at_least",
        "true_times_smaller",
        "parameters",
        "weight_bytes",
        "layers",
        "narrow_mlps",
        "skipped_attentions",
        "search_accuracy_share",
        *ACCURACY,
        "networks_looked_at",
        "search_items",
        "optimism_share",
        "optimism_beyond_dense_share",
        "winners_curse_bound_share",
        "winners_curse_correlated_share",
    ),
    "equal_size.csv": (*NETWORK, "task", *ACCURACY),
    "int8.csv": (
        "supernet",
        "chosen_on",
        "times_smaller_at_least",
        "network",
        "task",
        "parameters",
        "weight_bytes_before",
        "weight_bytes_after",
        *(f"before_{name}" for name in ACCURACY),
        *(f"after_{name}" for name in ACCURACY),
        *DIFFERENCE,
    ),
    "depths.csv": ("supernet", "chosen_on", "low", "high", "depth", "probability", "networks"),
    "narrow.csv": ("supernet", "chosen_on", "layer", "probability", "networks"),
    "heuristics.csv": (*(name for name in NETWORK if name != "times_smaller_at_least"), "task", *ACCURACY),
    "transfer.csv": (
        "supernet",
        "times_smaller_at_least",
        "chosen_on",
        "parameters",
        "true_times_smaller",
        "measured_on",
        "own_parameters",
        *ACCURACY,
        *(f"versus_own_{name}" for name in DIFFERENCE),
    ),
    "comparisons.csv": (
        "family",
        "supernet",
        "times_smaller_at_least",
        "task",
        "one",
        "other",
        "report_items",
        *DIFFERENCE,
        "p_value_exact",
        "lower_bound_share",
        "upper_bound_share",
        "detectable_share",
    ),
    "claims.csv": (
        "supernet",
        "claim",
        "statement",
        "verdict",
        "comparisons",
        "detectable_share",
        "smallest_margin_share",
        "evidence",
    ),
}
"""The columns of each table. Percentiles (`low`, `high`) go from 0 to 100, layers are counted from 0; `own_parameters`
are of the network that was chosen on the task itself."""


def _fronts(content: StudyContent) -> Iterable[Row]:
    for front, row in _all_rows(content):
        yield {
            **_front_row(front, row),
            "times_smaller_than_dense": row.true_times_smaller,
            "search_accuracy_share": row.search_accuracy,
            **_accuracy(row.report),
            **_difference(row.versus_dense, "versus_dense_"),
            **_difference(row.versus_base, "versus_base_"),
        }


def _throughput(content: StudyContent) -> Iterable[Row]:
    for front, row in _all_rows(content):
        if row.speed is not None:
            speeds: dict[str, Cell] = {}
            for phase, values in (("prefill", row.speed.prefill), ("decode", row.speed.decode)):
                names = (f"{phase}_{of}_tokens_per_second" for of in ("median", "least", "most"))
                speeds |= dict(zip(names, values, strict=True))
            machine = {"engine": row.speed.engine, "device": row.speed.device}
            yield {**_front_row(front, row), **machine, **speeds, **_accuracy(row.report)}


def _all_rows(content: StudyContent) -> Iterable[tuple[StudyFront, FrontRow]]:
    for front in content.fronts:
        for row in (*front.rows, *front.controls, *front.random, *front.int8):
            yield front, row


def _front_row(front: StudyFront, row: FrontRow) -> dict[str, Cell]:
    return {
        "supernet": front.supernet,
        "chosen_on": front.chosen_on,
        "network": row.name,
        "int8": row.quantization == "int8",
        "layers": row.architecture.depth,
        "mlp_neurons": sum(row.architecture.mlp_widths),
        "skipped_attentions": len(row.architecture.without_attention),
        "parameters": row.parameters,
        "weight_bytes": row.bytes,
    }


def _selected(content: StudyContent) -> Iterable[Row]:
    for row in content.selected:
        network, curse = content.network(row.network), dict[str, Cell](row.curse or ())
        yield {
            "supernet": row.supernet,
            "chosen_on": row.chosen_on,
            "times_smaller_at_least": row.times_smaller,
            "true_times_smaller": network.true_times_smaller,
            "parameters": network.parameters,
            "weight_bytes": network.bytes,
            "layers": row.layers,
            "narrow_mlps": row.narrow_mlps,
            "skipped_attentions": row.skipped_attentions,
            "search_accuracy_share": row.search_accuracy,
            **_accuracy(row.report),
            "networks_looked_at": curse.get("networks"),
            "search_items": curse.get("search_items"),
            "optimism_share": curse.get("optimism"),
            "optimism_beyond_dense_share": curse.get("optimism_beyond_dense"),
            "winners_curse_bound_share": curse.get("bound"),
            "winners_curse_correlated_share": curse.get("correlated"),
        }


def _equal_size(content: StudyContent) -> Iterable[Row]:
    for table in content.equal_size:
        for key in table.networks:
            for row in _by_task(content, content.network(key)):
                yield {"times_smaller_at_least": table.times_smaller, **row}


def _heuristics(content: StudyContent) -> Iterable[Row]:
    """All of them, whatever their sizes."""
    for row in content.networks:
        if row.kind == "heuristic":
            yield from _by_task(content, row)


def _by_task(content: StudyContent, row: StudyRow) -> Iterable[Row]:
    """A network on each task, and in the mean over several."""
    for task in (each.name for each in content.tasks):
        yield {**_network(row), "task": task, **_accuracy(row.by_task.get(task))}
    if len(content.tasks) > 1:
        yield {**_network(row), "task": ALL, **_accuracy(row.mean)}


def _network(row: StudyRow) -> dict[str, Cell]:
    return {
        "network": row.label,
        "kind": row.kind,
        "supernet": row.supernet,
        "chosen_on": row.chosen_on,
        "fine_tuning": row.fine_tuning,
        "tuned_tokens": row.tuned_tokens,
        "parameters": row.parameters,
        "weight_bytes": row.bytes,
        "true_times_smaller": row.true_times_smaller,
    }


def _int8(content: StudyContent) -> Iterable[Row]:
    for row in content.int8:
        yield {
            "supernet": row.supernet,
            "chosen_on": row.chosen_on,
            "times_smaller_at_least": row.times_smaller,
            "network": row.label,
            "task": row.task,
            "parameters": row.parameters,
            "weight_bytes_before": row.bytes_before,
            "weight_bytes_after": row.bytes_after,
            **_accuracy(row.before, "before_"),
            **_accuracy(row.after, "after_"),
            **_difference(row.comparison),
        }


def _transfer(content: StudyContent) -> Iterable[Row]:
    for matrix in content.transfer:
        for cell in matrix.cells:
            yield {
                "supernet": matrix.supernet,
                "times_smaller_at_least": matrix.times_smaller,
                "chosen_on": cell.chosen_on,
                "parameters": matrix.sizes[cell.chosen_on].parameters,
                "true_times_smaller": matrix.sizes[cell.chosen_on].times_smaller,
                "measured_on": cell.task,
                "own_parameters": matrix.sizes[cell.task].parameters,
                **_accuracy(cell.accuracy),
                **_difference(cell.versus_own, "versus_own_"),
            }


def _comparison(each: StudyComparison) -> Row:
    return {
        "family": each.family,
        "supernet": each.supernet,
        "times_smaller_at_least": each.times_smaller,
        "task": each.task,
        "one": each.one,
        "other": each.other,
        "report_items": each.items,
        **_difference(each),
        "p_value_exact": each.exact,
        "lower_bound_share": each.lower_bound,
        "upper_bound_share": each.upper_bound,
        "detectable_share": each.detectable,
    }


def _claims(content: StudyContent) -> Iterable[Row]:
    for claim in content.claims:
        yield {
            "supernet": claim.supernet,
            "claim": claim.key,
            "statement": claim.statement,
            "verdict": claim.verdict,
            "comparisons": len(claim.comparisons),
            "detectable_share": claim.detectable,
            "smallest_margin_share": claim.smallest_margin,
            "evidence": claim.evidence,
        }


def _accuracy(accuracy: Accuracy | None, prefix: str = "") -> dict[str, Cell]:
    values = (None,) * 3 if accuracy is None else (accuracy.accuracy, *accuracy.interval)
    return {prefix + name: value for name, value in zip(ACCURACY, values, strict=True)}


def _difference(compared: StudyComparison | None, prefix: str = "") -> dict[str, Cell]:
    values: Sequence[float | None] = (None,) * 5
    if compared is not None:
        values = (compared.difference, *compared.interval, compared.p_value, compared.corrected)
    return {prefix + name: value for name, value in zip(DIFFERENCE, values, strict=True)}


def _text(header: Sequence[str], rows: Iterable[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
