"""Services of two releases on one farm: each measures for its own, and nothing fails when a farm is upgraded."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.architecture import dense
from shared.broker import DEAD_LETTERS, EVALUATOR, read_results, requests_queue
from shared.broker.rabbitmq import QueueDepth, queue_depths
from shared.messages import REQUEST_VERSION, EvaluationResult
from tests.integration.test_killed_search import measurements, stored
from tests.support.data import ROOT
from tests.support.farm import PretendedFarm
from tests.support.pretending import pretend
from tests.support.rabbitmq import Join, Node, RabbitFarm, publish_as
from tests.support.searches import SHAPE, small_plan

NEXT = ("tests.support.next_release",)
COORDINATOR: dict[tuple[str, ...], tuple[object, ...]] = {
    (): (),
    NEXT: (sys.executable, "-m", *NEXT, "services.cli.main"),
}
"""How the command is started, of each release."""
VERSION = {(): REQUEST_VERSION, NEXT: REQUEST_VERSION + 1}


@pytest.fixture
def pretended(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedFarm]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    farm = PretendedFarm(node.farm(), tmp_path)
    farm.farm.add_queues(*(requests_queue(farm.digest, version) for version in VERSION.values()))
    yield farm
    farm.end()


def waiting(farm: PretendedFarm, queue: str) -> int:
    depth = queue_depths(farm.farm.address("operator"), [queue])[queue]
    assert depth is not None
    return depth.ready


@pytest.mark.parametrize(("ours", "others"), [((), NEXT), (NEXT, ())], ids=["newer evaluator", "newer coordinator"])
def test_a_search_waits_for_an_evaluator_of_its_own_release_and_no_network_fails(
    pretended: PretendedFarm, ours: tuple[str, ...], others: tuple[str, ...]
) -> None:
    log = pretended.directory / "evaluators.log"
    pretended.evaluator(release=others)
    pretended.wait(lambda: "evaluator ready" in log.read_text(), "one")
    search = pretended.search("one", COORDINATOR[ours])
    pretended.wait(lambda: waiting(pretended, requests_queue(pretended.digest, VERSION[ours])) == 2, "one")
    pretended.evaluator(release=ours)
    assert pretended.ended(search, "one") == 0, pretended.log_of("one").read_text()
    assert measurements(pretended.runs / "one") == measurements(pretended.undisturbed("one"))
    assert waiting(pretended, DEAD_LETTERS) == 0


def test_a_farm_whose_services_are_replaced_one_by_one_with_the_next_release_ends_as_if_nothing_had_happened(
    pretended: PretendedFarm,
) -> None:
    run = pretended.runs / "one"
    former = [pretended.evaluator("--seconds", "0.2") for _ in range(2)]
    search = pretended.search("one")
    pretended.wait(lambda: stored(run) >= 4, "one")
    pretended.evaluator(release=NEXT)
    for evaluator in former:
        evaluator.send_signal(signal.SIGTERM)
        assert evaluator.wait(60) == 0
    assert search.poll() is None
    search.send_signal(signal.SIGTERM)
    search.wait(60)
    before = measurements(run)
    assert len(before) >= 4
    assert pretended.ended(pretended.search("one", COORDINATOR[NEXT]), "one") == 0, pretended.log_of("one").read_text()
    assert set(before) <= set(measurements(run)) and measurements(run) == measurements(pretended.undisturbed("one"))
    assert waiting(pretended, DEAD_LETTERS) == 0


def test_a_result_of_the_release_before_whose_messages_were_not_signed_is_used(farm: RabbitFarm, join: Join) -> None:
    request = small_plan().request(dense(SHAPE), "search")
    result = EvaluationResult(version=1, identity=request.identity, search="one", outcome=pretend(request))
    publish_as(farm.address(EVALUATOR), "results", farm.results, result.model_dump_json().encode())
    coordinator = join("coordinator")
    delivery = coordinator.receive(farm.results, 30)
    assert delivery is not None and read_results(coordinator, delivery) == (result,)
    delivery.ack()


def test_a_queue_of_another_version_is_removed_once_it_has_no_consumer_and_ours_stays(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.broker.topology.UNUSED_QUEUE_SECONDS", 1)
    farm = node.farm()
    former = requests_queue("net", 1)
    farm.add_queues(former)
    deadline = time.monotonic() + 120
    while (depths := queue_depths(farm.address("operator"), [former, farm.requests]))[former] is not None:
        assert time.monotonic() < deadline, depths
        time.sleep(0.2)
    assert depths[farm.requests] == QueueDepth(0, 0)
