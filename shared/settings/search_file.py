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

Objective = Literal["parameters", "bytes", "kv_cache_bytes", "prefill_seconds", "decode_seconds"]
"""What is traded against accuracy. All are computed, not predicted: the KV cache of the batch of `serving` at its
longest; seconds from a table measured once by the engine of `serving`, of one pass over all prompts, or of one step of
decoding."""
TIMES: tuple[Objective, ...] = ("prefill_seconds", "decode_seconds")
"""The objectives that have to be measured on a machine."""
OF_SERVING: tuple[Objective, ...] = ("kv_cache_bytes", *TIMES)
"""Those that depend on how networks are served."""
OF_SHAPE: tuple[Objective, ...] = ("parameters", "kv_cache_bytes")
"""Those in which networks in INT8 are as others."""


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
            description="What is traded against accuracy: parameters, bytes, kv_cache_bytes, prefill_seconds, "
            "decode_seconds. One or more. bytes are those of the weights; kv_cache_bytes those of all keys and values "
            "of the batch at its longest; seconds are of one pass over all prompts or one decoding step. The latter "
            "three need `serving`.",
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
        served = [objective for objective in self.objectives if objective in OF_SERVING]
        if served and self.serving is None:
            raise ValueError(f"objectives: {served[0]} needs to know how networks are served; add a section `serving`")
        if len(self.space.quantization) > 1 and set(self.objectives) <= set(OF_SHAPE):
            what = "the KV cache" if self.objectives == ("kv_cache_bytes",) else "the number of parameters"
            raise ValueError(
                f"space.quantization: {what} is the same for every choice; "
                "add bytes or seconds to `objectives`, or leave one choice"
            )
        if len(self.space.mlp_widths) > 1 and self.objectives == ("kv_cache_bytes",):
            raise ValueError(
                "space.mlp_widths: the KV cache is the same for every choice; "
                "add parameters, bytes or seconds to `objectives`, or leave one choice"
            )
        if "skip" in self.space.attention and self.serving is not None and self.serving.engine == "vllm":
            raise ValueError(
                "space.attention: engine vllm doesn't run networks with layers that lack attention; "
                "choose `serving.engine` torch, or leave out skip"
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
