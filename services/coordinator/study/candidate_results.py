"""What became of the candidates of the sizes at which a study compares, beside what the searches measured."""

from collections.abc import Sequence

from services.coordinator.evaluated import Evaluated
from services.coordinator.history import History
from services.coordinator.results import accuracy, cost_model, evaluated_so_far
from services.coordinator.study.networks import Candidate, StudySearch
from shared.messages import Measurement


def evaluated_with(
    search: StudySearch, candidates: Sequence[Candidate], history: History, times_smaller: float
) -> list[Evaluated]:
    """Every network that a search measured, and then its candidates of a size that the study's own history has a
    measurement of."""
    costs = cost_model(search.plan, search.history)
    evaluated = evaluated_so_far(search.plan, search.history)
    for candidate in candidates_of(search, candidates):
        outcome = history.outcome(search.plan.request(candidate.architecture, "search").identity)
        if candidate.times_smaller == times_smaller and isinstance(outcome, Measurement):
            measured = accuracy(outcome, search.plan.settings.metrics)
            evaluated.append(Evaluated(candidate.architecture, costs.of(candidate.architecture), measured))
    return evaluated


def candidates_of(search: StudySearch, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of one search."""
    where = (search.supernet, search.chosen_on)
    return [candidate for candidate in candidates if (candidate.supernet, candidate.chosen_on) == where]
