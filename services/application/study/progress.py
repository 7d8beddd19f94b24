"""How far a study has got. Loads no model."""

from dataclasses import dataclass
from pathlib import Path

from services.application.study.reading import is_finished, read_study, searches_of
from services.application.study.study_directory import StudyDirectory
from services.coordinator.study.measurement import all_requests, missing_requests
from shared.errors import UserError


@dataclass(frozen=True)
class StudyProgress:
    """Searches that are finished; of the measurements on report items, those that are there (0 of 0 until all networks
    are made); whether the report is written."""

    finished: int
    searches: int
    measured: int
    measurements: int
    reported: bool

    @property
    def in_words(self) -> str:
        """The state in a few words."""
        if self.reported:
            return "study, report written"
        if self.measurements:
            return f"study: {self.measured} of {self.measurements} measurements on report items"
        return f"study: {self.finished} of {self.searches} searches finished"


def study_progress(directory: StudyDirectory) -> StudyProgress:
    """Raises UserError where the study's files can't be read."""
    settings = directory.settings()
    finished = [is_finished(directory.search(asked), asked) for _, _, asked in searches_of(settings)]
    left, of_all = measurements_left(directory) or (0, 0)
    return StudyProgress(sum(finished), len(finished), of_all - left, of_all, directory.report.is_file())


def measurements_left(directory: StudyDirectory) -> tuple[int, int] | None:
    """How many measurements on report items are still to be made, and of how many; None until all networks are made,
    and where a study was killed just then."""
    try:
        with read_study(directory) as study:
            return len(missing_requests(study)), len(all_requests(study))
    except UserError:
        return None


def state_in_words(path: Path) -> str:
    """The state of a study in a few words. Raises UserError where its files can't be read."""
    return study_progress(StudyDirectory(path)).in_words
