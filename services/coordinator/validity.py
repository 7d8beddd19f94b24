"""Whether a measurement answers its request: evaluators may be of another release, have another lm-eval, or be broken.

One that doesn't is no result, however well-formed: nothing may be computed from it. So each is checked before it is
stored, and ignored where a history of an earlier release holds it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import isfinite

from shared.architecture import Architecture
from shared.messages import (
    CostSpec,
    CostTable,
    EvaluationRequest,
    Failure,
    ItemScores,
    Measurement,
    PhaseCosts,
    Speed,
    SpeedSpec,
    TaskItems,
)


def flaw(request: EvaluationRequest, measurement: Measurement, metrics: Mapping[str, str]) -> str | None:
    """Why a measurement is no answer to a request, in words; None if it is one.

    `metrics` says what is counted of each task, by its name. What wasn't asked for is not checked.
    """
    return next(_flaws(request, measurement, metrics), None)


def _flaws(request: EvaluationRequest, measurement: Measurement, metrics: Mapping[str, str]) -> Iterator[str]:
    spec = request.spec
    if measurement.parameters < 1 or measurement.bytes < 1:
        yield f"{measurement.parameters} parameters in {measurement.bytes} bytes"
    if [asked.task for asked in spec.tasks] != [scores.task for scores in measurement.scores]:
        yield "other tasks than it was asked; run the same release of nasfarm everywhere"
        return
    for asked, scores in zip(spec.tasks, measurement.scores, strict=True):
        yield from _of_scores(asked, scores, metrics[asked.task])
    if spec.speed is not None:
        yield from _of_speeds(spec.speed, measurement)
    if spec.costs is not None:
        yield from _of_costs(spec.costs, request.architecture, measurement.costs)


def _of_scores(asked: TaskItems, scores: ItemScores, metric: str) -> Iterator[str]:
    items = asked.stop - asked.start
    if len(scores.items) != items:
        yield f"tasks.{asked.task}: {len(scores.items)} items instead of {items}"
    if metric not in scores.metrics:
        yield (
            f"tasks.{asked.task}.metric: its lm-eval has no {metric!r} for it, but "
            f"{', '.join(sorted(scores.metrics)) or 'none'}; choose another metric, or another lm-eval there"
        )
        return
    if len(scores.metrics[metric]) != items:
        yield f"tasks.{asked.task}: {len(scores.metrics[metric])} values of {metric} for {items} items"
    if not all(0 <= value <= 1 for value in scores.metrics[metric]):  # of NaN neither holds
        yield f"tasks.{asked.task}: values of {metric} that are not from 0 to 1"
    for margins in (scores.margins, *scores.margins_by_metric.values()):
        if len(margins) not in (0, items):
            yield f"tasks.{asked.task}: {len(margins)} margins for {items} items"
    numbers = chain(scores.margins, *scores.margins_by_metric.values(), scores.values.values())
    if not all(map(isfinite, chain(numbers, *scores.metrics.values()))):
        yield f"tasks.{asked.task}: numbers that are not finite"
    if len(scores.clusters) not in (0, items):
        yield f"tasks.{asked.task}: {len(scores.clusters)} clusters for {items} items"


def _of_speeds(spec: SpeedSpec, measurement: Measurement) -> Iterator[str]:
    if measurement.speed is None or len(measurement.speeds) != len(spec.networks):
        yield f"not the speeds of {1 + len(spec.networks)} networks"
        return
    for speed in (measurement.speed, *measurement.speeds):
        if not isinstance(speed, Failure):
            yield from _of_speed(spec, speed)


def _of_speed(spec: SpeedSpec, speed: Speed) -> Iterator[str]:
    if (speed.engine, speed.workload) != (spec.engine, spec.workload):
        yield "speeds of another engine or load"
    for rates in (speed.prefill_tokens_per_second, speed.decode_tokens_per_second):
        if len(rates) != spec.repeats:
            yield f"speeds of {len(rates)} repeats instead of {spec.repeats}"
        if not all(isfinite(rate) and rate > 0 for rate in rates):
            yield "speeds that are not finite and positive"


def _of_costs(spec: CostSpec, architecture: Architecture, tables: Sequence[CostTable]) -> Iterator[str]:
    if tuple(table.quantization for table in tables) != spec.quantizations:
        yield f"not the cost tables of {', '.join(spec.quantizations)}"
        return
    for table in tables:
        if (table.engine, table.workload) != (spec.engine, spec.workload):
            yield "a cost table of another engine or load"
        for phase in (table.prefill, table.decode):
            yield from _of_phase(phase, spec, architecture)


def _of_phase(costs: PhaseCosts, spec: CostSpec, architecture: Architecture) -> Iterator[str]:
    if not set(spec.mlp_widths) <= set(costs.mlp):
        yield "a cost table without some of the widths"
        return
    # A single part may come out below zero, as they are fitted together; the time of a whole network may not.
    depth = architecture.depth
    attentions = [costs.attention, *([0.0] if "skip" in spec.attention else [])]
    layers = [attention + costs.mlp[width] for attention in attentions for width in spec.mlp_widths]
    times = [costs.fixed + depth * seconds for seconds in layers]
    if not all(isfinite(seconds) and seconds > 0 for seconds in times):
        yield "costs that are not finite and positive"
