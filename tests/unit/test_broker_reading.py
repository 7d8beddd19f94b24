"""Whatever comes in a queue is read or set aside with a reason; nobody stops for it."""

import json
import logging
import random

import pytest

from shared.architecture import dense
from shared.broker import (
    DEAD_LETTERS,
    MAX_MESSAGE_BYTES,
    Delivery,
    InProcessBroker,
    read_request,
    read_result,
    results_queue,
)
from shared.messages import EvaluationRequest, EvaluationResult, Failure, StopSearch
from tests.support.searches import SHAPE, pretend, small_plan

REQUEST = small_plan().request(dense(SHAPE), "search")
QUEUE = results_queue("small")
STOP = StopSearch(search="small")
RESULT = EvaluationResult(identity=REQUEST.identity, search="small", outcome=pretend(REQUEST))


def delivered(broker: InProcessBroker, body: bytes) -> Delivery:
    broker.publish(QUEUE, body, answer_to="answers")
    delivery = broker.receive(QUEUE, 1)
    assert delivery is not None
    return delivery


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "malformed: no JSON"),
        (b"\xff\xfe", "malformed: no JSON"),
        (b"[" * 100_000, "malformed: no JSON"),
        (b"[]", "malformed: Input should be an object"),
        (b"{}", "malformed: search: Field required"),
        (b'{"version": 2}', "unknown version: this nasfarm reads version 1, not 2"),
        (b'{"version": "' + b"x" * 10_000 + b'"}', "unknown version: this nasfarm reads version 1, not 'xxx"),
    ],
)
def test_a_message_that_can_t_be_read_is_set_aside_with_its_reason(body: bytes, reason: str) -> None:
    broker = InProcessBroker()
    assert read_request(broker, delivered(broker, body)) is None
    kept = broker.receive(DEAD_LETTERS, 1)
    assert kept is not None and kept.body == body and kept.dead is not None
    assert kept.dead.startswith(reason) and len(kept.dead) <= 300 and "\n" not in kept.dead
    assert broker.counters.set_aside == 1


def test_an_oversized_message_is_set_aside_unread() -> None:
    delivery_reasons: list[str] = []
    delivery = Delivery(
        "q", b" " * (MAX_MESSAGE_BYTES + 1), "1", 1, None, None, lambda: None, lambda: None, delivery_reasons.append
    )
    assert read_result(InProcessBroker(), delivery) is None
    assert delivery_reasons == ["oversized: 8,388,609 bytes, 8,388,608 are the most"]


@pytest.mark.parametrize(
    ("reason", "kind", "again"), [("delivery_limit", "crashed", False), ("malformed: x", "bad_request", False)]
)
def test_a_dead_letter_is_the_failure_of_its_request(reason: str, kind: str, again: bool) -> None:
    delivery = Delivery(
        "q", REQUEST.model_dump_json().encode(), "1", 1, reason, None, lambda: None, lambda: None, lambda why: None
    )
    result = read_result(InProcessBroker(), delivery)
    assert isinstance(result, EvaluationResult) and isinstance(result.outcome, Failure)
    assert (result.identity, result.search) == (REQUEST.identity, REQUEST.search)
    assert (result.outcome.kind, result.outcome.retry_may_help) == (kind, again)


def fuzzed(chance: random.Random) -> bytes:
    """A message with some of its bytes or values changed, or something else altogether."""
    body = chance.choice((REQUEST, RESULT, STOP)).model_dump_json().encode()
    way = chance.randrange(4)
    if way == 0:
        return chance.randbytes(chance.randrange(200))
    if way == 1:
        return body[: chance.randrange(len(body))]
    if way == 2:
        changed = bytearray(body)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(len(changed))] = chance.choice(b'0123456789-eE.,:{}[]"\\u\x00\xff')
        return bytes(changed)
    content = json.loads(body)
    place = content
    while isinstance(place, dict) and place:  # down to some field, and there something else
        key = chance.choice(list(place))
        if chance.random() < 0.4 or not isinstance(place[key], dict):
            strange = (None, -1, 10**400, 1e308, "\ud800", "x" * 1000, [], {}, [[]], True, {"": {}}, "NaN", "1")
            place[key] = chance.choice(strange)
            break
        place = place[key]
    return json.dumps(content).encode()


def test_ten_thousand_strange_messages_are_read_or_set_aside(caplog: pytest.LogCaptureFixture) -> None:
    chance, broker = random.Random(4), InProcessBroker()
    read = unreadable = 0
    with caplog.at_level(logging.WARNING):
        for _ in range(10_000):
            delivery = delivered(broker, fuzzed(chance))
            message = chance.choice((read_request, read_result))(broker, delivery)
            if message is None:
                unreadable += 1
            else:
                read += 1
                delivery.ack()
                assert message.model_dump_json()
                if isinstance(message, EvaluationRequest):
                    assert message.identity and message.architecture.digest
    assert broker.counters.set_aside == unreadable > 1000 and read > 100
    dead = [broker.receive(DEAD_LETTERS, 0) for _ in range(unreadable)]
    assert all(delivery is not None and delivery.dead for delivery in dead)
    assert broker.receive(DEAD_LETTERS, 0) is None
    assert len(caplog.records) == unreadable and not any(record.exc_info for record in caplog.records)
