"""Leaving in order at the first signal, at once at the second: for a command that only waits for others."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _InterruptedError(BaseException):
    """No Exception: only `interruptible` is meant to handle it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and Ctrl-C leave the context, closing what was opened within, and end the command with one line and exit
    code 128 plus the signal's number; a second signal doesn't wait for that.

    The exit code is no success: a search that was moved to another machine is to be started again there.
    """
    received = 0

    def leave(number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received = number
        restore()
        raise _InterruptedError

    former = {number: signal.signal(number, leave) for number in SIGNALS}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    try:
        yield
    except _InterruptedError:
        sys.stderr.write("nasfarm: interrupted; the same command resumes from what is stored\n")
        sys.exit(128 + received)
    finally:
        restore()
