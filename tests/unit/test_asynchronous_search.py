"""The asynchronous mode: another network is asked for whenever one is measured; once killed, it goes on as before."""

import tempfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.coordinator.cost_model import CostModel
from services.coordinator.evaluated import Evaluated
from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.genomes import IntArray
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.results import evaluated_so_far, first_networks, front, measured_networks
from services.coordinator.search import measure_costs, run_search
from services.coordinator.strategies import STRATEGIES
from services.coordinator.strategies.generational import GenerationalStrategy
from services.coordinator.strategies.stratified_sampling import random_genomes
from services.reporting.report_files import write_report
from shared.architecture import Architecture
from shared.errors import UserError
from shared.events import CandidatesChosen, Event, Events, Failed, Measured
from shared.messages import EvaluationRequest, Failure, Measurement, Outcome
from shared.settings import StrategySettings
from tests.support.pretending import pretend
from tests.support.replayed import asks, proposals
from tests.support.scripted import FINAL, ScriptedFarm, requests_in
from tests.support.searches import GenerationList, after, search, small_plan
from tests.unit.test_farm_chaos import FAULTS, search_through

NARROW = {"space": {"mlp_widths": [48, 16]}}
POPULATION = 8
LATER = Failure(kind="timed_out", reason="too slow")
Killed = KeyboardInterrupt


def asynchronous_plan(changes: dict[str, Any] | None = None, strategy: str = "random", **options: Any) -> SearchPlan:
    return small_plan({**NARROW, **(changes or {})}, asynchronous=True, strategy=strategy, **options)


class Remembering(GenerationalStrategy):
    """What it asks for depends on all that it was told, in order."""

    def __init__(self, costs: CostModel, settings: StrategySettings) -> None:
        super().__init__(costs, settings)
        self._told = 0

    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        super().tell(evaluated)
        for one in evaluated:
            self._told = zlib.crc32(f"{self._told}{one.architecture.digest}{one.accuracy}".encode())

    def _propose(self, count: int, rng: np.random.Generator) -> IntArray:
        return random_genomes(self._encoding, 10 * count, np.random.default_rng([self._told, len(self._known)]))


class Crowd(EmbeddedEvaluator):
    """As many evaluators as there are networks under way."""

    number = POPULATION


@dataclass
class Arrivals:
    """Evaluators of a farm of which, whenever the coordinator waits, those answer that `schedule` says, together: each
    by its place among the networks in work. Afterwards they answer one by one, the first one first."""

    farm: ScriptedFarm
    schedule: list[list[int]]
    answer: Callable[[EvaluationRequest], Outcome] = pretend
    held: dict[str, EvaluationRequest] = field(default_factory=dict)
    messages: list[int] = field(default_factory=list)

    def turn(self) -> None:
        for delivery in self.farm.take_all():
            self.messages.append(len(requests_in(delivery)))
            self.held |= {request.identity: request for request in requests_in(delivery)}
            delivery.ack()
        for place in self.schedule.pop(0) if self.schedule else [0]:
            if self.held:
                request = self.held.pop(list(self.held)[place % len(self.held)])
                self.farm.answer(request, self.answer(request))


@dataclass
class SameArrivals(Arrivals):
    """They answer what these groups of identities say, group by group."""

    groups: list[list[str]] = field(default_factory=list)

    def turn(self) -> None:
        if self.groups:
            self.schedule = [[]]
            super().turn()
            for identity in self.groups.pop(0):
                self.farm.answer(self.held[identity], self.answer(self.held.pop(identity)))
        else:
            super().turn()


def one_life(farm: ScriptedFarm, path: Path, dies_at: int | None = None) -> tuple[list[Architecture], GenerationList]:
    """A coordinator's life; killed at the event of this number, in half of the cases before that is recorded."""
    counted = iter(range(10**6))

    def die(event: Event) -> None:
        if next(counted) == dies_at:
            raise Killed

    rows = GenerationList()
    events = Events(rows)
    with closing(History.create_or_resume(path, farm.plan.about())) as history:
        dispatcher, connection, _ = farm.coordinator(history, Crowd(lambda: None), events)
        events.subscribe(die, first=dies_at is not None and dies_at % 2 == 0)
        try:
            costs = measure_costs(farm.plan, history, dispatcher, events)
            return run_search(farm.plan, costs, history, dispatcher, events), rows
        finally:
            connection.close()


