"""The search file: one YAML file that says everything about a search."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from shared.architecture import Quantization
from shared.errors import UserError
from shared.files import write_atomically
from shared.messages import Dtype, Engine, EvaluationSpec, SpeedSpec, TaskItems, Workload
from shared.text import shortened, shown
from shared.yaml_text import NotYamlError, parse_yaml

T = TypeVar("T")

DepthRule = Literal["importance", "first"]
NeuronOrder = Literal["importance", "none"]
Part = Literal["search", "report"]
StrategyName = Literal["linas", "nsga2", "random"]
Metric = Literal["acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"]
"""lm-eval's metrics that say for each item whether it was answered right, which intervals and paired tests need."""
Objective = Literal["parameters", "bytes", "prefill_seconds", "decode_seconds"]
"""What is traded against accuracy. All are computed, not predicted: seconds from a table measured once by the engine of
`serving`, of one pass over all prompts, or of one step of decoding."""
TIMES: tuple[Objective, ...] = ("prefill_seconds", "decode_seconds")
"""The objectives that have to be measured on a machine."""

SPLITS = {
    "arc_easy": ("validation", "test"),
    "arc_challenge": ("validation", "test"),
    "plain_facts": ("validation", "test"),
}
"""Split to search on and split to report on, for the tasks that have two with answers; others are scored on one split
(None: lm-eval's choice), of which search and report take different items."""


LONGEST_NAME = 100
"""Characters that a new search's name may have: files, queues and containers are named after it, and longer."""
MOST_BYTES = 100_000
"""Of a search file: a hundred tasks take a tenth of it."""
MOST = 2**63 - 1
"""Of a whole number: what every program can count."""

LONGEST_REASON = 300
"""Characters of what is wrong with a value."""

WHOLE, REAL = "should be a whole number, such as 4", "should be a number, such as 0.5"
SECTION = "should be a section, with keys of its own (key: value)"
IN_WORDS = {
    "string_pattern_mismatch": "should be letters (A to Z), digits and . _ - only, a letter or digit first, "
    "such as smollm2-arc-easy",
    "tuple_type": "should be a list, such as [28, 26]",
    "list_type": "should be a list, such as [28, 26]",
    "too_short": "should have {min_length} or more entries",
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_parsing_size": WHOLE,
    "int_from_float": WHOLE,
    "float_type": REAL,
    "float_parsing": REAL,
    "finite_number": "should be a finite number, such as 0.5",
    "greater_than": "should be a number greater than {gt:g}",
    "greater_than_equal": "should be a number, {ge:g} or more",
    "less_than": "should be a number less than {lt:g}",
    "less_than_equal": "should be a number, {le:g} or less",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "string_type": "should be a text; put it in quotes",
    "literal_error": "should be {expected}",
    "model_type": SECTION,
    "model_attributes_type": SECTION,
    "dict_type": SECTION,
    "json_invalid": "not JSON ({error})",
}
"""By pydantic's kinds of error: what is wrong, with an example."""


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


Whole = Annotated[int, Field(ge=-MOST, le=MOST), BeforeValidator(_no_boolean)]
Real = Annotated[float, BeforeValidator(_no_boolean)]
"""Numbers as people mean them. pydantic takes `true` for 1, which nobody means; that it takes `1e3`, `1_000` or "200"
for whole numbers is as it should be."""


