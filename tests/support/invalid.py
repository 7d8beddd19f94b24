"""Measurements that look like some and are no answers to their requests."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from shared.messages import EvaluationRequest, Measurement
from tests.support.pretending import pretend


def with_scores(request: EvaluationRequest, **changes: Any) -> Measurement:
    """A measurement whose first task's scores are changed."""
    measured = pretend(request)
    first, *others = measured.scores
    return measured.model_copy(update={"scores": (first.model_copy(update=changes), *others)})


def with_values(request: EvaluationRequest, change: Callable[[Sequence[float]], Sequence[float]]) -> Measurement:
    """A measurement whose values an item are changed."""
    values = pretend(request).scores[0].metrics["acc"]
    return with_scores(request, metrics={"acc": tuple(change(values))})


def unfinite(request: EvaluationRequest) -> Measurement:
    """One item's value is no number."""
    return with_values(request, lambda values: (*values[1:], math.inf))


BROKEN: dict[str, Callable[[EvaluationRequest], Measurement]] = {
    "another metric": lambda request: with_scores(request, metrics={"exact_match": (1.0,)}),
    "no metric": lambda request: with_scores(request, metrics={}),
    "no values": lambda request: with_values(request, lambda values: ()),
    "a value too few": lambda request: with_values(request, lambda values: values[1:]),
    "a value too many": lambda request: with_values(request, lambda values: (*values, 1.0)),
    "a value above 1": lambda request: with_values(request, lambda values: (*values[1:], 1.5)),
    "a value below 0": lambda request: with_values(request, lambda values: (*values[1:], -1.0)),
    "an item too few": lambda request: with_scores(request, items=pretend(request).scores[0].items[1:]),
    "a cluster too few": lambda request: with_scores(request, clusters=(0,)),
    "another task": lambda request: with_scores(request, task="another"),
    "no task": lambda request: pretend(request).model_copy(update={"scores": ()}),
    "no parameters": lambda request: pretend(request).model_copy(update={"parameters": 0}),
    "no bytes": lambda request: pretend(request).model_copy(update={"bytes": -1}),
}
"""What an evaluator with another lm-eval, of another release or out of order may answer."""
