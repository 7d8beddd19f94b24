"""Requests that are waited for together, and those of their outcomes that are there."""

from collections.abc import Sequence

from shared.messages import EvaluationRequest, Outcome


class RequestBatch:
    """Requests and their outcomes; more requests may be added.

    With `tolerant` a bad request is a failure like others, and no failure is final: the next run tries it again.
    """

    def __init__(self, tolerant: bool) -> None:
        self.tolerant = tolerant
        self.requests: dict[str, EvaluationRequest] = {}
        self._order: list[str] = []
        self._outcomes: dict[str, Outcome] = {}

    def add(self, requests: Sequence[EvaluationRequest]) -> None:
        """Wait for these, too."""
        self.requests |= {request.identity: request for request in requests}
        self._order += [request.identity for request in requests]

    @property
    def answered(self) -> int:
        """How many requests have their outcome."""
        return len(self._outcomes)

    @property
    def unanswered(self) -> int:
        """How many requests have no outcome yet."""
        return len(self.requests) - self.answered

    @property
    def done(self) -> bool:
        """Whether every request has its outcome."""
        return not self.unanswered

    @property
    def arrived(self) -> list[Outcome]:
        """The outcomes that are there, in the order in which they came."""
        return list(self._outcomes.values())

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcome of every request, in their order, once it is done."""
        return [self._outcomes[identity] for identity in self._order]

    def settle(self, request: EvaluationRequest, outcome: Outcome) -> None:
        """One of the requests has its outcome."""
        self._outcomes[request.identity] = outcome
