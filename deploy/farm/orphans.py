"""The processes of a farm, found by a variable that all of them inherit, whoever started them and whether it lives."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from shared.policy import KILLED_SECONDS

MARK = "NASFARM_FARM"
"""The variable that names the farm's directory."""
PART = "NASFARM_FARM_PART"
"""The variable that tells a fine-tuning from what the supervisor looks after."""
TRAINER = "trainer"


def marked(directory: Path, part: str = "") -> dict[str, str]:
    """The variables, for the environment of a farm's processes."""
    return {MARK: str(directory), PART: part}


def processes_of(directory: Path) -> list[int]:
    """Every process of the farm but this one, children of children too."""
    return list(_found(directory))


def trainers_of(directory: Path) -> list[int]:
    """The processes of fine-tunings for the farm."""
    return [process for process, part in _found(directory).items() if part == TRAINER]


def services_of(directory: Path) -> list[int]:
    """The processes that a supervisor looks after, or did, and itself."""
    return [process for process, part in _found(directory).items() if part != TRAINER]


def processes_with(name: str, value: str) -> list[int]:
    """Every process but this one that was started with a variable of that value."""
    return list(_started_with(name, value))


def _found(directory: Path) -> dict[int, str]:
    """The processes, each with the part that it has in the farm."""
    return {process: variables.get(PART, "") for process, variables in _started_with(MARK, str(directory)).items()}


def _started_with(name: str, value: str) -> dict[int, dict[str, str]]:
    """The variables of every process but this one that was started with one of that value."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = dict(
                line.partition("=")[::2] for line in path.read_bytes().decode(errors="replace").split("\0")
            )
            ours = variables.get(name) == value and _in_our_namespace(path.parent)
        except OSError:  # somebody else's, or it has just ended
            continue
        if ours and int(path.parent.name) != os.getpid():
            found[int(path.parent.name)] = variables
    return found


def _in_our_namespace(process: Path) -> bool:
    """In a container the same path is another directory, which may hold another farm."""
    return (process / "ns" / "pid").readlink() == Path("/proc/self/ns/pid").readlink()


def end_processes(directory: Path, seconds: float, find: Callable[[Path], list[int]] = processes_of) -> list[int]:
    """End all processes of the farm but this one, or those that `find` names: those that don't within `seconds` are
    killed. Returns those that not even that ended."""
    left: set[int] = set()
    for number, wait in ((signal.SIGTERM, seconds), (signal.SIGKILL, KILLED_SECONDS)):
        deadline = time.monotonic() + wait
        told: set[int] = set()
        while left := set(find(directory)):
            for process in left - told:  # one that was told may just have started another
                send(process, number)
            told |= left
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
    return sorted(left)


def send(process: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
