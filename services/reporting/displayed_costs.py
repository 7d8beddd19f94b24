"""The costs of a network, as reports show them: titles, units, words. Some are what accuracy was traded against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.coordinator import pareto
from services.reporting import wording
from services.reporting.report_data import EvaluatedNetwork, NetworkRow, ReportContent
from shared.settings import Objective


@dataclass(frozen=True)
class DisplayedCost:
    """One quantity of a network of which less is better.

    `title` heads an axis or a column, `unit` explains it, `phrase` stands within a sentence; `show` formats a value,
    `units` scale an axis' ticks. Of two networks, the one with less of it is called by the `comparative` ("smaller");
    of all, the one with the least by the `superlative`, the one with the most by the `opposite` ("largest").
    """

    objective: Objective
    title: str
    unit: str
    phrase: str
    show: Callable[[float], str]
    units: wording.Units
    superlative: str
    comparative: str
    opposite: str

    def of(self, network: NetworkRow | EvaluatedNetwork) -> float | None:
        """The network's value, None if the search has none."""
        value: float | None = getattr(network, self.objective)
        return value

    def required_of(self, network: NetworkRow | EvaluatedNetwork) -> float:
        """The network's value of a cost that every network of the search has. Raises ValueError if it has none."""
        value = self.of(network)
        if value is None:
            raise ValueError(f"a network of the report has no {self.objective}")
        return value


SIZE = ("smallest", "smaller", "largest")
TIME = ("fastest", "faster", "slowest")

COSTS = {
    cost.objective: cost
    for cost in (
        DisplayedCost("parameters", "Parameters", "", "parameters", wording.parameters, wording.COUNTS, *SIZE),
        DisplayedCost("bytes", "Weights", "in memory", "memory of the weights", wording.size, wording.BYTES, *SIZE),
        DisplayedCost("kv_cache_bytes", "KV cache", "of the batch", "KV cache", wording.size, wording.BYTES, *SIZE),
        DisplayedCost(
            "prefill_seconds", "Prefill time", "all prompts", "prefill time", wording.duration, wording.SECONDS, *TIME
        ),
        DisplayedCost(
            "decode_seconds", "Decode time", "one step", "decode time", wording.duration, wording.SECONDS, *TIME
        ),
    )
}


def displayed_costs(content: ReportContent) -> tuple[DisplayedCost, ...]:
    """The costs that every network has, those that the search traded first."""
    networks: tuple[NetworkRow | EvaluatedNetwork, ...] = (
        *content.evaluated,
        *content.front,
        content.dense,
        content.base,
    )
    order = dict.fromkeys((*content.objectives, *COSTS))
    return tuple(COSTS[name] for name in order if all(COSTS[name].of(network) is not None for network in networks))


def front_by_cost(networks: Sequence[EvaluatedNetwork], cost: DisplayedCost) -> list[EvaluatedNetwork]:
    """The networks that no other dominates in accuracy and this cost alone, from the least cost: with several
    objectives, a network may be on the front because of another cost."""
    costs = [[cost.required_of(network)] for network in networks]
    front = pareto.non_dominated(costs, [network.search_accuracy for network in networks])
    return [networks[index] for index in front]


def traded(content: ReportContent) -> str:
    """What the search traded accuracy against, in words: `memory of the weights and decode time`."""
    *most, last = [COSTS[name].phrase for name in content.objectives]
    return f"{', '.join(most)} and {last}" if most else last


def reference_point(content: ReportContent) -> str:
    """The corner that hypervolumes are measured from, in words."""
    *multiples, accuracy = content.reference_point
    corner = [
        f"{wording.number(multiple)} times the dense network's {COSTS[name].phrase}"
        for name, multiple in zip(content.objectives, multiples, strict=True)
    ]
    return f"{', '.join(corner)}, {wording.percent(accuracy)} accuracy"
