"""Whatever happens to a farm of real processes: every network has one measurement or one typed failure, and the front
is that of an undisturbed search. (The same faults at random times, for longer: `make chaos`.)"""

import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.chaos import faults
from tests.chaos.arena import Arena, Run, arena
from tests.chaos.faults import Fault
from tests.chaos.verdict import judge
from tests.support.rabbitmq import Node

EVALUATIONS, POPULATION = 40, 10
KILLERS = 0.03
IMPATIENT = ("tests.support.impatient",)


@pytest.fixture(scope="module")
def farm(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with arena(node, tmp_path_factory.mktemp("arena"), evaluators=3, seconds=0.1, forked=True) as made:
        yield made


@pytest.fixture
def run(farm: Arena, request: pytest.FixtureRequest) -> Iterator[Run]:
    """A search of which a few networks are measured."""
    begun = farm.begin(f"faults-{len(farm.runs)}", len(farm.runs), EVALUATIONS, POPULATION)
    farm.wait_for_results(3)
    yield begun
    farm.end_coordinator()


@pytest.mark.parametrize(
    "fault",
    [
        faults.evaluator_killed,
        faults.evaluator_frozen,
        faults.coordinator_killed,
        faults.broker_killed,
        faults.channel_closed,
        faults.results_doubled,
        faults.requests_doubled,
        faults.broker_alarm,
        faults.disk_full,
    ],
)
def test_a_search_survives(fault: Fault, farm: Arena, run: Run, tmp_path: Path) -> None:
    fault(farm, Random(run.name))
    for times in (10, 40):
        if not run.reported:
            break
        farm.end_coordinator()  # the machine was too slow for the fault to come in time: once more, in a longer search
        run = farm.begin(f"{run.name}-longer", len(farm.runs), times * EVALUATIONS, POPULATION)
        farm.wait_for_results(3)
        fault(farm, Random(run.name))
    assert not run.reported, "the search was done before the fault"
    farm.finish()
    verdict = judge(run, 0.0, tmp_path)
    assert verdict.good, verdict
    assert not verdict.failed, verdict


def test_a_search_survives_all_that_only_patience_finds_out(node: Node, tmp_path: Path) -> None:
    """One evaluator is frozen until its connection is given up, another's goes silent, and a request is lost: all at
    once, as each of them takes long to be noticed, though the farm has less patience here than it comes with."""
    with arena(node, tmp_path, evaluators=3, seconds=0.1, changed=IMPATIENT) as farm:
        run = farm.begin("patience", 1, EVALUATIONS, POPULATION)
        farm.wait_for_results(3)
        faults.request_lost(farm, Random(run.name))
        frozen, silent, _ = farm.evaluators
        silent.link.go_silent()
        frozen.popen.send_signal(signal.SIGSTOP)
        before = run.stored
        farm.wait(lambda: run.counted[-1]["requests_resent"] >= 1, "a lost request that is sent again")
        frozen.popen.send_signal(signal.SIGCONT)
        assert run.stored > before
        farm.finish()
        verdict = judge(run, 0.0, tmp_path / "undisturbed")
    assert verdict.good, verdict
    assert not verdict.failed, verdict


def test_networks_that_kill_every_evaluator_fail_and_the_search_goes_on(node: Node, tmp_path: Path) -> None:
    with arena(node, tmp_path, evaluators=2, seconds=0.0, killers=KILLERS, forked=True) as farm:
        run = farm.begin("killers", 1, EVALUATIONS, POPULATION)
        farm.finish()
        verdict = judge(run, KILLERS, tmp_path / "undisturbed")
    assert verdict.good, verdict
    assert set(verdict.failed) == {"dead_lettered"}, verdict
