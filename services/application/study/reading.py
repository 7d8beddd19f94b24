"""A study as it lies on disk, with its measurements. Loads no model, and changes nothing."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from services.application.run_directory import RunDirectory
from services.application.study.failed_networks import read_failed
from services.application.study.study_directory import StudyDirectory
from services.coordinator.history import History
from services.coordinator.plan import plan_of
from services.coordinator.study.networks import Study, StudySearch
from shared.settings import SearchSettings
from shared.settings.study_file import StudiedSupernet, StudySettings


def searches_of(settings: StudySettings) -> Iterator[tuple[StudiedSupernet, str, SearchSettings]]:
    """All searches of a study in their order: the super-network, what is chosen on, and the search's settings."""
    for supernet in settings.supernets:
        for chosen_on in settings.searched:
            yield supernet, chosen_on, settings.search_settings(supernet, chosen_on)


def is_finished(run: RunDirectory, asked: SearchSettings) -> bool:
    """Whether a search of the study has come to its end, with just these settings."""
    return (run.path / "report.html").is_file() and run.settings().model_dump() == asked.model_dump()


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
    networks = directory.read_networks()
    with finished_searches(directory, settings) as searches, closing(History.read(directory.history)) as history:
        yield Study(settings, searches[0].plan.dtype, searches, networks, history, read_failed(directory))
