"""The evaluator's service as a real process over a real broker: limits, signals, and a broker that goes away."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pytest

from shared.announcements import EvaluatorAnnouncement
from shared.architecture import Architecture, dense
from shared.broker import Delivery, requests_queue, results_queue
from shared.broker.rabbitmq import QueueDepth, RabbitBroker, queue_depths
from shared.failure_policy import MOST_CRASHES
from shared.messages import EvaluationRequest, EvaluationResult, Failure, JointRequest, Measurement
from tests.support.forked import Forked
from tests.support.forwarding import Forwarder, forwarder
from tests.support.pretending import SHAPE, pretend
from tests.support.rabbitmq import Node, RabbitFarm
from tests.support.searches import small_plan
from tests.support.stand_in import start_stand_in

PATIENCE_SECONDS = 60
NEVER_DONE = ("--hang", "1.0")
NO_MORE = b"no more"
"""Published when no evaluator is left: queues keep the order, so that whatever was answered comes before it."""


@dataclass
class Service:
    """An evaluator that serves the super-network `supernet` for the search `small`, its way to the broker, and the
    coordinator's side."""

    farm: RabbitFarm
    link: Forwarder
    directory: Path
    coordinator: RabbitBroker
    started: list[subprocess.Popen[bytes] | Forked] = field(default_factory=list)

    requests, results = requests_queue("supernet"), results_queue("small")

    @property
    def process(self) -> subprocess.Popen[bytes] | Forked:
        return self.started[-1]

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self, *behaviour: object, **limits: str) -> None:
        credentials = self.directory / "evaluator"
        credentials.write_text(f"evaluator:{self.farm.node.passwords['evaluator']}")
        broker = f"amqp://127.0.0.1:{self.link.port}/{self.farm.vhost}"
        options = ["--broker", broker, "--credentials", credentials, "--digest", "supernet", *behaviour]
        self.started.append(start_stand_in(*options, log=self.directory / "log", forked=True, **limits))

    def ask(self, architecture: Architecture | None = None) -> EvaluationRequest:
        request = small_plan().request(architecture or dense(SHAPE), "search")
        self.coordinator.publish(self.requests, request.model_dump_json().encode(), self.results)
        return request

    def wait(self, moment: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not moment():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, f"the moment never came:\n{self.log}"
            time.sleep(0.02)

    def begin(self, *behaviour: object, **limits: str) -> EvaluationRequest:
        """Have a request computed; returns when it is."""
        self.start(*behaviour, **limits)
        self.wait(lambda: "evaluator ready" in self.log)
        request = self.ask()
        self.wait(lambda: any(request.identity in each.candidates for each in self.told()))
        return request

    def told(self) -> list[EvaluatorAnnouncement]:
        """All that was ever announced, oldest first."""
        return [EvaluatorAnnouncement.model_validate_json(body) for body in self.coordinator.announced(300)]

    def hear(self, state: str) -> None:
        """Wait until that is the last that was announced."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while [each.state for each in self.told()][-1:] != [state]:
            assert time.monotonic() < deadline, f"{state} was never announced:\n{self.log}"
            time.sleep(0.02)

    def ended(self) -> int:
        code = self.process.wait(PATIENCE_SECONDS)
        assert "Traceback" not in self.log
        return code

    def outcomes(self) -> list[Measurement | Failure]:
        """All outcomes in the results, once every evaluator is gone."""
        self.returned()
        with closing(RabbitBroker(self.farm.address("evaluator"), "test")) as broker:
            broker.publish(self.results, NO_MORE)
        found: list[Measurement | Failure] = []
        while (delivery := self.coordinator.receive(self.results, PATIENCE_SECONDS)) is not None:
            delivery.ack()
            if delivery.body == NO_MORE:
                return found
            found.append(EvaluationResult.model_validate_json(delivery.body).outcome)
        raise AssertionError("the results have no end")

    def left(self) -> Delivery | None:
        """What is in the queue of requests, once every evaluator is gone."""
        if self.returned() == 0:
            return None
        with closing(RabbitBroker(self.farm.address("evaluator"), "test")) as broker:
            return broker.receive(self.requests, PATIENCE_SECONDS)

    def restored(self) -> None:
        """Wait until a queue holds again what it held: for a moment after its node has started it says that it is
        empty."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.returned() == 0:
            assert time.monotonic() < deadline, "the queue is empty"
            time.sleep(0.05)

    def returned(self) -> int:
        """How many requests wait, once the broker has taken back what evaluators that are gone had in flight."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (depth := self.depth()).consumers:
            assert time.monotonic() < deadline, f"an evaluator is still there:\n{self.log}"
            time.sleep(0.02)
        return depth.ready

    def depth(self) -> QueueDepth:
        depth = queue_depths(self.farm.address("operator"), [self.requests])[self.requests]
        assert depth is not None
        return depth


@pytest.fixture
def service(node: Node, tmp_path: Path) -> Iterator[Service]:
    farm = node.farm()
    farm.add_queues(Service.requests, Service.results)
    coordinator = RabbitBroker(farm.address("coordinator"), "test")
    coordinator.connect(30)
    coordinator.announced(1)  # begins to listen
    with forwarder(node.port) as link:
        service = Service(farm, link, tmp_path, coordinator)
        yield service
        coordinator.close()
        for process in service.started:
            if process.poll() is None:
                process.kill()
                process.wait()


def test_an_evaluation_over_the_limit_is_answered_once_and_the_process_ends(service: Service) -> None:
    service.begin(*NEVER_DONE, NASFARM_EVALUATION_LIMIT="3")
    assert service.ended() == 75
    (outcome,) = service.outcomes()
    assert outcome == Failure(kind="timed_out", reason="not finished after 3 s, the limit of this evaluator")
    assert service.left() is None
    service.hear("stopped")
    (line,) = [json.loads(line) for line in service.log.splitlines() if "evaluation timed out" in line]
    assert line["search"] == "small" and line["attempt"] == 1 and line["candidate"]


def test_a_broker_that_is_away_when_the_limit_is_reached_gets_the_answer_when_it_is_back(
    service: Service, node: Node
) -> None:
    service.farm.settle()
    service.begin(*NEVER_DONE, NASFARM_EVALUATION_LIMIT="3")
    node.kill()
    try:
        service.wait(lambda: "evaluation timed out" in service.log)
    finally:
        node.start()
    assert service.ended() == 75
    (outcome,) = service.outcomes()
    assert isinstance(outcome, Failure) and outcome.kind == "timed_out"
    assert service.left() is None  # it had come again over the new connection


def test_an_evaluator_whose_evaluations_crash_one_after_the_other_answers_them_and_ends(service: Service) -> None:
    for _ in range(MOST_CRASHES):
        service.ask()
    service.start("--bug", "1.0")
    assert service.process.wait(PATIENCE_SECONDS) == 75
    outcomes = service.outcomes()
    assert [outcome.kind for outcome in outcomes if isinstance(outcome, Failure)] == ["crashed"] * MOST_CRASHES
    assert service.left() is None


def test_the_first_signal_lets_the_evaluation_in_work_be_answered(service: Service) -> None:
    request = service.begin("--seconds", "2")
    service.process.send_signal(signal.SIGTERM)
    assert service.ended() == 0
    (outcome,) = service.outcomes()
    assert isinstance(outcome, Measurement)
    assert outcome.model_copy(update={"worker": "test", "seconds": {}}) == pretend(request)
    assert outcome.worker.endswith(f":{service.process.pid}")
    assert service.left() is None


def test_what_isn_t_done_within_the_drain_limit_is_given_back(service: Service) -> None:
    service.begin(*NEVER_DONE, NASFARM_DRAIN_LIMIT="0.5")
    service.process.send_signal(signal.SIGTERM)
    assert service.ended() == 0
    left = service.left()
    assert left is not None and left.attempt == 2
    assert service.outcomes() == []
    assert "the request in flight is requeued" in service.log


def test_a_second_signal_leaves_at_once_and_the_request_comes_again(service: Service) -> None:
    service.begin(*NEVER_DONE)
    service.process.send_signal(signal.SIGTERM)
    service.hear("draining")
    service.process.send_signal(signal.SIGTERM)
    assert service.ended() == 128 + signal.SIGTERM
    left = service.left()
    assert left is not None and left.attempt == 2


def test_an_evaluator_leaves_within_its_drain_limit_though_the_broker_is_away(service: Service, node: Node) -> None:
    service.farm.settle()
    service.begin("--seconds", "4", NASFARM_DRAIN_LIMIT="6")
    node.kill()
    try:
        service.process.send_signal(signal.SIGTERM)
        assert service.ended() == 0
    finally:
        node.start()
    assert "evaluation finished" in service.log and "the answer can't be delivered" in service.log
    service.restored()
    assert service.left() is not None
    assert service.outcomes() == []


def test_a_request_that_comes_again_while_it_is_computed_is_computed_once(service: Service) -> None:
    service.begin("--seconds", "3")
    service.link.close_connections()
    service.wait(lambda: "a request was redelivered that is answered already" in service.log)
    service.process.send_signal(signal.SIGTERM)
    assert service.ended() == 0
    (outcome,) = service.outcomes()
    assert isinstance(outcome, Measurement)
    assert service.log.count("evaluation finished") == 1
    assert service.left() is None


def test_a_request_that_came_again_to_an_evaluator_that_leaves_is_computed_once(service: Service) -> None:
    service.begin("--seconds", "3")
    service.process.send_signal(signal.SIGTERM)
    service.link.close_connections()
    assert service.ended() == 0
    (outcome,) = service.outcomes()
    assert isinstance(outcome, Measurement)
    assert service.left() is None


def test_what_an_evaluator_does_is_announced_to_the_farm(service: Service) -> None:
    request = service.begin("--seconds", "1", "--fail", "infeasible=1.0")
    service.hear("idle")
    service.process.send_signal(signal.SIGTERM)
    assert service.ended() == 0
    service.hear("stopped")
    told = service.told()
    states = [state for state, _ in groupby(each.state for each in told if each.state != "draining")]
    assert states == ["idle", "computing", "idle", "stopped"]
    for each in told:
        assert (each.supernet, each.device) == ("supernet", "stand-in")
        assert each.name.endswith(f":{service.process.pid}")
        work = ("small", (request.identity,)) if each.state == "computing" else (None, ())
        assert (each.search, each.candidates) == work
    assert [(each.measured, each.failed) for each in (told[0], told[-1])] == [(0, 0), (0, 1)]


def test_networks_that_are_asked_for_in_one_message_are_answered_one_by_one(service: Service) -> None:
    plan = small_plan()
    networks = [dense(SHAPE), *(plan.space.smallest(depth) for depth in (8, 7))]
    requests = [plan.request(network, "search") for network in networks]
    service.start("--fail", f"infeasible={networks[1].digest}", "--bug", networks[2].digest)
    service.coordinator.publish(service.requests, JointRequest.of(requests).model_dump_json().encode(), service.results)
    service.wait(lambda: any(each.measured for each in service.told()))
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(PATIENCE_SECONDS) == 0
    measured, infeasible, crashed = service.outcomes()
    assert isinstance(measured, Measurement)
    assert isinstance(infeasible, Failure) and infeasible.kind == "infeasible"
    assert isinstance(crashed, Failure) and crashed.kind == "crashed"
    assert service.told()[-1].failed == 2 and service.left() is None


def test_a_broken_evaluator_leaves_the_queue_to_others(service: Service) -> None:
    service.start("--fail", "out_of_memory=1.0")
    service.wait(lambda: "evaluator ready" in service.log)
    architectures = [
        Architecture(layers=tuple(range(8)), mlp_widths=(48,) * 7 + (width,)) for width in (8, 16, 24, 32, 40)
    ]
    requests = [service.ask(architecture) for architecture in architectures]
    service.hear("pausing")
    service.start()
    service.wait(lambda: service.depth().ready == 0)
    for process in service.started:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
    outcomes = service.outcomes()
    assert sum(isinstance(outcome, Measurement) for outcome in outcomes) >= 3
    assert len(outcomes) == len(requests)
