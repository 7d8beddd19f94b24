"""The study file: one YAML file that says everything about a study."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from shared.digest import digest_json
from shared.settings.baselines import BaselineName, BaselineOptions
from shared.settings.search_file import SearchSettings
from shared.settings.sections import ReportingSettings, ServingSettings, StrategySettings
from shared.settings.study_sections import (
    BY_LORA,
    NAME,
    CalibrationSettings,
    NarrowLayers,
    SearchOfStudy,
    SingleFineTuning,
    StudiedSupernet,
)
from shared.settings.tasks import TaskSettings, one_by_one
from shared.settings.values import LONGEST_NAME, Real, Section, Whole, distinct
from shared.text import shortened, shown

__all__ = ["TOGETHER", "CalibrationSettings", "NarrowLayers", "SingleFineTuning", "StudiedSupernet", "StudySettings"]

TOGETHER = "together"
"""What the search over all tasks at once is chosen on, where others are chosen on their task."""
StudyObjective = Literal["parameters", "bytes"]
"""What a study's searches trade against accuracy. No seconds: they would be measured anew for each search."""


class StudySettings(Section):
    """Everything about one study: super-networks, searches on each task, baselines, and what is compared."""

    name: Annotated[
        str,
        Field(
            pattern=NAME,
            description="Name of the study, which is kept in runs/NAME. Letters, digits and . _ - only, a letter or "
            "digit first; its searches' names, which begin with it and a super-network's, have at most "
            f"{LONGEST_NAME} characters.",
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
    search: SearchOfStudy = StrategySettings()
    objectives: Annotated[
        tuple[StudyObjective, ...],
        Field(
            min_length=1,
            description="What the searches trade against accuracy: parameters, bytes, or both. bytes are those of the "
            "weights.",
            json_schema_extra={"uniqueItems": True},
        ),
    ] = ("parameters",)
    sizes: Annotated[
        tuple[Annotated[Real, Field(gt=1)], ...],
        Field(
            min_length=1,
            description="Sizes at which networks are compared: how many times fewer parameters than the model's they "
            "have at least.",
            examples=[[1.3]],
        ),
    ]
    candidates: Annotated[
        Whole,
        Field(
            ge=0,
            description="Networks of each size that are measured on each search's items besides, namely those that it "
            "expects to be most accurate. Without them few of a search's networks are of the size itself, and a "
            "smaller one is compared.",
        ),
    ] = 8
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
        bool,
        Field(description="Measure each task's front and chosen networks in INT8 too, as the LLaMA-NAS paper does."),
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

    @field_validator("tasks", mode="before")
    @classmethod
    def _one_by_one(cls, tasks: object) -> object:
        """A section may name several tasks, with commas between them: each is searched by itself."""
        return one_by_one(tasks)

    @field_validator("tasks")
    @classmethod
    def _distinct_tasks(cls, tasks: tuple[TaskSettings, ...]) -> tuple[TaskSettings, ...]:
        names = distinct(tuple(task.name for task in tasks), "a task")
        if TOGETHER in names:
            raise ValueError(f"a task can't be called {TOGETHER!r}, as the search over all of them is; rename it")
        return tasks

    @field_validator("sizes")
    @classmethod
    def _distinct_sizes(cls, sizes: tuple[float, ...]) -> tuple[float, ...]:
        return distinct(sizes, "a size")

    @field_validator("objectives")
    @classmethod
    def _distinct_objectives(cls, objectives: tuple[StudyObjective, ...]) -> tuple[StudyObjective, ...]:
        return distinct(objectives, "an objective")

    @field_validator("heuristics")
    @classmethod
    def _distinct_heuristics(cls, heuristics: tuple[NarrowLayers, ...]) -> tuple[NarrowLayers, ...]:
        distinct(tuple(heuristic.name for heuristic in heuristics), "a heuristic")
        return heuristics

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
    def _short_and_distinct_names(self) -> Self:
        searches = [(supernet.name, chosen_on) for supernet in self.supernets for chosen_on in self.searched]
        named: dict[str, tuple[str, str]] = {}
        for search in searches:
            name = self._search_name(*search)
            if name in named:
                (one, task), (other, other_task) = named[name], search
                raise ValueError(
                    f"supernets: the search of {one} on {task} and that of {other} on {other_task} would both be "
                    f"called {shortened(name, 40)}; call one of the super-networks otherwise"
                )
            named[name] = search
        name = max(named, key=len)
        if len(name) > LONGEST_NAME:
            raise ValueError(
                f"name: a search would be called {shortened(name, 40)}, which has {len(name)} characters instead of at "
                f"most {LONGEST_NAME}; shorten it or the super-network's name"
            )
        return self

    @model_validator(mode="after")
    def _listed_baselines(self) -> Self:
        listed = [options.baseline for options in self.baselines]
        tuned = self.fine_tuning
        for key, names in (("full", tuned.full), ("lora", None if tuned.lora == BY_LORA else tuned.lora)):
            for name in names or ():
                if name not in listed:
                    raise ValueError(f"fine_tuning.{key}: {name} is none of `baselines`; remove it, or add it there")
        return self

    @model_validator(mode="after")
    def _possible_heuristics(self) -> Self:
        supernets = {supernet.name: supernet for supernet in self.supernets}
        for number, heuristic in enumerate(self.heuristics):
            if heuristic.supernet not in supernets:
                names = ", ".join(supernets)
                raise ValueError(
                    f"heuristics.{number}.supernet: there is no super-network {shown(heuristic.supernet)}; name one of "
                    f"{shortened(names)}"
                )
            heuristic.check(supernets[heuristic.supernet].space, f"heuristics.{number}")
        return self

    @model_validator(mode="after")
    def _timed_with_serving(self) -> Self:
        if self.timed_task is None:
            return self
        if self.serving is None:
            raise ValueError(
                "timed_task: how its networks are served isn't said; add a section `serving`, or remove timed_task"
            )
        if self.timed_task not in [task.name for task in self.tasks]:
            raise ValueError(f"timed_task: {shown(self.timed_task)} is none of `tasks`; name one of them")
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
        tasks = [task for task in self.tasks if chosen_on in (task.name, TOGETHER)]
        return SearchSettings(
            name=self._search_name(supernet.name, chosen_on),
            model=self.model,
            space=supernet.space,
            training=supernet.training,
            tasks=tuple(sorted(tasks, key=lambda task: task.name)),  # in whatever order the file has them
            search=supernet.search or self.search,
            objectives=self.objectives,
            serving=self.serving if chosen_on == self.timed else None,
            remeasure_int8=self.remeasure_int8 and chosen_on != TOGETHER,
            reporting=self.reporting,
            dtype=self.dtype,
        )

    def _search_name(self, supernet: str, chosen_on: str) -> str:
        """What a search is called: its run and its queues. The same, whatever other tasks the study has; that over all
        together is another one where they are others, so that a task may be added to a study."""
        if chosen_on != TOGETHER:
            return f"{self.name}.{supernet}.{_as_name(chosen_on)}"
        tasks = sorted(task.name for task in self.tasks)
        return f"{self.name}.{supernet}.{TOGETHER}-{digest_json(tasks)[:8]}"


def _as_name(task: str) -> str:
    """A task in the characters that names have; the path of a task's file by how it ends and its digest."""
    if re.fullmatch(r"[A-Za-z0-9._-]{1,40}", task):
        return task
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', task)[-16:]}-{digest_json(task)[:8]}"
