"""A study as it lies on disk, with its measurements. Loads no model, and changes nothing."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from services.application.estimate import networks_of_report, unsearched
from services.application.run_directory import RunDirectory
from services.application.study.failed_networks import read_failed
from services.application.study.study_directory import StudyDirectory
from services.coordinator.history import History
from services.coordinator.plan import difference_of_rules, plan_of
from services.coordinator.study.networks import Study, StudySearch
from shared.failure_policy import FAILURES
from shared.identity import SEARCH, difference
from shared.messages import Measurement, Outcome
from shared.settings import SearchSettings, metrics_by_task
from shared.settings.study_file import StudiedSupernet, StudySettings


def searches_of(settings: StudySettings) -> Iterator[tuple[StudiedSupernet, str, SearchSettings]]:
    """All searches of a study in their order: the super-network, what is chosen on, and the search's settings."""
    for supernet in settings.supernets:
        for chosen_on in settings.searched:
            yield supernet, chosen_on, settings.search_settings(supernet, chosen_on)


def is_finished(run: RunDirectory, asked: SearchSettings) -> bool:
    """Whether a search of the study has come to its end, with just these settings: all networks are searched, and all
    that its report needs is measured, or failed in a way that is going to last. Raises UserError where its files can't
    be read."""
    if not (run.report.is_file() and run.history.is_file()) or run.settings().model_dump() != asked.model_dump():
        return False
    with closing(History.read(run.history)) as history:
        plan = plan_of(history, asked)
        if unsearched(plan, history):
            return False
        networks = networks_of_report(plan, history)
        return all(_is_settled(history.outcome(each.identity)) for each in (*networks.controls, *networks.others))


def _is_settled(outcome: Outcome | None) -> bool:
    return isinstance(outcome, Measurement) or (outcome is not None and FAILURES[outcome.kind].lasting)


def difference_of_search(history: History, asked: SearchSettings, base: str, supernet: str | None) -> str | None:
    """In what a search that has begun differs from the one that is asked for, in words; None if it can go on. `base`
    and `supernet` are digests, the latter None where the super-network is still to be made."""
    begun = history.about()["recipe"]
    decided = {} if asked.dtype == "auto" else {"dtype": asked.dtype}
    made = {} if supernet is None else {"supernet": supernet}
    unasked = {name: begun[name] for name in ("supernet", "dtype", "drop_order", "reference_point")}
    expected = unasked | SEARCH.of(asked.model_dump(mode="json")) | {"base": base} | decided | made
    return difference(begun, expected) or difference_of_rules(history, asked)


def begin_history(directory: StudyDirectory, settings: StudySettings, base: str) -> History:
    """The study's own history, to be continued where there is one. Only the untouched model must stay the same, given
    by its digest: tasks, sizes, baselines and searches may be added, as each measurement is of one task."""
    return History.create_or_resume(directory.history, _about(base), metrics_by_task(settings.tasks))


def difference_of_study(directory: StudyDirectory, settings: StudySettings, base: str) -> str | None:
    """In what the study's own history differs from what is asked for, in words; None if it can go on, or has not
    begun."""
    if not directory.history.is_file():
        return None
    with closing(_read_history(directory, settings)) as history:
        return difference(history.about()["recipe"], _about(base)["recipe"])


def _about(base: str) -> dict[str, Any]:
    return {"recipe": {"base": base}}


def _read_history(directory: StudyDirectory, settings: StudySettings) -> History:
    return History.read(directory.history, metrics_by_task(settings.tasks))


@contextmanager
def finished_searches(directory: StudyDirectory, settings: StudySettings) -> Iterator[tuple[StudySearch, ...]]:
    """The study's searches, read from their histories. Raises UserError where one has none yet."""
    with ExitStack() as histories:
        searches = []
        for supernet, chosen_on, asked in searches_of(settings):
            history = histories.enter_context(closing(History.read(directory.search(asked).history)))
            searches.append(StudySearch(supernet.name, chosen_on, plan_of(history, asked), history))
        yield tuple(searches)


@contextmanager
def read_study(directory: StudyDirectory) -> Iterator[Study]:
    """A study of which everything is made. Raises UserError where it isn't yet, or its files can't be read."""
    settings = directory.settings()
    networks, candidates = directory.read_networks(), directory.read_candidates()
    with finished_searches(directory, settings) as searches, closing(_read_history(directory, settings)) as history:
        dtype, failed = searches[0].plan.dtype, read_failed(directory)
        yield Study(settings, dtype, searches, networks, history, candidates, failed)
