"""Candidates of the sizes at which a study compares: a search looks at few networks of any one size, so some of just
that size, by what it learnt, are measured on its items besides."""

from collections.abc import Iterator, Sequence

import numpy as np

from services.coordinator.cost_model import CostModel
from services.coordinator.estimates import accuracies_by_sureness, groups_of
from services.coordinator.evaluated import Evaluated
from services.coordinator.genomes import Encoding, IntArray, rows
from services.coordinator.monotone_ridge import MonotoneRidge
from services.coordinator.plan import SearchPlan
from services.coordinator.predictors import Predictor
from services.coordinator.results import cost_model, measured_networks
from services.coordinator.strategies.inner_search import promising_genomes
from services.coordinator.strategies.predicting import AccuracyPredictor
from services.coordinator.study.choice import is_of_size, most_parameters
from services.coordinator.study.networks import Candidate, StudySearch
from shared.architecture import Architecture
from shared.settings.study_file import StudySettings

LEAST_MEASURED = 2
"""Networks that a predictor can be fitted to."""


def candidates(settings: StudySettings, searches: Sequence[StudySearch]) -> Iterator[Candidate]:
    """For each search and size the networks of that size which are expected to be most accurate, none of them known to
    the search. They depend on the searches' histories and the study's settings alone."""
    for search in searches:
        evaluated = measured_networks(search.plan, search.history)
        known = {candidate.architecture for candidate in search.history.candidates()}
        for size in settings.sizes:
            at_most = most_parameters(search.plan.space.network, size)
            costs = cost_model(search.plan, search.history)
            for architecture in _most_promising(search.plan, costs, evaluated, known, at_most, settings):
                yield Candidate(search.supernet, search.chosen_on, size, architecture)


def _most_promising(
    plan: SearchPlan,
    costs: CostModel,
    evaluated: Sequence[Evaluated],
    known: set[Architecture],
    at_most: int,
    settings: StudySettings,
) -> list[Architecture]:
    """The networks of a size with the highest predicted accuracies, as many as the study asks for; fewer where the
    predictor's search visits no more, none where too little was measured to predict anything."""
    measured = [network for network in evaluated if network.accuracy is not None]
    if settings.candidates == 0 or len(measured) < LEAST_MEASURED:
        return []
    encoding, space = Encoding(costs.space), costs.space
    genomes = encoding.encode([network.architecture for network in measured])
    predictor = _predictor(plan, encoding, genomes, measured)
    rng = np.random.default_rng([plan.settings.search.seed % 2**64, at_most])
    found = dict.fromkeys(rows(promising_genomes(encoding, costs, predictor, genomes, rng)))
    networks = [space.architecture(genome) for genome in found]
    fitting = [each for each in networks if each not in known and is_of_size(space.parameters(each), at_most)]
    predicted = predictor.predict(encoding.encode(fitting))
    return [fitting[index] for index in np.argsort(-predicted, kind="stable")[: settings.candidates]]


def _predictor(
    plan: SearchPlan, encoding: Encoding, genomes: IntArray, measured: Sequence[Evaluated]
) -> AccuracyPredictor:
    """That of the search's own strategy; LINAS's for one that has none."""
    if plan.estimates:
        return MonotoneRidge(encoding, genomes, accuracies_by_sureness(measured), groups_of(measured))
    return Predictor(encoding, genomes, np.array([network.accuracy for network in measured], np.float64))
