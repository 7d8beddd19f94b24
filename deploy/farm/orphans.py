"""The processes of a farm, also those that outlive whatever started them: found by a variable that all of them inherit,
and ended."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from shared.failure_policy import KILLED_SECONDS

FARM_VARIABLE = "NASFARM_FARM"
"""The variable that names the farm's directory."""
PART_VARIABLE = "NASFARM_FARM_PART"
"""The variable that tells a fine-tuning from the processes that the supervisor runs."""
TRAINER = "trainer"


def farm_variables(directory: Path, part: str = "") -> dict[str, str]:
    """The variables, for the environment of a farm's processes."""
    return {FARM_VARIABLE: str(directory), PART_VARIABLE: part}


def farm_processes(directory: Path) -> list[int]:
    """Every process of the farm but this one, children of children too."""
    return list(_found(directory))


def training_processes(directory: Path) -> list[int]:
    """The processes of fine-tunings for the farm."""
    return [process for process, part in _found(directory).items() if part == TRAINER]


def service_processes(directory: Path) -> list[int]:
    """The supervisor and the processes that it runs, or ran before it was killed."""
    return [process for process, part in _found(directory).items() if part != TRAINER]


def processes_started_with(name: str, value: str) -> list[int]:
    """Every process but this one that was started with a variable of that value."""
    return list(_started_with(name, value))


def _found(directory: Path) -> dict[int, str]:
    """The processes, each with the part that it has in the farm."""
    return {
        process: variables.get(PART_VARIABLE, "")
        for process, variables in _started_with(FARM_VARIABLE, str(directory)).items()
    }


def _started_with(name: str, value: str) -> dict[int, dict[str, str]]:
    """The variables of every process but this one that was started with one of that value."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = dict(
                line.partition("=")[::2] for line in path.read_bytes().decode(errors="replace").split("\0")
            )
            ours = variables.get(name) == value and _in_our_namespace(path.parent)
        except OSError:  # it belongs to another user, or has just ended
            continue
        if ours and int(path.parent.name) != os.getpid():
            found[int(path.parent.name)] = variables
    return found


def _in_our_namespace(process: Path) -> bool:
    """In a container the same path is another directory, which may hold another farm."""
    return (process / "ns" / "pid").readlink() == Path("/proc/self/ns/pid").readlink()


def terminate_processes(
    directory: Path, seconds: float, find: Callable[[Path], list[int]] = farm_processes
) -> list[int]:
    """End all processes of the farm but this one, or those that `find` names: those that don't within `seconds` are
    killed. Returns those that not even that ended."""
    left: set[int] = set()
    for number, wait in ((signal.SIGTERM, seconds), (signal.SIGKILL, KILLED_SECONDS)):
        deadline = time.monotonic() + wait
        signalled: set[int] = set()
        while left := set(find(directory)):
            for process in left - signalled:  # one that was signalled may just have started another
                send_signal(process, number)
            signalled |= left
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
    return sorted(left)


def send_signal(process: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
