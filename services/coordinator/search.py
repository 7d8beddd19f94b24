"""The search: strategy, dispatch and history brought together."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from services.coordinator.batch import RequestBatch
from services.coordinator.budget import networks_to_measure
from services.coordinator.cost_model import CostModel
from services.coordinator.dispatch import Dispatcher
from services.coordinator.generation_row import GenerationRows, Proposed
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.results import cost_model, cost_tables, evaluated_network
from services.coordinator.strategies import Strategy, make_strategy
from shared.architecture import Architecture
from shared.errors import UserError
from shared.events import CandidatesChosen, CostsMeasured, Events, GenerationDone, StageBegan
from shared.failure_policy import FAILURES
from shared.messages import EvaluationRequest, Failure, Outcome


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
        from services.coordinator.asynchronous import run_asynchronous_search  # which needs `continue_without`

        return run_asynchronous_search(plan, costs, history, dispatcher, events)
    strategy = make_strategy(costs, plan.settings.search)
    budget = networks_to_measure(plan.settings.search, plan.space, history.asked())
    events.publish(StageBegan("search", budget))
    asking = _GenerationSource(plan, history, dispatcher, strategy, events, budget)
    ahead = 1 if plan.settings.search.overlap else 0
    under_way: deque[_Generation] = deque()
    rows = GenerationRows(plan, costs)
    while True:
        # The strategy knows the same whenever it is asked, in whatever order results arrive.
        while len(under_way) <= ahead and (next_one := asking.next(rows.networks)) is not None:
            under_way.append(next_one)
        if not under_way:
            return [network.architecture for network in rows.best]
        generation = under_way.popleft()
        outcomes = dispatcher.finish(generation.batch)
        evaluated = [
            evaluated_network(request, outcome, costs, plan.settings.metrics)
            for request, outcome in zip(generation.requests, outcomes, strict=True)
        ]
        if all(network.accuracy is None for network in evaluated):
            last = asking.done and not under_way
            what = f"generation {generation.number}: every network failed"
            continue_without(what, outcomes, bool(rows.best), last)
        events.publish(GenerationDone(rows.add(generation.number, generation.proposed, evaluated)))
        strategy.tell(evaluated)


@dataclass(frozen=True)
class _Generation:
    """A generation that is being measured."""

    number: int
    requests: list[EvaluationRequest]
    batch: RequestBatch
    proposed: Proposed


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
        proposed = Proposed(strategy.predictor_name, dict(strategy.predictions), strategy.drawn, known)
        generation = _Generation(self._generations, requests, batch, proposed)
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
