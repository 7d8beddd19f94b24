"""Memory of this process, by the kernel's account of it (Linux)."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def status(name: str) -> int:
    """A line of that account, in bytes: VmRSS is what is held, VmHWM the most that was, RssAnon what lies in no
    file."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def forget_peak() -> None:
    """Have the most that was held count from here."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@contextmanager
def peaks(held: Callable[[], Mapping[str, int]], every_seconds: float) -> Iterator[Counter[str]]:
    """The most of each kind of bytes that is `held`, so far: of what the kernel has no such account of."""
    found, ended = Counter[str](), threading.Event()

    def watch() -> None:
        while not ended.wait(every_seconds):
            for kind, number in held().items():
                found[kind] = max(found[kind], number)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()


def own() -> dict[str, int]:
    """What of this process's memory lies in no file."""
    return {"own": status("RssAnon")}