def searched(
    plan: SearchPlan, path: Path, schedule: Sequence[list[int]] = (), deaths: Sequence[int] = (), **options: Any
) -> tuple[list[Architecture], Arrivals, GenerationList]:
    """Search over as many lives as it takes."""
    farm = ScriptedFarm(plan)
    arrivals = Arrivals(farm, list(schedule), **options)
    farm.turn = arrivals.turn
    for dies_at in deaths:
        with suppress(Killed):
            one_life(farm, path, dies_at)
    chosen, rows = one_life(farm, path)
    return chosen, arrivals, rows


def some_fail(request: EvaluationRequest) -> Outcome:
    return FINAL if int(request.identity[:4], 16) % 5 == 0 else pretend(request)


together = st.lists(st.integers(0, POPULATION - 1), min_size=1, max_size=3)


@given(st.lists(together, max_size=20), st.lists(st.integers(1, 120), max_size=4))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_arrives_when_and_whenever_it_is_killed_the_same_is_asked_for_as_with_the_same_arrivals_undisturbed(
    schedule: list[list[int]], deaths: list[int]
) -> None:
    plan = asynchronous_plan()
    with tempfile.TemporaryDirectory() as directory, patch.dict(STRATEGIES, {"random": Remembering}):
        killed, undisturbed = Path(directory) / "killed.sqlite", Path(directory) / "undisturbed.sqlite"
        chosen, _, rows = searched(plan, killed, schedule, deaths, answer=some_fail)
        with closing(History.read(killed)) as history:
            assert asks(history) == proposals(plan, history)
            known = sorted({candidate.known or 0 for candidate in history.candidates()})
            arrived = history.arrivals(0)
            same = [
                [each.identity for each in arrived if low < each.number <= high]
                for low, high in zip(known, [*known[1:], len(arrived)], strict=True)
            ]
            farm = ScriptedFarm(plan)
            farm.turn = SameArrivals(farm, [], some_fail, groups=same).turn
            assert one_life(farm, undisturbed)[0] == chosen == front(evaluated_so_far(plan, history))
            with closing(History.read(undisturbed)) as other:
                assert history.candidates() == other.candidates()
                assert history.generations() == other.generations() == rows.generations
                assert [each.identity for each in arrived] == [each.identity for each in other.arrivals(0)]
            assert len(arrived) == history.asked() == 20


@given(st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 20)), max_size=100))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_disturbed_search_stores_one_outcome_of_each_network_and_what_it_asked_for_can_be_told(
    faults: list[tuple[str, int]],
) -> None:
    plan = asynchronous_plan(population=10)
    with tempfile.TemporaryDirectory() as directory, patch.dict(STRATEGIES, {"random": Remembering}):
        path = Path(directory) / "h.sqlite"
        search_through(plan, list(faults), path)
        with closing(History.read(path)) as history:
            assert asks(history) == proposals(plan, history)
            assert len(history.arrivals(0)) == history.asked() == 20


def test_population_networks_are_under_way_until_the_budget_is_asked_for(tmp_path: Path) -> None:
    plan, under_way = asynchronous_plan(evaluations=30), list[int]()
    asked = answered = 0

    def count(event: Event) -> None:
        nonlocal asked, answered
        if isinstance(event, CandidatesChosen):
            asked += len(event.candidates)
            under_way.append(asked - answered)
        answered += isinstance(event, Measured | Failed)

    farm = ScriptedFarm(plan)
    farm.turn = Arrivals(farm, [[3], [0, 5], [1, 1, 1]]).turn
    with closing(History.create_or_resume(tmp_path / "h.sqlite", plan.about())) as history:
        events = Events(count)
        dispatcher, _, _ = farm.coordinator(history, Crowd(lambda: None), events)
        run_search(plan, measure_costs(plan, history, dispatcher, events), history, dispatcher, events)
        assert [len(networks) for networks in asks(history)] == [8, 1, 2, 3, *[1] * 16]
    assert under_way == [8] * 20 and asked == answered == 30


