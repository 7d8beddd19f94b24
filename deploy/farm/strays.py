"""The processes of a farm, found by a variable that all of them inherit, whoever started them and whether it lives."""

import os
import signal
import time
from pathlib import Path

MARK = "NASFARM_FARM"
"""The variable that names the farm's directory."""


def marked(directory: Path) -> dict[str, str]:
    """The variable, for the environment of a farm's processes."""
    return {MARK: str(directory)}


def processes_of(directory: Path) -> list[int]:
    """Every process of the farm but this one, children of children too."""
    return processes_with(MARK, str(directory))


def processes_with(name: str, value: str) -> list[int]:
    """Every process but this one that was started with a variable of that value."""
    mark = f"{name}={value}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:  # somebody else's, or it has just ended
            continue
        if mark in variables and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


def end_processes(directory: Path, seconds: float) -> None:
    """End all processes of the farm but this one: those that don't within `seconds` are killed."""
    for number, wait in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + wait
        for process in processes_of(directory):
            send(process, number)
        while processes_of(directory):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)


def send(process: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
