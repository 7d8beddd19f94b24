"""The search: strategy, farm and history brought together."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.coordinator.costs import CostModel
from services.coordinator.farm import Farm
from services.coordinator.generation import GenerationRow
from services.coordinator.history import History
from services.coordinator.pareto import ReferencePoint, hypervolume
from services.coordinator.plan import SearchPlan
from services.coordinator.results import accuracy, cost_model, front
from services.coordinator.statistics import kendall_tau, mean_absolute_error
from services.coordinator.strategies import Evaluated, Strategy, make_strategy
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure, Measurement


class Observer(Protocol):
    """Who wants to know how the search gets on."""

    def measured(self, request: EvaluationRequest, outcome: Measurement | Failure) -> None:
        """A network was measured, now or before the search was interrupted."""

    def generation_done(self, row: GenerationRow) -> None:
        """A generation is complete."""


def measure_costs(plan: SearchPlan, history: History, farm: Farm) -> CostModel:
    """The costs that are traded against accuracy; what they take of a machine is measured now, once for the search.

    Raises UserError if that fails.
    """
    serving = plan.settings.serving
    if serving is not None:
        (outcome,) = farm.measure([plan.costs_request(serving)], lambda request, outcome: None, tolerant=True)
        if isinstance(outcome, Failure):
            raise UserError(
                f"serving: the cost table can't be measured with engine {serving.engine} ({outcome.reason}); "
                "mend that, or choose another engine or load"
            )
    return cost_model(plan, history)


def run_search(
    plan: SearchPlan, costs: CostModel, history: History, farm: Farm, observer: Observer
) -> list[Architecture]:
    """Search until the budget is spent or the space exhausted; the front, from the least of the first cost.

    Raises UserError if all networks of a generation fail.
    """
    strategy = make_strategy(costs, plan.settings.search)
    evaluated: list[Evaluated] = []
    generation = 0
    # A budget may be raised at any time, but what has been asked for already is not forgotten if it is lowered.
    budget = max(plan.settings.search.evaluations, len(history.candidates()))
    while len(evaluated) < budget:
        asked = _candidates(plan, history, strategy, generation, budget - len(evaluated))
        if not asked:
            break
        outcomes = farm.measure(asked, observer.measured)
        told = [_evaluated(plan, costs, request, outcome) for request, outcome in zip(asked, outcomes, strict=True)]
        if all(network.accuracy is None for network in told):
            reason = next(outcome.reason for outcome in outcomes if isinstance(outcome, Failure))
            raise UserError(
                f"generation {generation}: every network failed, the first with: {reason}; mend that and run it again"
            )
        evaluated += told
        row = _generation_row(costs, generation, evaluated, told, strategy.predictions, strategy.predictor_name)
        history.add_generation(row)
        observer.generation_done(row)
        strategy.tell(told)
        generation += 1
    return front(evaluated)


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


def _evaluated(
    plan: SearchPlan, costs: CostModel, request: EvaluationRequest, outcome: Measurement | Failure
) -> Evaluated:
    measured = accuracy(outcome, plan.settings.metrics) if isinstance(outcome, Measurement) else None
    return Evaluated(request.architecture, costs.of(request.architecture), measured)


def _generation_row(
    costs: CostModel,
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
            [network.costs for network in measured],
            [network.accuracy or 0.0 for network in measured],
            ReferencePoint(costs.dense),
        ),
        predictor=predictor,
        kendall_tau=kendall_tau(predicted, actual),
        mean_absolute_error=mean_absolute_error(predicted, actual),
    )
