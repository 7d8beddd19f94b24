"""The search file: one YAML file that says everything about a search."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from shared.messages import Dtype, EvaluationSpec
from shared.settings.sections import (
    ReportingSettings,
    ServingSettings,
    SpaceSettings,
    StrategySettings,
    TrainingSettings,
)
from shared.settings.tasks import ItemsPart, TaskSettings, is_task_file, one_by_one
from shared.settings.values import Section, distinct

Objective = Literal["parameters", "bytes", "prefill_seconds", "decode_seconds"]
"""What is traded against accuracy. All are computed, not predicted: seconds from a table measured once by the engine of
`serving`, of one pass over all prompts, or of one step of decoding."""
TIMES: tuple[Objective, ...] = ("prefill_seconds", "decode_seconds")
"""The objectives that have to be measured on a machine."""


class SearchSettings(Section):
    """Everything about one search by nasfarm: the model, what may be chosen, how it is measured and reported."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            description="Name of the run, which is kept in runs/NAME. Letters, digits and . _ - only, a letter or "
            "digit first, at most 100 characters.",
            examples=["smollm2-arc-easy"],
        ),
    ]
    model: Annotated[
        str,
        Field(
            description="Hugging Face id or directory: Llama, Mistral, Qwen2, Qwen3, SmolLM3 or Gemma 3 (text). Its "
            "weights must be safetensors, and its layers alike but for windows and rotary embeddings.",
            examples=["HuggingFaceTB/SmolLM2-135M-Instruct"],
        ),
    ]
    supernet: Annotated[
        Annotated[str, Field(min_length=1)] | None,
        Field(
            description="Directory or digest of an existing super-network to search over. Without it, the one that "
            "`space` and `training` describe is used if there is one, and made otherwise.",
            examples=["supernets/DIGEST"],
        ),
    ] = None
    space: SpaceSettings
    training: TrainingSettings = TrainingSettings()
    tasks: Annotated[
        tuple[TaskSettings, ...],
        Field(
            min_length=1,
            description="lm-eval's multiple-choice tasks that accuracy is measured on. Several are counted together, "
            "item by item.",
        ),
    ]
    search: StrategySettings = StrategySettings()
    include_path: Annotated[
        Annotated[str, Field(min_length=1)] | None,
        Field(
            description="Directory with more lm-eval tasks in YAML. Not on a farm, whose evaluators read no task "
            "files.",
            examples=["my-tasks"],
        ),
    ] = None
    objectives: Annotated[
        tuple[Objective, ...],
        Field(
            min_length=1,
            description="What is traded against accuracy: parameters, bytes, prefill_seconds, decode_seconds. One or "
            "more. bytes are those of the weights; seconds are of one pass over all prompts or one decoding step, and "
            "need `serving`.",
            json_schema_extra={"uniqueItems": True},
            examples=[["bytes", "decode_seconds"]],
        ),
    ] = ("parameters",)
    serving: ServingSettings | None = None
    remeasure_int8: Annotated[
        bool,
        Field(
            description="Measure the front in INT8 too, as the LLaMA-NAS paper does. Not with int8 in "
            "`space.quantization`."
        ),
    ] = False
    reporting: ReportingSettings = ReportingSettings()
    dtype: Annotated[
        Literal["float32", "bfloat16", "auto"],
        Field(
            description="What networks are computed in; auto: bfloat16 if the machine has it, else float32. The "
            "machine is the one that begins the search, on a farm the one that made the super-network."
        ),
    ] = "auto"

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
        return one_by_one(tasks)

    @field_validator("tasks")
    @classmethod
    def _distinct_tasks(cls, tasks: tuple[TaskSettings, ...]) -> tuple[TaskSettings, ...]:
        distinct(tuple(task.name for task in tasks), "a task")
        return tasks

    @field_validator("objectives")
    @classmethod
    def _distinct_objectives(cls, objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
        return distinct(objectives, "an objective")

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
        fewest = min(self.tasks, key=lambda task: task.search.items)
        if self.search.slices > fewest.search.items:
            raise ValueError(
                f"search.slices: {self.search.slices} slices of the {fewest.search.items} search items of "
                f"{fewest.name}; choose fewer, or more items"
            )
        if self.remeasure_int8 and "int8" in self.space.quantization:
            raise ValueError(
                "remeasure_int8: the search measures networks in INT8 already; remove it, or remove int8 from "
                "space.quantization"
            )
        return self

    def spec(self, part: ItemsPart, dtype: Dtype) -> EvaluationSpec:
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
