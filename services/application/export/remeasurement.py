"""A network measured again as it is written, where that is another quantisation than the one that was measured."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from math import isfinite

import torch

from services.application.export.pace import computing_seconds
from services.application.export.report_items import report_tasks
from services.application.export.source import ExportSource
from services.evaluator.batch_size import MOST_TOKENS
from services.evaluator.memory import is_out_of_memory
from services.evaluator.preparation import PreparedTask
from services.evaluator.scoring import count_waves, score
from services.exporter.names import FormatName, GgufType
from services.exporter.network import ExportedNetwork
from services.reporting.comparisons import task_rows
from services.reporting.item_answers import ItemAnswers
from services.reporting.report_data import TaskRow
from services.reporting.wording import interval, percent
from shared.architecture import Architecture
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.messages import Dtype, ItemScores
from shared.settings import SearchSettings, task_title
from shared.supernet.decoder import Decoder
from shared.supernet.device import compute_device, torch_dtype
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.w8a8 import as_w8a8

LEAST_SECONDS = 180
"""Measuring that takes less is done without being asked for."""
SUBJECT = "Measurement"


@dataclass(frozen=True)
class Requantization:
    """A quantisation that no search measures: its name, and a network in it, made on a device for a search that
    computes in a dtype."""

    name: str
    applied: Callable[[ExportedNetwork, torch.device, Dtype], Decoder]


@dataclass(frozen=True)
class Remeasurement:
    """What measuring a network in another quantisation showed.

    `by_task` has its accuracy on the report items of each task, compared with the dense and the base network as far as
    the run has measured them; `before` that of the same network as the search measured it. Of `items` items `otherwise`
    are answered otherwise than by that one, right instead of wrong or the other way round (None: it was not measured
    on these items).
    """

    name: str
    by_task: dict[str, TaskRow]
    before: dict[str, float]
    items: int
    otherwise: int | None

    def in_words(self) -> str:
        """In one sentence without a full stop."""
        tasks = ", ".join(self._task(name, row) for name, row in self.by_task.items())
        if self.otherwise is None:
            return f"as {self.name}: {tasks}"
        return f"as {self.name}: {tasks}; {self.otherwise} of {self.items} items are answered otherwise"

    def _task(self, name: str, row: TaskRow) -> str:
        searched = f"; {percent(self.before[name])} as it was searched" if name in self.before else ""
        return f"{percent(row.accuracy)} on {task_title(name)} ({interval(row.interval)}{searched})"


def requantization(
    architecture: Architecture, written: FormatName, gguf_type: GgufType | None
) -> Requantization | None:
    """The quantisation of what is written; None where the weights are those that were measured, or at most in another
    kind of floating-point numbers."""
    if gguf_type == "q8_0":
        return Requantization("Q8_0", _q8_0)
    if written == "vllm" and architecture.quantization == "int8":
        return Requantization("INT8 (W8A8)", _w8a8)
    return None


def _q8_0(network: ExportedNetwork, device: torch.device, dtype: Dtype) -> Decoder:
    """In float32, whatever the search computed in: bfloat16 can't hold the weights of the file, and llama.cpp doesn't
    round them to it."""
    from services.exporter.gguf.numbers import q8_0_network

    return q8_0_network(network).map(lambda tensor: tensor.to(device))


def _w8a8(network: ExportedNetwork, device: torch.device, dtype: Dtype) -> Decoder:
    """Quantised from the weights as they are stored, as it is written."""
    plain = network.checkpoint.cut(network.architecture.quantized("none"))
    return as_w8a8(plain).map(lambda tensor: tensor.to(device, torch_dtype(dtype)))


def remeasured_tasks(
    quantization: Requantization,
    asked: bool | None,
    network: ExportedNetwork,
    settings: SearchSettings,
    environment: Environment,
    events: Events,
) -> tuple[PreparedTask, ...] | None:
    """What the network is measured again on; None where it isn't: because that takes long and isn't asked for, or the
    data aren't at hand. Raises UserError where it is asked for all the same."""
    device = compute_device()
    try:
        with events.step(SUBJECT, note="reading report items"):
            tokenizer = load_tokenizer(network.checkpoint.directory)
            batch_tokens = MOST_TOKENS[device.type]
            tasks = report_tasks(settings, network.checkpoint, tokenizer, environment, device, batch_tokens)
            seconds = computing_seconds(network, sum(task.tokens for task in tasks))
    except UserError as error:
        if asked:
            raise UserError(f"--measure: {error}") from error
        events.note(SUBJECT, f"none as {quantization.name}: {error}")
        return None
    if asked is None and seconds >= LEAST_SECONDS:
        how = f"as it would take about {seconds / 60:.0f} minutes; --measure does it"
        events.note(SUBJECT, f"none as {quantization.name}, {how}")
        return None
    return tasks


def measured_again(
    quantization: Requantization,
    tasks: tuple[PreparedTask, ...],
    network: ExportedNetwork,
    source: ExportSource,
    events: Events,
) -> Remeasurement:
    """Score the network in the quantisation on all items of the tasks. Raises UserError where it can't be measured."""
    with events.step(SUBJECT, sum(map(count_waves, tasks)), note=quantization.name) as step:
        try:
            decoder = quantization.applied(network, compute_device(), source.dtype)
            scores = tuple(score(decoder, task, step.advance) for task in tasks)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"{network.checkpoint.directory}: not enough memory to measure it as {quantization.name}; "
                "--no-measure exports it all the same"
            ) from error
    if not all(isfinite(number) for number in _numbers(scores)):
        raise UserError(
            f"{network.checkpoint.directory}: its scores as {quantization.name} are not finite, and the export was "
            "removed; choose another type, or --no-measure to export it all the same"
        )
    return _compared(quantization.name, ItemAnswers(scores, source.settings.metrics), source)


def _numbers(scores: tuple[ItemScores, ...]) -> Iterator[float]:
    return chain.from_iterable(chain(task.margins, task.values.values()) for task in scores)


def _compared(name: str, answers: ItemAnswers, source: ExportSource) -> Remeasurement:
    known = source.answers()
    before, of_dense, of_base = (other if other and answers.on_same_items(other) else None for other in known)
    otherwise = None
    if before is not None:
        otherwise = sum(mine != theirs for mine, theirs in zip(answers.values, before.values, strict=True))
    return Remeasurement(
        name=name,
        by_task=task_rows(answers, of_dense, of_base),
        before={} if before is None else {task: row.accuracy for task, row in task_rows(before, None, None).items()},
        items=len(answers.values),
        otherwise=otherwise,
    )
