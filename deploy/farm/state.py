"""What a farm is to be: which searches, how many evaluators. Commands change it, and the farm's backend acts on it."""

import os
import re
import shutil
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deploy.farm.console import print_line
from services.application.supernet_store import SupernetStore
from shared.errors import UserError
from shared.files import write_atomically, writing
from shared.locks import is_open_at, locked, try_lock
from shared.settings import explain

BackendName = Literal["processes", "containers"]
Profile = Literal["cpu", "gpu"]
PORT = 5672
EVALUATORS = 2
LOOKING_SECONDS = 0.2
DEFINITIONS = re.compile("^load_definitions = (.+)/rabbitmq/definitions.json$", re.MULTILINE)
"""By which releases without the file `place` tell where a farm of processes was."""


class Search(BaseModel):
    """A search of the farm.

    Attributes:
        name: its own, which is its run's, too.
        supernet: digest of its super-network.
        begun: how often it was asked for: asking again restarts one that has ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    supernet: str
    begun: int = 1


class FarmSpec(BaseModel):
    """A farm.

    Attributes:
        backend: what runs it.
        profile: what containers compute on.
        port: of the broker, on 127.0.0.1.
        evaluators: how many there are of each super-network of which something is searched.
        preparing: names of searches that were asked for and have no super-network yet.
        searches: those that can run, in the order in which they were asked for.
        asked: how often the farm was asked for: asking again restarts evaluators that have ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: BackendName
    profile: Profile = "cpu"
    port: int = Field(default=PORT, ge=1, le=65535)
    evaluators: int = Field(default=EVALUATORS, ge=0)
    preparing: tuple[str, ...] = ()
    searches: tuple[Search, ...] = ()
    asked: int = 1

    @property
    def supernets(self) -> tuple[str, ...]:
        """The digests of the super-networks, each once."""
        return tuple(dict.fromkeys(search.supernet for search in self.searches))

    def with_search(self, name: str, supernet: str) -> "FarmSpec":
        """The farm with a search that can run, or begins again."""
        begun = max((search.begun for search in self.searches if search.name == name), default=0) + 1
        others = tuple(search for search in self.searches if search.name != name)
        preparing = tuple(other for other in self.preparing if other != name)
        searches = (*others, Search(name=name, supernet=supernet, begun=begun))
        return self.model_copy(update={"preparing": preparing, "searches": searches})

    def with_preparing(self, names: Iterable[str]) -> "FarmSpec":
        """The farm with searches added that are going to run."""
        return self.model_copy(update={"preparing": tuple(dict.fromkeys((*self.preparing, *names)))})

    def without(self, names: Container[str]) -> "FarmSpec":
        """The farm without the searches of these names."""
        return self.model_copy(update={"searches": tuple(each for each in self.searches if each.name not in names)})


@dataclass(frozen=True)
class FarmDirectory:
    """Where a farm's secrets, state and logs lie: only its owner may look in. Runs and super-networks lie beside it,
    not in it."""

    path: Path
    runs: Path

    @property
    def store(self) -> SupernetStore:
        """The super-networks."""
        return SupernetStore(self.runs.parent / "supernets")

    @property
    def credentials(self) -> Path:
        """Directory with a file USER that holds `USER:password` for each user of the broker."""
        return self.path / "credentials"

    @property
    def broker_files(self) -> Path:
        """Directory of definitions.json and rabbitmq.conf."""
        return self.path / "rabbitmq"

    @property
    def logs(self) -> Path:
        """Directory of logs."""
        return self.path / "logs"

    def search_file(self, name: str) -> Path:
        """The farm's own copy of a search file: the user's may change meanwhile."""
        return self.path / "searches" / f"{name}.yaml"

    def supernet(self, name: str) -> Path:
        """The super-network of a search: a link to its directory, once that is known."""
        return self.runs / name / "supernet"

    def make(self) -> None:
        """Make the directory, for its owner alone. Raises UserError where it, or one that it needs, can't be made."""
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise UserError(f"{self.path}: is no directory; `make destroy` removes it")
        with writing(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        for directory in (self.broker_files, self.logs, self.runs, self.store.path):
            with writing(directory):
                directory.mkdir(exist_ok=True)

    def remove(self) -> None:
        """Remove the directory, or what lies in its place. Raises UserError if something of it can't be removed."""
        shutil.rmtree(self.path, ignore_errors=True)  # as much as can be
        try:
            if self.path.is_symlink() or self.path.is_file():
                self.path.unlink()
            elif self.path.exists():
                shutil.rmtree(self.path)
        except OSError as error:
            raise UserError(
                f"{error.filename}: can't be removed ({error.strerror}); as root: rm -r {self.path}"
            ) from error

    @property
    def farm_file(self) -> Path:
        """What the farm is to be."""
        return self.path / "farm.json"

    @property
    def is_there(self) -> bool:
        """Whether there is a farm in the directory, whose name may be any."""
        return os.path.lexists(self.farm_file)

    def read(self) -> FarmSpec | None:
        """The farm; None if there is none. Raises UserError where its file is damaged, or of a later release."""
        path, remedy = self.farm_file, "`make destroy` removes the farm, runs/ and supernets/ stay"
        try:
            return FarmSpec.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error.strerror}); {remedy}") from error
        except ValidationError as error:
            raise UserError(f"{path}: damaged, or of a later release ({explain(error)}); {remedy}") from error

    def write(self, farm: FarmSpec) -> None:
        """Record what the farm is to be from now on."""
        write_atomically(self.farm_file, farm.model_dump_json(indent=2) + "\n")

    def previous_place(self) -> "FarmDirectory | None":
        """Where the farm was when it was brought up last, if that was elsewhere."""
        noted = _text(self.path / "place").strip()
        told = DEFINITIONS.search(_text(self.broker_files / "rabbitmq.conf"))
        path = Path(noted or (told[1] if told else self.path))
        return None if path == self.path else FarmDirectory(path, path.parent / self.runs.name)

    def record_place(self) -> None:
        """Record where the farm is, for `previous_place`."""
        write_atomically(self.path / "place", f"{self.path}\n")

    @contextmanager
    def process_lock(self, command: str, shared: bool = False, patience: float = float("inf")) -> Iterator[None]:
        """Keep other commands from starting or ending the farm's processes meanwhile.

        Waits for one that does, and says so; but `shared` holders don't wait for one another. After `patience` seconds
        it is waited for no longer. Held for minutes at most. The directory may be removed meanwhile; where there is
        none, there is nothing to wait for. The lock file has the name that earlier releases lock.
        """
        deadline = time.monotonic() + patience
        said = False
        while self.path.is_dir():
            with writing(self.path):
                lock = (self.path / ".turn").open("a+")
            with lock:
                ours = try_lock(lock, shared)
                if ours and is_open_at(lock, self.path / ".turn"):
                    lock.truncate(0)
                    lock.write(f"`{command}`, process {os.getpid()}")
                    lock.flush()
                    yield
                    return
                if time.monotonic() > deadline:
                    break
                if not ours and not said:
                    lock.seek(0)
                    print_line(f"Waiting        for {lock.read() or 'another command'}")
                    said = True
            time.sleep(LOOKING_SECONDS)
        yield

    @contextmanager
    def state_lock(self) -> Iterator[None]:
        """Keep other commands from changing the farm meanwhile. Held for moments only."""
        with locked(self.path / ".lock", wait=lambda: None):
            yield


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
