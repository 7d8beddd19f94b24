"""What must be so after all that happened: nothing lost, nothing doubled, and the front of an undisturbed search."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from services.coordinator.history import History
from services.coordinator.plan import plan_of
from services.reporting.assemble import assemble
from shared.messages import EvaluationRequest, Failure, Measurement
from shared.settings import read_search_file
from tests.chaos.arena import Run
from tests.support.pretending import pretend
from tests.support.searches import search
from tests.support.stand_in import concerns

MEASUREMENT = "measurement"


@dataclass(frozen=True)
class Verdict:
    """What became of a search's networks.

    Attributes:
        asked: candidates of the search, and networks of its report.
        lost: those without an outcome.
        doubled: those with more than one.
        failed: those whose outcome is a failure, by its kind.
        differing: outcomes that an undisturbed search has not, or has otherwise.
        same_front: whether the front is that of an undisturbed search.
    """

    asked: int
    lost: int
    doubled: int
    failed: Counter[str]
    differing: int
    same_front: bool

    @property
    def good(self) -> bool:
        """Whether nothing was harmed."""
        return self.same_front and not (self.lost or self.doubled or self.differing)


def judge(run: Run, killers: float, directory: Path) -> Verdict:
    """Compare a finished search with the same one in a single process, which is done in `directory`.

    `killers` is the share of networks that kill evaluators: in the undisturbed search they fail as `dead_lettered`.
    """
    undisturbed = directory / "history.sqlite"
    settings = read_search_file(run.search_file)
    with closing(History.read(run.directory / "history.sqlite")) as history:
        plan = plan_of(history, settings)
        asked = {candidate.identity for candidate in history.candidates()}
    chosen, seen, _, reference = search(plan, undisturbed, _answer(killers), report=True)
    with closing(reference):
        front = assemble(plan, reference, chosen).model_dump(mode="json", include={"front"})["front"]
    found, expected = outcomes(run.directory / "history.sqlite"), outcomes(undisturbed)
    asked |= set(seen)
    return Verdict(
        asked=len(asked),
        lost=len(asked - set(found)),
        doubled=sum(len(each) > 1 for each in found.values()),
        failed=Counter(kind for each in found.values() for kind, _ in each if kind != MEASUREMENT),
        differing=sum(found.get(identity) != expected.get(identity) for identity in found.keys() | expected.keys()),
        same_front=json.loads((run.directory / "front.json").read_text())["front"] == front,
    )


def outcomes(path: Path) -> dict[str, list[tuple[str, str]]]:
    """The outcomes that a history holds of each identity: their kinds, and what doesn't differ from run to run."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute("select identity, kind, outcome from measurements order by sequence").fetchall()
    found: dict[str, list[tuple[str, str]]] = {}
    for identity, kind, text in rows:
        told = (kind, json.dumps(json.loads(text)["scores"]) if kind == MEASUREMENT else "")
        found.setdefault(identity, []).append(told)
    return found


def _answer(killers: float) -> Callable[[EvaluationRequest], Measurement | Failure]:
    def answer(request: EvaluationRequest) -> Measurement | Failure:
        if concerns(str(killers), request.architecture):
            return Failure(kind="dead_lettered", reason="killed its evaluator")
        return pretend(request)

    return answer