class Section(BaseModel):
    """A part of the search file: immutable, a key that isn't known is an error, and numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SpaceSettings(Section):
    """What may be chosen. `depths`: numbers of layers; `mlp_widths`: numbers of MLP neurons of each layer;
    `quantization`: of all layers together."""

    depths: Annotated[tuple[Whole, ...], Field(min_length=1)]
    mlp_widths: Annotated[tuple[Whole, ...], Field(min_length=1)]
    depth_rule: DepthRule = "importance"
    quantization: Annotated[tuple[Quantization, ...], Field(min_length=1)] = ("none",)

    @field_validator("quantization")
    @classmethod
    def _distinct_choices(cls, choices: tuple[Quantization, ...]) -> tuple[Quantization, ...]:
        return _distinct(choices, "a choice")


class TrainingSettings(Section):
    """The fine-tuning. `data` is `alpaca`, `plain_facts` or a JSON Lines file in Alpaca's schema."""

    data: str = "alpaca"
    steps: Annotated[Whole, Field(ge=0)] = 400
    tokens_per_step: Annotated[Whole, Field(ge=64)] = 1024
    learning_rate: Annotated[Real, Field(gt=0, lt=1)] = 3e-5
    warmup_steps: Annotated[Whole, Field(ge=0)] = 20
    weight_decay: Annotated[Real, Field(ge=0)] = 0.0
    clip_norm: Annotated[Real, Field(gt=0)] = 1.0
    neuron_order: NeuronOrder = "importance"
    calibration_tokens: Annotated[Whole, Field(ge=256)] = 8192
    checkpoint_every_seconds: Annotated[Real, Field(gt=0)] = 120.0
    seed: Whole = 0


class PartSettings(Section):
    """How many items of a task, and of which split (default: see SPLITS)."""

    items: Annotated[Whole, Field(ge=1)]
    split: str | None = None


class TaskSettings(Section):
    """One lm-eval task; `search` items choose, `report` items are looked at once, at the end.

    `apply_chat_template` and `fewshot_as_multiturn` are lm-eval's: see TaskItems.
    """

    name: str
    metric: Metric = "acc"
    num_fewshot: Annotated[Whole, Field(ge=0)] | None = None
    apply_chat_template: bool | str = False
    fewshot_as_multiturn: bool = True
    search: PartSettings
    report: PartSettings

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        if not name.strip():
            raise ValueError("give the name of an lm-eval task")
        return name

    @field_validator("apply_chat_template", mode="before")
    @classmethod
    def _true_or_named(cls, template: object) -> bool | str:
        return true_or_named(template)

    @model_validator(mode="after")
    def _turns_of_a_chat(self) -> Self:
        if self.apply_chat_template is False and not self.fewshot_as_multiturn:
            raise ValueError("fewshot_as_multiturn: false means nothing without apply_chat_template; remove it")
        return self

    @model_validator(mode="after")
    def _both_splits(self) -> Self:
        if self.name not in SPLITS and (self.search.split is None) != (self.report.split is None):
            raise ValueError("name the split of both parts or of none, so that they can't share items")
        return self

    def part(self, name: Part) -> TaskItems:
        """The items of a part; where both parts share a split, those of the report follow those of the search."""
        default_search, default_report = SPLITS.get(self.name, (None, None))
        search_split = self.search.split or default_search
        report_split = self.report.split or default_report
        split, items, start = search_split, self.search.items, 0
        if name == "report":
            start = self.search.items if report_split == search_split else 0
            split, items = report_split, self.report.items
        return TaskItems(
            task=self.name,
            num_fewshot=self.num_fewshot,
            split=split,
            start=start,
            stop=start + items,
            apply_chat_template=self.apply_chat_template,
            fewshot_as_multiturn=self.fewshot_as_multiturn,
        )


class ServingSettings(Section):
    """How networks are going to be served: what speed is measured with, and under which load.

    `batch` sequences of `prompt_tokens` are read at once, then `generated_tokens` more are generated for each.
    """

    engine: Engine = "torch"
    batch: Annotated[Whole, Field(ge=1)] = 1
    prompt_tokens: Annotated[Whole, Field(ge=1)] = 128
    generated_tokens: Annotated[Whole, Field(ge=1)] = 32
    repeats: Annotated[Whole, Field(ge=1)] = 5

    @property
    def workload(self) -> Workload:
        """The load."""
        return Workload(batch=self.batch, prompt_tokens=self.prompt_tokens, generated_tokens=self.generated_tokens)

    @property
    def speed(self) -> SpeedSpec:
        """How the speed of one network is measured."""
        return SpeedSpec(engine=self.engine, workload=self.workload, repeats=self.repeats)


