"""A study from its settings to its report, from where it stands. Whatever is killed, the same command continues: each
super-network, checkpoint and measurement is made once."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

from services.application.broker_connection import connected_broker
from services.application.embedded_farm import embedded_farm
from services.application.farm_search import coordinating, search_on_farm
from services.application.local_search import search_prepared
from services.application.search_events import NoEvaluatorPresent
from services.application.study.base_measurements import take_over_base
from services.application.study.checkpoints import StudyCheckpoints
from services.application.study.compared import searched_networks
from services.application.study.cost import study_cost
from services.application.study.events import (
    CandidatesMeasured,
    StudyCostEstimated,
    StudyMeasured,
    StudySearchBegan,
)
from services.application.study.failed_networks import write_failed
from services.application.study.preparation import PreparedStudy, prepare_study
from services.application.study.progress import measurements_left
from services.application.study.pruned_networks import pruned_networks
from services.application.study.reading import begin_history, finished_searches, is_finished, searches_of
from services.application.study.report import write_study_report
from services.application.study.single_networks import SingleNetworks
from services.application.study.study_directory import StudyDirectory
from services.application.study.supernet_making import made_supernet
from services.application.supernet_store import Supernet, SupernetStore
from services.coordinator.dispatch import Dispatcher
from services.coordinator.evaluators import AnnouncedEvaluators, EmbeddedEvaluator, Evaluators, EvaluatorsOfSeveral
from services.coordinator.recorder import HistoryRecorder
from services.coordinator.study.candidates import candidates
from services.coordinator.study.measurement import (
    all_requests,
    candidate_requests,
    measure_candidates,
    measure_networks,
    missing_requests,
    owners,
    take_over,
)
from services.coordinator.study.networks import Candidate, Study, StudySearch
from services.evaluator.speed import parameter_tokens_per_second
from shared.broker import Broker, requests_queue
from shared.broker.address import BrokerAddress
from shared.checkpoint_files import FileDigests
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events, SearchStopped
from shared.failure_policy import RESULTS_PREFETCH
from shared.files import writing
from shared.manifest import base_location
from shared.messages import CheckpointRef, Measurement
from shared.settings.study_file import StudySettings
from shared.supernet.device import preferred_dtype


@dataclass(frozen=True)
class _Place:
    """Where a study runs: its directory, the super-networks, and the farm's broker; None: measured here."""

    directory: StudyDirectory
    store: SupernetStore
    address: BrokerAddress | None
    environment: Environment


def run_study(
    settings: StudySettings,
    directory: StudyDirectory,
    store: SupernetStore,
    address: BrokerAddress | None,
    environment: Environment,
    events: Events,
) -> None:
    """Make, search, measure and report; on this machine or, with an `address`, measured by the evaluators of a farm.

    Raises UserError for what only its user can change, SearchStoppedError where an operator asks the study or one of
    its searches to stop; nothing that was made or measured by then is lost.
    """
    place = _Place(directory, store, address, environment)
    with directory.claimed():
        if address is not None:  # so that nothing is found wrong with the broker after an hour of fine-tuning
            with connected_broker(address, f"study {settings.name}"):
                pass
        prepared = prepare_study(settings, directory, store, environment, events, on_farm=address is not None)
        directory.record(settings)
        _announce(prepared, place, events)
        if address is not None:
            _say_what_the_farm_needs(prepared, place, events)
        supernets = _search_all(prepared, place, events)
        with ExitStack() as opened:
            found = opened.enter_context(finished_searches(directory, settings))
            searches = tuple(_located(search, supernets[search.supernet]) for search in found)
            base = _base_of(supernets[settings.supernets[0].name], prepared, place)
            history = opened.enter_context(closing(begin_history(directory, settings, base.digest)))
            study = Study(settings, searches[0].plan.dtype, searches, (), history)
            study = replace(study, candidates=_measured_candidates(study, prepared, place, events))
            networks = searched_networks(settings, base, searches, study.candidates, history, events)
            checkpoints = StudyCheckpoints(directory, FileDigests(environment.cache))
            checkpoints.tidy()
            prepared.evaluator.release()
            singles = SingleNetworks(prepared, directory, store, checkpoints, environment, events)
            networks += singles.tuned(pruned_networks(prepared.baselines, checkpoints, events))
            networks += singles.alone(networks)
            write_failed(directory, singles.failed)
            directory.write_networks(tuple(networks))
            _measure(replace(study, networks=tuple(networks)), prepared, place, events)
        write_study_report(directory, directory.path, events)
        _say_what_is_left_over(checkpoints, events)


