"""What crosses the queue: evaluation requests and their results, versioned JSON and nothing else.

Messages, and the parts of them that may be one thing or another, are told apart by their field `kind`.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.architecture import Architecture, AttentionChoice, Quantization
from shared.digest import digest_json
from shared.identity import EVALUATION, INT8_VERSION

REQUEST_VERSION: Literal[5] = 5
"""Of the requests that this release sends and answers: to be raised with every change of what is in a request or a
result. Each version has queues of its own, so that services of two releases work side by side, each with its own kind;
results are read in older versions too, as long as they can be (`of_earlier_releases`). Version 1 was not signed by its
sender; up to version 2 messages had no `kind`, and failures said in `retry_may_help` what their kind says now; up to
version 3 a request asked for one network; up to version 4 every layer of a network had its attention."""
MOST_TOGETHER = 8
"""Networks that are asked for in one message: of the layers that they share, so many save most of what there is to be
saved; and what is lost with an evaluator, or waits to be told, is no more than that."""
Dtype = Literal["float32", "bfloat16"]
Engine = Literal["torch", "vllm"]
"""What runs a network where speed is measured."""
Count = Annotated[int, Field(ge=1)]


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

    `apply_chat_template`: whether prompts are made by the tokenizer's chat template, or by which of several, by its
    name; the examples then are turns of the chat or, unless `fewshot_as_multiturn`, are put into the question's.

    With `limit`, as lm-eval's `--limit`, there are only the first so many items of each task (of a group, of each of
    its tasks), in the order in which they stand in the split.
    """

    task: str
    num_fewshot: int | None = None
    split: str | None = None
    start: Annotated[int, Field(ge=0)] = 0
    stop: Annotated[int, Field(ge=1)]
    apply_chat_template: bool | str = False
    fewshot_as_multiturn: bool = True
    limit: Count | None = None


class Workload(Message):
    """What a network is given where speed is measured: `batch` sequences of `prompt_tokens` read at once (prefill),
    then `generated_tokens` more for each, one at a time (decode)."""

    batch: Count = 1
    prompt_tokens: Count = 128
    generated_tokens: Count = 32

    @property
    def longest(self) -> int:
        """Tokens of a sequence in the end."""
        return self.prompt_tokens + self.generated_tokens


class SpeedSpec(Message):
    """Run the network by an engine, `repeats` times; and in the same go other `networks`, so that what is compared was
    measured on one device."""

    engine: Engine
    workload: Workload
    repeats: Count = 5
    networks: tuple[Architecture, ...] = ()


class CostSpec(Message):
    """Measure what each part of a network of the checkpoint costs: a table for each quantization.

    The request's architecture says which layers; their widths are taken from `mlp_widths` instead. With `skip` among
    `attention`, networks whose layers lack it are run as well, from which its cost is known.
    """

    engine: Engine
    workload: Workload
    mlp_widths: Annotated[tuple[Count, ...], Field(min_length=1)]
    quantizations: Annotated[tuple[Quantization, ...], Field(min_length=1)] = ("none",)
    attention: tuple[AttentionChoice, ...] = ("keep",)


class EvaluationSpec(Message):
    """What is measured of a network, and how. `int8_version` says how a network in INT8 is to be computed; of others
    it is 1, so that their measurements outlive a change."""

    tasks: tuple[TaskItems, ...] = ()
    dtype: Dtype
    speed: SpeedSpec | None = None
    costs: CostSpec | None = None
    int8_version: Count = 1

    def computing(self, architecture: Architecture, int8_version: int = INT8_VERSION) -> "EvaluationSpec":
        """The same, to be computed as in this version where it asks for INT8."""
        quantizations = {architecture.quantization}
        if self.speed is not None:
            quantizations |= {network.quantization for network in self.speed.networks}
        if self.costs is not None:
            quantizations |= set(self.costs.quantizations)
        return self.model_copy(update={"int8_version": int8_version if "int8" in quantizations else 1})


class EvaluationRequest(Message):
    """Measure one sub-network of one checkpoint. Of older versions are those that histories of older releases hold."""

    kind: Literal["request"] = "request"
    version: Literal[1, 2, 3, 4, 5] = REQUEST_VERSION
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
                "spec": EVALUATION.of(self.spec.model_dump(mode="json")),
            }
        )


