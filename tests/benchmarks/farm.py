"""How well a farm scales: evaluators that wait, a coordinator's time per result, messages a second.

    python -m tests.benchmarks.farm [busy] [growth] [messages] [evaluators]

All of it by default, about a quarter of an hour. RabbitMQ is real, a node of its own on this machine, which coordinator
and evaluators share with it: what they could do on machines of their own is more.
"""

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from services.coordinator.cost_model import CostModel
from services.coordinator.dispatch import POLL_SECONDS, Dispatcher
from services.coordinator.evaluators import AnnouncedEvaluators, EmbeddedEvaluator
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.recorder import HistoryRecorder
from services.coordinator.results import accuracy
from services.coordinator.search import measure_costs, run_search
from services.coordinator.search_metrics import SearchMetrics
from services.coordinator.strategies import Evaluated, make_strategy
from shared.broker import Broker, InProcessBroker, results_queue
from shared.broker.rabbitmq import RabbitBroker
from shared.events import Events
from shared.failure_policy import ANNOUNCE_SECONDS, IN_FLIGHT_PER_EVALUATOR, PRESENT_SECONDS, RESULTS_PREFETCH
from shared.messages import EvaluationRequest, EvaluationResult, Measurement, Outcome
from shared.network.shape import NetworkShape
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from shared.telemetry.metrics import CoordinatorMetrics
from tests.support.command import start_nasfarm
from tests.support.pretending import pretend
from tests.support.rabbitmq import Node, RabbitFarm, running_node
from tests.support.scaling import coordinator, example_plan, some_requests, started, wait_until_said, where
from tests.support.spaces import EXAMPLE
from tests.support.stand_in import start_stand_in
from tests.support.supernets import declare_supernet, write_supernet

BUSY_EVALUATIONS, BUSY_SECONDS, BUSY_AIM = 150, 2.0, 0.97
GROWTH = (100, 1_000, 10_000, 100_000)
GROWTH_BLOCKS, GROWTH_ITEMS = 9, 40
CROWD, CROWD_REQUESTS, CROWD_ITEMS = 1_000, 10_000, 400
MULTITUDE, LISTENED_SECONDS = 10_000, 10.0
MINUTE = 60.0
NETWORKS, NETWORK_ITEMS = 12, 100


def busy(node: Node, directory: Path) -> None:
    """How much of the time two evaluators compute in a whole LINAS search."""
    print(f"two evaluators, {BUSY_EVALUATIONS} evaluations of {BUSY_SECONDS:.0f} s, LINAS in generations of 50:")
    digest = write_supernet(directory / "supernet", config=EXAMPLE)
    for overlap in (False, True):
        name = "overlap" if overlap else "plain"
        plan = example_plan(
            name, directory / "supernet", digest, 40, evaluations=BUSY_EVALUATIONS, population=50, overlap=overlap
        )
        rabbit = node.farm()
        events = Events()
        with coordinator(rabbit, plan, directory, events) as (farm, history):
            served = [*where(rabbit, "evaluator", directory), "--supernet", directory / "supernet"]
            logs = [directory / f"{name}-{number}.log" for number in range(2)]
            evaluators = [start_stand_in(*served, "--seconds", BUSY_SECONDS, log=log) for log in logs]
            with started(*evaluators):
                wait_until_said("evaluator ready", logs, evaluators)
                costs = measure_costs(plan, history, farm, events)
                began = time.perf_counter()
                run_search(plan, costs, history, farm, events)
                seconds = time.perf_counter() - began
        share = BUSY_EVALUATIONS * BUSY_SECONDS / (len(evaluators) * seconds)
        met = "aim met" if share >= BUSY_AIM else f"below the aim of {BUSY_AIM:.0%}"
        print(f"  search.overlap {str(overlap).lower():5}: busy {share:.1%} of {seconds:.1f} s ({met})", flush=True)


