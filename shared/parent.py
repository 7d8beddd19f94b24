"""Processes that are of no use without the one that has started them."""

import os
import threading
import time

POLL_SECONDS = 1.0


def end_with(parent: int) -> None:
    """End this process as soon as the one that has started it, given by its number, is gone: others need the memory.

    By polling, because the kernel's own signal (PR_SET_PDEATHSIG) is sent as soon as the thread ends that started this
    process, and evaluations have a thread of their own.
    """
    threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)
