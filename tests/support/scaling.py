"""What the farm's benchmark is made of: plans of the example space, a coordinator on a real broker, evaluators."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from services.coordinator.dispatch import Dispatcher
from services.coordinator.evaluators import AnnouncedEvaluators
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.recorder import HistoryRecorder
from services.coordinator.search_metrics import SearchMetrics
from shared.broker import requests_queue, results_queue
from shared.broker.rabbitmq import RabbitBroker, add_queues
from shared.events import Events
from shared.failure_policy import RESULTS_PREFETCH
from shared.manifest import read_network, search_space
from shared.messages import CheckpointRef, EvaluationRequest
from shared.settings import parse_settings
from shared.telemetry.metrics import CoordinatorMetrics
from tests.support.forked import Forked
from tests.support.rabbitmq import RabbitFarm

READY_SECONDS = 300


def example_plan(name: str, supernet: Path, digest: str, items: int, **search: Any) -> SearchPlan:
    """A search of the example space in a super-network of the example's shape."""
    settings = parse_settings(
        {
            "name": name,
            "model": "somewhere",
            "space": {"depths": [30, 29, 28], "mlp_widths": [1536, 1152, 768], "depth_rule": "first"},
            "tasks": [{"name": "plain_facts", "search": {"items": items}, "report": {"items": items}}],
            "search": search,
        },
        "benchmark",
    )
    checkpoint = CheckpointRef(location=str(supernet), digest=digest)
    space = search_space(read_network(supernet), settings.space, tuple(range(29, 0, -1)))
    return SearchPlan(settings, space, checkpoint, checkpoint, "float32")


def some_requests(plan: SearchPlan, number: int, seed: int = 0) -> list[EvaluationRequest]:
    """Requests to measure different networks."""
    rng = random.Random(seed)
    networks = dict.fromkeys(plan.space.sample(rng) for _ in range(2 * number))
    return [plan.request(network, "search") for network in list(networks)[:number]]


@contextmanager
def coordinator(
    rabbit: RabbitFarm, plan: SearchPlan, directory: Path, events: Events | None = None
) -> Iterator[tuple[Dispatcher, History]]:
    """A coordinator in this process, with a new history, and its queues; what happens is recorded and counted, then
    published to `events`."""
    name, digest = plan.settings.name, plan.supernet.digest
    add_queues(rabbit.address("operator"), [requests_queue(digest), results_queue(name)])
    with closing(RabbitBroker(rabbit.address("coordinator"), f"search {name}", RESULTS_PREFETCH)) as broker:
        broker.connect()
        with closing(History.create_or_resume(directory / name / "history.sqlite", plan.about())) as history:
            evaluators = AnnouncedEvaluators(broker, digest, lambda others: None)
            events = events or Events()
            events.subscribe(HistoryRecorder(history), first=True)
            events.subscribe(SearchMetrics(CoordinatorMetrics(broker)))
            yield Dispatcher(name, digest, broker, history, events, evaluators), history


def where(rabbit: RabbitFarm, user: str, directory: Path) -> list[str]:
    """The options of a command that say where the broker is, and as whom to go there."""
    credentials = directory / user
    credentials.write_text(f"{user}:{rabbit.node.passwords[user]}\n")
    return ["--broker", f"amqp://127.0.0.1:{rabbit.node.port}/{rabbit.vhost}", "--credentials", str(credentials)]


@contextmanager
def started(*processes: subprocess.Popen[Any] | Forked) -> Iterator[None]:
    """Processes that are ended at last."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_until_said(word: str, logs: Sequence[Path], processes: Sequence[subprocess.Popen[Any] | Forked]) -> None:
    """Wait until each process has written a word to its log."""
    deadline = time.monotonic() + READY_SECONDS
    while not all(word in log.read_text() for log in logs):
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            sys.exit("\n".join(log.read_text()[-2000:] for log in logs))
        time.sleep(0.1)
