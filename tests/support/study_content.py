"""Content of a study's report made up for tests: all of it is filled, plausible, and nothing was measured."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from services.reporting.study.assemble import assemble
from services.reporting.study.study_data import StudyContent
from tests.support.studies import close_study, make_study


@cache
def study_content() -> StudyContent:
    """The content of the report of a study of two super-networks on five tasks, always the same but for the date."""
    with TemporaryDirectory() as directory:
        study = make_study(Path(directory))
        try:
            return assemble(study)
        finally:
            close_study(study)
