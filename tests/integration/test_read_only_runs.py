"""Runs of another user, or where nothing can be written: they can be read, and stay as they are."""

import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.application.run_directory import RunDirectory
from services.coordinator.history import History
from shared.errors import UserError
from shared.settings import read_search_file
from tests.chaos.arena import write_supernet
from tests.support.pretending import pretend
from tests.support.rights import forked_without_privileges, read_only
from tests.support.searches import search, small_plan

FIXTURES = Path(__file__).parents[1] / "fixtures"
PLAN = small_plan()
SEARCHED = "20 of 20 networks measured"


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run that was searched and measured to its end."""
    run = RunDirectory(tmp_path / "runs" / "small")
    run.path.mkdir(parents=True)
    run.record(PLAN.settings)
    *_, history = search(PLAN, run.history, report=True)
    history.close()
    return run.path


def content(directory: Path) -> dict[str, bytes]:
    """All files of a run, but for SQLite's index, which holds no data."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.name.endswith("-shm"))
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.fixture(params=["this release", "format-1/runs/plain", "format-2/runs/served"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A run that can't be written, of this or of an earlier release."""
    if request.param == "this release":
        directory = request.getfixturevalue("finished")
    else:
        directory = tmp_path / "run"
        shutil.copytree(FIXTURES / request.param, directory)
    before = content(directory)
    with read_only(directory):
        yield directory
        assert content(directory) == before


def test_a_run_that_cant_be_written_is_looked_at_and_reported_elsewhere(run: Path, tmp_path: Path) -> None:
    ended = forked_without_privileges("status", run)
    assert ended.code == 0 and "networks measured" in ended.output, ended
    assert ended.error == ""
    ended = forked_without_privileges("export", run)
    assert ended.code == 0 and f"nasfarm export {run} N1" in ended.output and ended.error == "", ended
    ended = forked_without_privileges("report", run)
    assert ended.code == 2 and ended.error.count("\n") == 1, ended
    assert f"{run}/front.svg: can't be written (Permission denied); name another directory with --output" in ended.error
    ended = forked_without_privileges("report", run, "--output", tmp_path / "mine")
    assert ended.code == 0 and ended.error == "", ended
    assert "</html>" in (tmp_path / "mine" / "report.html").read_text()
    assert (tmp_path / "mine" / "front" / "N1.json").is_file()


def test_what_a_search_at_work_has_stored_so_far_is_seen_without_a_right_to_write(finished: Path) -> None:
    with closing(History.create_or_resume(finished / "history.sqlite", PLAN.about())) as history:
        known = {candidate.architecture for candidate in history.candidates()}
        samples = (PLAN.space.sample(random.Random(seed)) for seed in range(1000))
        new = next(architecture for architecture in samples if architecture not in known)
        history.add_candidates(9, [(PLAN.request(new, "search"), None)])
        with read_only(finished):
            ended = forked_without_privileges("status", "--runs", finished.parent)
            assert ended.code == 0 and "searching: 21 of 21 networks" in ended.output, ended
        history.note("still", "written")


def test_what_a_killed_search_had_stored_is_seen_where_only_its_log_was_copied(finished: Path) -> None:
    path = finished / "history.sqlite"
    request = PLAN.request(PLAN.space.largest(), "search")
    with closing(History.create_or_resume(path, PLAN.about())) as history:
        former = history.asked()
        history.add_results([(request, pretend(request))])
        history.note("late", "fact")
        for ending in ("", "-wal"):
            shutil.copyfile(f"{path}{ending}", finished / f"copy{ending}")
    for ending in ("", "-wal"):
        (finished / f"copy{ending}").rename(f"{path}{ending}")
    before = content(finished)
    assert b"late" in before["history.sqlite-wal"]
    with read_only(finished):
        ended = forked_without_privileges("status", finished)
        assert ended.code == 0 and SEARCHED in ended.output, ended
    with closing(History.read(path)) as history:
        assert history.about()["late"] == "fact" and history.asked() == former
    assert content(finished) == before


def test_looking_leaves_no_files_behind_that_the_search_could_not_write(finished: Path) -> None:
    before = content(finished)
    with closing(History.read(finished / "history.sqlite")) as history:
        assert history.asked() == 20
        assert content(finished) == before
    assert content(finished) == before


def test_a_run_that_cant_be_read_is_named_in_one_line_and_hides_no_other(finished: Path) -> None:
    other = finished.parent / "other"
    shutil.copytree(finished, other)
    (other / "history.sqlite").chmod(0)
    for command in ("status", "report"):
        ended = forked_without_privileges(command, other)
        assert ended.code == 2 and ended.error.count("\n") == 1, ended
        assert f"{other}/history.sqlite: can't be read (Permission denied); have its owner let you" in ended.error
    ended = forked_without_privileges("status", "--runs", finished.parent)
    assert ended.code == 0 and "searching: 20 of 20" in ended.output and "can't be read" in ended.output, ended
    other.chmod(0)
    ended = forked_without_privileges("status", other)
    other.chmod(0o755)
    assert ended.code == 2 and ended.error.count("\n") == 1 and "Permission denied" in ended.error, ended


def test_a_search_file_that_cant_be_read_is_not_said_to_be_missing(finished: Path) -> None:
    (finished / "search.yaml").chmod(0)
    ended = forked_without_privileges("search", finished / "search.yaml", "--runs", finished.parent)
    assert ended.code == 2 and ended.error.count("\n") == 1, ended
    assert "search.yaml: can't be read (Permission denied); have its owner let you read it" in ended.error
    with pytest.raises(UserError, match=r"runs: can't be read \(Is a directory\); name another file"):
        read_search_file(finished.parent)


def test_a_run_whose_super_network_lies_behind_a_closed_directory_hides_no_other(finished: Path) -> None:
    closed, other = finished.parents[1] / "closed", finished.parent / "other"
    shutil.copytree(finished, other)
    (closed / "supernet").mkdir(parents=True)
    (other / "supernet").symlink_to(closed / "supernet")
    closed.chmod(0)
    ended = forked_without_privileges("status", "--runs", finished.parent)
    closed.chmod(0o755)
    assert ended.code == 0 and ended.error == "", ended
    shown = [line.split() for line in ended.output.splitlines() if "searching" in line]
    assert [(row[0], row[-1]) for row in shown] == [("other", "–"), ("small", "–")]


def test_what_cant_be_told_of_one_super_network_hides_no_other(finished: Path) -> None:
    supernets, other = finished.parents[1] / "supernets", finished.parent / "other"
    for name in ("aa", "bb"):
        write_supernet(supernets / name, PLAN.settings)
    shutil.copytree(finished, other)
    (other / "supernet").symlink_to(supernets / "bb")
    templates = supernets / "aa" / "templates"
    templates.mkdir()
    (templates / "chat.jinja").touch()
    for directory in (templates, other):  # what they hold can be listed, and not looked at
        directory.chmod(0o444)
    ended = forked_without_privileges("status", "--runs", finished.parent)
    for directory in (templates, other):
        directory.chmod(0o755)
    assert ended.code == 0 and ended.error == "", ended
    assert "searching: 20 of 20" in ended.output
    rows = [line.split() for line in ended.output.splitlines() if PLAN.settings.model in line]
    assert min((row[0], row[3]) for row in rows) == ("aa", "–") and len(rows) == 2


def test_a_report_into_another_directory_removes_nothing_of_its_owner_s(finished: Path, tmp_path: Path) -> None:
    mine = tmp_path / "thesis" / "front"
    mine.mkdir(parents=True)
    (mine / "figures.json").write_text("{}")
    (mine / "N99.json").write_text("{}")
    assert forked_without_privileges("report", finished, "--output", mine.parent).code == 0
    assert (mine / "figures.json").is_file() and not (mine / "N99.json").exists()