def _say_what_is_left_over(checkpoints: StudyCheckpoints, events: Events) -> None:
    """What a former study file asked for may be asked for again, so that it is left to the user to remove it."""
    left = checkpoints.unneeded()
    if left:
        number = f"{len(left)} {'checkpoint is' if len(left) == 1 else 'checkpoints are'}"
        remove = shlex.join(["rm", "-r", *map(str, left)])
        events.note("Left over", f"{number} of networks that the study file no longer asks for; to remove: {remove}")


def _announce(prepared: PreparedStudy, place: _Place, events: Events) -> None:
    """Say what is left to be done, and about how long it takes."""
    directory = place.directory
    searches = [asked for _, _, asked in searches_of(prepared.settings)]
    finished = {asked.name for asked in searches if is_finished(directory.search(asked), asked)}
    left = measurements_left(directory)
    missing = left[0] if left is not None and len(finished) == len(searches) else None
    rate = parameter_tokens_per_second(prepared.base, preferred_dtype())
    events.publish(StudyCostEstimated(study_cost(prepared, directory, finished, missing, rate)))


def _say_what_the_farm_needs(prepared: PreparedStudy, place: _Place, events: Events) -> None:
    """Queues, and what evaluators may open: those of the first super-network are asked for all checkpoints that are
    made for the study."""
    settings = prepared.settings
    names = [*(asked.name for _, _, asked in searches_of(settings)), settings.name]
    supernets = [str(prepared.first[supernet.name].place) for supernet in settings.supernets]
    queues = [*(f"--supernet {each}" for each in supernets), *(f"--search {each}" for each in names)]
    events.note("Queues", f"python -m shared.broker add {place.address} {' '.join(queues)}")
    locations = place.directory.networks.absolute()
    events.note("Evaluators", f"of each super-network; those of {supernets[0]} with NASFARM_LOCATIONS={locations}")


def _search_all(prepared: PreparedStudy, place: _Place, events: Events) -> dict[str, Supernet]:
    """All searches, those that are finished left as they are; the super-networks by their names."""
    supernets: dict[str, Supernet] = {}
    searches = list(searches_of(prepared.settings))
    for number, (supernet, chosen_on, asked) in enumerate(searches, start=1):
        first = prepared.first[supernet.name]
        if supernet.name not in supernets:
            place.directory.link(supernet.name, first.place)
            prepared.evaluator.release()  # the weights of the one before
            supernets[supernet.name] = made_supernet(supernet.name, first, events)
        run = place.directory.search(asked)
        finished = is_finished(run, asked)
        events.publish(StudySearchBegan(number, len(searches), supernet.name, chosen_on, finished))
        if finished:
            continue
        supernet_there = supernets[supernet.name]
        with run.claimed():
            with writing(run.report):
                run.report.unlink(missing_ok=True)  # of a former state: a search with a report has come to its end
            take_over_base(
                asked,
                run,
                supernet_there,
                _base_of(supernet_there, prepared, place),
                preferred_dtype() if place.address is None else supernet_there.manifest.dtype or "float32",
                [place.directory.search(other) for _, _, other in searches],
            )
        # Each search stores its own: what is published for one is no other's.
        of_search = Events(events.publish)
        if place.address is not None:
            search_on_farm(asked, run, place.store, place.address, place.environment, of_search)
            continue
        with run.claimed():
            ready = replace(first, settings=asked, supernet=supernet_there)
            search_prepared(ready, prepared.tasks_of(asked), prepared.evaluator, run, of_search)
    return supernets


