"""The asynchronous mode of a search: whenever results come, as many networks are asked for as are answered, so that
`population` of them are always under way and no evaluator waits for another.

What the strategy knows then depends on when results came. Each time it is asked, the last arrival that it was told of
is recorded with what it asked for. A search that was killed tells it the same arrivals in the same order and asks
again; so it continues as it would have, had nothing happened, with whatever comes next.
"""

from collections.abc import Mapping

from services.coordinator.batch import RequestBatch
from services.coordinator.budget import networks_to_measure
from services.coordinator.cost_model import CostModel
from services.coordinator.dispatch import Dispatcher
from services.coordinator.history import Arrival, Candidate, History
from services.coordinator.plan import SearchPlan
from services.coordinator.results import best_networks, evaluated_so_far, front
from services.coordinator.search import PredictedGeneration, continue_without, evaluated_as, generation_row
from services.coordinator.strategies import Evaluated, Strategy, make_strategy
from shared.architecture import Architecture
from shared.events import CandidatesChosen, Events, GenerationDone, StageBegan
from shared.messages import EvaluationRequest, Failure


def run_asynchronous_search(
    plan: SearchPlan, costs: CostModel, history: History, dispatcher: Dispatcher, events: Events
) -> list[Architecture]:
    """Search until the budget is spent or the space exhausted; the front, from the least of the first cost.

    Raises UserError if `population` networks fail one after the other and nothing can be done without them.
    """
    strategy = make_strategy(costs, plan.settings.search)
    budget = networks_to_measure(plan.settings.search, plan.space, history.asked())
    events.publish(StageBegan("search", budget))
    rows = _GenerationRows(plan, costs, history, events)
    arrivals = _Arrivals(plan, costs, history, strategy, rows)
    # Requests of one batch may share a message, whenever they were asked for: they would only wait for another one.
    under_way = dispatcher.begin([])
    asking = _Asking(plan, strategy, under_way, budget)
    failing = _FailingInARow(plan.settings.search.population, under_way)
    number = 0
    while True:
        recorded, answered = history.generation(number), under_way.answered
        known = arrivals.tell(asking.asked, recorded[0].known if recorded else None)
        if not recorded:
            failing.check(any_measured=rows.any_measured, nothing_left=asking.done and under_way.done)
        requests = asking.next(recorded)
        if requests:
            candidates = tuple((request, strategy.predictions.get(request.architecture)) for request in requests)
            events.publish(CandidatesChosen(number, candidates, known))
            rows.expect(strategy)
            dispatcher.extend(under_way, requests)
            number += 1
        elif under_way.done:
            rows.end()
            return front(evaluated_so_far(plan, history))
        if not recorded:
            dispatcher.wait(under_way, answered + 1)


class _Asking:
    """Asks the strategy for as many networks as there is room for, until the budget is asked for."""

    def __init__(self, plan: SearchPlan, strategy: Strategy, under_way: RequestBatch, budget: int) -> None:
        self._plan, self._strategy, self._under_way, self._budget = plan, strategy, under_way, budget
        self.asked: dict[str, EvaluationRequest] = {}

    @property
    def done(self) -> bool:
        """Whether the budget is asked for."""
        return len(self.asked) >= self._budget

    def next(self, recorded: list[Candidate]) -> list[EvaluationRequest]:
        """What is to be measured next; where the history says what it was, the history is right. Empty as long as there
        is no room, and when there is nothing left."""
        room = min(self._plan.settings.search.population - self._under_way.unanswered, self._budget - len(self.asked))
        if not recorded and room < 1:
            return []
        networks = self._strategy.ask(len(recorded) or room)
        if recorded:
            networks = [candidate.architecture for candidate in recorded]
        requests = [self._plan.request(network, "search") for network in networks]
        if not recorded:
            # What was recorded instead of what it asked for, on another machine, a strategy may not know of yet.
            requests = [request for request in requests if request.identity not in self.asked]
        self.asked |= {request.identity: request for request in requests}
        return requests


