"""The end of a search: which networks the report is about, and measuring them once on items of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.coordinator.cost_model import CostModel
from services.coordinator.counterparts import counterpart
from services.coordinator.dispatch import Dispatcher
from services.coordinator.plan import SearchPlan
from shared.architecture import Architecture, dense
from shared.errors import UserError
from shared.events import Events, StageBegan
from shared.messages import EvaluationRequest, Failure


@dataclass(frozen=True)
class Reported:
    """A network of the report: its name, and the requests that measure it; None where the report does without.

    Whether it is `asked` for on the report items: the others of the front have been measured on the search items only,
    unless an earlier report asked for them.
    """

    name: str
    search: EvaluationRequest | None
    report: EvaluationRequest
    asked: bool = True

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return self.report.architecture


class ReportedNetworks:
    """All networks of a report: the front (given from the least of the first cost, named from the greatest), `dense`,
    the untouched `base`; the front and the dense one again in INT8, and random counterparts of the front, if the
    search asks for these. All of it follows from the front, the costs and the settings."""

    def __init__(self, plan: SearchPlan, costs: CostModel, front: Sequence[Architecture]) -> None:
        self._plan = plan
        named = list(reversed(front))
        asked = _spread([costs.of(network)[0] for network in named], plan.settings.reporting.networks)
        self.front = [self._reported(f"N{index + 1}", each, asked=index in asked) for index, each in enumerate(named)]
        self.dense = self._reported("dense", dense(plan.space.network))
        self.base = Reported("base", plan.base_request("search"), plan.base_request("report"))
        again = [*self.front, self.dense] if plan.settings.remeasure_int8 else []
        self.int8 = [
            self._reported(f"{row.name} int8", row.architecture.quantized("int8"), searched=False, asked=row.asked)
            for row in again
        ]
        self.random = self._counterparts() if plan.settings.reporting.random else []
        self.timed = [row for row in (self.dense, *self.front, *self.int8) if row.asked]

    @property
    def controls(self) -> list[EvaluationRequest]:
        """What there is no report without: the dense and the base network on all items."""
        return _distinct([self.dense.search, self.base.search, self.base.report, self.dense.report])

    @property
    def others(self) -> list[EvaluationRequest]:
        """What the report says of where it fails: the front on the report items, random counterparts, INT8, speeds."""
        rows = [row.report for row in (*self.front, *self.random, *self.int8) if row.asked]
        return _distinct([*rows, self.speeds])

    @property
    def speeds(self) -> EvaluationRequest | None:
        """The request that times all of `timed`, in this order; None if the search times nothing."""
        serving = self._plan.settings.serving
        networks = [row.architecture for row in self.timed]
        return None if serving is None else self._plan.speeds_request(serving, networks)

    def speed_alone(self, row: Reported) -> EvaluationRequest | None:
        """The request by which earlier releases timed a network of `timed` by itself."""
        serving = self._plan.settings.serving
        return None if serving is None else self._plan.speeds_request(serving, [row.architecture])

    @property
    def on_report_items(self) -> list[EvaluationRequest]:
        """All measurements on the report items."""
        rows = (*self.front, self.dense, self.base, *self.int8, *self.random)
        return _distinct([row.report for row in rows if row.asked])

    def _reported(self, name: str, architecture: Architecture, searched: bool = True, asked: bool = True) -> Reported:
        search = self._plan.request(architecture, "search") if searched else None
        return Reported(name, search, self._plan.request(architecture, "report"), asked)

    def _counterparts(self) -> list[Reported]:
        plan, drawn = self._plan, list[Reported]()
        taken = {row.architecture for row in (*self.front, self.dense)}
        for row in self.front:
            other = counterpart(plan.space, row.architecture, taken, plan.settings.search.seed) if row.asked else None
            if other is not None:
                taken.add(other)
                drawn.append(self._reported(f"{row.name} random", other, searched=False))
        return drawn


def measure_front(networks: ReportedNetworks, dispatcher: Dispatcher, events: Events) -> None:
    """Measure all networks of the report, each once.

    Raises UserError if one of the controls fails, without which nothing can be compared.
    """
    controls, others = networks.controls, networks.others
    events.publish(StageBegan("report", len(controls) + len(others)))
    for request, outcome in zip(controls, dispatcher.measure(controls), strict=True):
        if isinstance(outcome, Failure):
            which = "base" if request.checkpoint == networks.base.report.checkpoint else "dense"
            raise UserError(
                f"the {which} network, with which all others are compared, failed ({outcome.kind}: {outcome.reason}); "
                "nothing measured is lost: fix that and run the same command again, which tries it again"
            )
    dispatcher.measure(others, tolerant=True)


def _distinct(requests: Sequence[EvaluationRequest | None]) -> list[EvaluationRequest]:
    return list({request.identity: request for request in requests if request is not None}.values())


def _spread(costs: Sequence[float], wanted: int) -> set[int]:
    """Which of a front to look at, by their places: both ends, and those nearest to places evenly between them. `costs`
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