class StrategySettings(Section):
    """The search proper: which strategy, how many networks are measured, how many at a time.

    With `overlap` a generation is chosen while the one before is still being measured, from all earlier ones: no
    evaluator of a farm waits for the last network of a generation, but the strategy knows a little less.
    """

    strategy: StrategyName = "linas"
    evaluations: Annotated[Whole, Field(ge=1)] = 250
    population: Annotated[Whole, Field(ge=2)] = 50
    seed: Whole = 0
    overlap: bool = False


class ReportingSettings(Section):
    """What is measured on the report items, and what is claimed of it.

    `margin`: points of accuracy that a network may lose against the whole one and still be called as good.
    `networks`: how many of the front are measured, its two ends and others evenly between them by the first objective.
    `random`: whether a random network of the same size is measured beside each.
    """

    margin: Annotated[float, Field(gt=0, le=50)] = 2.0
    networks: Annotated[int, Field(ge=2)] = 6
    random: bool = False


class SearchSettings(Section):
    """The whole search file.

    `supernet` names a super-network that is there already, by its directory or digest; without it, the one that `space`
    and `training` describe is found, or made. `include_path` is a directory with more tasks, as lm-eval's. `objectives`
    are what is traded against accuracy; with `serving` speeds are measured, of the front at least; `remeasure_int8`
    measures the front in INT8 too. `dtype: auto` is bfloat16 where the machine that begins the search (in a farm: that
    made its super-network) multiplies it natively.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    model: str
    supernet: Annotated[str, Field(min_length=1)] | None = None
    space: SpaceSettings
    training: TrainingSettings = TrainingSettings()
    tasks: Annotated[tuple[TaskSettings, ...], Field(min_length=1)]
    search: StrategySettings = StrategySettings()
    include_path: Annotated[str, Field(min_length=1)] | None = None
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("parameters",)
    serving: ServingSettings | None = None
    remeasure_int8: bool = False
    reporting: ReportingSettings = ReportingSettings()
    dtype: Literal["float32", "bfloat16", "auto"] = "auto"

    @field_validator("supernet", mode="before")
    @classmethod
    def _quoted_digest(cls, name: object) -> object:
        if isinstance(name, int | float):  # as some digests look
            raise ValueError("a directory or a digest; put it in quotes")
        return name

    @field_validator("tasks", mode="before")
    @classmethod
    def _one_by_one(cls, tasks: object) -> object:
        """A section may name several tasks, with commas between them."""
        if not isinstance(tasks, list | tuple):
            return tasks
        return [
            {**task, "name": name} if isinstance(task, dict) else task
            for task in tasks
            for name in (split_tasks(task["name"]) if isinstance(task, dict) and "name" in task else [""])
        ]

    @field_validator("tasks")
    @classmethod
    def _distinct_tasks(cls, tasks: tuple[TaskSettings, ...]) -> tuple[TaskSettings, ...]:
        _distinct(tuple(task.name for task in tasks), "a task")
        return tasks

    @field_validator("objectives")
    @classmethod
    def _distinct_objectives(cls, objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
        return _distinct(objectives, "an objective")

    @model_validator(mode="after")
    def _agreeing(self) -> Self:
        timed = [objective for objective in self.objectives if objective in TIMES]
        if timed and self.serving is None:
            raise ValueError(f"objectives: {timed[0]} needs to know how networks are served; add a section `serving`")
        if len(self.space.quantization) > 1 and self.objectives == ("parameters",):
            raise ValueError(
                "space.quantization: the number of parameters is the same for every choice; "
                "add bytes or seconds to `objectives`, or leave one choice"
            )
        if self.remeasure_int8 and "int8" in self.space.quantization:
            raise ValueError(
                "remeasure_int8: the search measures networks in INT8 already; remove it, or take int8 from "
                "space.quantization"
            )
        return self

    def spec(self, part: Part, dtype: Dtype) -> EvaluationSpec:
        """What is measured of every network (`search`), or of those on the front (`report`)."""
        return EvaluationSpec(tasks=tuple(task.part(part) for task in self.tasks), dtype=dtype)

    @property
    def files_of_tasks(self) -> str | None:
        """Where the search file names files that define tasks, which can hold code; None where it doesn't."""
        named = (f"tasks.{task.name}" for task in self.tasks if is_task_file(task.name))
        return "include_path" if self.include_path is not None else next(named, None)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metric of each task, in order."""
        return tuple(task.metric for task in self.tasks)


def true_or_named(template: object) -> bool | str:
    """Which chat template is applied: whether the tokenizer's, or one by its name. Raises ValueError for neither."""
    try:
        return TypeAdapter(bool).validate_python(template)
    except ValidationError:
        if not isinstance(template, str) or not template.strip():
            raise ValueError("should be true, false, or the name of one of the tokenizer's chat templates") from None
        return template


