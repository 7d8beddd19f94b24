"""How far a study has got. Loads no model."""

from dataclasses import dataclass
from pathlib import Path

from services.application.study.reading import is_finished, read_study, searches_of
from services.application.study.study_directory import StudyDirectory
from services.coordinator.study.measurement import all_requests, missing_requests


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
    measured = asked_for = 0
    if all(finished) and directory.networks_file.is_file() and directory.history.is_file():
        with read_study(directory) as study:
            asked_for = len(all_requests(study))
            measured = asked_for - len(missing_requests(study))
    return StudyProgress(sum(finished), len(finished), measured, asked_for, directory.report.is_file())


def state_in_words(path: Path) -> str:
    """The state of a study in a few words. Raises UserError where its files can't be read."""
    return study_progress(StudyDirectory(path)).in_words