class AtOnce(InProcessBroker):
    """A broker whose requests are answered while they are published; `seconds` is what that took."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.seconds = 0.0
        self._shape = shape

    def publish_all(self, queue_name: str, bodies: Sequence[bytes], answer_to: str | None = None) -> None:
        began = time.perf_counter()
        for body in bodies:
            request = EvaluationRequest.model_validate_json(body)
            outcome = pretend(request, self._shape)
            result = EvaluationResult(identity=request.identity, search=request.search, outcome=outcome)
            self.publish(results_queue(request.search), result.model_dump_json().encode())
        self.seconds += time.perf_counter() - began


class Several(EmbeddedEvaluator):
    """So many evaluators that as many results as possible come at once."""

    number = RESULTS_PREFETCH // IN_FLIGHT_PER_EVALUATOR


def growth(_node: Node, directory: Path) -> None:
    """A coordinator's time for a result, by the number of results in its history."""
    print(f"coordinator's time for a result of {GROWTH_ITEMS} items, {RESULTS_PREFETCH} at once, written to the disk:")
    digest = write_supernet(directory / "supernet", config=EXAMPLE)
    plan = example_plan("growth", directory / "supernet", digest, GROWTH_ITEMS)
    requests = some_requests(plan, GROWTH[-1] + len(GROWTH) * GROWTH_BLOCKS * RESULTS_PREFETCH)
    broker = AtOnce(plan.space.network)
    first = 0.0
    with closing(History.create_or_resume(directory / "history.sqlite", plan.about())) as history:
        farm = Dispatcher("growth", digest, broker, history, recorded(history, broker), Several(lambda: None))
        farm.measure(requests[-1:])  # what is prepared for the first result is not counted
        for number in GROWTH:
            while missing := number - history.asked():
                some, requests = requests[: min(missing, 1000)], requests[min(missing, 1000) :]
                filler = -1 - history.asked()  # a generation is recorded once
                history.add_candidates(filler, [(request, None) for request in some])
                history.add_results([(request, pretend(request, plan.space.network)) for request in some])
            seconds: list[float] = []
            for block in range(GROWTH_BLOCKS):
                some, requests = requests[:RESULTS_PREFETCH], requests[RESULTS_PREFETCH:]
                began, answering = time.perf_counter(), broker.seconds
                history.add_candidates(number + block, [(request, None) for request in some])
                farm.measure(some)
                seconds.append((time.perf_counter() - began - broker.seconds + answering) / len(some))
            middle = statistics.median(seconds)
            first = first or middle
            print(
                f"  {number:7,} in the history: {1e3 * middle:.2f} ms ({1e3 * min(seconds):.2f} to "
                f"{1e3 * max(seconds):.2f}), {middle / first:.2f} times the first",
                flush=True,
            )
    thinking(plan)


def thinking(plan: SearchPlan) -> None:
    """What LINAS takes to choose a generation, by the number of networks that it learns from."""
    print(f"LINAS's computing time for a generation of {plan.settings.search.population}:")
    costs = CostModel(plan.space, plan.settings.objectives, plan.dtype)
    networks = [request.architecture for request in some_requests(plan, GROWTH[-1])]
    first = 0.0
    for number in GROWTH:
        strategy = make_strategy(costs, plan.settings.search)
        measured = ((network, pretend(plan.request(network, "search"), plan.space.network)) for network in networks)
        told = itertools.islice(measured, number)
        strategy.tell([Evaluated(one, costs.of(one), accuracy(outcome, ["acc"])) for one, outcome in told])
        began = time.process_time()
        strategy.ask(plan.settings.search.population)
        seconds = time.process_time() - began
        first = first or seconds
        print(f"  {number:7,} measured: {seconds:.1f} s, {seconds / first:.1f} times the first", flush=True)


def messages(node: Node, directory: Path) -> None:
    """What one coordinator can handle of many evaluators that answer at once, and how many that would feed."""
    digest = write_supernet(directory / "supernet", config=EXAMPLE)
    plan = example_plan("messages", directory / "supernet", digest, CROWD_ITEMS)
    requests = some_requests(plan, CROWD_REQUESTS + RESULTS_PREFETCH)
    rabbit = node.farm()
    with coordinator(rabbit, plan, directory) as (farm, _), crowd(rabbit, directory, CROWD):
        farm.measure(requests[CROWD_REQUESTS:])
        began, computing = time.perf_counter(), time.process_time()
        farm.measure(requests[:CROWD_REQUESTS])
        seconds, computed = time.perf_counter() - began, time.process_time() - computing
    rate, each = CROWD_REQUESTS / seconds, computed / CROWD_REQUESTS
    print(
        f"{CROWD:,} simulated evaluators, {CROWD_REQUESTS:,} requests answered at once with {CROWD_ITEMS} items each:\n"
        f"  {rate:,.0f} results a second: {2 * rate:,.0f} messages with their requests, and "
        f"{CROWD / ANNOUNCE_SECONDS:.0f} announcements; enough for {rate * MINUTE:,.0f} evaluators at evaluations of a "
        f"minute\n  the coordinator computes {each * 1e3:.2f} ms for a result, {computed / seconds:.0%} of the time",
        flush=True,
    )
    with (
        closing(RabbitBroker(rabbit.address("coordinator"), "listening")) as broker,
        crowd(rabbit, directory, MULTITUDE),
    ):
        present, _ = listening(broker, digest, PRESENT_SECONDS)  # until as many are known as ever will be
        present, share = listening(broker, digest, LISTENED_SECONDS)
    print(
        f"{present:,} simulated evaluators that announce themselves:\n"
        f"  the coordinator computes {share:.1%} of the time to know of them; with the results, one core is enough for "
        f"{1 / (each / MINUTE + share / present):,.0f} evaluators at evaluations of a minute",
        flush=True,
    )


