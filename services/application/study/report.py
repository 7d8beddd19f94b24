"""The report of a study of which everything is measured, from what lies on disk. Loads no model."""

from pathlib import Path

from services.application.study.events import StudyReportWritten
from services.application.study.reading import read_study
from services.application.study.study_directory import StudyDirectory
from services.reporting.study.study_files import write_study
from shared.events import Events


def write_study_report(directory: StudyDirectory, output: Path, events: Events) -> None:
    """Write report and tables into a directory. Raises UserError where the study isn't that far."""
    with read_study(directory) as study, events.step("Report", note="writing"):
        content = write_study(study, output)
    events.publish(StudyReportWritten(output, content))