class _Arrivals:
    """Tells the strategy, and the rows, of every arrival once, in the order of the history."""

    def __init__(
        self, plan: SearchPlan, costs: CostModel, history: History, strategy: Strategy, rows: "_GenerationRows"
    ) -> None:
        self._plan, self._costs, self._history, self._strategy, self._rows = plan, costs, history, strategy, rows
        self._read = 0
        self._untold: list[Arrival] = []

    def tell(self, asked: Mapping[str, EvaluationRequest], last: int | None) -> int:
        """Tell of the arrivals up to the `last` (None: all there are) of networks that are `asked` for; the last one
        that there was. What was measured before it is asked for is told as soon as it is."""
        new = self._history.arrivals(self._read)
        self._read = new[-1].number if new else self._read
        self._untold += new
        until = self._read if last is None else last
        told: list[Arrival] = []
        untold: list[Arrival] = []
        for arrival in self._untold:
            (told if arrival.number <= until and arrival.identity in asked else untold).append(arrival)
        self._untold = untold
        networks = [evaluated_as(self._plan, self._costs, asked[each.identity], each.outcome) for each in told]
        for network in networks:
            self._rows.add(network)
        self._strategy.tell(networks)
        return until


class _FailingInARow:
    """Ends the search if networks fail one after the other, as all of a generation may."""

    def __init__(self, most: int, under_way: RequestBatch) -> None:
        self._most, self._under_way = most, under_way
        self._seen = 0
        self._failures: list[Failure] = []

    def check(self, any_measured: bool, nothing_left: bool) -> None:
        """Raises UserError if the last `most` outcomes of this run are failures, or if `nothing_left` is to be searched
        and nothing was measured, unless the search can continue without these networks."""
        for outcome in self._under_way.arrived[self._seen :]:
            self._seen += 1
            if isinstance(outcome, Failure):
                self._failures.append(outcome)
            else:
                self._failures.clear()
        number = len(self._failures)
        if number >= self._most or (number and nothing_left and not any_measured):
            what = f"{number} networks failed one after the other"
            continue_without(what, self._failures, any_measured, nothing_left)
            self._failures.clear()


class _GenerationRows:
    """Publishes a row whenever `population` networks are finished, measured or failed, and one for the rest at the end.

    Where the history has a row already, it is about the same networks again. A network that failed and was measured by
    a later run is finished once.
    """

    def __init__(self, plan: SearchPlan, costs: CostModel, history: History, events: Events) -> None:
        self._plan, self._costs, self._events = plan, costs, events
        self._ends = {row.generation: row.evaluations for row in history.generations()}
        self._number = 0
        self._predicted: dict[Architecture, tuple[float, str | None]] = {}
        self._best: list[Evaluated] = []
        self._earlier: dict[Architecture, Evaluated] = {}
        self._finished: dict[Architecture, Evaluated] = {}
        self._again: list[Evaluated] = []

    @property
    def any_measured(self) -> bool:
        """Whether any network was measured."""
        networks = (*self._earlier.values(), *self._finished.values())
        return any(network.accuracy is not None for network in networks)

    def expect(self, strategy: Strategy) -> None:
        """Remember what the strategy predicts of the networks that it has just asked for."""
        for network, accuracy in strategy.predictions.items():
            self._predicted[network] = accuracy, strategy.predictor_name

    def add(self, network: Evaluated) -> None:
        """Another network is finished, or is measured after all."""
        if network.architecture in self._earlier:
            self._earlier[network.architecture] = network
            self._again.append(network)
            return
        self._finished[network.architecture] = network
        end = self._ends.get(self._number, len(self._earlier) + self._plan.settings.search.population)
        if len(self._earlier) + len(self._finished) == end:
            self._publish()

    def end(self) -> None:
        """No other network is going to be finished."""
        if self._finished:
            self._publish()

    def _publish(self) -> None:
        evaluated, earlier = list(self._finished.values()), list(self._earlier.values())
        self._best = best_networks([*self._best, *self._again, *evaluated])
        predicted = {one: self._predicted.pop(one) for one in self._finished if one in self._predicted}
        generation = PredictedGeneration(
            number=self._number,
            predictions={network: accuracy for network, (accuracy, _) in predicted.items()},
            predictor=[None, *(name for _, name in predicted.values())][-1],
            # Each was chosen knowing of no more than these, and of those of its generation that were finished then.
            known=len(earlier),
        )
        row = generation_row(self._plan, self._costs, generation, self._best, earlier, evaluated)
        self._events.publish(GenerationDone(row))
        self._earlier |= self._finished
        self._finished, self._again = {}, []
        self._number += 1
