"""The asynchronous mode of a search: whenever results come, as many networks are asked for as are answered, so that
`population` of them are always under way and no evaluator waits for another.

What the strategy knows then depends on when results came. Each time it is asked, the last arrival that it was told of
is recorded with what it asked for. A search that was killed tells it the same arrivals in the same order and asks
again; so it continues as it would have, had nothing happened, with whatever comes next.
"""

from collections.abc import Mapping, Sequence

from services.coordinator.batch import RequestBatch
from services.coordinator.budget import networks_to_measure
from services.coordinator.cost_model import CostModel
from services.coordinator.dispatch import Dispatcher
from services.coordinator.generation_row import GenerationRows, Proposed
from services.coordinator.history import Arrival, Candidate, History
from services.coordinator.plan import SearchPlan
from services.coordinator.results import evaluated_network, evaluated_so_far, front
from services.coordinator.search import continue_without
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
    rows = _FinishedRows(plan, costs, history, events)
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
            rows.expect(strategy, [request.architecture for request in requests])
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
        self, plan: SearchPlan, costs: CostModel, history: History, strategy: Strategy, rows: "_FinishedRows"
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
        metrics = self._plan.settings.metrics
        networks = [evaluated_network(asked[each.identity], each.outcome, self._costs, metrics) for each in told]
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


class _FinishedRows:
    """Publishes a row whenever `population` networks are finished, measured or failed, and one for the rest at the end.

    Where the history has a row already, it is about the same networks again. A network that failed and was measured by
    a later run is finished once.
    """

    def __init__(self, plan: SearchPlan, costs: CostModel, history: History, events: Events) -> None:
        self._population, self._events = plan.settings.search.population, events
        self._rows = GenerationRows(plan, costs)
        self._ends = {row.generation: row.evaluations for row in history.generations()}
        self._number = 0
        self._proposed: dict[Architecture, tuple[str | None, float | None, bool]] = {}
        self._earlier: set[Architecture] = set()
        self._finished: dict[Architecture, Evaluated] = {}

    @property
    def any_measured(self) -> bool:
        """Whether any network was measured."""
        return bool(self._rows.best) or any(network.accuracy is not None for network in self._finished.values())

    def expect(self, strategy: Strategy, networks: Sequence[Architecture]) -> None:
        """Remember what the strategy says of the networks that it has just asked for."""
        for network in networks:
            predicted = strategy.predictions.get(network)
            self._proposed[network] = strategy.predictor_name, predicted, network in strategy.drawn

    def add(self, network: Evaluated) -> None:
        """Another network is finished, or is measured after all."""
        if network.architecture in self._earlier:
            self._rows.measured_after_all(network)
            return
        self._finished[network.architecture] = network
        end = self._ends.get(self._number, self._rows.networks + self._population)
        if self._rows.networks + len(self._finished) == end:
            self._publish()

    def end(self) -> None:
        """No other network is going to be finished."""
        if self._finished:
            self._publish()

    def _publish(self) -> None:
        said = {network: self._proposed.pop(network, (None, None, False)) for network in self._finished}
        proposed = Proposed(
            predictor=[None, *(name for name, _, _ in said.values() if name is not None)][-1],
            predictions={network: accuracy for network, (_, accuracy, _) in said.items() if accuracy is not None},
            drawn={network for network, (_, _, drawn) in said.items() if drawn},
            # Each was chosen knowing of no more than these, and of those of its generation that were finished then.
            known=self._rows.networks,
        )
        row = self._rows.add(self._number, proposed, list(self._finished.values()))
        self._events.publish(GenerationDone(row))
        self._earlier |= self._finished.keys()
        self._finished = {}
        self._number += 1
