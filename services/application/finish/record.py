"""`finished.json`: what a finished network is, and whether it got better; beside it the answers that this follows
from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from services.exporter.card.facts import SearchFacts
from services.reporting.comparisons import compare, macro_row, task_rows
from services.reporting.item_answers import ItemAnswers
from services.reporting.report_data import Comparison, TaskRow
from shared.architecture import Architecture
from shared.errors import UserError
from shared.files import write_atomically
from shared.manifest import FINISHED, FINISHED_ANSWERS
from shared.messages import Dtype, ItemScores
from shared.network.shape import NetworkShape
from shared.settings import SearchSettings, TrainingSettings, explain, parse_settings

SCORES: TypeAdapter[dict[str, tuple[ItemScores, ...]]] = TypeAdapter(dict[str, tuple[ItemScores, ...]])


class NetworkResult(BaseModel):
    """A network on the report items: over all of them, task by task, and in the mean over several tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    interval: tuple[float, float]
    by_task: dict[str, TaskRow]
    macro: TaskRow | None


class FinishedResults(BaseModel):
    """The dense network, and the network before and after it was finished; the latter against both, paired, with the
    95 % intervals of the differences. `items`: how many report items there are; `used_before`: how many networks were
    measured on them before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int
    used_before: int
    dense: NetworkResult
    before: NetworkResult
    finished: NetworkResult
    versus_before: Comparison
    versus_dense: Comparison


class FinishedRecord(BaseModel):
    """What `finished.json` holds.

    `run` and `network` are their names, `architecture` is what the run's search measured, in INT8 or not, `supernet`
    the digest of the super-network that it was cut out of and taught by; `base` the base model's id or directory,
    `base_network` its layers as JSON; `plan` the digest of the recipe, which `recipe.json` holds, of the `training`;
    `dtype` and `settings` are those of the search, by which it was measured again; `search` how it was found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run: str
    network: str
    architecture: Architecture
    supernet: str
    base: str
    base_network: dict[str, Any]
    plan: str
    training: TrainingSettings
    dtype: Dtype
    settings: dict[str, Any]
    search: SearchFacts | None
    results: FinishedResults

    def write(self, directory: Path) -> None:
        """Write it into the checkpoint's directory."""
        write_atomically(directory / FINISHED, json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Raises UserError where it is missing or damaged."""
        path = directory / FINISHED
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(f"{directory}: no finished network; `nasfarm finish RUN N5` makes one") from error
        except ValidationError as error:
            raise UserError(
                f"{path}: {explain(error)}; copy it again, or remove the directory and finish the network again"
            ) from error

    def searched(self, directory: Path) -> SearchSettings:
        """The search's settings."""
        return parse_settings(self.settings, str(directory / FINISHED))

    def whole(self, directory: Path) -> NetworkShape:
        """The layers of the network that it was cut out of."""
        return NetworkShape.from_json(self.base_network, str(directory / FINISHED))


@dataclass(frozen=True)
class Answers:
    """What networks answered to the report items; `base`, the untouched model, where that is known."""

    finished: ItemAnswers
    before: ItemAnswers
    dense: ItemAnswers
    base: ItemAnswers | None

    def results(self, used_before: int) -> FinishedResults:
        """What follows from them."""
        return FinishedResults(
            items=len(self.finished.values),
            used_before=used_before,
            dense=self._result(self.dense),
            before=self._result(self.before),
            finished=self._result(self.finished),
            versus_before=compare(self.finished, self.before),
            versus_dense=compare(self.finished, self.dense),
        )

    def _result(self, one: ItemAnswers) -> NetworkResult:
        against = (None if one is self.dense else self.dense, self.base)
        return NetworkResult(
            accuracy=one.accuracy,
            interval=one.interval,
            by_task=task_rows(one, *against),
            macro=macro_row(one, *against),
        )

    def write(self, directory: Path) -> None:
        """Write them into the checkpoint's directory."""
        known = {"finished": self.finished, "before": self.before, "dense": self.dense, "base": self.base}
        scores = {name: answers.scores for name, answers in known.items() if answers is not None}
        write_atomically(directory / FINISHED_ANSWERS, SCORES.dump_json(scores) + b"\n")

    @classmethod
    def read(cls, directory: Path, metrics: tuple[str, ...]) -> Self:
        """Raises UserError where they are missing or damaged."""
        path = directory / FINISHED_ANSWERS
        try:
            scores = SCORES.validate_json(path.read_bytes())
            known = {name: ItemAnswers(scores[name], metrics) for name in ("finished", "before", "dense")}
        except (OSError, ValidationError, KeyError) as error:
            raise UserError(f"{path}: can't be read; copy it again, or finish the network again") from error
        base = ItemAnswers(scores["base"], metrics) if "base" in scores else None
        return cls(**known, base=base)
