"""Requests that are waited for together, and those of their outcomes that are there."""

from collections.abc import Sequence

from shared.messages import EvaluationRequest, Outcome


class RequestBatch:
    """Requests and their outcomes.

    With `tolerant` a bad request is a failure like others, and no failure is final: the next run tries it again.
    """

    def __init__(self, requests: Sequence[EvaluationRequest], tolerant: bool) -> None:
        self.tolerant = tolerant
        self.requests = {request.identity: request for request in requests}
        self._order = [request.identity for request in requests]
        self._outcomes: dict[str, Outcome] = {}

    @property
    def done(self) -> bool:
        """Whether every request has its outcome."""
        return len(self._outcomes) == len(self.requests)

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcome of every request, in their order, once it is done."""
        return [self._outcomes[identity] for identity in self._order]

    def settle(self, request: EvaluationRequest, outcome: Outcome) -> None:
        """One of the requests has its outcome."""
        self._outcomes[request.identity] = outcome
