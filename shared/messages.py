"""What crosses the queue: evaluation requests and their results, versioned JSON and nothing else."""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.architecture import Architecture
from shared.digest import digest_json

Dtype = Literal["float32", "bfloat16"]


class Message(BaseModel):
    """Common to all parts of a message: immutable, and no field that isn't known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckpointRef(Message):
    """A checkpoint directory and the digest of its content; the digest is what counts."""

    location: str
    digest: str


class TaskItems(Message):
    """Some items of one lm-eval task.

    The items of a split are put into an order that depends on nothing but their number; `start` and `stop` count in
    that order, so that ranges that don't overlap share no item. `split` is None for the split that lm-eval scores.
    """

    task: str
    num_fewshot: int | None = None
    split: str | None = None
    start: Annotated[int, Field(ge=0)] = 0
    stop: Annotated[int, Field(ge=1)]


class EvaluationSpec(Message):
    """How a network is measured: everything that changes the answer, apart from the network."""

    tasks: tuple[TaskItems, ...]
    dtype: Dtype


class EvaluationRequest(Message):
    """Measure one sub-network of one checkpoint."""

    version: Literal[1] = 1
    search: str
    checkpoint: CheckpointRef
    architecture: Architecture
    spec: EvaluationSpec

    @cached_property
    def identity(self) -> str:
        """Key of the measurement: equal for requests that must have the same answer, whichever search asks."""
        return digest_json(
            {
                "checkpoint": self.checkpoint.digest,
                "architecture": self.architecture.digest,
                "spec": self.spec.model_dump(mode="json"),
            }
        )


class ItemScores(Message):
    """Scores of one task's items, in the order of the request.

    `items` are indices into the task's split, `items_digest` identifies their content; `metrics` holds for each of
    lm-eval's metrics of the task one number an item (0 or 1 where it is an accuracy); `margins` the log-probability of
    the right choice minus that of the best wrong one.
    """

    task: str
    items: tuple[int, ...]
    items_digest: str
    metrics: dict[str, tuple[float, ...]]
    margins: tuple[float, ...]


class Measurement(Message):
    """What was measured, and what it took."""

    parameters: int
    scores: tuple[ItemScores, ...]
    seconds: dict[str, float]
    tokens: int
    worker: str
    versions: dict[str, str]


FailureKind = Literal["out_of_memory", "infeasible", "crashed", "bad_request"]


class Failure(Message):
    """Why there is no measurement, and whether another evaluator might succeed."""

    kind: FailureKind
    reason: str
    retry_may_help: bool


class EvaluationResult(Message):
    """The answer to a request: a measurement or a failure."""

    version: Literal[1] = 1
    identity: str
    search: str
    outcome: Measurement | Failure


def correct(scores: Sequence[ItemScores], metrics: Sequence[str]) -> list[float]:
    """One number an item, all tasks' items one after another; `metrics[i]` is the metric of `scores[i]`."""
    return [value for task, metric in zip(scores, metrics, strict=True) for value in task.metrics[metric]]
