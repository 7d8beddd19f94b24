"""`nasfarm evaluate`: one measurement by hand."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from services.application.evaluation import NetworkChoice, evaluate_once
from services.application.quiet_libraries import quiet_libraries
from services.cli.console import console
from services.cli.preparation_display import PreparationDisplay
from services.evaluator.tasks.index import include_tasks
from services.evaluator.tasks.loading import count_items
from services.reporting.comparisons import task_row
from services.reporting.item_answers import ItemAnswers
from services.reporting.wording import chat_template, parameters, rate, size
from shared.architecture import Architecture
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.files import write_atomically
from shared.messages import (
    Engine,
    EvaluationSpec,
    Failure,
    ItemScores,
    Measurement,
    Speed,
    SpeedSpec,
    TaskItems,
    Workload,
)
from shared.settings import split_tasks, true_or_named
from shared.supernet.device import preferred_dtype


@dataclass(frozen=True)
class TaskOptions:
    """Which tasks, and of each of them which items."""

    tasks: tuple[str, ...]
    items: int | None
    limit: int | None
    split: str | None
    num_fewshot: int | None
    include_path: Path | None = None
    apply_chat_template: str | None = None
    fewshot_as_multiturn: bool | None = None

    def spec(self, data: Path | None) -> tuple[TaskItems, ...]:
        """The tasks with their items counted. Raises UserError for options that mean nothing or can't be had."""
        if not self.tasks:
            options: dict[str, object] = {"--items": self.items, "--limit": self.limit, "--split": self.split}
            more = {"--num-fewshot": self.num_fewshot, "--include-path": self.include_path}
            _refuse("--task", options | more | {"--apply-chat-template": self.apply_chat_template})
        for option, texts in (("--task", self.tasks), ("--split", (self.split or "",))):
            _refuse_other_bytes(option, *texts)
        template = self._template()
        if template is False:
            _refuse("--apply-chat-template", {"--fewshot-as-multiturn": self.fewshot_as_multiturn})
        if self.items is not None and self.limit is not None:
            raise UserError("--items: some items at random, --limit: the first ones; give one of the two")
        if self.include_path is not None:
            include_tasks(self.include_path)
        return tuple(
            TaskItems(
                task=task,
                num_fewshot=self.num_fewshot,
                split=self.split,
                stop=self.items or count_items(task, self.split, data, self.limit),
                limit=self.limit,
                apply_chat_template=template,
                fewshot_as_multiturn=self.fewshot_as_multiturn is not False,
            )
            for task in dict.fromkeys(name for names in self.tasks for name in split_tasks(names))
        )

    def _template(self) -> bool | str:
        if self.apply_chat_template is None:
            return False
        _refuse_other_bytes("--apply-chat-template", self.apply_chat_template)
        try:
            return true_or_named(self.apply_chat_template)
        except ValueError as error:
            raise UserError(f"--apply-chat-template: {error}") from error


@dataclass(frozen=True)
class SpeedOptions:
    """Which engine, under which load; None for what isn't said."""

    engine: Engine | None
    batch: int | None
    prompt_tokens: int | None
    generated_tokens: int | None
    repeats: int | None

    def spec(self) -> SpeedSpec | None:
        """What is run, if anything. Raises UserError for options that mean nothing."""
        load = {
            "batch": self.batch,
            "prompt_tokens": self.prompt_tokens,
            "generated_tokens": self.generated_tokens,
        }
        if self.engine is None:
            options = {f"--{name.replace('_', '-')}": value for name, value in load.items()}
            _refuse("--speed", options | {"--repeats": self.repeats})
            return None
        workload = Workload.model_validate({name: value for name, value in load.items() if value is not None})
        if self.repeats is None:
            return SpeedSpec(engine=self.engine, workload=workload)
        return SpeedSpec(engine=self.engine, workload=workload, repeats=self.repeats)


def evaluate(network: NetworkChoice, tasks: TaskOptions, speed: SpeedOptions, output: Path | None) -> None:
    """Measure a sub-network of a checkpoint and print what came out; the result goes into `output` as it is."""
    quiet_libraries()
    environment = Environment.read()
    spec = EvaluationSpec(
        tasks=tasks.spec(environment.data), speed=speed.spec(), dtype=network.dtype or preferred_dtype()
    )
    if not spec.tasks and spec.speed is None:
        raise UserError("nothing to measure: give --task, --speed, or both")
    with PreparationDisplay() as display:
        evaluation = evaluate_once(network, spec, environment, Events(display))
    if output is not None:
        write_atomically(output, evaluation.result.model_dump_json(indent=2) + "\n")
    outcome = evaluation.result.outcome
    if isinstance(outcome, Failure):
        raise UserError(outcome.reason)
    _print(evaluation.origin, evaluation.request.architecture, evaluation.request.spec, outcome)


def _refuse(without: str, options: Mapping[str, object]) -> None:
    for option, value in options.items():
        if value is not None:
            raise UserError(f"{option}: means nothing without {without}; give that too, or leave it out")


def _refuse_other_bytes(option: str, *texts: str) -> None:
    """What isn't UTF-8 is in Python's text as halves of characters, which can't be written anywhere."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{option}: {text} is not in UTF-8; give it as it is spelt") from error


def _print(origin: str, architecture: Architecture, spec: EvaluationSpec, measurement: Measurement) -> None:
    dtype = spec.dtype
    held = dtype if architecture.quantization == "none" else f"INT8 and {dtype}"
    console.print(
        f"{origin}: {architecture.depth} layers, {parameters(measurement.parameters)} parameters "
        f"({measurement.parameters:,}), {size(measurement.bytes)} of weights in {held}"
    )
    if measurement.scores:
        table = Table("task", "metric", "value", "95 % interval")
        for scores in measurement.scores:
            for row in _accuracies(scores):
                table.add_row(scores.task, *row)
        console.print(table)
        items = ", ".join(_items(*each) for each in zip(spec.tasks, measurement.scores, strict=True))
        console.print(
            f"{items} in {measurement.seconds['score']:.1f} s "
            f"(cut in {measurement.seconds['cut'] * 1000:.1f} ms), {dtype} on {measurement.versions['device']}"
        )
    if measurement.speed is not None:
        _print_speed(measurement.speed)


def _items(asked: TaskItems, scores: ItemScores) -> str:
    chat = chat_template(asked.apply_chat_template, asked.fewshot_as_multiturn)
    return f"{len(scores.items)} items of {scores.task}{f' ({chat})' if chat else ''}"


def _accuracies(scores: ItemScores) -> Iterator[tuple[str, str, str]]:
    """Name, value and interval of each metric; an interval only of shares, where every item is right or wrong."""
    for name, value in scores.values.items():
        right = scores.metrics.get(name, ())
        shown = ""
        if right and set(right) <= {0.0, 1.0}:
            low, high = task_row(ItemAnswers((scores,), (name,)), None, None).interval
            shown = f"{low:.4f} to {high:.4f}"
        yield name, f"{value:.4f}", shown


def _print_speed(speed: Speed) -> None:
    table = Table("phase", "tokens/s, median (least–most)")
    for phase, repeats in (("prefill", speed.prefill_tokens_per_second), ("decode", speed.decode_tokens_per_second)):
        table.add_row(phase, rate((statistics.median(repeats), min(repeats), max(repeats))))
    console.print(table)
    load = speed.workload
    console.print(
        f"{speed.engine} {speed.engine_version}, {speed.dtype} on {speed.device}: batch {load.batch}, "
        f"{load.prompt_tokens} prompt tokens, {load.generated_tokens} generated tokens, "
        f"{len(speed.decode_tokens_per_second)} repeats"
    )
