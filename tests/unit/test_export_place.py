"""Where an export lies, and that what lies there is whole whatever happens."""

import errno
import json
import os
from pathlib import Path

import pytest

from services.application.export.place import REPLACED, UNFINISHED, Place, default_output
from services.application.run_directory import RunDirectory
from shared.errors import UserError
from shared.files import writing
from shared.manifest import EXPORT
from tests.support.supernets import write_supernet


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.chdir(tmp_path)
    write_supernet(tmp_path / "supernets" / "a")
    run = RunDirectory(tmp_path / "runs" / "one")
    run.path.mkdir(parents=True)
    run.link(tmp_path / "supernets" / "a")
    return run


def export(place: Place, content: str) -> None:
    with place.written() as scratch:
        assert list(scratch.iterdir()) == []
        write(scratch, content)


def write(scratch: Path, content: str) -> None:
    """What an export holds: a file, and a record that says so."""
    (scratch / "deep").mkdir()
    (scratch / "deep" / "model").write_text(content)
    (scratch / EXPORT).write_text(json.dumps({"files": ["deep/model"]}))


def held(directory: Path) -> str:
    return (directory / "deep" / "model").read_text()


def fail(place: Place, error: BaseException) -> None:
    with place.written() as scratch, writing(place.target):
        write(scratch, "half")
        raise error


def left(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"runs", "supernets"}


def test_it_is_there_when_it_is_whole_and_not_before(run: RunDirectory, tmp_path: Path) -> None:
    place = Place.of(Path("deep/er/out"), run, force=False)
    with place.written() as scratch:
        write(scratch, "half")
        assert not place.target.exists()
    assert held(place.target) == "half" and left(tmp_path / "deep" / "er") == {"out"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError, SystemExit])
def test_whatever_goes_wrong_leaves_nothing(run: RunDirectory, tmp_path: Path, error: type[BaseException]) -> None:
    place = Place.of(Path("out"), run, force=False)
    with pytest.raises(error):
        fail(place, error())
    assert left(tmp_path) == set()


def test_a_full_disk_asks_for_another_output(run: RunDirectory, tmp_path: Path) -> None:
    place = Place.of(Path("out"), run, force=False)
    with pytest.raises(UserError, match=r"out: can't be written \(No space left.*; free some space, or name another"):
        fail(place, OSError(errno.ENOSPC, "No space left on device"))
    assert left(tmp_path) == set()


def test_an_earlier_export_gives_way_to_a_whole_one_alone(run: RunDirectory, tmp_path: Path) -> None:
    export(Place.of(Path("out"), run, force=False), "first")
    again = Place.of(Path("out"), run, force=True)
    with pytest.raises(KeyboardInterrupt):
        fail(again, KeyboardInterrupt())
    assert held(tmp_path / "out") == "first"
    export(again, "second")
    assert held(tmp_path / "out") == "second" and left(tmp_path) == {"out"}


def test_what_a_killed_export_left_is_cleared_away(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / f".out{UNFINISHED}" / "directory").mkdir(parents=True)
    (tmp_path / f".out{UNFINISHED}" / "file").write_text("half")
    export(Place.of(Path("out"), run, force=False), "whole")
    assert left(tmp_path) == {"out"} and left(tmp_path / "out") == {EXPORT, "deep"}


def test_an_earlier_export_that_was_giving_way_when_a_process_was_killed_is_put_back(
    run: RunDirectory, tmp_path: Path
) -> None:
    export(Place.of(Path("out"), run, force=False), "first")
    (tmp_path / "out").rename(tmp_path / f".out{REPLACED}")
    with pytest.raises(UserError, match="an earlier export was put back there; --force replaces it"):
        export(Place.of(Path("out"), run, force=False), "second")
    assert held(tmp_path / "out") == "first"
    (tmp_path / "out").rename(tmp_path / f".out{REPLACED}")
    export(Place.of(Path("out"), run, force=True), "second")
    assert held(tmp_path / "out") == "second" and left(tmp_path) == {"out"}


def test_where_another_export_is_being_written_none_is(run: RunDirectory, tmp_path: Path) -> None:
    first, second = (Place.of(Path("out"), run, force=True) for _ in range(2))
    with first.written() as scratch:
        write(scratch, "first")
        with pytest.raises(UserError, match="another export is being written there; wait for it"):
            export(second, "second")
    assert held(tmp_path / "out") == "first"


