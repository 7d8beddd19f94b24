"""A study's directory: who may use it, and what it says of a study file that has changed."""

from pathlib import Path

import pytest

from services.application.study.study_directory import StudyDirectory
from shared.errors import UserError
from shared.settings import StudySettings
from tests.support.study_keys import GOOD

STUDY = StudySettings.model_validate(GOOD)


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


def test_of_a_study_file_that_has_changed_nothing_is_said_to_be_the_study_s(directory: StudyDirectory) -> None:
    report = ["report.html", "study.json", "study.md", "tables/claims.csv", "figures/fronts.svg"]
    kept = ["study.sqlite", "networks/0f12/model.safetensors", "notes.md", "figures/mine.png", "tables/mine.txt"]
    directory.record(STUDY)
    for name in (*report, *kept, "networks.json"):
        (directory.path / name).parent.mkdir(parents=True, exist_ok=True)
        (directory.path / name).touch()
    before = files(directory)
    directory.record(STUDY)
    assert files(directory) == before
    directory.record(STUDY.model_copy(update={"sizes": (1.3, 1.5)}))
    assert files(directory) == {*kept, "study.yaml"}
    assert directory.settings().sizes == (1.3, 1.5)


def test_a_study_and_its_searches_find_super_networks_when_all_of_it_is_moved(
    directory: StudyDirectory, tmp_path: Path
) -> None:
    beside, higher = tmp_path / "supernets" / "0f12", tmp_path.parent / "supernets" / "0f12"
    run = directory.search(STUDY.search_settings(STUDY.supernets[0], "arc_easy"))
    directory.link("ours", beside)
    run.link(beside)
    links = (directory.path / "supernets" / "ours", run.supernet)
    assert [link.readlink().is_absolute() for link in links] == [False, False]
    assert [link.resolve() for link in links] == [beside.resolve()] * 2
    directory.link("ours", higher)
    run.link(higher)
    assert [link.readlink() for link in links] == [higher.resolve()] * 2


def files(directory: StudyDirectory) -> set[str]:
    return {str(path.relative_to(directory.path)) for path in directory.path.rglob("*") if path.is_file()}
