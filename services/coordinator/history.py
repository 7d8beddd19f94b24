"""The history of a search: one SQLite file, one writer, append only. A killed search is resumed from it."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from services.coordinator.migrations import (
    CANDIDATES_INDEX,
    FORMAT,
    KNOWN,
    MEASUREMENTS,
    MEASUREMENTS_INDEX,
    forbid_changes,
    format_of,
    migrate,
)
from services.coordinator.read_only import in_memory, open_to_read
from services.coordinator.validity import flaw
from shared.architecture import Architecture
from shared.errors import UserError
from shared.files import writing
from shared.generation import GenerationRow
from shared.identity import difference
from shared.messages import EvaluationRequest, Failure, Measurement, Outcome

STATEMENTS = (
    "create table about (key text primary key, value text not null) strict",
    f"""create table candidates (
        number integer primary key, generation integer not null, architecture text not null unique,
        identity text not null, predicted real, {KNOWN}
    ) strict""",
    MEASUREMENTS,
    MEASUREMENTS_INDEX,
    "create table generations (generation integer primary key, content text not null) strict",
    CANDIDATES_INDEX,
)
OUTCOMES: TypeAdapter[Measurement | Failure] = TypeAdapter(Outcome)
CANDIDATES = "select number, generation, architecture, identity, predicted, known from candidates"


@dataclass(frozen=True)
class Candidate:
    """A network that the strategy asked for: its number from 1, its generation from 0, the accuracy that was
    predicted; and, in an asynchronous search, the number of the last arrival that the strategy knew of."""

    number: int
    generation: int
    architecture: Architecture
    identity: str
    predicted: float | None
    known: int | None = None


@dataclass(frozen=True)
class Arrival:
    """An outcome that was stored: its number, which only grows, and whose it is."""

    number: int
    identity: str
    outcome: Measurement | Failure


def another_search(path: Path, difference: str) -> UserError:
    """A history that isn't the one of the search that is to be continued; the difference is in words."""
    return UserError(
        f"{path}: belongs to another search ({difference}); restore the search file and the model, "
        "or change `name` in the search file to begin a new one"
    )


