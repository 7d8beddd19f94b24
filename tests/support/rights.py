"""Commands that have no more rights than the modes of files say, also where the tests run as root."""

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.command import NASFARM, Ended, environment
from tests.support.forked import Forked, command

PR_CAPBSET_DROP = 24
OVERRIDE, READ_SEARCH = 1, 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, for which modes don't count."""
VERSION_3 = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: two groups of 32 capabilities, each with those that are effective, permitted and
inheritable."""


def nasfarm_without_privileges(*arguments: object, **changes: str) -> Ended:
    """Run the installed command as a user for whom the modes of files count."""
    done = subprocess.run(
        [NASFARM, *map(str, arguments)],
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=_give_up_privileges if os.geteuid() == 0 else None,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def forked_without_privileges(*arguments: object) -> Ended:
    """The same for a forked command (`tests.support.forked`)."""
    with tempfile.TemporaryDirectory() as directory:
        output, error = Path(directory) / "output", Path(directory) / "error"
        process = Forked(
            _command_without_privileges,
            list(map(str, arguments)),
            variables=environment(),
            output=output,
            error=error,
        )
        code = process.wait(120)
        return Ended(code, output.read_text(), error.read_text())


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """While this lasts, nothing in a directory may be written."""
    paths = [path for path in (directory, *directory.rglob("*")) if not path.is_symlink()]
    former = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path, mode in former.items():
            path.chmod(mode)


def _give_up_privileges() -> None:
    """What isn't among the capabilities that may be had is gone when the command is executed."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (OVERRIDE, READ_SEARCH):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "can't give up a capability")


def _command_without_privileges(arguments: list[str]) -> None:
    """In a process of its own: run the command without these capabilities, which hold for a process that isn't executed
    anew."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header, groups = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)()
        if libc.capget(header, groups) == 0:
            for held in range(3):
                groups[held] &= ~(1 << OVERRIDE | 1 << READ_SEARCH)
        if not any(groups) or libc.capset(header, groups) != 0:
            raise OSError(ctypes.get_errno(), "can't give up a capability")
    command(arguments)
