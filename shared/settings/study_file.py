"""The study file: one YAML file that says everything about a study."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from shared.settings.baselines import BaselineName, BaselineOptions
from shared.settings.search_file import Objective, SearchSettings
from shared.settings.sections import (
    ReportingSettings,
    ServingSettings,
    SpaceSettings,
    StrategySettings,
    TrainingSettings,
)
from shared.settings.tasks import TaskSettings
from shared.settings.values import Real, Section, Whole, distinct

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
TOGETHER = "together"
"""What the search over all tasks at once is called where others are called after their task."""


class StudiedSupernet(Section):
    """A way to make a super-network: its search space and its fine-tuning."""

    name: Annotated[
        str,
        Field(pattern=NAME, description="What the report calls the super-network.", examples=["paper"]),
    ]
    space: SpaceSettings
    training: TrainingSettings = TrainingSettings()


class CalibrationSettings(Section):
    """The text that baselines look at."""

    data: Annotated[
        str,
        Field(
            description="Training data, as `training.data` of a search file: alpaca, plain_facts or a file.",
            examples=["alpaca", "plain_facts"],
        ),
    ] = "alpaca"
    tokens: Annotated[Whole, Field(ge=256, description="Tokens of it, in whole rows that `seed` draws.")] = 16384


class SingleFineTuning(Section):
    """The fine-tuning of single networks: baselines, and the networks that the searches chose, each by itself. Each
    reads as many tokens as the fine-tuning of the first super-network does, of the same data."""

    full: Annotated[
        tuple[BaselineName, ...] | None,
        Field(description="Baselines of which all weights are fine-tuned. Default: all that are listed."),
    ] = None
    lora: Annotated[
        tuple[BaselineName, ...],
        Field(description="Baselines that recover by LoRA, as in their papers. Needs the package peft."),
    ] = ("llm-pruner", "slicegpt")
    alone: Annotated[
        bool, Field(description="Fine-tune the networks that the searches chose on their own, from the base model.")
    ] = True
    lora_rank: Annotated[Whole, Field(ge=1, description="Rank of the low-rank updates.")] = 8
    lora_alpha: Annotated[Real, Field(gt=0, description="LoRA's scale, divided by the rank.")] = 16.0
    lora_learning_rate: Annotated[
        Real,
        Field(gt=0, lt=1, description="Highest learning rate of LoRA; all else as the super-network's."),
    ] = 1e-4


class NarrowLayers(Section):
    """A heuristic that was found elsewhere: a network of a super-network whose MLPs are narrow in some layers."""

    name: Annotated[str, Field(pattern=NAME, description="What the report calls it.")]
    supernet: Annotated[str, Field(description="Name of one of `supernets`.")]
    depth: Annotated[Whole, Field(ge=1, description="Number of layers, one of the super-network's `depths`.")]
    layers: Annotated[
        tuple[Whole, ...],
        Field(
            min_length=1,
            description="Layers with the narrowest MLPs, counted from 0; others have the widest.",
        ),
    ]


class StudySettings(Section):
    """Everything about one study: super-networks, searches on each task, baselines, and what is compared."""

    name: Annotated[
        str,
        Field(
            pattern=NAME,
            description="Name of the study, which is kept in runs/NAME. Letters, digits and . _ - only, a letter or "
            "digit first.",
            examples=["smollm2-study"],
        ),
    ]
    model: Annotated[str, Field(description=SearchSettings.described("model"))]
    supernets: Annotated[
        tuple[StudiedSupernet, ...],
        Field(min_length=1, description="Super-networks, each of which is searched on every task."),
    ]
    tasks: Annotated[
        tuple[TaskSettings, ...],
        Field(min_length=1, description="lm-eval's multiple-choice tasks, each of which is searched by itself."),
    ]
    together: Annotated[
        bool, Field(description="Search over all tasks together besides; of a single task that is the same.")
    ] = True
    search: StrategySettings = StrategySettings()
    objectives: Annotated[
        tuple[Objective, ...],
        Field(min_length=1, description=SearchSettings.described("objectives")),
    ] = ("parameters",)
    sizes: Annotated[
        tuple[Real, ...],
        Field(
            min_length=1,
            description="Sizes at which networks are compared: how many times fewer parameters than the model's they "
            "have at least.",
            examples=[[1.3]],
        ),
    ]
    baselines: Annotated[
        tuple[BaselineOptions, ...],
        Field(description="What is compared with at each size: other ways to make the model smaller."),
    ] = ()
    calibration: CalibrationSettings = CalibrationSettings()
    fine_tuning: SingleFineTuning = SingleFineTuning()
    heuristics: Annotated[
        tuple[NarrowLayers, ...], Field(description="Networks by heuristics of others, measured beside our own.")
    ] = ()
    remeasure_int8: Annotated[
        bool, Field(description="Measure fronts and chosen networks in INT8 too, as the LLaMA-NAS paper does.")
    ] = True
    serving: Annotated[
        ServingSettings | None,
        Field(description="How the speed of the front of one task is measured. Without it none is."),
    ] = None
    timed_task: Annotated[
        str | None,
        Field(description="The task whose front is timed; the paper takes MMLU. Default: mmlu, else the first."),
    ] = None
    reporting: ReportingSettings = ReportingSettings()
    dtype: Annotated[Literal["float32", "bfloat16", "auto"], Field(description=SearchSettings.described("dtype"))] = (
        "auto"
    )
    seed: Annotated[Whole, Field(ge=0, description="Seed of the baselines and of the order of their text.")] = 0

    @field_validator("tasks")
    @classmethod
    def _distinct_tasks(cls, tasks: tuple[TaskSettings, ...]) -> tuple[TaskSettings, ...]:
        distinct(tuple(task.name for task in tasks), "a task")
        return tasks

    @field_validator("supernets")
    @classmethod
    def _distinct_supernets(cls, supernets: tuple[StudiedSupernet, ...]) -> tuple[StudiedSupernet, ...]:
        distinct(tuple(supernet.name for supernet in supernets), "a super-network")
        return supernets

    @field_validator("baselines")
    @classmethod
    def _distinct_baselines(cls, baselines: tuple[BaselineOptions, ...]) -> tuple[BaselineOptions, ...]:
        distinct(tuple(options.baseline for options in baselines), "a baseline")
        return baselines

    @model_validator(mode="after")
    def _agreeing(self) -> Self:
        names = [supernet.name for supernet in self.supernets]
        for heuristic in self.heuristics:
            if heuristic.supernet not in names:
                raise ValueError(f"heuristics.{heuristic.name}: there is no super-network {heuristic.supernet!r}")
        if self.timed_task is not None and self.timed_task not in [task.name for task in self.tasks]:
            raise ValueError(f"timed_task: {self.timed_task!r} is none of `tasks`")
        return self

    @property
    def searched(self) -> tuple[str, ...]:
        """What the searches over each super-network are chosen on: each task, and all together."""
        tasks = tuple(task.name for task in self.tasks)
        return (*tasks, TOGETHER) if self.together and len(tasks) > 1 else tasks

    @property
    def timed(self) -> str | None:
        """The task whose front is timed; None if none is."""
        if self.serving is None:
            return None
        names = [task.name for task in self.tasks]
        return self.timed_task or ("mmlu" if "mmlu" in names else names[0])

    @property
    def fully_tuned(self) -> tuple[BaselineName, ...]:
        """Baselines of which all weights are fine-tuned."""
        listed = tuple(options.baseline for options in self.baselines)
        return listed if self.fine_tuning.full is None else self.fine_tuning.full

    def search_settings(self, supernet: StudiedSupernet, chosen_on: str) -> SearchSettings:
        """The search over a super-network by one task, or by all of them together."""
        number = self.searched.index(chosen_on)
        tasks = self.tasks if chosen_on == TOGETHER else (self.tasks[number],)
        return SearchSettings(
            name=f"{self.name}.{supernet.name}.{number}",
            model=self.model,
            space=supernet.space,
            training=supernet.training,
            tasks=tasks,
            search=self.search,
            objectives=self.objectives,
            serving=self.serving if chosen_on == self.timed else None,
            remeasure_int8=self.remeasure_int8,
            reporting=self.reporting,
            dtype=self.dtype,
        )
