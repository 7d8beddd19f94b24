"""A study's directory: who may use it, and what it says of a study file that has changed."""

from pathlib import Path

import pytest

from services.application.study.study_directory import StudyDirectory
from shared.errors import UserError


@pytest.fixture
def directory(tmp_path: Path) -> StudyDirectory:
    return StudyDirectory(tmp_path / "runs" / "example")


def test_in_the_run_of_a_search_no_study_begins_and_nothing_is_written(directory: StudyDirectory) -> None:
    directory.path.mkdir(parents=True)
    (directory.path / "search.yaml").touch()
    refused = pytest.raises(UserError, match=r"example: is the run of a search; change `name` in the study file")
    with refused, directory.claimed():
        pytest.fail("it began")
    assert [path.name for path in directory.path.iterdir()] == ["search.yaml"]
