"""Evaluations: from requests to their results."""

import importlib.metadata
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from math import isfinite
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from services.evaluator.batch_size import MOST_TOKENS, batch_tokens
from services.evaluator.cost_tables import cost_tables
from services.evaluator.engines import Engine, EngineMissingError, make_engine
from services.evaluator.host_lock import HostLock
from services.evaluator.locations import AllowedLocations
from services.evaluator.memory import is_out_of_memory
from services.evaluator.placement import to_device
from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from services.evaluator.scoring import score_together
from services.evaluator.speed import measured_speed
from services.evaluator.tasks.loading import load_items
from services.evaluator.together import in_parts
from services.evaluator.worker import worker_name
from shared.architecture import Architecture, derive
from shared.checkpoint_files import TOKENIZER, FileDigests, content_digest, has_digest, matching
from shared.environment import Environment
from shared.errors import UserError, first_line
from shared.identity import INT8_VERSION
from shared.messages import (
    CheckpointRef,
    CostTable,
    Dtype,
    EvaluationRequest,
    EvaluationResult,
    Failure,
    FailureKind,
    ItemScores,
    Measurement,
    Speed,
    TaskItems,
)
from shared.messages import Engine as EngineName
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters, weight_bytes
from shared.settings import is_task_file
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import compute_device, device_name, torch_dtype
from shared.supernet.source import fetch_checkpoint
from shared.supernet.tokenizer import load_tokenizer
from shared.telemetry.logs import fields
from shared.text import without_users

log = logging.getLogger(__name__)

RECORDED = ("torch", "transformers", "lm_eval", "bitsandbytes", "nasfarm")