def _located(search: StudySearch, supernet: Supernet) -> StudySearch:
    """A search that is read from its history, with where its super-network lies. Raises UserError where that is
    another one by now."""
    if search.plan.supernet.digest != supernet.manifest.digest:
        raise UserError(
            f"{search.history.path}: was measured with a super-network that is gone ({search.plan.supernet.digest}), "
            f"and the one made since differs from it; remove {search.history.path.parent} to search that again"
        )
    reference = CheckpointRef(location=str(supernet.directory.absolute()), digest=search.plan.supernet.digest)
    return replace(search, plan=replace(search.plan, supernet=reference))


def _base_of(supernet: Supernet, prepared: PreparedStudy, place: _Place) -> CheckpointRef:
    """The untouched model as it is asked for; evaluators elsewhere may not have it where it lies here."""
    here, elsewhere = prepared.base_reference.location, base_location(prepared.settings.model)
    return CheckpointRef(location=elsewhere if place.address else here, digest=supernet.manifest.base_digest)


def _measured_candidates(study: Study, prepared: PreparedStudy, place: _Place, events: Events) -> tuple[Candidate, ...]:
    """Networks of the sizes that are compared, on the search items, besides those that the searches looked at."""
    found = tuple(candidates(study.settings, study.searches))
    place.directory.write_candidates(found)
    study = replace(study, candidates=found)
    requests = {request.identity for request in candidate_requests(study)}
    if any(study.history.outcome(identity) is None for identity in requests):
        _dispatch(measure_candidates, study, prepared, place, events)
        measured = sum(isinstance(study.history.outcome(identity), Measurement) for identity in requests)
        events.publish(CandidatesMeasured(measured, len(requests) - measured))
    return found


def _measure(study: Study, prepared: PreparedStudy, place: _Place, events: Events) -> None:
    taken_over = take_over(study)
    _dispatch(measure_networks, study, prepared, place, events)
    asked, failed = len(all_requests(study)), len(missing_requests(study))
    events.publish(StudyMeasured(asked - failed, taken_over, failed))


def _dispatch(
    measure: Callable[[Study, Dispatcher, Events, Mapping[str, str]], None],
    study: Study,
    prepared: PreparedStudy,
    place: _Place,
    events: Events,
) -> None:
    """Have something of a study measured, into its own history."""
    supernet = study.searches[0].plan.supernet.digest
    owned = {} if place.address is None else owners(study)
    with _farm(study, owned, prepared, place, events) as (broker, evaluators, of_study):
        of_study.subscribe(HistoryRecorder(study.history), first=True)
        dispatcher = Dispatcher(
            study.settings.name, supernet, broker, study.history, of_study, evaluators, owners=owned
        )
        try:
            measure(study, dispatcher, of_study, owned)
        except BaseException:
            of_study.publish(SearchStopped())
            raise


@contextmanager
def _farm(
    study: Study, owned: Mapping[str, str], prepared: PreparedStudy, place: _Place, events: Events
) -> Iterator[tuple[Broker, Evaluators, Events]]:
    """Who measures: an evaluator of this process, or on a farm those of each super-network its sub-networks, and those
    of the first one all else."""
    of_study, supernet = Events(events.publish), study.searches[0].plan.supernet.digest
    if place.address is None:
        with embedded_farm(prepared.evaluator, requests_queue(supernet)) as (broker, check):
            yield broker, EmbeddedEvaluator(check), of_study
        return
    name = study.settings.name
    with (
        connected_broker(place.address, f"study {name}", RESULTS_PREFETCH) as broker,
        coordinating(name, supernet, broker, place.environment, of_study) as (evaluators, _),
    ):
        others = {each: _announced(each, broker, of_study) for each in set(owned.values())}
        yield broker, EvaluatorsOfSeveral({supernet: evaluators, **others}, supernet, owned), of_study


def _announced(supernet: str, broker: Broker, events: Events) -> AnnouncedEvaluators:
    return AnnouncedEvaluators(broker, supernet, lambda others: events.publish(NoEvaluatorPresent(supernet, others)))
