from collections.abc import Sequence

import pytest

from services.coordinator.evaluators import (
    REFRESH_SECONDS,
    AnnouncedEvaluators,
    EvaluatorsOfSeveral,
)
from shared.announcements import EvaluatorAnnouncement
from shared.broker import InProcessBroker
from shared.failure_policy import ALONE_SECONDS, IDLE_SECONDS, LOST_SECONDS, PRESENT_SECONDS
from shared.messages import REQUEST_VERSION

NOW = 1_000_000.0
LONG_AGO = NOW - LOST_SECONDS - 1


class CountingBroker(InProcessBroker):
    """Counts how often announcements are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def announced(self, seconds: float) -> list[bytes]:
        self.read += 1
        return super().announced(seconds)


def announcement(
    name: str, state: str = "idle", ago: float = 1.0, idle_for: float = IDLE_SECONDS, **more: object
) -> bytes:
    said = {
        "requests": REQUEST_VERSION,
        "sent_at": NOW - ago,
        "since": NOW - ago - idle_for,
        "supernet": "ours",
        "device": "none",
        **more,
    }
    return EvaluatorAnnouncement.model_validate({"name": name, "state": state, **said}).model_dump_json().encode()


OF_AN_OLDER_RELEASE = (
    b'{"kind": "evaluator", "version": 1, "sent_at": %f, "name": "old", "supernet": "ours", "device": "none", '
    b'"state": "idle", "since": 0, "search": null, "candidate": null, "measured": 3, "failed": 0}' % NOW
)


def listening(announcements: Sequence[bytes]) -> AnnouncedEvaluators:
    broker = InProcessBroker()
    for body in announcements:
        broker.announce(body)
    return AnnouncedEvaluators(broker, "ours", lambda others: None, lambda: NOW)


def test_those_are_counted_who_were_heard_lately_serve_the_super_network_and_did_not_stop() -> None:
    announcements = [
        announcement("idle"),
        announcement("computing", "computing"),
        announcement("draining", "draining"),
        announcement("stopped"),
        announcement("stopped", "stopped"),
        announcement("silent", ago=PRESENT_SECONDS + 1),
        announcement("of another", supernet="another"),
        announcement("of another release", requests=REQUEST_VERSION + 1),
        OF_AN_OLDER_RELEASE,
        b'{"kind": "search"}',
        b"nothing",
    ]
    assert listening(announcements).number == 3


def test_of_several_super_networks_a_request_is_lost_where_its_own_evaluators_are_idle() -> None:
    broker, alone = InProcessBroker(), list[str]()
    for body in (announcement("one"), announcement("busy", "computing", supernet="theirs", candidates=("c",))):
        broker.announce(body)
    now = NOW
    of_each = {
        supernet: AnnouncedEvaluators(broker, supernet, lambda _, its=supernet: alone.append(its), lambda: now)  # type: ignore[misc]
        for supernet in ("ours", "theirs", "nobody's")
    }
    evaluators = EvaluatorsOfSeveral(of_each, "ours", {"b": "theirs", "c": "theirs", "d": "nobody's"})
    assert evaluators.number == 2
    assert evaluators.lost(dict.fromkeys("abcd", LONG_AGO)) == ["a"]
    now += ALONE_SECONDS + 1
    for body in (announcement("one", ago=-ALONE_SECONDS), announcement("busy", supernet="theirs", ago=-ALONE_SECONDS)):
        broker.announce(body)
    evaluators.check()
    assert alone == ["nobody's"]


def test_who_waits_is_told_how_many_evaluators_are_of_another_release() -> None:
    broker, now, others = InProcessBroker(), NOW, list[int]()
    for body in (announcement("newer", requests=REQUEST_VERSION + 1, more="than we know"), OF_AN_OLDER_RELEASE):
        broker.announce(body)
    evaluators = AnnouncedEvaluators(broker, "ours", others.append, lambda: now)
    now += ALONE_SECONDS + 1
    evaluators.check()
    assert others == [2]


def test_announcements_are_read_no_more_often_than_every_second() -> None:
    broker, now = CountingBroker(), NOW
    evaluators = AnnouncedEvaluators(broker, "ours", lambda others: None, lambda: now)
    assert evaluators.number == 0
    broker.announce(announcement("new"))
    assert evaluators.number == 0 and broker.read == 1
    now += REFRESH_SECONDS
    assert evaluators.number == 1 and broker.read == 2


def test_who_has_had_no_evaluator_for_a_while_is_told_once_each_time() -> None:
    broker, now, told_at = InProcessBroker(), NOW, list[float]()
    evaluators = AnnouncedEvaluators(broker, "ours", lambda others: told_at.append(now), lambda: now)
    for now in (NOW, NOW + ALONE_SECONDS, NOW + ALONE_SECONDS + 1, NOW + 100 * ALONE_SECONDS):  # noqa: B007  # read above
        evaluators.check()
    assert told_at == [NOW + ALONE_SECONDS + 1]
    broker.announce(announcement("came", ago=-101 * ALONE_SECONDS))
    for now in (NOW + 101 * ALONE_SECONDS, NOW + 200 * ALONE_SECONDS, NOW + 201 * ALONE_SECONDS):  # noqa: B007
        evaluators.check()
    assert told_at[1:] == [NOW + 200 * ALONE_SECONDS]


def test_a_request_is_lost_when_somebody_has_waited_in_vain_for_a_while_and_nobody_computes_it() -> None:
    evaluators = listening([announcement("idle"), announcement("busy", "computing", candidates=("b",))])
    assert evaluators.lost({"a": LONG_AGO, "b": LONG_AGO}) == ["a"]


@pytest.mark.parametrize(
    "announcements",
    [
        [],
        [announcement("busy", "computing", candidates=("another",))],
        [announcement("busy", "draining", candidates=("another",))],
        [announcement("pausing", "pausing")],
        [announcement("idle", idle_for=IDLE_SECONDS - 1)],
        [announcement("gone", ago=PRESENT_SECONDS + 1)],
        [announcement("gone"), announcement("gone", "stopped")],
        [announcement("idle"), announcement("has it", "computing", candidates=("other", "a"))],
        [announcement("idle"), announcement("has it and is to leave", "draining", candidates=("a",))],
        [announcement("serves another", supernet="another")],
        [announcement("of another release", requests=REQUEST_VERSION + 1)],
    ],
)
def test_nothing_is_lost_as_long_as_it_may_be_in_the_queue_or_in_work(announcements: list[bytes]) -> None:
    assert listening(announcements).lost({"a": LONG_AGO}) == []


def test_a_request_that_was_just_sent_is_not_lost() -> None:
    evaluators = listening([announcement("idle", ago=0)])
    assert evaluators.lost({"a": NOW - LOST_SECONDS, "b": NOW}) == []
