"""Where an export lies: written beside its place, and put there when it is whole. Loads no model."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.application.run_directory import RunDirectory
from services.application.supernet_store import is_supernet
from services.reporting.wording import size
from shared.errors import UserError
from shared.files import NO_SPACE, UnwritableError, is_file, writing
from shared.json_text import parse_json
from shared.locks import try_lock
from shared.manifest import EXPORT, FINISHED

EXPORTS = Path("exports")
"""Where exports lie by default."""
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
    def of(cls, output: Path, run: RunDirectory | None, force: bool) -> "Place":
        """Raises UserError where no export may lie: within a run or a super-network, or where something is already.
        `force`: an earlier export gives way, if nothing lies in it that it didn't bring."""
        with writing(output):
            target = Path(os.path.realpath(output))
        place = cls(target, force)
        refuse_within(output, target, run)
        place._require_free(output)
        return place

    def _require_free(self, said: Path) -> None:
        """Raise UserError if something lies there that must stay; `said` is how the place is called."""
        if not os.path.lexists(self.target):
            return
        if not self.target.is_dir():
            raise UserError(f"{said}: is a file; name a directory with --output")
        with writing(said):
            if any(self.target.iterdir()):
                if not self.force:
                    raise UserError(f"{said}: exists already; give another --output, or --force to replace it")
                _require_nothing_else(said, self.target)
            if Path.cwd().is_relative_to(self.target):
                raise UserError(
                    f"{said}: is where you are, or around it, and would be replaced; go elsewhere, or give another "
                    "--output"
                )

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
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_SPACE
            remedy = f"{'free some space, or ' if full else ''}name another directory with --output"
            raise UserError(f"{error.what}; {remedy}") from error

    def _claimed(self, scratch: Path) -> int:
        """The scratch directory, open and locked until it is closed, however this process ends."""
        while True:
            scratch.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                descriptor = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
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
        if _record(self.target) is not None:
            shutil.rmtree(replaced)
            return
        replaced.rename(self.target)
        if not self.force:
            raise UserError(f"{self.target}: an earlier export was put back there; --force replaces it")

    def _put(self, scratch: Path) -> None:
        self._require_free(self.target)  # again, as writing may have taken hours
        replaced = self._beside(REPLACED)
        gives_way = self.target.is_dir()
        if gives_way:
            self.target.rename(replaced)
        try:
            scratch.rename(self.target)
        except BaseException:
            if gives_way:
                replaced.rename(self.target)
            raise
        shutil.rmtree(replaced, ignore_errors=True)

    def _beside(self, suffix: str) -> Path:
        return self.target.with_name(f".{self.target.name}{suffix}")


def _record(directory: Path) -> dict[str, Any] | None:
    """What an export says of itself; None where there is none."""
    try:
        found = parse_json((directory / EXPORT).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("files"), list) else None


def _require_nothing_else(said: Path, directory: Path) -> None:
    """Raise UserError for a directory that holds anything but an export: `--force` must cost nobody a file."""
    record = _record(directory)
    if record is None:
        raise UserError(f"{said}: holds something else than an export, which --force doesn't replace; remove it")
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        if name not in (EXPORT, *record["files"]) and (path.is_symlink() or not path.is_dir()):
            raise UserError(
                f"{said}: holds {name}, which is no part of the export and would be lost; move it away, or give "
                "another --output"
            )


def refuse_within(output: Path, target: Path, run: RunDirectory | None) -> None:
    """Raise UserError for a place within a run, a super-network or a finished network: each holds nothing else."""
    for above in (target, *target.parents):
        history = is_file(RunDirectory(above).history) or is_file(above / STUDY_HISTORY)
        if history or (run is not None and above == run.path.resolve()):
            raise UserError(f"{output}: lies in the run {above}, which holds no exports; give another --output")
        if is_supernet(above) or (run is not None and above == run.supernet.resolve()):
            raise UserError(f"{output}: lies in the super-network {above}, which must stay as it is; give another")
        if above != target and is_file(above / FINISHED):
            raise UserError(f"{output}: lies in the finished network {above}, which holds nothing else; give another")


def default_output(run: str, network: str, suffix: str) -> Path:
    """Where an export goes of which nothing is said: exports/RUN-N5-hf."""
    return EXPORTS / f"{run}-{network.replace(' ', '-')}-{suffix}"
