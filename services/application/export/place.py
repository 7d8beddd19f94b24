"""Where an export lies: written beside its place, and put there when it is whole. Loads no model."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.application.run_directory import RunDirectory
from services.application.supernet_store import is_supernet
from services.reporting.wording import size
from shared.errors import UserError
from shared.files import UnwritableError, is_file, writing
from shared.locks import try_lock

EXPORTS = Path("exports")
"""Where exports lie by default."""
RECORD = "export.json"
"""In every export: what it holds and what it was made of. Only what has it is ever replaced."""
UNFINISHED = ".unfinished"
REPLACED = ".replaced"
STUDY_HISTORY = "study.sqlite"


@dataclass(frozen=True)
class Place:
    """The directory of an export. Beside it lie, as long as it is written, `.NAME.unfinished` and, in the moment in
    which an earlier export gives way, `.NAME.replaced`; what was left there by a process that was killed is cleared
    away by the next export to the same place, or the earlier export put back."""

    target: Path
    force: bool

    @classmethod
    def of(cls, output: Path, run: RunDirectory, force: bool) -> "Place":
        """Raises UserError where no export may lie: within a run or a super-network or around them, or where something
        is already. `force`: an earlier export gives way."""
        with writing(output):
            target = output.resolve()
        place = cls(target, force)
        _refuse_within(output, target, run)
        if not os.path.lexists(target):
            return place
        if not target.is_dir():
            raise UserError(f"{output}: is a file; name a directory with --output")
        with writing(output):
            empty, export = not any(target.iterdir()), (target / RECORD).is_file()
        if empty:
            return place
        if not force:
            raise UserError(f"{output}: exists already; give another --output, or --force to replace it")
        if not export:
            raise UserError(f"{output}: holds something else than an export, which --force doesn't replace; remove it")
        for kept, what in ((run.path.resolve(), "the run"), (run.supernet.resolve(), "its super-network")):
            if kept.is_relative_to(target):
                raise UserError(f"{output}: {what} lies in there; give another --output")
        return place

    def require_space(self, needed: int) -> None:
        """Raise UserError if so many bytes don't fit on the disk."""
        with writing(self.target):
            existing = next(parent for parent in self.target.parents if parent.is_dir())
            free = shutil.disk_usage(existing).free
        if needed > free:
            raise UserError(
                f"{self.target}: needs {size(needed)}, {size(free)} are free; make room, or name another place with "
                "--output"
            )

    @contextmanager
    def written(self) -> Iterator[Path]:
        """An empty directory beside the place, which becomes it when the context ends well, and is removed otherwise.

        Raises UserError where it can't be made, or another process writes there; so does what can't be written within
        the context, where that is raised as `shared.files.writing` does.
        """
        try:
            with writing(self.target):
                self.target.parent.mkdir(parents=True, exist_ok=True)
                scratch = self._beside(UNFINISHED)
                descriptor = self._claimed(scratch)
            try:
                with writing(self.target):
                    self._recover()
                    for left in scratch.iterdir():
                        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
                yield scratch
                with writing(self.target):
                    self._put(scratch)
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
            finally:
                os.close(descriptor)
        except UnwritableError as error:
            remedy = "free some space, or name another directory with --output"
            raise UserError(f"{error.what}; {remedy}") from error

    def _claimed(self, scratch: Path) -> int:
        """The scratch directory, open and locked until it is closed, however this process ends."""
        while True:
            scratch.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                descriptor = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if not try_lock(descriptor):
                        raise UserError(f"{self.target}: another export is being written there; wait for it")
                    if os.path.samestat(os.fstat(descriptor), scratch.stat()):
                        return descriptor  # and not what another process has just put in its place
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)

    def _recover(self) -> None:
        """Put back, or clear away, an earlier export that was giving way when a process was killed."""
        replaced = self._beside(REPLACED)
        if not replaced.is_dir():
            return
        if self.target.exists():
            shutil.rmtree(replaced)
            return
        replaced.rename(self.target)
        if not self.force:
            raise UserError(f"{self.target}: an earlier export was put back there; --force replaces it")

    def _put(self, scratch: Path) -> None:
        replaced = self._beside(REPLACED)
        if self.force and self.target.is_dir():
            self.target.rename(replaced)
        scratch.rename(self.target)
        shutil.rmtree(replaced, ignore_errors=True)

    def _beside(self, suffix: str) -> Path:
        return self.target.with_name(f".{self.target.name}{suffix}")


def _refuse_within(output: Path, target: Path, run: RunDirectory) -> None:
    for above in (target, *target.parents):
        history = any(is_file(above / name) for name in (run.history.name, STUDY_HISTORY))
        if above == run.path.resolve() or history:
            raise UserError(f"{output}: lies in the run {above}, which holds no exports; give another --output")
        if above == run.supernet.resolve() or is_supernet(above):
            raise UserError(f"{output}: lies in the super-network {above}, which must stay as it is; give another")


def default_output(run: str, network: str, suffix: str) -> Path:
    """Where an export goes of which nothing is said: exports/RUN-N5-hf."""
    return EXPORTS / f"{run}-{network.replace(' ', '-')}-{suffix}"
