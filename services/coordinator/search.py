"""The search: strategy, farm and history brought together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.coordinator.farm import Farm
from services.coordinator.history import History
from services.coordinator.pareto import ReferencePoint, hypervolume, non_dominated
from services.coordinator.report.content import GenerationRow
from services.coordinator.statistics import kendall_tau, mean_absolute_error
from services.coordinator.strategies import Evaluated, Strategy, make_strategy
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import CheckpointRef, Dtype, EvaluationRequest, Failure, Measurement, correct
from shared.settings import Part, SearchSettings
from shared.space import SearchSpace, dense, parameters


@dataclass(frozen=True)
class SearchPlan:
    """Everything that a search depends on."""

    settings: SearchSettings
    space: SearchSpace
    supernet: CheckpointRef
    base: CheckpointRef
    dtype: Dtype

    @property
    def reference_point(self) -> ReferencePoint:
        """Where hypervolumes of this search are measured from."""
        return ReferencePoint(largest=parameters(self.space.shape, dense(self.space.shape)))

    def about(self) -> dict[str, object]:
        """What a history must agree with to be continued; the budget may be raised."""
        return {
            "settings": self.settings.model_dump(
                mode="json", exclude={"search": {"evaluations"}, "training": {"checkpoint_every_seconds"}}
            ),
            "supernet": self.supernet.digest,
            "base": self.base.digest,
            "dtype": self.dtype,
            "shape": vars(self.space.shape),
            "drop_order": list(self.space.drop_order),
            "reference_point": [self.reference_point.size, self.reference_point.accuracy],
        }

    def request(self, architecture: Architecture, part: Part) -> EvaluationRequest:
        """Measure a sub-network on the `search` or the `report` items."""
        return self._request(self.supernet, architecture, part)

    def base_request(self, part: Part) -> EvaluationRequest:
        """Measure the untouched base model."""
        return self._request(self.base, dense(self.space.shape), part)

    def _request(self, checkpoint: CheckpointRef, architecture: Architecture, part: Part) -> EvaluationRequest:
        return EvaluationRequest(
            search=self.settings.name,
            checkpoint=checkpoint,
            architecture=architecture,
            spec=self.settings.spec(part, self.dtype),
        )


class Observer(Protocol):
    """Who wants to know how the search gets on."""

    def measured(self, request: EvaluationRequest, outcome: Measurement | Failure) -> None:
        """A network was measured, now or before the search was interrupted."""

    def generation_done(self, row: GenerationRow) -> None:
        """A generation is complete."""


def accuracy(measurement: Measurement, metrics: Sequence[str]) -> float:
    """Share of all items answered right, all tasks' items together."""
    values = correct(measurement.scores, metrics)
    return sum(values) / len(values)


def run_search(plan: SearchPlan, history: History, farm: Farm, observer: Observer) -> list[Architecture]:
    """Search until the budget is spent or the space exhausted; the front, smallest network first.

    Raises UserError if all networks of a generation fail.
    """
    strategy = make_strategy(plan.space, plan.settings.search)
    evaluated: list[Evaluated] = []
    generation = 0
    # A budget may be raised at any time, but what has been asked for already is not forgotten if it is lowered.
    budget = max(plan.settings.search.evaluations, len(history.candidates()))
    while len(evaluated) < budget:
        asked = _candidates(plan, history, strategy, generation, budget - len(evaluated))
        if not asked:
            break
        outcomes = farm.measure(asked, observer.measured)
        told = [_evaluated(plan, request, outcome) for request, outcome in zip(asked, outcomes, strict=True)]
        if all(network.accuracy is None for network in told):
            reason = next(outcome.reason for outcome in outcomes if isinstance(outcome, Failure))
            raise UserError(
                f"generation {generation}: every network failed, the first with: {reason}; mend that and run it again"
            )
        evaluated += told
        row = _generation_row(plan, generation, evaluated, told, strategy.predictions, strategy.predictor_name)
        history.add_generation(row)
        observer.generation_done(row)
        strategy.tell(told)
        generation += 1
    return front(evaluated)


def measure_front(
    plan: SearchPlan, networks: Sequence[Architecture], farm: Farm, observed: Callable[..., None]
) -> None:
    """Measure the front, the dense super-network and the untouched base model on the report items, each once.

    The two controls are measured on the search items as well, for comparison. Raises UserError if one of these fails.
    """
    whole = dense(plan.space.shape)
    requests = [plan.request(whole, "search"), plan.base_request("search"), plan.base_request("report")]
    requests += [plan.request(network, "report") for network in dict.fromkeys([whole, *networks])]
    for request, outcome in zip(requests, farm.measure(requests, observed), strict=True):
        if isinstance(outcome, Failure):
            raise UserError(
                f"a network of {request.architecture.depth} layers failed on the report items: {outcome.reason}; "
                "mend that and run the same command again"
            )


def front(evaluated: Sequence[Evaluated]) -> list[Architecture]:
    """Networks that no other measured network dominates, smallest first."""
    measured = [network for network in evaluated if network.accuracy is not None]
    chosen = non_dominated([n.parameters for n in measured], [n.accuracy or 0.0 for n in measured])
    return [measured[index].architecture for index in chosen]


def _candidates(
    plan: SearchPlan, history: History, strategy: Strategy, generation: int, limit: int
) -> list[EvaluationRequest]:
    """What the strategy asks for; where the history says what was asked, the history is right.

    Strategies are deterministic, but another machine may round another way, and the budget may have been raised since.
    """
    recorded = history.generation(generation)
    asked = strategy.ask(len(recorded) or limit)
    if recorded:
        return [plan.request(candidate.architecture, "search") for candidate in recorded]
    requests = [plan.request(architecture, "search") for architecture in asked]
    predictions = strategy.predictions
    history.add_candidates(generation, [(request, predictions.get(request.architecture)) for request in requests])
    return requests


def _evaluated(plan: SearchPlan, request: EvaluationRequest, outcome: Measurement | Failure) -> Evaluated:
    measured = accuracy(outcome, plan.settings.metrics) if isinstance(outcome, Measurement) else None
    return Evaluated(request.architecture, plan.space.parameters(request.architecture), measured)


def _generation_row(
    plan: SearchPlan,
    generation: int,
    evaluated: Sequence[Evaluated],
    batch: Sequence[Evaluated],
    predictions: Mapping[Architecture, float],
    predictor: str | None,
) -> GenerationRow:
    measured = [network for network in evaluated if network.accuracy is not None]
    seen = [network for network in batch if network.accuracy is not None and network.architecture in predictions]
    predicted = [predictions[network.architecture] for network in seen]
    actual = [network.accuracy or 0.0 for network in seen]
    return GenerationRow(
        generation=generation,
        evaluations=len(evaluated),
        hypervolume=hypervolume(
            [network.parameters for network in measured],
            [network.accuracy or 0.0 for network in measured],
            plan.reference_point,
        ),
        predictor=predictor,
        kendall_tau=kendall_tau(predicted, actual),
        mean_absolute_error=mean_absolute_error(predicted, actual),
    )
