"""Networks of the sizes at which a study compares, measured besides those that its searches looked at."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.application.study.compared import searched_networks
from services.application.study.study_directory import StudyDirectory
from services.coordinator.estimates import Estimates
from services.coordinator.results import cost_model, evaluated_network, measured_networks
from services.coordinator.study import candidates as candidates_module
from services.coordinator.study.candidate_results import candidates_of, evaluated_with
from services.coordinator.study.candidates import candidates
from services.coordinator.study.choice import is_of_size, most_parameters
from services.coordinator.study.measurement import candidate_requests, owners
from services.coordinator.study.networks import Study, of_kind
from services.reporting.study.assemble import assemble
from shared.errors import UserError
from shared.events import Events
from shared.messages import EvaluationRequest, Failure, Outcome
from shared.settings import StrategySettings
from tests.support.studies import BASE, answered, close_study, make_study, short_inner_searches, study_settings

TASKS = [{"name": name, "search": {"items": 60}, "report": {"items": 60}} for name in ("arc_easy", "winogrande")]
SETTINGS = study_settings(
    tasks=TASKS,
    together=True,
    sizes=[1.3],
    candidates=3,
    search={"evaluations": 8},
    heuristics=[],
    serving=None,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    made = make_study(tmp_path_factory.mktemp("study"), SETTINGS)
    yield made
    close_study(made)


def test_candidates_are_of_the_size_and_unknown_to_their_search_and_always_the_same(study: Study) -> None:
    assert len(study.candidates) == 2 * 3 * 3  # super-networks, tasks and both together, candidates
    for search in study.searches:
        mine = [
            each for each in study.candidates if (each.supernet, each.chosen_on) == (search.supernet, search.chosen_on)
        ]
        at_most = most_parameters(search.plan.space.network, 1.3)
        assert len({each.architecture for each in mine}) == 3
        assert all(is_of_size(search.plan.space.parameters(each.architecture), at_most) for each in mine)
        assert not {each.architecture for each in mine} & {each.architecture for each in search.history.candidates()}
    with short_inner_searches():
        assert tuple(candidates(SETTINGS, study.searches)) == study.candidates


def test_the_network_that_is_compared_is_the_best_of_the_size_of_all_that_were_measured(study: Study) -> None:
    chosen = of_kind(study.networks, "chosen")
    assert len(chosen) == len(study.searches)
    for search, network in zip(study.searches, chosen, strict=True):
        plan, at_most = search.plan, most_parameters(search.plan.space.network, 1.3)
        measured = evaluated_with(search, study.candidates, study.history, 1.3)
        of_size = [each for each in measured if is_of_size(plan.space.parameters(each.architecture), at_most)]
        assert len(of_size) >= 3
        (accuracy,) = {each.accuracy for each in measured if each.architecture == network.architecture}
        assert accuracy == max(each.accuracy or 0.0 for each in of_size)


def test_of_a_bayesian_search_candidates_are_predicted_and_compared_as_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates_module, "Predictor", None)  # that of other strategies
    search = StrategySettings(strategy="bayesian", evaluations=16)
    own = {"search": search, "tasks": SETTINGS.tasks[:1], "together": False, "baselines": ()}
    study = make_study(tmp_path, SETTINGS.model_copy(update=own))
    assert len(study.candidates) == 2 * 3
    for searched in study.searches:
        plan, costs = searched.plan, cost_model(searched.plan, searched.history)
        networks = [each.architecture for each in candidates_of(searched, study.candidates)]
        requests = [plan.request(network, "search") for network in networks]
        outcomes = [study.history.outcome(request.identity) for request in requests]
        measured = [
            evaluated_network(request, outcome, costs, plan.settings.metrics)
            for request, outcome in zip(requests, outcomes, strict=True)
            if outcome is not None
        ]
        everything = [*measured_networks(plan, searched.history), *measured]
        found = evaluated_with(searched, study.candidates, study.history, 1.3)
        assert len(found) == 16 + 3 and found == Estimates(plan.space, everything).probable != everything
    close_study(study)


def test_candidates_are_measured_on_the_items_of_their_search_by_its_super_networks_evaluators(study: Study) -> None:
    requests = candidate_requests(study)
    assert {request.search for request in requests} == {SETTINGS.name}
    assert {request.checkpoint.digest for request in requests} == {"paper", "ours"}
    assert {tuple(task.task for task in request.spec.tasks) for request in requests} == {
        ("arc_easy",),
        ("winogrande",),
        ("arc_easy", "winogrande"),
    }
    owned = owners(study)
    assert {request.checkpoint.digest for request in requests if request.identity in owned} == {"ours"}


def test_the_report_counts_candidates_among_the_networks_that_were_looked_at(study: Study) -> None:
    content = assemble(study)
    assert {search.networks for search in content.searches} == {8 + 3}
    for row in content.selected:
        assert row.search_accuracy is not None
        assert row.curse is not None
        assert row.curse.networks == 8 + 3


def test_where_every_candidate_fails_what_the_search_measured_is_compared(tmp_path: Path) -> None:
    def failing(request: EvaluationRequest) -> Outcome | None:
        candidate = request.search == SETTINGS.name and request.spec.tasks[0].start == 0
        return Failure(kind="infeasible", reason="too slow") if candidate else answered(request)

    study = make_study(tmp_path, SETTINGS, failing)
    content = assemble(study)
    assert {(search.networks, search.failed) for search in content.searches} == {(8, 3)}
    known = {each.architecture for search in study.searches for each in search.history.candidates()}
    assert {each.architecture for each in of_kind(study.networks, "chosen")} <= known
    close_study(study)


def test_without_candidates_a_study_compares_what_its_searches_looked_at(tmp_path: Path) -> None:
    study = make_study(tmp_path, SETTINGS.model_copy(update={"candidates": 0}))
    assert study.candidates == ()
    networks = searched_networks(study.settings, BASE, study.searches, (), study.history, Events())
    assert of_kind(networks, "chosen") == of_kind(study.networks, "chosen")
    close_study(study)


def test_candidates_are_kept_in_a_file_that_studies_of_earlier_releases_lack(study: Study, tmp_path: Path) -> None:
    directory = StudyDirectory(tmp_path)
    assert directory.read_candidates() == ()
    directory.write_candidates(study.candidates)
    assert directory.read_candidates() == study.candidates
    directory.candidates_file.write_text("[{}]")
    with pytest.raises(UserError, match=r"candidates\.json: .*run `nasfarm study` again"):
        directory.read_candidates()
