"""What a farm is to be: which searches, how many evaluators. Commands change it, whoever runs the farm acts on it."""

import fcntl
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.cli.supernets import SupernetStore
from shared.errors import UserError
from shared.files import write_atomically, writing
from shared.settings import explain

BackendName = Literal["processes", "containers"]
Profile = Literal["cpu", "gpu"]
PORT = 5672
EVALUATORS = 2


class Search(BaseModel):
    """A search of the farm.

    Attributes:
        name: its own, which is its run's, too.
        supernet: digest of its super-network.
        begun: how often it was asked for; asking again starts one that had ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    supernet: str
    begun: int = 1


class Farm(BaseModel):
    """A farm.

    Attributes:
        backend: what runs it.
        profile: what containers compute on.
        port: of the broker, on 127.0.0.1.
        evaluators: how many there are of each super-network of which something is searched.
        preparing: names of searches that were asked for and have no super-network yet.
        searches: those that can run, in the order in which they were asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: BackendName
    profile: Profile = "cpu"
    port: int = Field(default=PORT, ge=1, le=65535)
    evaluators: int = Field(default=EVALUATORS, ge=0)
    preparing: tuple[str, ...] = ()
    searches: tuple[Search, ...] = ()

    @property
    def supernets(self) -> tuple[str, ...]:
        """The digests of the super-networks, each once."""
        return tuple(dict.fromkeys(search.supernet for search in self.searches))

    def with_search(self, name: str, supernet: str) -> "Farm":
        """The farm with a search that can run, or begins again."""
        begun = max((search.begun for search in self.searches if search.name == name), default=0) + 1
        others = tuple(search for search in self.searches if search.name != name)
        preparing = tuple(other for other in self.preparing if other != name)
        searches = (*others, Search(name=name, supernet=supernet, begun=begun))
        return self.model_copy(update={"preparing": preparing, "searches": searches})

    def preparing_for(self, names: Iterable[str]) -> "Farm":
        """The farm with searches noted that are going to run."""
        return self.model_copy(update={"preparing": tuple(dict.fromkeys((*self.preparing, *names)))})

    def without(self, names: Container[str]) -> "Farm":
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
        """Make the directory, for its owner alone."""
        with writing(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            for directory in (self.broker_files, self.logs, self.runs, self.store.path):
                directory.mkdir(exist_ok=True)

    def read(self) -> Farm | None:
        """The farm; None if there is none. Raises UserError where its file is damaged."""
        path = self.path / "farm.json"
        try:
            return Farm.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise UserError(f"{path}: {explain(error)}; `make destroy` removes the farm, runs/ stays") from error

    def write(self, farm: Farm) -> None:
        """Say what the farm is to be from now on."""
        write_atomically(self.path / "farm.json", farm.model_dump_json(indent=2) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands from changing the farm meanwhile. Held for moments only."""
        with writing(self.path):
            lock = (self.path / ".lock").open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
