"""How a command ends that doesn't come to its own end: what is refused in one line, what is interrupted at once."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from services.application.packages import INSTALL, missing_package
from services.cli.console import console
from services.trainer.distributed.environment import SPEAKING_SECONDS, is_first, started_together
from shared.errors import UserError
from shared.failure_policy import USER_ERROR_CODE
from shared.text import one_line


@contextmanager
def refusals_in_one_line() -> Iterator[None]:
    """The user's errors, files that may not be used and packages that aren't there end the command with one line and
    exit code 2; anything else is a bug, and passes."""
    try:
        yield
    except UserError as error:
        _refuse(str(error))
    except PermissionError as error:
        reason = error.strerror or str(error) or "permission denied"
        refused = reason if error.filename is None else f"{error.filename}: {reason}"
        _refuse(f"{one_line(refused)}; have its owner let you use it, or choose another place")
    except ModuleNotFoundError as error:
        _refuse(f"{missing_package(error)} isn't installed here: {INSTALL}")


def leave_at_once_when_told() -> None:
    """Ctrl-C and SIGTERM end the command at once. Everything is made to be killed; an orderly end would wait for the
    network in work. The first process of a container would not even notice a SIGTERM that it doesn't handle."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)


def _refuse(reason: str) -> NoReturn:
    """Of several processes one says for all what is wrong; they wait for it, but not for what its libraries do at the
    end."""
    if not is_first():
        time.sleep(SPEAKING_SECONDS / 2)
    sys.stderr.write(f"nasfarm: {one_line(reason)}\n")
    sys.stderr.flush()
    if started_together():
        os._exit(USER_ERROR_CODE)
    sys.exit(USER_ERROR_CODE)


def _leave(number: int, _frame: FrameType | None) -> None:
    if not started_together():  # whoever started them says it once
        console.show_cursor()
        sys.stderr.write("\nnasfarm: interrupted; the same command resumes from what is stored\n")
        sys.stderr.flush()
    os._exit(128 + number)