class History:
    """A search's history. Its recipe says which search it belongs to, and is compared whenever it is opened to be
    continued; one of an earlier release is migrated then. `metrics` says what is counted of each task, by its name,
    where the recipe doesn't."""

    def __init__(self, path: Path, connection: sqlite3.Connection, metrics: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._connection = connection
        self._given_metrics = metrics

    @classmethod
    def create_or_resume(cls, path: Path, about: dict[str, Any], metrics: Mapping[str, str] | None = None) -> Self:
        """Open the history to continue it, or begin it with the facts in `about`, of which `recipe` is compared.

        Raises UserError if it belongs to a search of another recipe, isn't a history, or can't be written.
        """
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with _problems(path):
            if not path.exists():
                cls._begin_whole(path, about)
            history = cls(path, _connect(path), metrics)
            if not history._connection.execute("select 1 from sqlite_master").fetchone():
                history._begin(about)
            elif _readable_format(path, history._connection) < FORMAT:
                with history._writing():
                    migrate(history._connection)
        found = difference(history.about()["recipe"], json.loads(json.dumps(about["recipe"])))
        if found is not None:
            raise another_search(path, found)
        return history

    @classmethod
    def read(cls, path: Path, metrics: Mapping[str, str] | None = None) -> Self:
        """Open an existing history to look at it; nothing of the run is changed, and it may belong to another user.

        Raises UserError if there is none, or it can't be read.
        """
        try:
            with _problems(path):
                connection = open_to_read(path)
                if _readable_format(path, connection) < FORMAT:
                    connection = in_memory(connection)
                    migrate(connection)
                return cls(path, connection, metrics)
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such history; `nasfarm search` makes one") from error
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error.strerror}); have its owner let you read it") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def about(self) -> dict[str, Any]:
        """What the history belongs to."""
        with _problems(self.path):
            rows = self._connection.execute("select key, value from about").fetchall()
        return {key: json.loads(value) for key, value in rows}

    def note(self, key: str, value: Any) -> None:
        """Add a fact about the search; the first one noted under a key stays."""
        with self._writing():
            self._connection.execute("insert or ignore into about values (?, ?)", (key, json.dumps(value)))

    def add_candidates(
        self,
        generation: int,
        candidates: Sequence[tuple[EvaluationRequest, float | None]],
        known: int | None = None,
    ) -> None:
        """Record what a generation asks for, with the predicted accuracies, and the last arrival that was `known`.

        A generation that is recorded stays as it is: earlier releases wrote the same architectures in other words.
        """
        with self._writing():
            recorded = "select 1 from candidates where generation = ? limit 1"
            if self._connection.execute(recorded, (generation,)).fetchone() is not None:
                return
            for request, predicted in candidates:
                self._connection.execute(
                    "insert or ignore into candidates (generation, architecture, identity, predicted, known) "
                    "values (?, ?, ?, ?, ?)",
                    (generation, request.architecture.model_dump_json(), request.identity, predicted, known),
                )

    def generation(self, number: int) -> list[Candidate]:
        """The candidates of a generation, in the order in which they were asked for."""
        return self._read_candidates(f"{CANDIDATES} where generation = ? order by number", number)

    def candidates(self) -> list[Candidate]:
        """All candidates, in the order in which they were asked for."""
        return self._read_candidates(f"{CANDIDATES} order by number")

    def asked(self) -> int:
        """How many candidates there are."""
        with _problems(self.path):
            (number,) = self._connection.execute("select count(*) from candidates").fetchone()
        return int(number)

    def add_results(self, results: Sequence[tuple[EvaluationRequest, Measurement | Failure]]) -> None:
        """Store outcomes under their requests' identities, all or none of them.

        Of several measurements of one request, and of several failures, the first one stays. Measurements must be
        valid (see `flaw`).
        """
        received = _now()
        with self._writing():
            for request, outcome in results:
                if next(self._outcomes(request.identity, isinstance(outcome, Measurement)), None) is not None:
                    continue
                self._connection.execute(
                    "insert into measurements (identity, request, outcome, kind, received) values (?, ?, ?, ?, ?)",
                    (request.identity, request.model_dump_json(), outcome.model_dump_json(), outcome.kind, received),
                )

    def knows(self, identity: str) -> bool:
        """Whether there is an outcome under an identity."""
        with _problems(self.path):
            found = self._connection.execute("select 1 from measurements where identity = ?", (identity,)).fetchone()
        return found is not None

    def outcome(self, identity: str) -> Measurement | Failure | None:
        """What is known under an identity: the first valid measurement, else the first failure; None if nothing is.

        Earlier releases stored measurements without looking at them.
        """
        return next(chain(self._outcomes(identity, measured=True), self._outcomes(identity, measured=False)), None)

    def flaw(self, request: EvaluationRequest, measurement: Measurement) -> str | None:
        """Why a measurement is no answer to a request of this search, in words; None if it is one."""
        return flaw(request, measurement, self._metrics)

    @cached_property
    def _metrics(self) -> Mapping[str, str]:
        """What is counted of each task, by its name."""
        if self._given_metrics is not None:
            return self._given_metrics
        return {task["name"]: task["metric"] for task in self.about()["recipe"]["tasks"]}

    def _outcomes(self, identity: str, measured: bool) -> Iterator[Measurement | Failure]:
        """The measurements under an identity, but for those that are no answers, or the failures."""
        with _problems(self.path):
            rows = self._connection.execute(
                "select request, outcome from measurements where identity = ? and (kind = 'measurement') = ? "
                "order by sequence",
                (identity, measured),
            ).fetchall()
        for request, text in rows:
            outcome = self._valid(request, text)
            if outcome is not None:
                yield outcome

    def arrivals(self, after: int) -> list[Arrival]:
        """The outcomes that were stored after the arrival of this number, in the order in which they came, but for
        those that are no answers. A network that failed may be measured later."""
        with _problems(self.path):
            rows = self._connection.execute(
                "select sequence, identity, request, outcome from measurements where sequence > ? order by sequence",
                (after,),
            ).fetchall()
        valid = ((number, identity, self._valid(request, text)) for number, identity, request, text in rows)
        return [Arrival(number, identity, outcome) for number, identity, outcome in valid if outcome is not None]

    def _valid(self, request: str, text: str) -> Measurement | Failure | None:
        """An outcome that was stored; None if it is no answer."""
        outcome = _outcome(text)
        if isinstance(outcome, Measurement) and self.flaw(EvaluationRequest.model_validate_json(request), outcome):
            return None
        return outcome

    def measured(self) -> list[EvaluationRequest]:
        """What measurements there are of, in the order in which they came; failures are none."""
        with _problems(self.path):
            rows = self._connection.execute(
                "select request from measurements where kind = 'measurement' order by sequence"
            ).fetchall()
        return [EvaluationRequest.model_validate_json(text) for (text,) in rows]

    def int8_version(self) -> int:
        """How the latest of its networks in INT8 were computed; 1 where there are none."""
        with _problems(self.path):
            (version,) = self._connection.execute(
                "select max(json_extract(request, '$.spec.int8_version')) from measurements"
            ).fetchone()
        return version or 1

    def add_generation(self, row: GenerationRow) -> None:
        """Record the state after a generation; what is there already stays."""
        with self._writing():
            self._connection.execute(
                "insert or ignore into generations values (?, ?)", (row.generation, row.model_dump_json())
            )

    def generations(self) -> list[GenerationRow]:
        """The state after each finished generation."""
        with _problems(self.path):
            rows = self._connection.execute("select content from generations order by generation").fetchall()
        return [GenerationRow.model_validate_json(text) for (text,) in rows]

    def _read_candidates(self, query: str, *values: int) -> list[Candidate]:
        with _problems(self.path):
            rows = self._connection.execute(query, values).fetchall()
        return [
            Candidate(number, generation, Architecture.model_validate_json(text), identity, predicted, known)
            for number, generation, text, identity, predicted, known in rows
        ]

    @classmethod
    def _begin_whole(cls, path: Path, about: dict[str, Any]) -> None:
        """Begin a history beside its place, then put it there: who looks never sees one without tables, whenever its
        writer is killed."""
        scratch = path.with_name(f".{path.name}.begun")
        with writing(path):
            for suffix in ("", "-wal", "-shm", "-journal"):
                scratch.with_name(scratch.name + suffix).unlink(missing_ok=True)
        history = cls(path, _connect(scratch))
        try:
            history._begin(about)
        finally:
            history.close()
        with writing(path):
            scratch.replace(path)

    def _begin(self, about: dict[str, Any]) -> None:
        facts = {"format": str(FORMAT), **about, "created": _now()}
        with _problems(self.path):
            self._connection.execute("pragma journal_mode = wal")  # kept in the file
        with self._writing():
            for statement in STATEMENTS:
                self._connection.execute(statement)
            forbid_changes(self._connection)
            self._connection.executemany(
                "insert into about values (?, ?)", [(key, json.dumps(value)) for key, value in facts.items()]
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with _problems(self.path):
            self._connection.execute("begin immediate")
            try:
                yield
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise


def _outcome(text: str) -> Measurement | Failure | None:
    """An outcome that was stored; None for one with numbers that aren't finite, which JSON has no words for."""
    try:
        return OUTCOMES.validate_json(text)
    except ValidationError:
        return None


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma synchronous = full")
    return connection


def _readable_format(path: Path, connection: sqlite3.Connection) -> int:
    """The history's format. Raises UserError for a newer one."""
    number = format_of(connection)
    if number is None or number < 1:
        raise UserError(f"{path}: not a history of nasfarm; move it away or change `name` in the search file")
    if number > FORMAT:
        raise UserError(f"{path}: written by a newer release of nasfarm; use that, or a newer one")
    return number


@contextmanager
def _problems(path: Path) -> Iterator[None]:
    """Turn SQLite's complaints about the file into one line for the user."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise UserError(
                f"{path}: not a history of nasfarm; remove it or change `name` in the search file"
            ) from error
        raise UserError(
            f"{path}: {error}; nothing stored so far is lost: fix that and run the same command again"
        ) from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # a subclass of it is a bug; it itself means that the file is foreign or damaged
        raise UserError(f"{path}: not a history of nasfarm ({error}); move it away or change `name`") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