@contextmanager
def crowd(rabbit: RabbitFarm, directory: Path, evaluators: int) -> Iterator[None]:
    """So many simulated evaluators, in a process of their own."""
    log = directory / f"crowd-{evaluators}.log"
    served = [*where(rabbit, "evaluator", directory), "--supernet", str(directory / "supernet")]
    command = [sys.executable, "-m", "tests.support.simulated", *served, "--evaluators", str(evaluators)]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    with started(process):
        wait_until_said("crowd ready", [log], [process])
        yield


def listening(broker: RabbitBroker, digest: str, seconds: float) -> tuple[int, float]:
    """How many evaluators a coordinator knows of after so long, and the share of the time that it computes for it."""
    evaluators = AnnouncedEvaluators(broker, digest, lambda others: None)
    began, computing, number = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        number = evaluators.number
        time.sleep(POLL_SECONDS)
    return number, (time.process_time() - computing) / (time.perf_counter() - began)


def evaluators(node: Node, directory: Path) -> None:
    """One against two real evaluators of a thread each, with the example model."""
    print(f"real evaluators of one thread, {NETWORKS} sub-networks of the example model, {NETWORK_ITEMS} items each:")
    supernet = directory / "supernet"
    supernet.mkdir()
    for file in fetch_model(EXAMPLE_MODEL)[0].iterdir():
        (supernet / file.name).symlink_to(file.resolve())
    digest = declare_supernet(supernet)
    taken: dict[int, list[float]] = {1: [], 2: []}
    for turn, count in enumerate((1, 2, 2, 1)):
        rabbit, plan = node.farm(), example_plan(f"turn-{turn}", supernet, digest, NETWORK_ITEMS)
        served = ["evaluator", *where(rabbit, "evaluator", directory), "--supernet", supernet]
        requests = some_requests(plan, 10 * NETWORKS)
        timed, others = requests[:NETWORKS], iter(requests[NETWORKS:])
        with coordinator(rabbit, plan, directory) as (farm, _):
            processes = [start_nasfarm(*served, NASFARM_TELEMETRY_PORT="0") for _ in range(count)]
            with started(*processes):
                ready = set[str]()
                while len(ready) < count:  # what is prepared for the first network is not counted
                    outcomes = farm.measure(list(itertools.islice(others, 2 * count)))
                    ready |= {_measured(outcome).worker for outcome in outcomes}
                began = time.perf_counter()
                outcomes = farm.measure(timed)
                taken[count].append(time.perf_counter() - began)
        each = statistics.median(sum(outcome.seconds.values()) for outcome in map(_measured, outcomes))
        print(f"  {count} at work: {taken[count][-1]:.1f} s, {each:.2f} s for a network", flush=True)
    ratio = statistics.mean(taken[1]) / statistics.mean(taken[2])
    print(f"  two do {ratio:.2f} times what one does", flush=True)


def _measured(outcome: Outcome) -> Measurement:
    if not isinstance(outcome, Measurement):
        sys.exit(f"a network was not measured: {outcome.reason}")
    return outcome


def recorded(history: History, broker: Broker) -> Events:
    """The events of a search that is stored and counted, as every farm's is."""
    return Events(HistoryRecorder(history), SearchMetrics(CoordinatorMetrics(broker)))


PARTS: dict[str, Callable[[Node, Path], None]] = {
    "busy": busy,
    "growth": growth,
    "messages": messages,
    "evaluators": evaluators,
}


def main() -> None:
    """Run the parts that are asked for."""
    asked = sys.argv[1:] or list(PARTS)
    if not set(asked) <= PARTS.keys():
        sys.exit(f"farm: parts are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            (Path(scratch) / "node").mkdir()
            with running_node(Path(scratch) / "node") as node:
                for name in asked:
                    (Path(scratch) / name).mkdir()
                    PARTS[name](node, Path(scratch) / name)
        except pytest.skip.Exception as missing:
            print(f"farm: skipped, {missing}")


if __name__ == "__main__":
    main()
