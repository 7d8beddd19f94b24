"""What can happen to a farm. Each causes its fault and undoes what doesn't recover by itself; `verdict` judges what
became of the search."""

import resource
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

from pydantic import TypeAdapter

from shared.broker import results_queue
from shared.broker.rabbitmq import RabbitBroker
from shared.failure_policy import CONSUMER_TIMEOUT_SECONDS
from shared.messages import EvaluationRequest, EvaluationResult, Failure, Measurement, Outcome
from tests.chaos.arena import PATIENCE_SECONDS, Arena

Fault = Callable[[Arena, Random], None]

COPIES = 5
"""Messages that come a second time at once."""
OUTCOME: TypeAdapter[Measurement | Failure] = TypeAdapter(Outcome)
CHANNEL_TICK_MILLISECONDS = 60_000
"""How often RabbitMQ looks for consumers that take too long, as it comes."""
MEMORY_WATERMARK = "0.4"
"""Share of the memory over which RabbitMQ blocks publishers, as it comes."""


def evaluator_killed(arena: Arena, rng: Random) -> None:
    """Kill -9, at work or not; another one is started."""
    arena.replace_evaluator(rng.randrange(len(arena.evaluators)))


def evaluator_frozen(arena: Arena, rng: Random) -> None:
    """SIGSTOP, for less than the broker's patience."""
    _freeze(arena, rng, rng.uniform(0.1, 5))


def evaluator_frozen_for_long(arena: Arena, rng: Random) -> None:
    """SIGSTOP, until the broker has given its request to another; then it continues and answers too late."""
    _freeze(arena, rng, rng.uniform(40, 50))


def coordinator_killed(arena: Arena, rng: Random) -> None:
    """Kill -9; the same command continues a little later."""
    arena.kill_coordinator()
    time.sleep(rng.uniform(0, 2))
    arena.start_coordinator()


def broker_killed(arena: Arena, rng: Random) -> None:
    """Kill -9 of the whole node; it is away for a while."""
    arena.farm.settle()
    arena.node.kill()
    time.sleep(rng.uniform(0, 2))
    arena.node.start()


def channel_closed(arena: Arena, rng: Random) -> None:
    """The broker closes the channel of whoever holds a message: it takes too long."""
    _consumer_timeout(arena, 1, 100)
    time.sleep(rng.uniform(0.5, 2))
    _consumer_timeout(arena, CONSUMER_TIMEOUT_SECONDS * 1000, CHANNEL_TICK_MILLISECONDS)


def connection_half_open(arena: Arena, rng: Random) -> None:
    """Nothing arrives any more on one connection, and neither end is told."""
    assert arena.coordinator is not None
    rng.choice([*arena.evaluators, arena.coordinator]).link.go_silent()


def results_doubled(arena: Arena, rng: Random) -> None:
    """Results that were stored long ago come again."""
    with closing(RabbitBroker(arena.farm.address("evaluator"), "chaos")) as broker:
        for request, outcome in _stored(arena, rng):
            result = EvaluationResult(identity=request.identity, search=request.search, outcome=outcome)
            broker.publish(results_queue(arena.run.name), result.model_dump_json().encode())


def requests_doubled(arena: Arena, rng: Random) -> None:
    """Requests that were answered long ago come again, and are answered again."""
    with closing(RabbitBroker(arena.farm.address("coordinator"), "chaos")) as broker:
        for request, _ in _stored(arena, rng):
            broker.publish(arena.requests, request.model_dump_json().encode(), results_queue(request.search))


def request_lost(arena: Arena, rng: Random) -> None:
    """A request is acknowledged by a consumer that never answers."""
    with closing(RabbitBroker(arena.farm.address("evaluator"), "chaos")) as broker:
        for _ in range(rng.choice([1, 2])):
            delivery = broker.receive(arena.requests, 5)
            if delivery is not None:
                delivery.ack()


def broker_alarm(arena: Arena, rng: Random) -> None:
    """The broker has no memory left and blocks publishers for a while."""
    arena.node.control("set_vm_memory_high_watermark", "absolute", "1")
    time.sleep(rng.uniform(1, 4))
    arena.node.control("set_vm_memory_high_watermark", MEMORY_WATERMARK)


def disk_full(arena: Arena, _rng: Random) -> None:
    """The coordinator's files can't grow any more: it ends with one line, and continues when there is room again."""
    assert arena.coordinator is not None
    run, popen = arena.run, arena.coordinator.popen
    room = max(path.stat().st_size for path in run.directory.glob("history.sqlite*"))
    resource.prlimit(popen.pid, resource.RLIMIT_FSIZE, (room, room))
    arena.wait(lambda: popen.poll() is not None, "the end of a coordinator without room")
    if not run.reported:
        assert popen.returncode == 2, arena.coordinator.log.read_text()[-3000:]
    arena.coordinator.link.close()
    arena.start_coordinator()


FAULTS: dict[str, tuple[Fault, int]] = {
    "evaluator killed": (evaluator_killed, 8),
    "evaluator frozen": (evaluator_frozen, 4),
    "evaluator frozen for long": (evaluator_frozen_for_long, 2),
    "coordinator killed": (coordinator_killed, 6),
    "broker killed": (broker_killed, 4),
    "channel closed by the broker": (channel_closed, 4),
    "connection half open": (connection_half_open, 3),
    "results doubled": (results_doubled, 4),
    "requests doubled": (requests_doubled, 4),
    "request lost": (request_lost, 1),
    "broker's memory full": (broker_alarm, 4),
    "coordinator's disk full": (disk_full, 4),
}
"""Every fault by its name, with its weight where they are drawn at random: those that take minutes come less often."""


def _freeze(arena: Arena, rng: Random, seconds: float) -> None:
    frozen = rng.choice(arena.evaluators).popen
    frozen.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    frozen.send_signal(signal.SIGCONT)


def _consumer_timeout(arena: Arena, milliseconds: int, tick: int) -> None:
    settings = {"consumer_timeout": milliseconds, "channel_tick_interval": tick}
    calls = [f"application:set_env(rabbit, {key}, {value})" for key, value in settings.items()]
    arena.node.control("eval", ", ".join(calls) + ".")


def _stored(arena: Arena, rng: Random) -> list[tuple[EvaluationRequest, Measurement | Failure]]:
    """Some of the outcomes that the history holds, and their requests."""
    path: Path = arena.run.directory / "history.sqlite"
    arena.wait(lambda: arena.run.stored > 0, "the first result")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE_SECONDS)) as connection:
        rows = connection.execute("select request, outcome from measurements").fetchall()
    return [
        (EvaluationRequest.model_validate_json(request), OUTCOME.validate_json(outcome))
        for request, outcome in rng.sample(rows, min(COPIES, len(rows)))
    ]
