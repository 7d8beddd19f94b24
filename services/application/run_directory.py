"""A run's directory: where everything of one search lies, used by one process at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UserError
from shared.files import is_file, write_atomically, writing
from shared.locks import locked
from shared.settings import SearchSettings, check_new_name, read_search_file
from shared.yaml_text import format_yaml

STUDY_FILE = "study.yaml"
"""What tells the directory of a study (`services.application.study`) from a run's."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run; of one of a study's searches, `study` is the study's directory."""

    path: Path
    study: Path | None = None

    @property
    def search_file(self) -> Path:
        """Copy of the search file as it was last run."""
        return self.path / "search.yaml"

    @property
    def supernet(self) -> Path:
        """The super-network's checkpoint: a link to where it lies, or, in runs of earlier releases, itself."""
        return self.path / "supernet"

    @property
    def history(self) -> Path:
        """The search's history."""
        return self.path / "history.sqlite"

    @property
    def report(self) -> Path:
        """The search's report, once it is written."""
        return self.path / "report.html"

    def settings(self) -> SearchSettings:
        """The search as it was last run. Raises UserError if this is no run."""
        if not self.search_file.is_file():
            raise UserError(f"{self.path}: not a run, it has no search.yaml; give a directory such as runs/NAME")
        return read_search_file(self.search_file)

    def record(self, settings: SearchSettings) -> None:
        """Keep a copy of the search file, for `status` and `report`."""
        write_atomically(self.search_file, format_yaml(settings.model_dump(mode="json")))

    def link(self, supernet: Path) -> None:
        """Have `supernet` lead to a super-network, which may still be made.

        Raises UserError where the run has one of its own, or the link can't be written.
        """
        if self.supernet.resolve() == supernet.resolve():
            return
        if self.supernet.is_dir() and not self.supernet.is_symlink():
            raise UserError(
                f"{self.supernet}: the run has one of its own; remove it, or change `name` in the search file"
            )
        link_to(self.supernet, supernet, self.study or self.path)

    def check_name(self) -> None:
        """Raise UserError if a new run would have too long a name; runs of earlier releases keep theirs."""
        if not os.path.lexists(self.path):
            check_new_name(self.path.name)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes out. Raises UserError if one works in this run already, its name is too long, or the
        directory can't be made."""
        self.check_name()
        if is_study(self.path):
            raise UserError(f"{self.path}: is the directory of a study; change `name` in the search file")
        with claimed(self.path, "run"):
            yield


def is_study(path: Path) -> bool:
    """Whether a directory among the runs is a study's."""
    return is_file(path / STUDY_FILE)


def link_to(link: Path, supernet: Path, owner: Path) -> None:
    """Have a link lead to a super-network, which may still be made, from within `owner`, one of the runs or studies.
    Raises UserError where it can't be written."""
    here, target = link.parent.resolve(), supernet.resolve()
    if link.resolve() == target:
        return
    # What lies beside the runs is still found when all of it is moved.
    beside = target.parent.parent == owner.resolve().parent.parent
    new = here / f".{link.name}"
    with writing(link):
        here.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        new.symlink_to(os.path.relpath(target, here) if beside else target)
        new.replace(link)


@contextmanager
def claimed(path: Path, what: str) -> Iterator[None]:
    """Keep other processes out of the directory of a run or a study. Raises UserError if one works there already, or
    the directory can't be made."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    with locked(path / ".lock") as ours:
        if not ours:
            raise UserError(f"{path}: another nasfarm works in this {what}; wait for it or stop it")
        yield