def test_a_row_is_published_whenever_so_many_networks_are_finished_as_a_generation_has(tmp_path: Path) -> None:
    plan = asynchronous_plan(strategy="bayesian")
    _, _, rows = searched(plan, tmp_path / "h.sqlite", [[7], [3, 2]])
    assert [(row.generation, row.evaluations) for row in rows.generations] == [(0, 8), (1, 16), (2, 20)]
    assert [row.predictor for row in rows.generations] == [None, "monotone ridge", "monotone ridge"]
    assert all(row.kendall_tau is not None and row.size_error is not None for row in rows.generations[1:])
    assert all(row.estimated and row.hypervolume > 0 for row in rows.generations)
    with closing(History.read(tmp_path / "h.sqlite")) as history:
        assert history.generations() == rows.generations
        assert len(first_networks(plan, history)) == rows.generations[0].evaluations
        accuracies = {one.architecture: one.accuracy for one in measured_networks(plan, history)}
        predicted = {one.architecture: one.predicted for one in history.candidates() if one.predicted is not None}
        requests = {plan.request(one, "search").identity: one for one in accuracies}
        last = [requests[each.identity] for each in history.arrivals(0)][16:]
    errors = [abs((predicted[one] or 0) - (accuracies[one] or 0)) for one in last]
    assert rows.generations[2].mean_absolute_error == pytest.approx(sum(errors) / 4)


def test_one_evaluator_that_answers_in_turn_gives_a_result_too(tmp_path: Path) -> None:
    plan = asynchronous_plan()
    chosen, seen, rows, history = search(plan, tmp_path / "h.sqlite", report=True)
    assert len(set(seen)) == len(seen) > history.asked() == 20
    assert [row.evaluations for row in rows.generations] == [8, 16, 20]
    assert chosen == front(evaluated_so_far(plan, history))
    content = write_report(plan, history, chosen, tmp_path)
    assert [network.generation for network in content.evaluated] == [0] * 8 + [1] * 8 + [2] * 4
    assert ("Strategy", "random, asynchronously, 8 at a time") in content.provenance


def test_a_space_that_is_exhausted_ends_the_search(tmp_path: Path) -> None:
    plan = asynchronous_plan({"space": {"depths": [8, 7, 6, 5, 4], "mlp_widths": [48]}}, population=2)
    chosen, _, rows = searched(plan, tmp_path / "h.sqlite", [[1], [1]])
    assert [row.evaluations for row in rows.generations] == [2, 4, 5]
    assert {one.depth for one in chosen} <= {8, 7, 6, 5, 4}


def test_a_raised_budget_goes_on_with_rows_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    searched(asynchronous_plan(evaluations=12), path)
    before = History.read(path).candidates(), History.read(path).generations()
    raised = asynchronous_plan(evaluations=30)
    _, _, rows = searched(raised, path)
    history = History.read(path)
    assert [row.evaluations for row in rows.generations] == [8, 12, 20, 28, 30]
    assert rows.generations == history.generations() and rows.generations[:2] == before[1]
    assert history.candidates()[:12] == before[0] and history.asked() == 30
    assert asks(history) == proposals(raised, history)
    assert searched(asynchronous_plan(evaluations=9), path)[2].generations == rows.generations