def test_a_link_to_a_directory_stays_a_link(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to("large disk/out")
    export(Place.of(Path("out"), run, force=False), "there")
    assert (tmp_path / "out").is_symlink() and held(tmp_path / "large disk" / "out") == "there"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("runs/one", "lies in the run"),
        ("runs/one/x/y", "lies in the run"),
        ("runs/one/../one/x", "lies in the run"),
        ("runs/two/x", "lies in the run"),
        ("supernets/a/x", "lies in the super-network"),
        ("runs/one/supernet/x", "lies in the super-network"),
        ("link/x", "lies in the super-network"),
        ("runs", "exists already"),
        ("supernets", "exists already"),
    ],
)
def test_no_export_lies_in_a_run_or_a_super_network_or_replaces_one(
    run: RunDirectory, tmp_path: Path, output: str, words: str
) -> None:
    (tmp_path / "link").symlink_to("supernets/a")
    (tmp_path / "runs" / "two").mkdir()
    (tmp_path / "runs" / "two" / "history.sqlite").touch()
    with pytest.raises(UserError, match=words):
        Place.of(Path(output), run, force=False)


@pytest.mark.parametrize("record", ["", "[", "[]", "{}", '{"files": 1}', '{"content": "of another program"}', None])
def test_by_force_nothing_is_replaced_that_no_export_has_written(
    run: RunDirectory, tmp_path: Path, record: str | None
) -> None:
    """Whatever is called as the record of an export is."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    if record is not None:
        (tmp_path / "out" / EXPORT).write_text(record)
    with pytest.raises(UserError, match="out: holds something else than an export, which --force doesn't replace"):
        Place.of(Path("out"), run, force=True)
    assert (tmp_path / "out" / "mine").exists()


@pytest.mark.parametrize("name", ["mine", "deep/mine", "runs/one/history.sqlite", "link"])
def test_by_force_no_file_is_lost_that_was_put_into_an_export(run: RunDirectory, tmp_path: Path, name: str) -> None:
    export(Place.of(Path("out"), run, force=False), "first")
    again = Place.of(Path("out"), run, force=True)
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if name == "link":
        file.symlink_to(tmp_path / "runs")
    else:
        file.touch()
    with pytest.raises(UserError, match=rf"out: holds {name}, which is no part of the export and would be lost"):
        Place.of(Path("out"), run, force=True)
    with pytest.raises(UserError, match=rf"out: holds {name}, which"):  # also if it is put there in the meantime
        export(again, "second")
    assert os.path.lexists(file) and held(tmp_path / "out") == "first" and left(tmp_path) == {"out"}


@pytest.mark.parametrize(("force", "words"), [(False, "out: exists already"), (True, "out: holds something else")])
def test_what_appears_there_while_an_export_is_written_stays(
    run: RunDirectory, tmp_path: Path, force: bool, words: str
) -> None:
    place = Place.of(Path("out"), run, force)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UserError, match=words):
        export(place, "new")
    assert left(tmp_path / "out") == {"mine"} and left(tmp_path) == {"out"}


def test_the_directory_that_one_is_in_is_not_replaced(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell would stay behind in the one that was removed."""
    (tmp_path / "empty").mkdir()
    export(Place.of(Path("out"), run, force=False), "first")
    for here, output in (("empty", "."), ("out", "."), ("out/deep", "..")):
        monkeypatch.chdir(tmp_path / here)
        with pytest.raises(UserError, match=rf"{output}: is where you are, or around it"):
            Place.of(Path(output), run, force=True)
    assert held(tmp_path / "out") == "first"


def test_links_that_lead_in_a_circle_are_no_place(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    for output in ("one", "one/x"):
        with pytest.raises(UserError, match=rf"{output}: (is a file|can't be written)"):
            export(Place.of(Path(output), run, force=True), "new")


def test_what_is_named_like_an_unfinished_export_and_leads_elsewhere_is_not_followed(
    run: RunDirectory, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / f".out{UNFINISHED}").symlink_to("mine")
    with pytest.raises(UserError, match="out: can't be written"):
        export(Place.of(Path("out"), run, force=False), "new")
    assert (tmp_path / "mine" / "file").exists()


def test_where_a_new_export_can_not_be_put_the_earlier_one_is_there_again(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(Place.of(Path("out"), run, force=False), "first")
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name == f".out{UNFINISHED}":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(
        UserError, match=r"out: can't be written \(Input/output error\); name another directory with --o"
    ):
        export(Place.of(Path("out"), run, force=True), "second")
    assert held(tmp_path / "out") == "first" and left(tmp_path) == {"out"}


def test_by_default_it_is_named_after_run_network_and_format() -> None:
    assert default_output("small", "N5 int8", "gguf-q8_0") == Path("exports/small-N5-int8-gguf-q8_0")
