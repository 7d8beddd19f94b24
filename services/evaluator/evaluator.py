"""One evaluation: from a request to its result."""

import importlib.metadata
import platform
import time
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.scoring import score
from services.evaluator.tasks.loading import load_items
from shared.environment import Environment
from shared.errors import UserError, first_line
from shared.manifest import content_digest, digest_content
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationResult, Failure, Measurement, TaskItems
from shared.space import parameters
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import compute_device, torch_dtype
from shared.supernet.tokenizer import load_tokenizer

ROW_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Tokens that go through a network together: enough to fill the machine, few enough for its memory."""

RECORDED = ("torch", "transformers", "lm_eval", "nasfarm")


class Evaluator:
    """Measures sub-networks. Holds nothing but what can be fetched again: mapped checkpoints and prepared tasks."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._device = compute_device()
        self._checkpoints: dict[str, Checkpoint] = {}
        self._tokenizers: dict[str, str] = {}  # digest of the tokenizer's files by digest of the checkpoint
        self._converted: dict[tuple[str, torch.dtype], dict[str, Tensor]] = {}
        self._tasks: dict[tuple[str, TaskItems], PreparedTask] = {}
        self._versions = {name: importlib.metadata.version(name) for name in RECORDED} | {"device": device_name()}
        torch.set_num_threads(environment.threads)

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult:
        """Answer a request. What another evaluator or another request could do better is a failure; a bug is an
        exception."""
        try:
            measurement = self.measure(request)
            outcome: Measurement | Failure = measurement
            if not all(isfinite(margin) for scores in measurement.scores for margin in scores.margins):
                outcome = Failure(kind="infeasible", reason="its scores are not finite", retry_may_help=False)
        except UserError as error:
            outcome = Failure(kind="bad_request", reason=str(error), retry_may_help=False)
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
                raise
            outcome = Failure(kind="out_of_memory", reason=first_line(error), retry_may_help=True)
        return EvaluationResult(identity=request.identity, search=request.search, outcome=outcome)

    def measure(self, request: EvaluationRequest) -> Measurement:
        """Measure a network. Raises UserError for a checkpoint, architecture or task that is no good."""
        started = time.perf_counter()
        checkpoint = self._checkpoint(request.checkpoint)
        tasks = [self.prepared(request.checkpoint, items) for items in request.spec.tasks]
        weights = self._weights(request, checkpoint)
        prepared = time.perf_counter()
        network = checkpoint.cut(request.architecture, weights)
        cut = time.perf_counter()
        scores = tuple(score(network, task) for task in tasks)
        scored = time.perf_counter()
        return Measurement(
            parameters=parameters(checkpoint.shape, request.architecture),
            scores=scores,
            seconds={"prepare": prepared - started, "cut": cut - prepared, "score": scored - cut},
            tokens=sum(task.tokens for task in tasks),
            worker=platform.node(),
            versions=self._versions,
        )

    def prepared(self, reference: CheckpointRef, items: TaskItems) -> PreparedTask:
        """A task's items, ready to be scored by networks of a checkpoint. Raises UserError if it can't be done."""
        checkpoint = self._checkpoint(reference)
        key = (self._tokenizers[reference.digest], items)
        if key not in self._tasks:
            loaded = load_items(items, self._environment.data)
            tokenizer: PreTrainedTokenizerBase = load_tokenizer(checkpoint.directory)
            self._tasks[key] = prepare_task(
                items.task, loaded, tokenizer, checkpoint.config, self._device, ROW_TOKENS[self._device.type]
            )
        return self._tasks[key]

    def _checkpoint(self, reference: CheckpointRef) -> Checkpoint:
        if reference.digest not in self._checkpoints:
            directory = Path(reference.location)
            checkpoint = Checkpoint.open(directory)
            files = digest_content(directory)
            if content_digest(files) != reference.digest:
                raise UserError(
                    f"{directory}: not the checkpoint that was asked for, its digest differs; copy it again"
                )
            self._checkpoints[reference.digest] = checkpoint
            tokenizer = {name: digest for name, digest in files.items() if name.startswith("tokenizer")}
            self._tokenizers[reference.digest] = content_digest(tokenizer)
        return self._checkpoints[reference.digest]

    def _weights(self, request: EvaluationRequest, checkpoint: Checkpoint) -> dict[str, Tensor]:
        """The checkpoint's weights in the wanted dtype: the mapped ones, or a copy, made once, where they differ."""
        dtype = torch_dtype(request.spec.dtype)
        key = (request.checkpoint.digest, dtype)
        if key not in self._converted:
            self._converted[key] = {name: tensor.to(self._device, dtype) for name, tensor in checkpoint.weights.items()}
        return self._converted[key]


def device_name() -> str:
    """What this machine computes on, for people."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.cpu.get_capabilities().get('cpu_name') or platform.processor() or platform.machine()} (CPU)"