def test_a_failure_that_may_end_better_is_tried_again_by_the_next_run_and_told_in_its_place(tmp_path: Path) -> None:
    plan, path = asynchronous_plan(), tmp_path / "h.sqlite"
    largest = plan.space.largest()
    failing: Callable[[EvaluationRequest], Outcome] = lambda request: (  # noqa: E731
        LATER if request.architecture == largest else pretend(request)
    )
    searched(plan, path, answer=failing)
    raised = asynchronous_plan(evaluations=30)
    chosen, arrivals, rows = searched(raised, path)
    history = History.read(path)
    assert len(arrivals.messages) == 1 + 10
    assert len(evaluated_so_far(raised, history)) == history.asked() == 30
    assert chosen == front(evaluated_so_far(raised, history))
    outcomes = [each.outcome for each in history.arrivals(0) if each.identity == history.candidates()[0].identity]
    assert outcomes[0] == LATER and isinstance(outcomes[1], Measurement)
    assert asks(history) == proposals(raised, history)
    assert [row.evaluations for row in rows.generations] == [8, 16, 20, 28, 30]
    assert searched(raised, path)[0] == chosen


@pytest.mark.parametrize(("measured", "kind"), [(0, "crashed"), (3, "timed_out"), (0, "infeasible")])
def test_a_farm_that_measures_nothing_ends_the_search_and_the_next_run_asks_for_no_more_until_it_does(
    tmp_path: Path, measured: int, kind: Any
) -> None:
    plan, path = asynchronous_plan(evaluations=60), tmp_path / "h.sqlite"
    broken = Failure(kind=kind, reason="broken")
    with pytest.raises(UserError, match=rf"8 networks failed one after the other, the first with {kind}: broken; "):
        searched(plan, path, answer=after(measured, lambda request: broken))
    asked = History.read(path).asked()
    assert asked < 24
    with pytest.raises(UserError, match=r"networks failed one after the other"):
        searched(plan, path, answer=lambda request: broken)
    assert History.read(path).asked() == asked
    if kind != "infeasible":
        searched(plan, path)
        assert len(evaluated_so_far(plan, History.read(path))) == 60


def test_networks_that_are_to_blame_themselves_dont_end_the_search(tmp_path: Path) -> None:
    plan = asynchronous_plan(evaluations=30)
    searched(plan, tmp_path / "h.sqlite", answer=after(2, lambda request: FINAL))
    assert History.read(tmp_path / "h.sqlite").asked() == 30


def test_a_search_of_which_nothing_is_measured_has_no_result(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3 networks failed one after the other, .* choose another search space"):
        searched(asynchronous_plan(evaluations=3), tmp_path / "h.sqlite", answer=lambda request: FINAL)


def test_networks_that_wait_share_messages_whenever_they_were_asked_for(tmp_path: Path) -> None:
    plan = asynchronous_plan(population=40, evaluations=80)
    timed: Callable[[EvaluationRequest], Outcome] = lambda request: pretend(request).model_copy(  # noqa: E731
        update={"seconds": {"score": 1.0}}
    )
    _, arrivals, _ = searched(plan, tmp_path / "h.sqlite", answer=timed)
    assert sum(arrivals.messages) == 80 and max(arrivals.messages) > 1


def test_what_was_recorded_of_another_machine_is_not_asked_for_again(tmp_path: Path) -> None:
    plan, path = asynchronous_plan(), tmp_path / "h.sqlite"
    searched(plan, tmp_path / "usual.sqlite")
    later = [network for networks in asks(History.read(tmp_path / "usual.sqlite"))[1:] for network in networks][:8]
    with closing(History.create_or_resume(path, plan.about())) as history:
        history.add_candidates(0, [(plan.request(network, "search"), None) for network in later], known=0)
    searched(plan, path)
    assert History.read(path).asked() == len(History.read(path).arrivals(0)) == 20


def test_it_is_the_searchs_own_but_histories_from_before_there_was_a_choice_go_on(tmp_path: Path) -> None:
    assert "asynchronous" not in small_plan().recipe["search"]
    History.create_or_resume(tmp_path / "h.sqlite", small_plan().about()).close()
    with pytest.raises(UserError, match="belongs to another search"):
        History.create_or_resume(tmp_path / "h.sqlite", small_plan(asynchronous=True).about())


def test_overlapping_generations_are_no_part_of_it() -> None:
    with pytest.raises(UserError, match=r"^test: search: an asynchronous search has no generations to overlap; remove"):
        small_plan(overlap=True, asynchronous=True)