class RefusedError(UserError):
    """A valid request that this evaluator can't answer with a measurement."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.failure = Failure(kind=kind, reason=reason)


class Evaluator:
    """Measures sub-networks. Its only state is what it can load again: mapped checkpoints and prepared tasks.

    `task_files` says whether requests may name tasks by the files that define them, which can hold code: not those that
    come from elsewhere; `locations`, where the checkpoints that they name may lie, None for anywhere.
    """

    def __init__(
        self, environment: Environment, task_files: bool = True, locations: AllowedLocations | None = None
    ) -> None:
        self._environment, self._task_files, self._locations = environment, task_files, locations
        self._device = compute_device()
        self._host = HostLock(environment.gpu_locks or environment.cache / "gpus")
        self._checkpoints: dict[str, Checkpoint] = {}
        self._tokenizers: dict[str, str] = {}  # digest of the tokenizer's files by digest of the checkpoint
        self._placed: tuple[tuple[str, Dtype], Checkpoint] | None = None
        self._batch_tokens = MOST_TOKENS[self._device.type]
        self._tasks: dict[tuple[str, TaskItems], PreparedTask] = {}
        self._engines: dict[EngineName, Engine] = {}
        self._versions = {name: importlib.metadata.version(name) for name in RECORDED}
        self._versions["device"] = device_name(self._device)
        torch.set_num_threads(environment.threads)

    def evaluate(
        self,
        request: EvaluationRequest,
        progressed: ProgressCallback = ignore_progress,
        waiting: ProgressCallback | None = None,
    ) -> EvaluationResult:
        """Answer a request. A request that fails for a reason outside the code is a `Failure`; a bug is an exception.
        `progressed` is called at each step, of which none takes long; `waiting`, by default the same, repeatedly while
        other evaluators have the machine."""
        outcome: Measurement | Failure
        timing = request.spec.speed is not None or request.spec.costs is not None
        try:
            waiting = waiting or progressed
            with self._host.alone(waiting) if timing else self._host.shared(waiting):
                outcome = self.measure(request, progressed)
        except (UserError, RuntimeError, MemoryError) as error:
            outcome = _failure(error)
        return EvaluationResult(identity=request.identity, search=request.search, outcome=outcome)

    def evaluate_together(
        self,
        requests: Sequence[EvaluationRequest],
        progressed: ProgressCallback = ignore_progress,
        waiting: ProgressCallback | None = None,
    ) -> list[EvaluationResult]:
        """`evaluate` each of some requests, which differ in nothing but the architecture. Layers that their networks
        share are computed once, and the answers are the same; where something fails, each is evaluated alone."""
        spec = requests[0].spec
        if len(requests) > 1 and spec.speed is None and spec.costs is None:
            try:
                with self._host.shared(waiting or progressed):
                    return self._measured_together(requests, progressed)
            except (UserError, RuntimeError, MemoryError) as error:
                reason = first_line(error)
            log.warning("networks are evaluated one by one", extra=fields(networks=len(requests), reason=reason))
            if self._device.type == "cuda":  # not within `except`: the error would hold on to what filled the memory
                torch.cuda.empty_cache()
        return [self.evaluate(request, progressed, waiting) for request in requests]

    def measure(self, request: EvaluationRequest, progressed: ProgressCallback = ignore_progress) -> Measurement:
        """Measure what a request asks for.

        Raises UserError for a checkpoint or task that can't be used; RefusedError, a subclass, where the network can't
        be measured, or not here.
        """
        seconds = dict[str, float]()
        tasks = self._ready([request], seconds, progressed)
        scores: tuple[ItemScores, ...] = ()
        if tasks:
            (scores,) = self._scores([request], tasks, seconds, progressed)
        if not _finite(scores):
            raise _not_finite()
        speed, speeds = self._speed(request, seconds, progressed)
        costs = self._costs(request, seconds, progressed)
        measurement = self._measurement(request, tasks, scores, seconds)
        return measurement.model_copy(update={"speed": speed, "speeds": speeds, "costs": costs})

    def _measured_together(
        self, requests: Sequence[EvaluationRequest], progressed: ProgressCallback
    ) -> list[EvaluationResult]:
        """The answers to requests that ask for nothing but scores. Errors as of `measure`; but scores that are not
        finite are the failure of their network."""
        seconds = dict[str, float]()
        tasks = self._ready(requests, seconds, progressed)
        found = self._scores(requests, tasks, seconds, progressed)
        shares = {phase: taken / len(requests) for phase, taken in seconds.items()}
        results = []
        for request, scores in zip(requests, found, strict=True):
            outcome: Measurement | Failure = _not_finite().failure
            if _finite(scores):
                outcome = self._measurement(request, tasks, scores, shares)
            results.append(EvaluationResult(identity=request.identity, search=request.search, outcome=outcome))
        return results

    def _ready(
        self, requests: Sequence[EvaluationRequest], seconds: dict[str, float], progressed: ProgressCallback
    ) -> list[PreparedTask]:
        """The tasks that requests which differ in nothing but the architecture ask for, made ready. Errors as of
        `measure`."""
        request, spec = requests[0], requests[0].spec
        if not (spec.tasks or spec.speed or spec.costs):
            raise UserError("the request asks for nothing: name tasks, speed or costs")
        if any(spec != spec.computing(each.architecture) for each in requests):
            reason = (
                f"INT8 as in version {spec.int8_version} is asked for, this evaluator computes version {INT8_VERSION}"
            )
            raise RefusedError("unsupported", f"{reason}; run the same release of nasfarm everywhere")
        tasks: list[PreparedTask] = []
        with _timed(seconds, "prepare"):
            for each in requests:
                self._derived(each)
            for items in spec.tasks:
                self.prepared(request.checkpoint, items)
                progressed()
            if spec.tasks:
                self._on_device(request)
                tasks = [self.prepared(request.checkpoint, items) for items in spec.tasks]
        progressed()
        return tasks

    def _derived(self, request: EvaluationRequest) -> NetworkShape:
        """The shape of a request's network. Raises RefusedError if there is no such one."""
        checkpoint = self._checkpoint(request.checkpoint)
        try:
            return derive(checkpoint.network, request.architecture)
        except UserError as error:
            raise RefusedError("infeasible", str(error)) from error

    def _measurement(
        self,
        request: EvaluationRequest,
        tasks: Sequence[PreparedTask],
        scores: tuple[ItemScores, ...],
        seconds: dict[str, float],
    ) -> Measurement:
        """A measurement of a network's scores."""
        network = self._derived(request)
        return Measurement(
            parameters=parameters(network),
            bytes=weight_bytes(network, request.spec.dtype, request.architecture.quantization),
            scores=scores,
            seconds=seconds,
            tokens=sum(task.tokens for task in tasks),
            worker=worker_name(),
            versions=self._versions,
        )

    def hold(self, reference: CheckpointRef) -> None:
        """Open a checkpoint before it is asked for: requests that name its digest then find it, whatever location
        they name. Raises UserError if it is not the one that is meant."""
        self._checkpoint(reference)

    def release(self) -> None:
        """Give up the memory of the weights on the device, before something else needs it; what is asked for next is
        placed anew."""
        self._placed = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def prepared(self, reference: CheckpointRef, items: TaskItems) -> PreparedTask:
        """A task's items, ready to be scored by networks of a checkpoint. Raises UserError if it can't be done."""
        if is_task_file(items.task) and not self._task_files:
            raise UserError(f"tasks.{items.task}: evaluators of a farm read no tasks from files, which may hold code")
        checkpoint = self._checkpoint(reference)
        key = (self._tokenizers[reference.digest], items)
        if key not in self._tasks:
            tokenizer: PreTrainedTokenizerBase = load_tokenizer(checkpoint.directory)
            loaded = load_items(items, self._environment.data, tokenizer)
            self._tasks[key] = prepare_task(
                items.task, loaded, tokenizer, checkpoint.config, self._device, self._batch_tokens
            )
        self._tasks[key] = self._tasks[key].in_batches_of(self._batch_tokens)
        return self._tasks[key]

    def _scores(
        self,
        requests: Sequence[EvaluationRequest],
        tasks: Sequence[PreparedTask],
        seconds: dict[str, float],
        progressed: ProgressCallback,
    ) -> list[tuple[ItemScores, ...]]:
        """The scores of each request's network on each task."""
        checkpoint = self._on_device(requests[0])
        found: list[tuple[ItemScores, ...]] = []
        for part in in_parts(checkpoint, [request.architecture for request in requests]):
            with _timed(seconds, "cut"):
                networks = checkpoint.cut_together(part)
            progressed()
            with _timed(seconds, "score"):
                of_tasks = [score_together(networks, task, progressed) for task in tasks]
            found += zip(*of_tasks, strict=True)
            del networks  # in INT8 they are no views, and there is memory for one part's
        return found

    def _speed(
        self, request: EvaluationRequest, seconds: dict[str, float], progressed: ProgressCallback
    ) -> tuple[Speed | None, tuple[Speed | Failure, ...]]:
        """The speed of the request's network, and those of the others."""
        spec = request.spec.speed
        if spec is None:
            return None, ()
        engine = self._engine(spec.engine)
        checkpoint = self._for_engine(request, engine)

        def measured(network: Architecture) -> Speed:
            return measured_speed(engine, checkpoint, network, request.spec.dtype, spec, progressed)

        def outcome(network: Architecture) -> Speed | Failure:
            try:
                return measured(network)
            except (UserError, RuntimeError, MemoryError) as error:
                return _failure(error)

        with _timed(seconds, "speed"):
            return measured(request.architecture), tuple(outcome(network) for network in spec.networks)

    def _costs(
        self, request: EvaluationRequest, seconds: dict[str, float], progressed: ProgressCallback
    ) -> tuple[CostTable, ...]:
        spec = request.spec.costs
        if spec is None:
            return ()
        engine = self._engine(spec.engine)
        checkpoint = self._for_engine(request, engine)
        with _timed(seconds, "costs"):
            return cost_tables(
                engine, checkpoint, request.architecture, request.spec.dtype, spec, self._environment, progressed
            )

    def _engine(self, name: EngineName) -> Engine:
        if name not in self._engines:
            try:
                self._engines[name] = make_engine(name, self._device)
            except EngineMissingError as error:
                raise RefusedError("unsupported", str(error)) from error
        return self._engines[name]

    def _for_engine(self, request: EvaluationRequest, engine: Engine) -> Checkpoint:
        """The checkpoint for an engine: one in this process shares the weights that are on the device, one in a process
        of its own needs their memory."""
        if engine.name == "torch":
            return self._on_device(request)
        self.release()
        return self._checkpoint(request.checkpoint)

    def _checkpoint(self, reference: CheckpointRef) -> Checkpoint:
        if reference.digest not in self._checkpoints:
            location = None
            try:
                location = reference.location if self._locations is None else self._locations.of(reference)
                checkpoint, tokenizer = _opened(location, reference.digest, self._environment.cache)
            except UserError as error:
                reason = str(error)
                if location not in (None, reference.location):
                    asked = without_users(reference.location)
                    reason += f"; or allow {asked}, which the request names, by NASFARM_LOCATIONS"
                raise RefusedError("unavailable", reason) from error
            self._checkpoints[reference.digest] = checkpoint
            self._tokenizers[reference.digest] = content_digest(tokenizer)
        return self._checkpoints[reference.digest]

    def _on_device(self, request: EvaluationRequest) -> Checkpoint:
        """The checkpoint with its weights on the device in the wanted dtype; kept until another one is wanted."""
        key = (request.checkpoint.digest, request.spec.dtype)
        if self._placed is None or self._placed[0] != key:
            self._placed = None  # before the next one needs the room
            checkpoint = self._checkpoint(request.checkpoint)
            self._placed = key, to_device(checkpoint, self._device, torch_dtype(request.spec.dtype))
            self._batch_tokens = batch_tokens(checkpoint.network, request.spec.dtype, self._device)
        return self._placed[1]


