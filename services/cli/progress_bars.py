"""How long stages of a command show that they get on, and when they may end: as bars on a terminal; elsewhere, in a
file or a pipe, as lines, so few that they can be read and so many that it never looks hung."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from services.cli.console import console, duration
from shared.text import one_line

SHARE = 0.1
"""Of a stage, after which there is a line ..."""
LINE_SECONDS = 30.0
"""... and the time after which there is one in any case, ..."""
LEAST_SECONDS = 2.0
"""... but not so soon after another."""
TICK_SECONDS = 1.0
RECENT = 64
"""Steps from whose pace the time left is computed."""


class ProgressView(Protocol):
    """A stage that is under way."""

    def reach(self, done: int, note: str | None = None) -> None:
        """So much of it is done, at most all; `note` says what happened last, None leaves what was said."""

    def advance(self, note: str | None = None) -> None:
        """One more is done."""


class Pace:
    """The pace of the latest steps, from which the time left is computed. `clock` is in seconds."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._steps: deque[tuple[float, int]] = deque(maxlen=RECENT)

    def reach(self, done: int) -> None:
        """So much is done. What goes on before the first step isn't of its pace."""
        if len(self._steps) == 1 and self._steps[0][1] == done:
            self._steps.clear()
        self._steps.append((self._clock(), done))

    @property
    def seconds_left(self) -> float | None:
        """Time until all is done, if it continues as it lately did; None while that is unknown."""
        if len(self._steps) < 2:
            return None
        (since, first), (_, last) = self._steps[0], self._steps[-1]
        if last == first:
            return None
        return max(0, self._total - last) * (self._clock() - since) / (last - first)


class Lines:
    """A stage as lines that are given to `emit`. Without a `total` it has no count, and lines only if it takes long."""

    def __init__(
        self,
        name: str,
        total: int | None,
        note: str,
        emit: Callable[[str], None],
        shown: Callable[[int], str] = "{:,}".format,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._total, self._note, self._emit, self._shown = name, total, note, emit, shown
        self._clock, self._lock = clock, threading.Lock()
        self._pace = Pace(total or 0, clock)
        self._done = self._told = 0
        self._began = self._told_at = clock()

    def reach(self, done: int, note: str | None = None) -> None:
        with self._lock:
            self._done, self._note = _at_most(done, self._total), self._note if note is None else note
            self._pace.reach(self._done)
            share = (self._done - self._told) / self._total if self._total else 0
            if share >= SHARE and self._clock() - self._told_at >= LEAST_SECONDS:
                self._say()

    def advance(self, note: str | None = None) -> None:
        self.reach(self._done + 1, note)

    def tick(self) -> None:
        """Time has passed."""
        with self._lock:
            if self._clock() - self._told_at >= LINE_SECONDS:
                self._say()

    def ends(self) -> None:
        """It is over, done or not."""
        with self._lock:
            if self._done > self._told:
                self._say()

    def _say(self) -> None:
        self._told, self._told_at = self._done, self._clock()
        elapsed = duration(self._told_at - self._began)
        if not self._total:
            self._emit(f"{self._name:<15}{self._note}, {elapsed} so far")
            return
        left = self._pace.seconds_left
        ends = f"{elapsed} so far" if left is None else f"about {duration(left)} left"
        share = int(100 * self._done / self._total)
        note = f"; {self._note}" if self._note else ""
        counted = f"{self._shown(self._done)} of {self._shown(self._total)} ({share} %)"
        self._emit(f"{self._name:<15}{counted}, {f'{elapsed} in all' if self._done >= self._total else ends}{note}")


class TimeLeft(ProgressColumn):
    """The time left by a pace. The column of rich asks how fast the last steps came, which may be all at once: results
    of networks that were asked for together."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        left = self._pace.seconds_left
        return Text("-:--:--" if left is None else str(timedelta(seconds=round(left))), style="progress.remaining")


class Bar:
    """A stage as a bar."""

    def __init__(
        self,
        name: str,
        total: int | None,
        note: str,
        shown: Callable[[int], str] = "{:,}".format,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        counted = "{task.fields[counted]}"
        self._pace = Pace(total or 0, clock)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *([TextColumn(counted, markup=False)] if total else []),
            TimeElapsedColumn(),
            *([TextColumn("ETA"), TimeLeft(self._pace)] if total else []),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=not total,
        )
        self._total, self._shown, self._done = total, shown, 0
        self._job = self._bar.add_task(one_line(name), total=total, note=one_line(note), counted=self._counted())

    def reach(self, done: int, note: str | None = None) -> None:
        self._done = _at_most(done, self._total)
        self._pace.reach(self._done)
        fields: dict[str, Any] = {"counted": self._counted(), **({} if note is None else {"note": one_line(note)})}
        self._bar.update(self._job, completed=self._done, **fields)

    def advance(self, note: str | None = None) -> None:
        self.reach(self._done + 1, note)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _counted(self) -> str:
        return f"{self._shown(self._done)}/{self._shown(self._total or 0)}"


def _at_most(done: int, total: int | None) -> int:
    """Who counts steps ahead may have forgotten some."""
    return min(done, total) if total else done


@contextmanager
def stage(
    name: str, total: int | None = None, note: str = "", shown: Callable[[int], str] = "{:,}".format
) -> Iterator[ProgressView]:
    """A stage of `total` steps, or of an unknown number; `note` says what happens first, `shown` spells a number of
    steps."""
    if console.is_terminal:
        with Bar(name, total, note, shown) as bar:
            yield bar
        return
    lines, over = Lines(name, total, note, console.print, shown), threading.Event()
    ticking = threading.Thread(target=_ticking, args=(lines, over), name=f"progress of {name}", daemon=True)
    ticking.start()
    try:
        yield lines
    finally:
        over.set()
        ticking.join()
        lines.ends()


def _ticking(lines: Lines, over: threading.Event) -> None:
    while not over.wait(TICK_SECONDS):
        lines.tick()
