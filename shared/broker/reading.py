"""From a delivery to what it says. What says nothing is set aside with the reason; nobody stops for it."""

import logging
from typing import TypeVar

import pydantic_core
from pydantic import ValidationError

from shared.broker.protocol import DELIVERY_LIMIT, MAX_MESSAGE_BYTES, Broker, Delivery, results_queue
from shared.messages import EvaluationRequest, EvaluationResult, Failure, StopSearch

logger = logging.getLogger(__name__)

M = TypeVar("M", EvaluationRequest, EvaluationResult, StopSearch)

VERSION = 1
"""The version of messages that this nasfarm writes and reads."""
REASON_CHARACTERS = 300
"""A reason is for people to read: no longer than this."""


def read_request(broker: Broker, delivery: Delivery) -> EvaluationRequest | None:
    """The request that was delivered; None if it was none, and then it is set aside."""
    try:
        return _parse(EvaluationRequest, _readable(delivery))
    except ValueError as problem:
        _set_aside(broker, delivery, problem)
        return None


def read_result(broker: Broker, delivery: Delivery) -> EvaluationResult | StopSearch | None:
    """The result that was delivered, or the wish that the search end; None if it was neither, and then it is set aside.

    A request that comes back as a dead letter is a result too: its evaluators crashed, or didn't understand it.
    """
    if delivery.dead is not None:
        return _failed(delivery, delivery.dead)
    try:
        return _parse(EvaluationResult, _readable(delivery))
    except ValueError as problem:
        wish = None if delivery.unreadable else _wish_to_stop(delivery.body)
        if wish is not None and delivery.queue == results_queue(wish.search):
            return wish
        misplaced = ValueError("misplaced: the wish that another search stop")
        _set_aside(broker, delivery, problem if wish is None else misplaced)
        return None


def identity_in(body: bytes) -> str | None:
    """The request that a message answers, though it can't be read; None where it doesn't say."""
    try:
        content = pydantic_core.from_json(body) if len(body) <= MAX_MESSAGE_BYTES else None
    except ValueError:
        return None
    identity = content.get("identity") if isinstance(content, dict) else None
    return identity if isinstance(identity, str) else None


def _set_aside(broker: Broker, delivery: Delivery, problem: ValueError) -> None:
    logger.warning("message %s in %s set aside: %s", delivery.identity, delivery.queue, problem)
    delivery.set_aside(str(problem))


def _wish_to_stop(body: bytes) -> StopSearch | None:
    try:
        return _parse(StopSearch, body)
    except ValueError:
        return None


def _readable(delivery: Delivery) -> bytes:
    """The message's body. Raises ValueError where what comes with it can't be decoded."""
    if delivery.unreadable is not None:
        raise ValueError(delivery.unreadable)
    return delivery.body


def _parse(kind: type[M], body: bytes) -> M:
    """The message. Raises ValueError that says why it is none."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"oversized: {len(body):,} bytes, {MAX_MESSAGE_BYTES:,} are the most")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise ValueError(_problem(body, error)[:REASON_CHARACTERS]) from error


def _problem(body: bytes, error: ValidationError) -> str:
    try:
        content = pydantic_core.from_json(body)
    except ValueError as no_json:
        return f"malformed: no JSON ({no_json})"
    if isinstance(content, dict) and content.get("version", VERSION) != VERSION:
        return f"unknown version: this nasfarm reads version {VERSION}, not {content['version']!r}"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(step) for step in first["loc"])
    return f"malformed: {field}: {first['msg']}" if field else f"malformed: {first['msg']}"


def _failed(delivery: Delivery, reason: str) -> EvaluationResult | None:
    """The failure that a dead letter stands for."""
    try:
        request = _parse(EvaluationRequest, delivery.body)
    except ValueError as problem:
        # It lies among the dead letters already, with the reason that its evaluator gave.
        logger.warning("dead letter %s dropped: %s", delivery.identity, problem)
        delivery.ack()
        return None
    if reason == "delivery_limit":
        reason = f"{DELIVERY_LIMIT + 1} evaluators died of it, or were killed: see their logs"
        failure = Failure(kind="crashed", reason=reason, retry_may_help=False)
    else:
        failure = Failure(kind="bad_request", reason=f"refused by an evaluator: {reason}", retry_may_help=False)
    return EvaluationResult(identity=request.identity, search=request.search, outcome=failure)
