"""What became of the candidates of the sizes at which a study compares, beside what the searches measured."""

from collections.abc import Sequence

from services.coordinator.evaluated import Evaluated
from services.coordinator.history import History
from services.coordinator.results import as_chosen_by, cost_model, evaluated_network, measured_networks
from services.coordinator.study.networks import Candidate, StudySearch
from shared.messages import Measurement


def evaluated_with(
    search: StudySearch, candidates: Sequence[Candidate], history: History, times_smaller: float
) -> list[Evaluated]:
    """Every network that a search measured, and then its candidates of a size that the study's own history has a
    measurement of, all with the accuracies by which that search chooses."""
    plan = search.plan
    costs, measured = cost_model(plan, search.history), measured_networks(plan, search.history)
    for candidate in candidates_of(search, candidates):
        request = plan.request(candidate.architecture, "search")
        outcome = history.outcome(request.identity)
        if candidate.times_smaller == times_smaller and isinstance(outcome, Measurement):
            measured.append(evaluated_network(request, outcome, costs, plan.settings.metrics))
    return as_chosen_by(plan, measured)


def candidates_of(search: StudySearch, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of one search."""
    where = (search.supernet, search.chosen_on)
    return [candidate for candidate in candidates if (candidate.supernet, candidate.chosen_on) == where]
