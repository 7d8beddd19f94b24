"""The end of a search: which networks the report is about, and measuring them once on items of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.coordinator.batch import Observed
from services.coordinator.farm import Farm
from services.coordinator.plan import SearchPlan
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure
from shared.space import dense


@dataclass(frozen=True)
class Reported:
    """A network of the report: its name, and the requests that measure it; None where the report does without."""

    name: str
    search: EvaluationRequest | None
    report: EvaluationRequest
    speed: EvaluationRequest | None

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return self.report.architecture


class ReportedNetworks:
    """All networks of a report: the front (given from the least of the first cost, named from the greatest), `dense`,
    the untouched `base`, and the front and the dense one again in INT8, if the search asks for that."""

    def __init__(self, plan: SearchPlan, front: Sequence[Architecture]) -> None:
        self._plan = plan
        self.front = [self._reported(f"N{number}", each) for number, each in enumerate(reversed(front), start=1)]
        self.dense = self._reported("dense", dense(plan.space.shape))
        self.base = Reported("base", plan.base_request("search"), plan.base_request("report"), None)
        again = [*self.front, self.dense] if plan.settings.remeasure_int8 else []
        self.int8 = [self._reported(f"{row.name} int8", row.architecture.quantized("int8"), False) for row in again]

    @property
    def required(self) -> list[EvaluationRequest]:
        """What there is no report without: the front on the report items, both controls on all items."""
        controls = [self.dense.search, self.base.search, self.base.report, self.dense.report]
        return _distinct([*controls, *(row.report for row in self.front)])

    @property
    def optional(self) -> list[EvaluationRequest]:
        """What the report shows as not measured where it fails: INT8 and speeds."""
        speeds = [row.speed for row in (*self.front, self.dense, *self.int8)]
        return _distinct([*(row.report for row in self.int8), *speeds])

    def _reported(self, name: str, architecture: Architecture, searched: bool = True) -> Reported:
        plan, serving = self._plan, self._plan.settings.serving
        return Reported(
            name,
            plan.request(architecture, "search") if searched else None,
            plan.request(architecture, "report"),
            None if serving is None else plan.speed_request(serving, architecture),
        )


def measure_front(networks: ReportedNetworks, farm: Farm, observed: Observed) -> None:
    """Measure all networks of the report, each once.

    Raises UserError if one of the required measurements fails.
    """
    required, optional = networks.required, networks.optional
    farm.progress.begins("reporting", len(required) + len(optional))
    counting = farm.progress.counting(observed)
    for request, outcome in zip(required, farm.measure(required, counting), strict=True):
        if isinstance(outcome, Failure):
            raise UserError(
                f"a network of {request.architecture.depth} layers failed on the report items: {outcome.reason}; "
                "mend that and run the same command again"
            )
    farm.measure(optional, counting, tolerant=True)


def _distinct(requests: Sequence[EvaluationRequest | None]) -> list[EvaluationRequest]:
    return list({request.identity: request for request in requests if request is not None}.values())
