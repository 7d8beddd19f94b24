"""Evaluators of tests, which answer requests that come together one after the other."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from services.evaluator.progress_callback import ProgressCallback
from shared.messages import EvaluationRequest, EvaluationResult


class OneByOne(ABC):
    """An evaluator that says of a single request how it is answered."""

    @abstractmethod
    def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
        """The answer to a request."""

    def evaluate_together(
        self, requests: Sequence[EvaluationRequest], progressed: ProgressCallback
    ) -> list[EvaluationResult]:
        """The answers to requests, in their order."""
        return [self.evaluate(request, progressed) for request in requests]
