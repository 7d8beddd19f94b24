"""What is announced is heard again after whatever happened to the broker, and each announcement once."""

import time
from collections.abc import Callable

import pytest

from shared.broker import ANNOUNCEMENTS, QueueMissingError
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.topology import definitions
from tests.support.forwarding import forwarder
from tests.support.poison import FAR, publish_poison
from tests.support.rabbitmq import Join, Node, RabbitFarm

FLUSHED_SECONDS = 1.0
"""A stream isn't flushed to the disk with each message, and doesn't say when: age is what must pass here."""


def heard(listener: RabbitBroker, body: bytes, again: Callable[[], None] = lambda: None) -> list[bytes]:
    """What the listener heard, once it hears `body`; `again` is called until then."""
    deadline = time.monotonic() + 120
    while body not in (bodies := listener.announced(200)):
        assert time.monotonic() < deadline, f"{body!r} was not heard"
        again()
        time.sleep(0.1)
    return bodies


def heard_first(speaker: RabbitBroker, listener: RabbitBroker) -> list[bytes]:
    """What the listener heard, once what the speaker announces gets there. Of announcements, which are not confirmed,
    one may be lost: services repeat theirs."""
    heard(listener, b"first", again=lambda: speaker.announce(b"first"))
    speaker.announce(b"second")  # in a stream's order: no repeated one comes after it
    return heard(listener, b"second")


def test_a_broker_that_was_killed_still_has_the_stream_and_its_listener_goes_on_where_it_was(
    node: Node, join: Join
) -> None:
    speaker, listener = join("evaluator"), join("coordinator")
    first, numbers = heard_first(speaker, listener), [str(number).encode() for number in range(20)]
    for body in numbers:
        speaker.announce(body)
    before = [*first, *numbers]
    assert heard(listener, before[-1]) == before
    time.sleep(FLUSHED_SECONDS)
    node.kill()
    speaker.announce(b"nobody is there")
    node.start()
    after = heard(listener, b"after", lambda: speaker.announce(b"after"))
    assert after[: len(before)] == before and set(after[len(before) :]) == {b"after"}
    assert heard(join("operator"), b"after")[: len(after)] == after
    assert listener.counters.reconnects == 1


def test_a_listener_whose_connection_was_lost_hears_what_was_said_meanwhile(
    node: Node, farm: RabbitFarm, join: Join
) -> None:
    speaker = join("evaluator")
    with forwarder(node.port) as way:
        listener = RabbitBroker(farm.address("coordinator", way.port), "listener")
        try:
            before = heard_first(speaker, listener)
            way.close_connections()
            for number in range(5):
                speaker.announce(str(number).encode())
            assert heard(listener, b"4") == [*before, b"0", b"1", b"2", b"3", b"4"]
            assert listener.counters.reconnects == 1
        finally:
            listener.close()


def test_what_is_announced_just_before_leaving_is_heard(join: Join) -> None:
    speaker, listener = join("evaluator"), join("coordinator")
    before = heard_first(speaker, listener)
    speaker.announce(b"last")
    speaker.close()
    assert heard(listener, b"last") == [*before, b"last"]


def test_a_stream_that_is_missing_is_named_and_read_again_once_it_is_declared_again(
    node: Node, farm: RabbitFarm, join: Join
) -> None:
    speaker, listener = join("evaluator"), join("coordinator")
    before = [*heard_first(speaker, listener), *(f"before {number}".encode() for number in range(20))]
    for body in before[-20:]:
        speaker.announce(body)
    heard(listener, before[-1])
    node.http("DELETE", f"/api/queues/{farm.vhost}/{ANNOUNCEMENTS}")
    with pytest.raises(QueueMissingError, match="announcements: the broker has no such stream; load the farm's defin"):
        heard(listener, b"never said")
    held = definitions(node.passwords, farm.vhost)
    node.http("POST", "/api/definitions", {key: value for key, value in held.items() if key != "users"})
    speaker.announce(b"after")
    assert heard(listener, b"after") == [*before, b"after"]


def test_an_announcement_that_cannot_be_decoded_is_passed_over_once_and_hides_no_other(
    farm: RabbitFarm, join: Join
) -> None:
    speaker, listener = join("evaluator"), join("coordinator")
    before = heard_first(speaker, listener)
    publish_poison(farm.address("evaluator"), ANNOUNCEMENTS, ANNOUNCEMENTS, FAR, b"poison")
    speaker.announce(b"after")
    assert heard(listener, b"after") == [*before, b"after"]
    assert (listener.counters.skipped, listener.counters.reconnects) == (1, 0)
    assert heard(join("monitoring"), b"after") == [*before, b"after"]
