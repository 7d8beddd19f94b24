"""The farm as the coordinator sees it: requests go out, results come back, each is stored once."""

from collections.abc import Callable, Sequence

from services.coordinator.history import History
from shared.broker import Broker, read_result, results_queue
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure, Measurement

POLL_SECONDS = 0.5

Outcome = Measurement | Failure
Observed = Callable[[EvaluationRequest, Outcome], None]


class Farm:
    """Measures networks by sending requests through a broker; what the history knows is not measured again,
    unless it is a failure that may end better another time.

    `requests` is the queue of the search's super-network. `check` is called while results are awaited, and raises if
    none can come any more.
    """

    def __init__(self, search: str, requests: str, broker: Broker, history: History, check: Callable[[], None]) -> None:
        self._requests = requests
        self._results = results_queue(search)
        self._broker = broker
        self._history = history
        self._check = check
        self._items: dict[str, str] = {}

    def measure(
        self, requests: Sequence[EvaluationRequest], observed: Observed, tolerant: bool = False
    ) -> list[Outcome]:
        """The outcome of every request, in their order; `observed` is told of each as soon as it is there.

        Raises UserError if the request itself is bad, or if evaluators don't agree on what the items are. With
        `tolerant` a bad request is a failure like others, and no failure is final: the next run tries it again.
        """
        known: dict[str, Outcome] = {}
        waiting: dict[str, EvaluationRequest] = {}
        for request in requests:
            outcome = self._history.outcome(request.identity)
            again = isinstance(outcome, Failure) and (outcome.retry_may_help or tolerant)
            if outcome is not None and not again:
                self._check_outcome(request, outcome, tolerant)
                self._take(known, request, outcome, observed)
            elif request.identity not in waiting:
                waiting[request.identity] = request
                self._broker.publish(self._requests, request.model_dump_json().encode(), self._results)
        while waiting:
            delivery = self._broker.receive(self._results, POLL_SECONDS)
            if delivery is None:
                self._check()
                continue
            result = read_result(self._broker, delivery)
            if result is None:
                continue
            answered = waiting.pop(result.identity, None)
            if answered is not None:  # otherwise a second copy, which says nothing new
                self._check_outcome(answered, result.outcome, tolerant)
                self._history.add_result(answered, result)
                self._take(known, answered, result.outcome, observed)
            delivery.ack()
        return [known[request.identity] for request in requests]

    @staticmethod
    def _take(known: dict[str, Outcome], request: EvaluationRequest, outcome: Outcome, observed: Observed) -> None:
        known[request.identity] = outcome
        observed(request, outcome)

    def _check_outcome(self, request: EvaluationRequest, outcome: Outcome, tolerant: bool) -> None:
        """Refuse, before it is stored, what says nothing about the network.

        A bad request would be bad for every network. And networks may only be compared on the same items: prompts,
        choices and data must not change under a search.
        """
        if isinstance(outcome, Failure):
            if outcome.kind == "bad_request" and not tolerant:
                raise UserError(outcome.reason)
            return
        for asked, scores in zip(request.spec.tasks, outcome.scores, strict=True):
            if self._items.setdefault(asked.model_dump_json(), scores.items_digest) != scores.items_digest:
                raise UserError(
                    f"tasks.{asked.task}: its data or prompts differ from those of earlier measurements of this "
                    "search; restore them (NASFARM_DATA, lm-eval's version), or change `name` to begin a new search"
                )