class JointRequest(Message):
    """Measure several sub-networks of one checkpoint, all in the same way: the layers that they share are computed once
    (`services.evaluator.scoring.score_together`). As many requests, each with its own identity and its own result."""

    kind: Literal["requests"] = "requests"
    version: Literal[5] = REQUEST_VERSION
    search: str
    checkpoint: CheckpointRef
    architectures: Annotated[tuple[Architecture, ...], Field(min_length=2, max_length=MOST_TOGETHER)]
    spec: EvaluationSpec

    @classmethod
    def of(cls, requests: Sequence[EvaluationRequest]) -> "JointRequest":
        """Requests that differ in nothing but the architecture."""
        first, architectures = requests[0], tuple(request.architecture for request in requests)
        return cls(search=first.search, checkpoint=first.checkpoint, architectures=architectures, spec=first.spec)

    @property
    def each(self) -> tuple[EvaluationRequest, ...]:
        """A request for each of the networks."""
        return tuple(
            EvaluationRequest(search=self.search, checkpoint=self.checkpoint, architecture=one, spec=self.spec)
            for one in self.architectures
        )


class ItemScores(Message):
    """Scores of one task's items, in the order of the request.

    `items` are indices into the task's split, `items_digest` identifies their content; `metrics` holds for each of
    lm-eval's metrics of the task one number an item (0 or 1 where it is an accuracy); `values` lm-eval's own aggregate
    of each metric over these items; `margins` the log-probability of the right choice minus that of the best wrong one
    (empty for a task that names no right choice), `margins_by_metric` the same, in nats, as metrics compare choices
    that don't do it by log-probability (acc_norm: by that per character). Of a group of tasks `clusters` says of each
    item which of them it belongs to, as a number (empty for a single task), and `even` which metrics count each of
    these tasks the same, however many items it has.
    """

    task: str
    items: tuple[int, ...]
    items_digest: str
    metrics: dict[str, tuple[float, ...]]
    values: dict[str, float]
    margins: tuple[float, ...]
    margins_by_metric: dict[str, tuple[float, ...]] = {}
    clusters: tuple[int, ...] = ()
    even: tuple[str, ...] = ()


class Speed(Message):
    """How fast an engine ran the network: tokens per second of each repeat, all sequences of the batch together."""

    kind: Literal["speed"] = "speed"
    engine: Engine
    engine_version: str
    device: str
    dtype: Dtype
    workload: Workload
    prefill_tokens_per_second: tuple[float, ...]
    decode_tokens_per_second: tuple[float, ...]


class PhaseCosts(Message):
    """Seconds of one pass (the whole prefill, or one step of decoding): `fixed` once, then for each layer `mlp` by its
    width and, if it has one, `attention` (in a space whose layers all have it, with all that is not the MLP)."""

    fixed: float
    attention: float
    mlp: dict[int, float]

    def seconds(self, architecture: Architecture) -> float:
        """Time of one pass. Raises KeyError for a width that was not measured."""
        return self.fixed + sum(
            has_attention * self.attention + self.mlp[width] for _, width, has_attention in architecture.layer_choices
        )


class CostTable(Message):
    """The additive cost model of one quantization on one machine: the time of a network is the sum of its parts'."""

    quantization: Quantization
    engine: Engine
    engine_version: str
    device: str
    dtype: Dtype
    workload: Workload
    prefill: PhaseCosts
    decode: PhaseCosts


def of_earlier_releases(content: Any) -> Any:
    """A message or a part of one, as JSON values, in the words of today; what isn't of an earlier release stays as it
    is. Up to version 2 there was no `kind`, but each had a field that no other has; and a failure's kind meant one of
    two things, of which `retry_may_help` said which."""
    match content:
        case {"kind": str(kind), "retry_may_help": bool(retried), **others}:
            return {"kind": FORMER_KINDS.get((kind, retried), kind), **others}
        case {"kind": _}:
            return content
        case dict():
            known = [kind for field, kind in FORMER_FIELDS.items() if field in content]
            return {"kind": known[0], **content} if known else content
    return content


