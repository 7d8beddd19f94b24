"""The search: strategy, dispatch and history brought together."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.coordinator.batch import RequestBatch
from services.coordinator.budget import networks_to_measure
from services.coordinator.cost_model import CostModel
from services.coordinator.dispatch import Dispatcher
from services.coordinator.history import History
from services.coordinator.pareto import ReferencePoint, hypervolume
from services.coordinator.plan import SearchPlan
from services.coordinator.predictor_quality import kendall_tau, line_through, mean_absolute_error, partial_tau
from services.coordinator.results import accuracy, best_networks, cost_model, cost_tables
from services.coordinator.strategies import Evaluated, Strategy, make_strategy
from shared.architecture import Architecture
from shared.errors import UserError
from shared.events import CandidatesChosen, CostsMeasured, Events, GenerationDone, StageBegan
from shared.failure_policy import FAILURES
from shared.generation import GenerationRow
from shared.messages import EvaluationRequest, Failure, Measurement, Outcome


def measure_costs(plan: SearchPlan, history: History, dispatcher: Dispatcher, events: Events) -> CostModel:
    """The costs that are traded against accuracy; what they take of a machine is measured now, once for the search.

    Raises UserError if that fails.
    """
    serving = plan.settings.serving
    if serving is not None:
        events.publish(StageBegan("costs", 1))
        (outcome,) = dispatcher.measure([plan.costs_request(serving)], tolerant=True)
        if isinstance(outcome, Failure):
            raise UserError(
                f"serving: the cost table can't be measured with engine {serving.engine} ({outcome.reason}); "
                "fix that, or choose another engine or load"
            )
    events.publish(CostsMeasured(cost_tables(plan, history)))
    return cost_model(plan, history)


def run_search(
    plan: SearchPlan, costs: CostModel, history: History, dispatcher: Dispatcher, events: Events
) -> list[Architecture]:
    """Search until the budget is spent or the space exhausted; the front, from the least of the first cost.

    Raises UserError if all networks of a generation fail and nothing can be done without them.
    """
    if plan.settings.search.asynchronous:
        from services.coordinator.asynchronous import run_asynchronous_search  # made of the functions below

        return run_asynchronous_search(plan, costs, history, dispatcher, events)
    strategy = make_strategy(costs, plan.settings.search)
    budget = networks_to_measure(plan.settings.search, plan.space, history.asked())
    events.publish(StageBegan("search", budget))
    asking = _GenerationSource(plan, history, dispatcher, strategy, events, budget)
    ahead = 1 if plan.settings.search.overlap else 0
    under_way: deque[_Generation] = deque()
    best: list[Evaluated] = []
    measured: list[Evaluated] = []
    while True:
        # The strategy knows the same whenever it is asked, in whatever order results arrive.
        while len(under_way) <= ahead and (next_one := asking.next(len(measured))) is not None:
            under_way.append(next_one)
        if not under_way:
            return [network.architecture for network in best]
        generation = under_way.popleft()
        outcomes = dispatcher.finish(generation.batch)
        evaluated = [
            evaluated_as(plan, costs, request, outcome)
            for request, outcome in zip(generation.requests, outcomes, strict=True)
        ]
        if all(network.accuracy is None for network in evaluated):
            last = asking.done and not under_way
            what = f"generation {generation.number}: every network failed"
            continue_without(what, outcomes, any(network.accuracy is not None for network in measured), last)
        best = best_networks([*best, *evaluated])
        row = generation_row(plan, costs, generation, best, measured, evaluated)
        measured += evaluated
        events.publish(GenerationDone(row))
        strategy.tell(evaluated)


@dataclass(frozen=True)
class PredictedGeneration:
    """A generation by its number, and what was predicted of it when it was chosen, knowing of the first `known`
    networks."""

    number: int
    predictions: Mapping[Architecture, float]
    predictor: str | None
    known: int


@dataclass(frozen=True)
class _Generation(PredictedGeneration):
    """A generation that is being measured."""

    requests: list[EvaluationRequest]
    batch: RequestBatch


class _GenerationSource:
    """Asks the strategy for one generation after the other, and has them measured, until the budget is asked for."""

    def __init__(
        self,
        plan: SearchPlan,
        history: History,
        dispatcher: Dispatcher,
        strategy: Strategy,
        events: Events,
        budget: int,
    ) -> None:
        self._plan, self._history, self._dispatcher, self._strategy = plan, history, dispatcher, strategy
        self._events, self._budget = events, budget
        self._generations = 0
        self._asked: set[Architecture] = set()

    @property
    def done(self) -> bool:
        """Whether the budget is asked for."""
        return len(self._asked) >= self._budget

    def next(self, known: int) -> _Generation | None:
        """The next generation, under way, chosen when the strategy knew of `known` networks; None if there is
        none any more."""
        if self.done:
            return None
        requests = self._candidates()
        if not requests:
            return None
        strategy = self._strategy
        candidates = tuple((request, strategy.predictions.get(request.architecture)) for request in requests)
        self._events.publish(CandidatesChosen(self._generations, candidates))
        batch = self._dispatcher.begin(requests)
        generation = _Generation(
            self._generations, dict(strategy.predictions), strategy.predictor_name, known, requests, batch
        )
        self._generations += 1
        self._asked |= {request.architecture for request in requests}
        return generation

    def _candidates(self) -> list[EvaluationRequest]:
        """What the strategy asks for; where the history says what was asked, the history is right.

        Strategies are deterministic, but another machine may round another way, and the budget may have been raised
        since.
        """
        recorded = self._history.generation(self._generations)
        asked = self._strategy.ask(len(recorded) or self._budget - len(self._asked))
        if recorded:
            return [self._plan.request(candidate.architecture, "search") for candidate in recorded]
        # What was recorded instead of what it asked for then, a strategy may not know of yet.
        return [self._plan.request(network, "search") for network in asked if network not in self._asked]


def evaluated_as(plan: SearchPlan, costs: CostModel, request: EvaluationRequest, outcome: Outcome) -> Evaluated:
    """A network as the strategy is to know it."""
    measured = accuracy(outcome, plan.settings.metrics) if isinstance(outcome, Measurement) else None
    return Evaluated(request.architecture, costs.of(request.architecture), measured)


def continue_without(what: str, outcomes: Sequence[Outcome], measured: bool, last: bool) -> None:
    """A generation of which every network failed, or as many others: the search continues without it, if something was
    `measured` before and nothing else is to be blamed for it than these networks, or nothing is left to be searched.

    Raises UserError otherwise, which says `what` it was: so as not to spend the budget on evaluators that measure
    nothing.
    """
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    lasting = all(FAILURES[failure.kind].lasting for failure in failures)
    if measured and (last or lasting):
        return
    again = "fix that and run the same command again, which tries them again"
    raise UserError(
        f"{what}, the first with {failures[0].kind}: {failures[0].reason}; "
        f"{'choose another search space' if lasting else again}"
    )


def generation_row(
    plan: SearchPlan,
    costs: CostModel,
    generation: PredictedGeneration,
    best: Sequence[Evaluated],
    earlier: Sequence[Evaluated],
    evaluated: Sequence[Evaluated],
) -> GenerationRow:
    """The state after a generation; `earlier` are the networks of those before."""
    predictions = generation.predictions
    seen = [network for network in evaluated if network.accuracy is not None and network.architecture in predictions]
    predicted = [predictions[network.architecture] for network in seen]
    actual = [network.accuracy or 0.0 for network in seen]
    sizes = [plan.space.parameters(network.architecture) for network in seen]
    fitted = [network for network in earlier[: generation.known] if network.accuracy is not None]
    line = line_through(
        [plan.space.parameters(network.architecture) for network in fitted],
        [network.accuracy or 0.0 for network in fitted],
    )
    return GenerationRow(
        generation=generation.number,
        evaluations=len(earlier) + len(evaluated),
        hypervolume=hypervolume(
            [network.costs for network in best],
            [network.accuracy or 0.0 for network in best],
            ReferencePoint(costs.dense),
        ),
        predictor=generation.predictor,
        kendall_tau=kendall_tau(predicted, actual),
        mean_absolute_error=mean_absolute_error(predicted, actual),
        size_tau=kendall_tau(sizes, actual),
        partial_tau=partial_tau(predicted, actual, sizes),
        size_error=None if line is None else mean_absolute_error([line(size) for size in sizes], actual),
    )
