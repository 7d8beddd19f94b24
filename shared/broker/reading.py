"""Parsing deliveries. What can't be read, or comes from who may not send it, is rejected with the reason, so that it is
a dead letter; whoever received it continues."""

import logging
from typing import TypeVar

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from shared.broker.protocol import (
    COORDINATOR,
    EVALUATOR,
    MAX_MESSAGE_BYTES,
    OPERATOR,
    Broker,
    Delivery,
    results_queue,
)
from shared.failure_policy import DELIVERY_LIMIT
from shared.messages import (
    REQUEST_VERSION,
    CoordinatorMessage,
    EvaluationRequest,
    EvaluationResult,
    EvaluatorMessage,
    Failure,
    JointRequest,
    StopSearch,
)
from shared.text import one_line

logger = logging.getLogger(__name__)

M = TypeVar("M")

REQUESTS: TypeAdapter[EvaluationRequest | JointRequest] = TypeAdapter(EvaluatorMessage)
RESULTS: TypeAdapter[EvaluationResult | StopSearch] = TypeAdapter(CoordinatorMessage)

UNSIGNED_VERSION = 1
"""Results of this version come from a release that sent no user: only evaluators may publish to that exchange."""
FORBIDDEN, UNKNOWN_VERSION = "forbidden", "unknown version"
"""How a reason begins that says nothing about the request."""
REASON_CHARACTERS = 300
"""A reason is for people to read: no longer than this."""


def read_requests(broker: Broker, delivery: Delivery) -> tuple[EvaluationRequest, ...]:
    """The requests that were delivered in one message, one or several; none if it was none, or no coordinator's, and
    then it is rejected."""
    try:
        message = _parse(REQUESTS, _readable(delivery))
        if message.version != REQUEST_VERSION:
            raise ValueError(_unknown_version(message.version))
        _check_sender(delivery, COORDINATOR, "a request")
        return _each(message)
    except ValueError as problem:
        _reject(broker, delivery, problem)
        return ()


def read_results(broker: Broker, delivery: Delivery) -> tuple[EvaluationResult | StopSearch, ...]:
    """The result that was delivered, or the request to stop the search; none if it was neither, or not sent by an
    evaluator or an operator, and then it is rejected.

    Requests that come back as a dead letter are results too, each one: their evaluators crashed, or couldn't read it.
    """
    if delivery.dead is not None:
        return _failures_of_dead_letter(delivery, delivery.dead)
    try:
        message = _parse(RESULTS, _readable(delivery))
        _check_may_say(delivery, message)
        return (message,)
    except ValueError as problem:
        _reject(broker, delivery, problem)
        return ()


def identity_in(delivery: Delivery) -> str | None:
    """The identity of the request that an evaluator's message answers, though the message can't be read; None where it
    doesn't say."""
    if delivery.sender not in (EVALUATOR, None):
        return None
    body = delivery.body
    try:
        content = pydantic_core.from_json(body) if len(body) <= MAX_MESSAGE_BYTES else None
    except ValueError:
        return None
    identity = content.get("identity") if isinstance(content, dict) else None
    return identity if isinstance(identity, str) else None


def _each(message: EvaluationRequest | JointRequest) -> tuple[EvaluationRequest, ...]:
    return message.each if isinstance(message, JointRequest) else (message,)


def _reject(broker: Broker, delivery: Delivery, problem: ValueError) -> None:
    logger.warning("message %s in %s rejected: %s", delivery.identity, delivery.queue, problem)
    delivery.reject(str(problem))


def _check_sender(delivery: Delivery, user: str, what: str) -> None:
    """Raises ValueError if another than `user` sent it. Within one process there are no users."""
    if delivery.sender not in (user, None):
        raise ValueError(f"{FORBIDDEN}: {what}, from user {delivery.sender or 'unknown'}; only the {user} may")


def _check_may_say(delivery: Delivery, message: EvaluationResult | StopSearch) -> None:
    """Raises ValueError for a result or a request to stop from who may not send it, or in another search's queue."""
    if isinstance(message, StopSearch):
        _check_sender(delivery, OPERATOR, "a request to stop the search")
        if delivery.queue != results_queue(message.search):
            raise ValueError("misplaced: a request to stop another search")
    elif message.version != UNSIGNED_VERSION or delivery.sender != "":
        _check_sender(delivery, EVALUATOR, "a result")


def _readable(delivery: Delivery) -> bytes:
    """The message's body. Raises ValueError where what comes with it can't be decoded."""
    if delivery.unreadable is not None:
        raise ValueError(delivery.unreadable)
    return delivery.body


def _parse(kind: TypeAdapter[M], body: bytes) -> M:
    """The message. Raises ValueError that says why it is none."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"oversized: {len(body):,} bytes, {MAX_MESSAGE_BYTES:,} are the most")
    try:
        return kind.validate_json(body)
    except ValidationError as error:
        raise ValueError(one_line(_problem(body, error))[:REASON_CHARACTERS]) from error


def _problem(body: bytes, error: ValidationError) -> str:
    try:
        content = pydantic_core.from_json(body)
    except ValueError as no_json:
        return f"malformed: no JSON ({no_json})"
    if isinstance(content, dict) and content.get("version", REQUEST_VERSION) != REQUEST_VERSION:
        return _unknown_version(content["version"])
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(step) for step in first["loc"])
    return f"malformed: {field}: {first['msg']}" if field else f"malformed: {first['msg']}"


def _unknown_version(version: object) -> str:
    return f"{UNKNOWN_VERSION}: this nasfarm reads version {REQUEST_VERSION}, not {version!r}"


def _failures_of_dead_letter(delivery: Delivery, reason: str) -> tuple[EvaluationResult, ...]:
    """The failures that a dead letter stands for; none for one that says nothing about a request of ours.

    The broker itself dead-letters a coordinator's request that came back too often, and keeps its sender.
    """
    try:
        if delivery.sender not in (EVALUATOR, COORDINATOR, None) or reason.startswith(FORBIDDEN):
            raise ValueError(f"{reason}, says user {delivery.sender or 'unknown'}")
        requests = _each(_parse(REQUESTS, delivery.body))
    except ValueError as problem:
        # It is in the queue of dead letters, too, with the reason that its evaluator gave.
        logger.warning("dead letter %s dropped: %s", delivery.identity, problem)
        delivery.ack()
        return ()
    if reason == "delivery_limit":
        reason = f"{DELIVERY_LIMIT + 1} evaluators crashed at it, or were killed: see their logs"
        failure = Failure(kind="dead_lettered", reason=reason)
    else:
        other_release = reason.startswith(UNKNOWN_VERSION)  # another evaluator may be of ours
        reason = f"refused by an evaluator: {reason}"
        failure = Failure(kind="unavailable" if other_release else "bad_request", reason=reason)
    return tuple(
        EvaluationResult(identity=request.identity, search=request.search, outcome=failure, together=len(requests))
        for request in requests
    )