def is_task_file(name: str) -> bool:
    """Whether a task is named by the file that defines it."""
    return name.endswith((".yaml", ".yml"))


def split_tasks(names: object) -> list[Any]:
    """The tasks of a text such as `arc_easy,winogrande`; what is no such text stays as it is."""
    if not isinstance(names, str) or "," not in names:
        return [names]
    return [name.strip() for name in names.split(",")]


def read_search_file(path: Path) -> SearchSettings:
    """Read a search file. Raises UserError that names the file, the field and what is wrong with it."""
    try:
        values = parse_yaml(_content(path).decode())
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: can't be read ({error.strerror}); `nasfarm init MODEL` writes a search file"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); have its owner let you read it") from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); name another file") from error
    except (NotYamlError, UnicodeDecodeError) as error:
        reason = error if isinstance(error, NotYamlError) else "(it is not in UTF-8)"
        raise UserError(
            f"{path}: not valid YAML {reason}; mend it, or let `nasfarm init MODEL` write a new one"
        ) from error
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: a search file is a mapping with name, model, space and tasks; see `nasfarm init --help`"
        )
    return parse_settings(values, str(path))


def _content(path: Path) -> bytes:
    """What is in a search file. Raises UserError for one that is none by its size: a network's weights, a device."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: holds more than {MOST_BYTES:,} bytes, a search file has a few thousand; name another")
    return content


def parse_settings(values: dict[str, Any], where: str) -> SearchSettings:
    """Validate the content of a search file; `where` names it in the message."""
    try:
        return SearchSettings.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error)}") from error


def check_new_name(name: str) -> None:
    """Raise UserError if a search that begins now can't have the name; those of earlier releases keep theirs."""
    if len(name) > LONGEST_NAME:
        raise UserError(
            f"name: should have at most {LONGEST_NAME} characters, and has {len(name)} ({shortened(name, 40)}); "
            "shorten it in the search file"
        )


def explain(error: ValidationError) -> str:
    """The first problem of a validation in one line, with the field's path."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(shortened(str(step)) for step in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{field}: unknown key; remove it or mend its spelling"
    if problem["type"] == "missing":
        return f"{field}: missing; add it"
    given = "" if isinstance(problem["input"], dict) else f" (it is {shown(problem['input'])})"
    return f"{f'{field}: ' if field else ''}{shortened(_in_words(problem), LONGEST_REASON)}{given}"


def _in_words(problem: ErrorDetails) -> str:
    """What a value should be, in a search file's own terms where pydantic has Python's."""
    words = IN_WORDS.get(problem["type"])
    if words is not None:
        return words.format(**problem.get("ctx", {}))
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{message[0].lower()}{message[1:]}"


def _distinct(choices: tuple[T, ...], what: str) -> tuple[T, ...]:
    if len(set(choices)) != len(choices):
        raise ValueError(f"{what} is listed twice")
    return choices


def write_search_file(path: Path, text: str) -> None:
    """Write a search file after checking that it can be read back."""
    check_new_name(parse_settings(parse_yaml(text), str(path)).name)
    write_atomically(path, text)
