"""Which networks a report is about, and the requests that measure them on the report items."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.coordinator.cost_model import CostModel
from services.coordinator.counterparts import counterpart
from services.coordinator.plan import SearchPlan
from shared.architecture import Architecture, dense
from shared.messages import EvaluationRequest


@dataclass(frozen=True)
class ReportedNetwork:
    """A network of the report: its name, and the requests that measure it; `search` is None where there is none.

    `requested` says whether it is to be measured on the report items: the others of the front have been measured on the
    search items only, unless an earlier report requested them.
    """

    name: str
    search: EvaluationRequest | None
    report: EvaluationRequest
    requested: bool = True

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return self.report.architecture


class ReportedNetworks:
    """All networks of a report: the front (given from the least of the first cost, named from the greatest), `dense`,
    the untouched `base`; the front and the dense one again in INT8, and random counterparts of the front, if the
    search asks for them. All of it follows from the front, the costs and the settings."""

    def __init__(self, plan: SearchPlan, costs: CostModel, front: Sequence[Architecture]) -> None:
        self._plan = plan
        named = list(reversed(front))
        requested = _evenly_spread([costs.of(network)[0] for network in named], plan.settings.reporting.networks)
        self.front = [
            self._reported(f"N{index + 1}", each, requested=index in requested) for index, each in enumerate(named)
        ]
        self.dense = self._reported("dense", dense(plan.space.network))
        self.base = ReportedNetwork("base", plan.base_request("search"), plan.base_request("report"))
        again = [*self.front, self.dense] if plan.settings.remeasure_int8 else []
        self.int8 = [
            self._reported(
                f"{row.name} int8", row.architecture.quantized("int8"), searched=False, requested=row.requested
            )
            for row in again
        ]
        self.random = self._counterparts() if plan.settings.reporting.random else []
        self.timed = [row for row in (self.dense, *self.front, *self.int8) if row.requested]

    @property
    def controls(self) -> list[EvaluationRequest]:
        """What every report needs: the dense and the base network on all items."""
        return _distinct([self.dense.search, self.base.search, self.base.report, self.dense.report])

    @property
    def others(self) -> list[EvaluationRequest]:
        """What a report can do without, naming each failure: the front on the report items, random counterparts, INT8,
        speeds."""
        rows = [row.report for row in (*self.front, *self.random, *self.int8) if row.requested]
        return _distinct([*rows, self.speeds])

    @property
    def speeds(self) -> EvaluationRequest | None:
        """The request that times all of `timed`, in this order; None if the search times nothing."""
        serving = self._plan.settings.serving
        networks = [row.architecture for row in self.timed]
        return None if serving is None else self._plan.speeds_request(serving, networks)

    def speed_alone(self, row: ReportedNetwork) -> EvaluationRequest | None:
        """The request by which earlier releases timed a network of `timed` by itself."""
        serving = self._plan.settings.serving
        return None if serving is None else self._plan.speeds_request(serving, [row.architecture])

    @property
    def on_report_items(self) -> list[EvaluationRequest]:
        """All measurements on the report items."""
        rows = (*self.front, self.dense, self.base, *self.int8, *self.random)
        return _distinct([row.report for row in rows if row.requested])

    def _reported(
        self, name: str, architecture: Architecture, searched: bool = True, requested: bool = True
    ) -> ReportedNetwork:
        search = self._plan.request(architecture, "search") if searched else None
        return ReportedNetwork(name, search, self._plan.request(architecture, "report"), requested)

    def _counterparts(self) -> list[ReportedNetwork]:
        plan, drawn = self._plan, list[ReportedNetwork]()
        excluded = {row.architecture for row in (*self.front, self.dense)}
        for row in self.front:
            other = (
                counterpart(plan.space, row.architecture, excluded, plan.settings.search.seed)
                if row.requested
                else None
            )
            if other is not None:
                excluded.add(other)
                drawn.append(self._reported(f"{row.name} random", other, searched=False))
        return drawn


def _distinct(requests: Sequence[EvaluationRequest | None]) -> list[EvaluationRequest]:
    return list({request.identity: request for request in requests if request is not None}.values())


def _evenly_spread(costs: Sequence[float], wanted: int) -> set[int]:
    """The places in a front of those to be reported: both ends, and those nearest to costs evenly between them. `costs`
    descend."""
    if len(costs) <= wanted:
        return set(range(len(costs)))
    last = len(costs) - 1
    chosen = {0, last}
    for step in range(1, wanted - 1):
        place = costs[0] + (costs[last] - costs[0]) * step / (wanted - 1)
        left = (index for index in range(len(costs)) if index not in chosen)
        chosen.add(min(left, key=lambda index: abs(costs[index] - place)))
    return chosen