def _failure(error: UserError | RuntimeError | MemoryError) -> Failure:
    """The failure that an exception stands for. Raises it again if it is a bug."""
    if isinstance(error, RefusedError):
        return error.failure
    if isinstance(error, UserError):
        return Failure(kind="bad_request", reason=str(error))
    if not is_out_of_memory(error):
        raise error
    return Failure(kind="out_of_memory", reason=first_line(error))


def _finite(scores: tuple[ItemScores, ...]) -> bool:
    return all(isfinite(number) for task in scores for number in _numbers(task))


def _not_finite() -> RefusedError:
    return RefusedError("infeasible", "the network's scores are not finite")


def _numbers(scores: ItemScores) -> Iterator[float]:
    """Every number that was measured."""
    margins = (scores.margins, *scores.margins_by_metric.values())
    return chain(*margins, scores.values.values(), *scores.metrics.values())


def _opened(location: str, digest: str, cache: Path) -> tuple[Checkpoint, dict[str, str]]:
    """A checkpoint and the digests of its tokenizer's files, fetched if need be.

    Raises UserError if it can't be fetched, or is not the one that is meant.
    """
    directory = fetch_checkpoint(location, digest, cache)
    try:
        checkpoint = Checkpoint.open(directory)
        files = FileDigests(cache).content(directory)
    except OSError as error:
        raise UserError(f"{directory}: can't be read ({error.strerror or error}); check its files") from error
    if not has_digest(files, digest):
        raise UserError(f"{directory}: not the checkpoint that was asked for, its digest differs; copy it again")
    return checkpoint, matching(files, TOKENIZER)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Note how long a phase takes, all its parts together."""
    started = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - started
