"""Whatever happens to requests, results, evaluators and the coordinator, the search ends like an undisturbed one."""

import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.coordinator.history import Candidate, History
from services.coordinator.plan import SearchPlan
from services.coordinator.search import measure_costs, run_search
from shared.architecture import Architecture
from shared.broker import Delivery
from shared.events import Events
from shared.failure_policy import DELIVERY_LIMIT, RETRIES
from shared.messages import EvaluationRequest, Outcome
from tests.support.scripted import FINAL, TRANSIENT, CoordinatorConnection, ScriptedFarm, requests_in
from tests.support.searches import pretend, small_plan

NAMES = ("one", "two", "three")
FAULTS = (
    "take", "answer", "answer", "answer twice", "fail", "lose the request", "lose the result", "die",
    "deliver again", "an old result again", "time passes", "kill the coordinator", "kill it while it sends",
)  # fmt: skip


class KilledError(Exception):
    """The coordinator is killed."""


@dataclass
class Chaos:
    """Three evaluators to which, turn by turn, `faults` happen, each to one of them; then they simply work."""

    farm: ScriptedFarm
    faults: list[tuple[str, int]]
    connection: CoordinatorConnection | None = None
    dies_sending: bool = False
    in_work: dict[str, Delivery] = field(default_factory=dict)
    idle_since: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))
    old: list[tuple[EvaluationRequest, Outcome]] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    sizes: set[int] = field(default_factory=set)

    def turn(self) -> None:
        self.farm.now += 1
        if not self.faults:
            self.work()
            return
        fault, number = self.faults.pop()
        name = NAMES[number % len(NAMES)]
        if fault == "take":
            self.take(name)
        elif fault == "time passes":
            self.farm.now += 50
            self.tell()
        elif fault == "lose the request":
            if (delivery := self.farm.take()) is not None:
                delivery.ack()
        elif fault == "deliver again" and self.connection is not None:
            self.connection.deliver_again()
        elif fault == "an old result again" and self.old:
            self.farm.answer(*self.old[number % len(self.old)])
        elif fault == "kill the coordinator":
            raise KilledError
        elif fault == "kill it while it sends":
            self.dies_sending = True
        elif name in self.in_work:
            self.part(name, fault)

    def part(self, name: str, fault: str) -> None:
        """An evaluator parts with what it has."""
        delivery = self.in_work.pop(name)
        requests = requests_in(delivery)
        self.sizes.add(len(requests))
        # More failures, or deaths at it alone, would be the network's own failure, and the search not like an
        # undisturbed one.
        if fault == "die" and (delivery.attempt <= DELIVERY_LIMIT or len(requests) > 1):
            delivery.requeue()
        else:
            for request in requests:
                self.answer(request, fault)
            delivery.ack()
        self.idle_since[name] = self.farm.now
        self.tell()

    def answer(self, request: EvaluationRequest, fault: str) -> None:
        if fault == "fail" and self.failed[request.identity] < RETRIES:
            self.failed[request.identity] += 1
            self.farm.answer(request, TRANSIENT)
        elif fault != "lose the result":
            self.old.append((request, outcome(request)))
            for _ in range(2 if fault == "answer twice" else 1):
                self.farm.answer(*self.old[-1])

    def take(self, name: str) -> None:
        if name not in self.in_work and (delivery := self.farm.take()) is not None:
            self.in_work[name] = delivery
            self.tell()

    def work(self) -> None:
        """Every evaluator answers what it has, or takes something; when there is nothing to do time passes."""
        busy = list(self.in_work)
        for name in busy:
            self.part(name, "answer")
        for name in NAMES:
            self.take(name)
        if not busy and not self.in_work:
            self.farm.now += 50
        self.tell()

    def tell(self) -> None:
        for name in NAMES:
            self.farm.announce(name, self.in_work.get(name), self.farm.now - self.idle_since[name])

    def connect(self, connection: CoordinatorConnection) -> None:
        """A coordinator begins to live, and may die while it sends."""
        self.connection, self.dies_sending, publish_all = connection, False, connection.publish_all

        def publish(queue_name: str, bodies: list[bytes], answer_to: str | None = None) -> None:
            if self.dies_sending:
                publish_all(queue_name, bodies[:1], answer_to)
                raise KilledError
            publish_all(queue_name, bodies, answer_to)

        connection.publish_all = publish  # type: ignore[method-assign, assignment]


def outcome(request: EvaluationRequest) -> Outcome:
    """Some networks can't be measured. Of others it is said how long they take, so that they are asked for together."""
    if int(request.identity[:4], 16) % 5 == 0:
        return FINAL
    return pretend(request).model_copy(update={"seconds": {"score": 1.0}})


def plan_of_a_small_space(overlap: bool) -> SearchPlan:
    return small_plan({"space": {"mlp_widths": [48, 16]}}, strategy="random", population=10, overlap=overlap)


def search_through(plan: SearchPlan, faults: list[tuple[str, int]], path: Path) -> tuple[list[Architecture], set[int]]:
    """Search, over as many lives of the coordinator as it takes; the front, and how many networks messages had."""
    farm = ScriptedFarm(plan)
    chaos = Chaos(farm, faults)
    farm.turn = chaos.turn
    while True:
        history = History.create_or_resume(path, plan.about())
        events = Events()
        dispatcher, connection, _ = farm.coordinator(history, events=events)
        chaos.connect(connection)
        try:
            costs = measure_costs(plan, history, dispatcher, events)
            return run_search(plan, costs, history, dispatcher, events), chaos.sizes
        except KilledError:
            continue
        finally:
            connection.close()
            history.close()


def recorded(path: Path) -> tuple[list[Candidate], list[object], list[tuple[str, str]]]:
    """Candidates, generations, and what is stored: a row for each outcome, in no order."""
    history = History.read(path)
    content = history.candidates(), list[object](history.generations())
    history.close()
    connection = sqlite3.connect(path)
    rows = connection.execute("select identity, outcome from measurements order by identity").fetchall()
    connection.close()
    return *content, rows


@pytest.fixture(scope="module", params=[False, True], ids=["in turn", "overlapping"])
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bool, list[Architecture], Path]:
    path = tmp_path_factory.mktemp("undisturbed") / "history.sqlite"
    front, sizes = search_through(plan_of_a_small_space(request.param), [], path)
    assert max(sizes) > 1, "all networks were asked for alone"
    return request.param, front, path


@given(st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 20)), max_size=150))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_disturbed_search_stores_one_outcome_for_each_candidate_and_ends_like_an_undisturbed_one(
    undisturbed: tuple[bool, list[Architecture], Path], faults: list[tuple[str, int]]
) -> None:
    overlap, front, calm = undisturbed
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "history.sqlite"
        assert search_through(plan_of_a_small_space(overlap), list(faults), path)[0] == front
        assert recorded(path) == recorded(calm)
        candidates, _, rows = recorded(path)
        assert sorted(candidate.identity for candidate in candidates) == [identity for identity, _ in rows]