FORMER_KINDS = {
    ("infeasible", True): "unsupported",
    ("bad_request", True): "unavailable",
    ("crashed", False): "dead_lettered",
}
"""Failures of earlier releases whose kind has another name now, by their kind and their `retry_may_help`."""
FORMER_FIELDS = {
    "checkpoint": "request",
    "outcome": "result",
    "stop": "stop",
    "parameters": "measurement",
    "engine_version": "speed",
}
"""What has the field is of that kind."""

FailureKind = Literal[
    "out_of_memory",
    "timed_out",
    "crashed",
    "dead_lettered",
    "infeasible",
    "unsupported",
    "unavailable",
    "bad_request",
    "invalid_result",
]
"""Why there is no measurement; `shared.failure_policy.FAILURES` says what follows from it.

* `out_of_memory`: the evaluator's machine has too little memory for the network.
* `timed_out`: the evaluation took longer than the evaluator's limit.
* `crashed`: a bug ended the evaluation, and the evaluator lives on.
* `dead_lettered`: the request came back to the broker too often: it ended the processes of its evaluators, or they were
  killed. Said by the coordinator, of a dead letter.
* `infeasible`: no evaluator can measure this network.
* `unsupported`: this evaluator can't measure this network, for want of an engine or as it computes INT8 in another way.
* `unavailable`: this evaluator lacks what every request of the search needs: its checkpoint, or its requests' version.
* `bad_request`: no evaluator can answer such a request, whatever the network.
* `invalid_result`: what came was no answer to the request. Said by the coordinator.
"""


class Failure(Message):
    """Why there is no measurement: of what kind it is, and in words."""

    kind: FailureKind
    reason: str


SpeedOutcome: TypeAlias = Annotated[
    Annotated[Speed | Failure, Field(discriminator="kind")], BeforeValidator(of_earlier_releases)
]
"""The speed of a network, or why it could not be measured."""


class Measurement(Message):
    """What was measured, and what it took.

    `bytes`: memory of all weights and scales as they are held; `speeds`: those of the other networks that were to be
    timed, or why one could not be; `seconds`: time of each phase of the measuring, of networks that were measured
    together each one's share.
    """

    kind: Literal["measurement"] = "measurement"
    parameters: int
    bytes: int
    scores: tuple[ItemScores, ...] = ()
    speed: Speed | None = None
    speeds: tuple[SpeedOutcome, ...] = ()
    costs: tuple[CostTable, ...] = ()
    seconds: dict[str, float]
    tokens: int
    worker: str
    versions: dict[str, str]


Outcome: TypeAlias = Annotated[
    Annotated[Measurement | Failure, Field(discriminator="kind")], BeforeValidator(of_earlier_releases)
]
"""What became of a request."""


class EvaluationResult(Message):
    """The answer to a request. `together`: of how many networks it says the same, as what happened may be the fault of
    any of them; 1 for what is said of this network."""

    kind: Literal["result"] = "result"
    version: Literal[1, 2, 3, 4, 5] = REQUEST_VERSION
    identity: str
    search: str
    outcome: Outcome
    together: Count = 1


class StopSearch(Message):
    """Asks the coordinator of a search to end; what is measured stays, and the search can be continued.

    Its `kind` isn't sent: coordinators of the release before, whose searches it stops too, know no such field.
    """

    kind: Literal["stop"] = Field(default="stop", exclude=True)
    stop: Literal[True] = True
    version: Literal[1] = 1
    search: str


EvaluatorMessage: TypeAlias = Annotated[
    Annotated[EvaluationRequest | JointRequest, Field(discriminator="kind")], BeforeValidator(of_earlier_releases)
]
"""What an evaluator finds in the queue of its super-network's requests."""

CoordinatorMessage: TypeAlias = Annotated[
    Annotated[EvaluationResult | StopSearch, Field(discriminator="kind")], BeforeValidator(of_earlier_releases)
]
"""What a coordinator finds in the queue of its search's results."""


def correct(scores: Sequence[ItemScores], metrics: Sequence[str]) -> list[float]:
    """One number an item, all tasks' items one after another; `metrics[i]` is the metric of `scores[i]`."""
    return [value for task, metric in zip(scores, metrics, strict=True) for value in task.metrics[metric]]
