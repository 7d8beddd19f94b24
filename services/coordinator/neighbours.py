"""Which networks are asked for together: those that agree in many of their first layers, which are then computed once
(`shared.supernet.layer_tree`)."""

from collections.abc import Sequence
from itertools import pairwise

from shared.messages import EvaluationRequest


def divided(requests: Sequence[EvaluationRequest], most: int) -> list[list[EvaluationRequest]]:
    """Requests in groups of at most `most`, so that few layers are computed.

    In the order of their layers, networks that agree in many are next to each other. That order is cut into groups
    where the least is lost: a cut costs as many layers as the networks on both sides have in common.
    """
    ordered = sorted(requests, key=lambda request: request.architecture.layer_choices)
    paths = [request.architecture.layer_choices for request in ordered]
    lost = [0, *(_in_common(one, other) for one, other in pairwise(paths))]
    least, begins = [0], [0]  # of the first so many requests: layers lost at best, and where their last group begins
    for end in range(1, len(ordered) + 1):
        cost, begin = min((least[begin] + lost[begin], begin) for begin in range(max(0, end - most), end))
        least.append(cost)
        begins.append(begin)
    groups: list[list[EvaluationRequest]] = []
    end = len(ordered)
    while end:
        groups.append(ordered[begins[end] : end])
        end = begins[end]
    return groups[::-1]


def _in_common(one: Sequence[tuple[int, ...]], other: Sequence[tuple[int, ...]]) -> int:
    """First layers that two networks have in common."""
    return next(
        (depth for depth, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs),
        min(len(one), len(other)),
    )
