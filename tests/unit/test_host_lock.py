"""Who times networks has the machine to itself, whichever processes ask."""

import multiprocessing
import time
from pathlib import Path

from services.evaluator.host_lock import HostLock

NOT_LONG_SECONDS = 0.05
PATIENCE_SECONDS = 60


def _work(directory: Path, kind: str, number: int) -> None:
    host = HostLock(directory)
    with getattr(host, kind)((directory / f"{number} waits").touch), (directory / "log").open("a") as log:
        for what in ("begins", "ends"):
            log.write(f"{kind} {number} {what}\n")
            log.flush()
            time.sleep(NOT_LONG_SECONDS)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name}: never"
        time.sleep(NOT_LONG_SECONDS)


def test_an_evaluator_that_is_alone_excludes_all_others_and_the_others_compute_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # a forked process would hold our locks
    kinds = ["shared", "alone", "shared", "alone", "shared", "shared"]
    processes = [context.Process(target=_work, args=(tmp_path, kind, index)) for index, kind in enumerate(kinds)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    inside: set[tuple[str, str]] = set()
    for line in (tmp_path / "log").read_text().splitlines():
        kind, number, what = line.split()
        if what == "begins":
            inside.add((kind, number))
        assert "alone" not in {each for each, _ in inside} or len(inside) == 1, line
        if what == "ends":
            inside.remove((kind, number))
    assert inside == set()


def test_an_evaluator_that_waits_to_be_alone_is_not_overtaken_and_reports_that_it_waits(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # a forked process would hold our locks
    log = tmp_path / "log"
    waited: list[int] = []
    with HostLock(tmp_path).shared(lambda: waited.append(1)):
        alone = context.Process(target=_work, args=(tmp_path, "alone", 0))
        alone.start()
        wait_for(tmp_path / "0 waits")
        late = context.Process(target=_work, args=(tmp_path, "shared", 1))
        late.start()
        wait_for(tmp_path / "1 waits")
        assert not log.exists()
    for process in (alone, late):
        process.join(60)
        assert process.exitcode == 0
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["alone"] * 2 + ["shared"] * 2
    assert waited == []


def test_where_lock_files_cant_be_written_nothing_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    host = HostLock(tmp_path / "file")
    with host.alone(lambda: None), host.shared(lambda: None), host.alone(lambda: None):
        pass
