"""Where an export lies, and that what lies there is whole whatever happens."""

import errno
from pathlib import Path

import pytest

from services.application.export.place import RECORD, REPLACED, UNFINISHED, Place, default_output
from services.application.run_directory import RunDirectory
from shared.errors import UserError
from shared.files import writing
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
        (scratch / RECORD).write_text(content)


def fail(place: Place, error: BaseException) -> None:
    with place.written() as scratch, writing(place.target):
        (scratch / "directory").mkdir()
        (scratch / RECORD).write_text("half")
        raise error


def left(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"runs", "supernets"}


def test_it_is_there_when_it_is_whole_and_not_before(run: RunDirectory, tmp_path: Path) -> None:
    place = Place.of(Path("deep/er/out"), run, force=False)
    with place.written() as scratch:
        (scratch / RECORD).write_text("half")
        assert not place.target.exists()
    assert (place.target / RECORD).read_text() == "half" and left(tmp_path / "deep" / "er") == {"out"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError, SystemExit])
def test_whatever_goes_wrong_leaves_nothing(run: RunDirectory, tmp_path: Path, error: type[BaseException]) -> None:
    place = Place.of(Path("out"), run, force=False)
    with pytest.raises(error):
        fail(place, error())
    assert left(tmp_path) == set()


def test_a_full_disk_asks_for_another_output(run: RunDirectory, tmp_path: Path) -> None:
    place = Place.of(Path("out"), run, force=False)
    with pytest.raises(UserError, match=r"out: can't be written \(No space left.*--output"):
        fail(place, OSError(errno.ENOSPC, "No space left on device"))
    assert left(tmp_path) == set()


def test_an_earlier_export_gives_way_to_a_whole_one_alone(run: RunDirectory, tmp_path: Path) -> None:
    export(Place.of(Path("out"), run, force=False), "first")
    again = Place.of(Path("out"), run, force=True)
    with pytest.raises(KeyboardInterrupt):
        fail(again, KeyboardInterrupt())
    assert (tmp_path / "out" / RECORD).read_text() == "first"
    export(again, "second")
    assert (tmp_path / "out" / RECORD).read_text() == "second" and left(tmp_path) == {"out"}


def test_what_a_killed_export_left_is_cleared_away(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / f".out{UNFINISHED}" / "directory").mkdir(parents=True)
    (tmp_path / f".out{UNFINISHED}" / "file").write_text("half")
    export(Place.of(Path("out"), run, force=False), "whole")
    assert left(tmp_path) == {"out"} and left(tmp_path / "out") == {RECORD}


def test_an_earlier_export_that_was_giving_way_when_a_process_was_killed_is_put_back(
    run: RunDirectory, tmp_path: Path
) -> None:
    export(Place.of(Path("out"), run, force=False), "first")
    (tmp_path / "out").rename(tmp_path / f".out{REPLACED}")
    with pytest.raises(UserError, match="an earlier export was put back there; --force replaces it"):
        export(Place.of(Path("out"), run, force=False), "second")
    assert (tmp_path / "out" / RECORD).read_text() == "first"
    (tmp_path / "out").rename(tmp_path / f".out{REPLACED}")
    export(Place.of(Path("out"), run, force=True), "second")
    assert (tmp_path / "out" / RECORD).read_text() == "second" and left(tmp_path) == {"out"}


def test_where_another_export_is_being_written_none_is(run: RunDirectory, tmp_path: Path) -> None:
    first, second = (Place.of(Path("out"), run, force=True) for _ in range(2))
    with first.written() as scratch:
        (scratch / RECORD).write_text("first")
        with pytest.raises(UserError, match="another export is being written there; wait for it"):
            export(second, "second")
    assert (tmp_path / "out" / RECORD).read_text() == "first"


def test_a_link_to_a_directory_stays_a_link(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to("large disk/out")
    export(Place.of(Path("out"), run, force=False), "there")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "large disk" / "out" / RECORD).read_text() == "there"


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


def test_an_export_into_which_a_run_was_put_is_not_replaced(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / RECORD).touch()
    for above in (Path(), tmp_path):
        with pytest.raises(UserError, match="lies in there"):
            Place.of(above, run, force=True)


def test_by_default_it_is_named_after_run_network_and_format() -> None:
    assert default_output("small", "N5 int8", "gguf-q8_0") == Path("exports/small-N5-int8-gguf-q8_0")
