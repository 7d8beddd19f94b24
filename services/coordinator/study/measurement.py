"""What a study measures besides its searches: candidates on their items, and at the end its networks, once, on the
report items, each task by itself."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from services.coordinator.dispatch import Dispatcher
from services.coordinator.study.networks import Study, StudyNetwork, of_kind
from shared.architecture import Quantization
from shared.errors import UserError
from shared.events import Events, StageBegan
from shared.messages import EvaluationRequest, Failure, Measurement


def candidate_requests(study: Study) -> list[EvaluationRequest]:
    """The candidates on the items of their searches."""
    searches = {(search.supernet, search.chosen_on): search for search in study.searches}
    requests = (
        searches[candidate.supernet, candidate.chosen_on].plan.request(candidate.architecture, "search")
        for candidate in study.candidates
    )
    return [request.model_copy(update={"search": study.settings.name}) for request in requests]


def control_requests(study: Study) -> list[EvaluationRequest]:
    """Without which nothing can be compared: the untouched model and the whole super-networks."""
    return _requests(study, of_kind(study.networks, "base", "dense"), "none")


def other_requests(study: Study) -> list[EvaluationRequest]:
    """What a study can do without, naming each failure: all other networks, and INT8 if it is asked for."""
    controls = of_kind(study.networks, "base", "dense")
    others = [network for network in study.networks if network not in controls]
    return [*_requests(study, others, "none"), *_requests(study, study.networks, "int8")]


def all_requests(study: Study) -> list[EvaluationRequest]:
    """All measurements of a study, each once: searches may choose the same network."""
    return _distinct([*control_requests(study), *other_requests(study)])


def missing_requests(study: Study) -> list[EvaluationRequest]:
    """Those of which the study's history has no measurement."""
    outcomes = ((request, study.history.outcome(request.identity)) for request in all_requests(study))
    return [request for request, outcome in outcomes if not isinstance(outcome, Measurement)]


def owners(study: Study) -> dict[str, str]:
    """Of all requests for sub-networks of all super-networks but the first, by identity, the digest of the
    super-network, which its own evaluators have at hand. Those of the first one are asked for all else."""
    supernets = {search.plan.supernet.digest for search in study.searches[1:]} - {
        study.searches[0].plan.supernet.digest
    }
    return {
        request.identity: request.checkpoint.digest
        for request in (*candidate_requests(study), *all_requests(study))
        if request.checkpoint.digest in supernets
    }


def take_over(study: Study) -> int:
    """Copy the measurements that the searches made already, and how many of them there are."""
    found = 0
    for request in missing_requests(study):
        outcomes = (search.history.outcome(request.identity) for search in study.searches)
        measured = next((outcome for outcome in outcomes if isinstance(outcome, Measurement)), None)
        if measured is not None:
            study.history.add_results([(request, measured)])
            found += 1
    return found


def measure_candidates(study: Study, dispatcher: Dispatcher, events: Events, owners: Mapping[str, str]) -> None:
    """Measure the candidates that the study's history lacks; those that fail are none."""
    requests = _distinct(candidate_requests(study))
    events.publish(StageBegan("search", len(requests)))
    dispatcher.measure(_in_turn(requests, owners), tolerant=True)


def measure_networks(study: Study, dispatcher: Dispatcher, events: Events, owners: Mapping[str, str]) -> None:
    """Measure what the study's history lacks, with `owners` as the dispatcher has them. Raises UserError where the
    untouched model or a whole super-network fails, with which all others are compared."""
    controls = _distinct(control_requests(study))
    others = all_requests(study)[len(controls) :]
    events.publish(StageBegan("report", len(controls) + len(others)))
    base = of_kind(study.networks, "base")[0].checkpoint.digest
    for request, outcome in zip(controls, dispatcher.measure(controls), strict=True):
        if isinstance(outcome, Failure):
            which = "untouched model" if request.checkpoint.digest == base else "whole super-network"
            raise UserError(
                f"the {which}, with which all others are compared, failed ({outcome.kind}: {outcome.reason}); nothing "
                "measured is lost: fix that and run the same command again, which tries it again"
            )
    dispatcher.measure(_in_turn(others, owners), tolerant=True)


def _in_turn(requests: list[EvaluationRequest], owners: Mapping[str, str]) -> list[EvaluationRequest]:
    """One of each owner after the other, so that the evaluators of all have something to do for as long as can be.
    Those of one stay in their order: an evaluator has one checkpoint on its device."""
    of_each: dict[str | None, list[EvaluationRequest]] = {}
    for request in requests:
        of_each.setdefault(owners.get(request.identity), []).append(request)
    return [request for turn in zip_longest(*of_each.values()) for request in turn if request is not None]


def _distinct(requests: list[EvaluationRequest]) -> list[EvaluationRequest]:
    return list({request.identity: request for request in requests}.values())


def _requests(study: Study, networks: Sequence[StudyNetwork], quantization: Quantization) -> list[EvaluationRequest]:
    return [
        study.request(network, task, quantization)
        for network in networks
        for task in study.tasks_of(network, quantization)
    ]
