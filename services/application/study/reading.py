"""A study as it lies on disk, with its measurements. Loads no model, and changes nothing."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from services.application.run_directory import RunDirectory
from services.application.study.study_directory import StudyDirectory
from services.coordinator.history import History
from services.coordinator.plan import plan_of
from services.coordinator.study.networks import Study, StudySearch
from shared.settings.study_file import StudySettings


def is_finished(run: RunDirectory, settings: StudySettings, supernet: str, chosen_on: str) -> bool:
    """Whether a search of the study has come to its end, with just these settings."""
    (studied,) = (each for each in settings.supernets if each.name == supernet)
    asked = settings.search_settings(studied, chosen_on).model_dump()
    return (run.path / "report.html").is_file() and run.settings().model_dump() == asked


@contextmanager
def finished_searches(directory: StudyDirectory, settings: StudySettings) -> Iterator[tuple[StudySearch, ...]]:
    """The study's searches, read from their histories. Raises UserError where one has none yet."""
    with ExitStack() as histories:
        searches = []
        for supernet in settings.supernets:
            for chosen_on in settings.searched:
                asked = settings.search_settings(supernet, chosen_on)
                history = histories.enter_context(closing(History.read(directory.search(asked).history)))
                searches.append(StudySearch(supernet.name, chosen_on, plan_of(history, asked), history))
        yield tuple(searches)


@contextmanager
def read_study(directory: StudyDirectory) -> Iterator[Study]:
    """A study of which everything is made. Raises UserError where it isn't yet, or its files can't be read."""
    settings = directory.settings()
    networks = directory.read_networks()
    with finished_searches(directory, settings) as searches, closing(History.read(directory.history)) as history:
        yield Study(settings, searches[0].plan.dtype, searches, networks, history)
