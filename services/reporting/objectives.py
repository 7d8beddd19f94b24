"""What accuracy is traded against, as the report shows it: titles, units, words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.reporting import wording
from services.reporting.report_data import EvaluatedNetwork, NetworkRow, ReportContent
from shared.settings import Objective


@dataclass(frozen=True)
class Measure:
    """One quantity of a network of which less is better.

    `title` heads an axis or a column, `unit` explains it, `phrase` stands within a sentence; `show` words a value,
    `units` scale an axis' ticks; a network with little of it is `best` of all and `better` than another, with
    the most of it `worst` of all.
    """

    objective: Objective
    title: str
    unit: str
    phrase: str
    show: Callable[[float], str]
    units: wording.Units
    best: str
    better: str
    worst: str

    def of(self, network: NetworkRow | EvaluatedNetwork) -> float | None:
        """The network's value, None if the search has none."""
        value: float | None = getattr(network, self.objective)
        return value


SIZE = ("smallest", "smaller", "largest")
TIME = ("fastest", "faster", "slowest")

MEASURES = {
    measure.objective: measure
    for measure in (
        Measure("parameters", "Parameters", "", "parameters", wording.parameters, wording.COUNTS, *SIZE),
        Measure("bytes", "Weights", "in memory", "memory of the weights", wording.size, wording.BYTES, *SIZE),
        Measure(
            "prefill_seconds", "Prefill time", "all prompts", "prefill time", wording.duration, wording.SECONDS, *TIME
        ),
        Measure("decode_seconds", "Decode time", "one step", "decode time", wording.duration, wording.SECONDS, *TIME),
    )
}


def shown_measures(content: ReportContent) -> tuple[Measure, ...]:
    """The measures that every network has, those that the search traded in front."""
    networks: tuple[NetworkRow | EvaluatedNetwork, ...] = (
        *content.evaluated,
        *content.front,
        content.dense,
        content.base,
    )
    order = dict.fromkeys((*content.objectives, *MEASURES))
    return tuple(
        MEASURES[name] for name in order if all(MEASURES[name].of(network) is not None for network in networks)
    )


def non_dominated(networks: Sequence[EvaluatedNetwork], measure: Measure) -> list[EvaluatedNetwork]:
    """Those that no other one beats in accuracy and this measure alone, ascending: with several objectives a network
    may be on the front for another measure's sake."""
    kept: list[EvaluatedNetwork] = []
    for network in sorted(networks, key=lambda each: (measure.of(each) or 0.0, -each.search_accuracy)):
        if not kept or network.search_accuracy > kept[-1].search_accuracy:
            kept.append(network)
    return kept


def traded(content: ReportContent) -> str:
    """What the search traded accuracy against, in words: `size in memory and decode time`."""
    *most, last = [MEASURES[name].phrase for name in content.objectives]
    return f"{', '.join(most)} and {last}" if most else last


def reference_point(content: ReportContent) -> str:
    """The corner that hypervolumes are measured from, in words."""
    *multiples, accuracy = content.reference_point
    corner = [
        f"{wording.number(multiple)} times the dense network's {MEASURES[name].phrase}"
        for name, multiple in zip(content.objectives, multiples, strict=True)
    ]
    return f"{', '.join(corner)}, {wording.percent(accuracy)} accuracy"
