"""Whatever comes in a queue is read or rejected with a reason, and whoever received it continues."""

import json
import logging
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from shared.architecture import dense
from shared.broker import (
    DEAD_LETTERS,
    MAX_MESSAGE_BYTES,
    Broker,
    Delivery,
    InProcessBroker,
    identity_in,
    read_requests,
    read_results,
    results_queue,
)
from shared.messages import (
    EvaluationRequest,
    EvaluationResult,
    Failure,
    FailureKind,
    JointRequest,
    Message,
    StopSearch,
)
from tests.support.searches import SHAPE, pretend, small_plan

REQUEST = small_plan().request(dense(SHAPE), "search")
QUEUE = results_queue("small")
OTHER = small_plan().request(small_plan().space.smallest(), "search")
JOINT = JointRequest.of([REQUEST, OTHER])
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
        (b"{}", "malformed: Unable to extract tag using discriminator 'kind'"),
        (b'{"kind": "request"}', "malformed: request.search: Field required"),
        (JOINT.model_copy(update={"architectures": (dense(SHAPE),)}).model_dump_json().encode(), "malformed: req"),
        (JOINT.model_copy(update={"architectures": (dense(SHAPE),) * 9}).model_dump_json().encode(), "malformed: req"),
        (b'{"version": 6}', "unknown version: this nasfarm reads version 5, not 6"),
        (b'{"version": "' + b"x" * 10_000 + b'"}', "unknown version: this nasfarm reads version 5, not 'xxx"),
        (
            REQUEST.model_copy(update={"version": 1}).model_dump_json().encode(),
            "unknown version: this nasfarm reads version 5, not 1",
        ),
    ],
)
def test_a_message_that_can_t_be_read_is_rejected_with_its_reason(body: bytes, reason: str) -> None:
    broker = InProcessBroker()
    assert read_requests(broker, delivered(broker, body)) == ()
    kept = broker.receive(DEAD_LETTERS, 1)
    assert kept is not None and kept.body == body and kept.dead is not None
    assert kept.dead.startswith(reason) and len(kept.dead) <= 300 and "\n" not in kept.dead
    assert broker.counters.rejected == 1


def test_an_oversized_message_is_rejected_unread() -> None:
    delivery_reasons: list[str] = []
    delivery = Delivery(
        "q", b" " * (MAX_MESSAGE_BYTES + 1), "1", 1, None, None, lambda: None, lambda: None, delivery_reasons.append
    )
    assert read_results(InProcessBroker(), delivery) == ()
    assert delivery_reasons == ["oversized: 8,388,609 bytes, 8,388,608 are the most"]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("delivery_limit", "dead_lettered"), ("malformed: x", "bad_request"), ("unknown version: x", "unavailable")],
)
def test_a_dead_letter_is_the_failure_of_its_request(reason: str, kind: FailureKind) -> None:
    delivery = Delivery(
        "q", REQUEST.model_dump_json().encode(), "1", 1, reason, None, lambda: None, lambda: None, lambda why: None
    )
    (result,) = read_results(InProcessBroker(), delivery)
    assert isinstance(result, EvaluationResult) and isinstance(result.outcome, Failure)
    assert (result.identity, result.search, result.together) == (REQUEST.identity, REQUEST.search, 1)
    assert result.outcome.kind == kind
    results = read_results(InProcessBroker(), replace(delivery, body=JOINT.model_dump_json().encode()))
    assert [each.identity for each in results if isinstance(each, EvaluationResult)] == [
        REQUEST.identity,
        OTHER.identity,
    ]
    for each in results:
        assert isinstance(each, EvaluationResult) and isinstance(each.outcome, Failure)
        assert (each.outcome.kind, each.together) == (kind, 2)


BODIES: dict[str, tuple[Callable[[Broker, Delivery], object], Message]] = {
    "request": (read_requests, REQUEST),
    "request of several networks": (read_requests, JOINT),
    "result": (read_results, RESULT),
    "stop": (read_results, STOP),
    "result of an older release": (read_results, RESULT.model_copy(update={"version": 1})),
}
MAY = {
    "request": {"coordinator"},
    "request of several networks": {"coordinator"},
    "result": {"evaluator"},
    "stop": {"operator"},
    "result of an older release": {"evaluator", ""},
}


@pytest.mark.parametrize("user", ["coordinator", "evaluator", "operator", "monitoring", "stranger", "", None])
@pytest.mark.parametrize("what", BODIES)
def test_only_who_may_say_something_is_believed(what: str, user: str | None) -> None:
    read, message = BODIES[what]
    broker = InProcessBroker()
    delivery = replace(delivered(broker, message.model_dump_json().encode()), sender=user)
    if user in {*MAY[what], None}:
        assert read(broker, delivery) == (message.each if isinstance(message, JointRequest) else (message,))
        return
    assert read(broker, delivery) == ()
    kept = broker.receive(DEAD_LETTERS, 0)
    assert kept is not None and kept.dead is not None
    assert kept.dead.startswith("forbidden: ") and f"from user {user or 'unknown'}; only the " in kept.dead


@pytest.mark.parametrize("user", ["operator", "monitoring", "stranger", ""])
def test_a_dead_letter_from_who_makes_none_says_nothing(user: str) -> None:
    broker = InProcessBroker()
    delivery = delivered(broker, REQUEST.model_dump_json().encode())
    assert read_results(broker, replace(delivery, sender=user, dead="malformed: x")) == ()
    assert read_results(broker, replace(delivery, sender="coordinator", dead="delivery_limit")) != ()
    assert read_results(broker, replace(delivery, sender="evaluator", dead="malformed: x")) != ()


def test_a_request_that_was_forged_is_no_failure_of_the_real_one() -> None:
    broker = InProcessBroker()
    delivery = replace(delivered(broker, REQUEST.model_dump_json().encode()), sender="evaluator")
    assert read_requests(broker, delivery) == ()
    told = broker.receive("answers", 0)
    assert told is not None and told.dead is not None and read_results(broker, told) == ()


@pytest.mark.parametrize(("user", "identity"), [("evaluator", "a"), (None, "a"), ("coordinator", None), ("", None)])
def test_what_cannot_be_read_answers_a_request_only_if_an_evaluator_says_it(
    user: str | None, identity: str | None
) -> None:
    delivery = delivered(InProcessBroker(), b'{"identity": "a", "outcome": null}')
    assert identity_in(replace(delivery, sender=user)) == identity


def fuzzed(chance: random.Random) -> bytes:
    """A message with some of its bytes or values changed, or something else altogether."""
    body = chance.choice((REQUEST, JOINT, RESULT, STOP)).model_dump_json().encode()
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
            messages = (read_requests if chance.random() < 0.5 else read_results)(broker, delivery)
            if not messages:
                unreadable += 1
                continue
            read += 1
            delivery.ack()
            for message in messages:
                assert message.model_dump_json()
                if isinstance(message, EvaluationRequest):
                    assert message.identity and message.architecture.digest
    assert broker.counters.rejected == unreadable > 1000 and read > 100
    dead = [broker.receive(DEAD_LETTERS, 0) for _ in range(unreadable)]
    assert all(delivery is not None and delivery.dead for delivery in dead)
    assert broker.receive(DEAD_LETTERS, 0) is None
    assert len(caplog.records) == unreadable and not any(record.exc_info for record in caplog.records)
