"""The benchmark tasks of a search or study file: how they are named, prompted and scored, and on which items."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from shared.messages import TaskItems
from shared.settings.values import Section, Whole

ItemsPart = Literal["search", "report"]
"""The items that a search chooses by, and the items that its report is measured on."""
Metric = Literal["acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"]
"""lm-eval's metrics that say for each item whether it was answered right, which intervals and paired tests need."""

SPLITS = {
    "arc_easy": ("validation", "test"),
    "arc_challenge": ("validation", "test"),
    "plain_facts": ("validation", "test"),
}
"""Split to search on and split to report on, for the tasks that have two with answers; others are scored on one split
(None: lm-eval's choice), of which search and report take different items."""


class PartSettings(Section):
    """Which items of a task."""

    items: Annotated[
        Whole,
        Field(ge=1, description="Number of items. They are drawn in a fixed random order, the same in every search."),
    ]
    split: Annotated[
        str | None,
        Field(
            description="Split that the items come from. By default, arc_easy, arc_challenge and plain_facts are "
            "searched on validation and reported on test; other tasks use the split that lm-eval scores, and the "
            "report takes the items that follow the search's. Name the split of both parts or of neither.",
            examples=["validation"],
        ),
    ] = None


class TaskSettings(Section):
    """One lm-eval task, with the items that the search chooses by and the items that the report is measured on."""

    name: Annotated[
        str,
        Field(
            description="An lm-eval task, or several separated by commas. A task may also be the path of its YAML "
            "file, though not on a farm.",
            examples=["arc_easy", "winogrande,piqa"],
        ),
    ]
    metric: Annotated[
        Metric,
        Field(
            description="lm-eval's metric of a right answer: acc, acc_norm, acc_bytes, acc_mutual_info or exact_match. "
            "acc compares the choices' log-likelihoods, acc_norm and acc_bytes divide them by the choice's length "
            "first, acc_mutual_info subtracts the choice's log-likelihood without the question; exact_match compares "
            "texts. lm-eval says which of these a task has."
        ),
    ] = "acc"
    num_fewshot: Annotated[
        Annotated[Whole, Field(ge=0)] | None,
        Field(description="Few-shot examples in the prompt; default: the task's own.", examples=[5]),
    ] = None
    apply_chat_template: Annotated[
        bool | str,
        Field(
            description="Make prompts with the tokenizer's chat template: true, false, or a template's name. For chat "
            "models."
        ),
    ] = False
    fewshot_as_multiturn: Annotated[
        bool,
        Field(
            description="With a chat template, give few-shot examples as turns of the chat. If false, they stand in "
            "the question's turn."
        ),
    ] = True
    search: Annotated[PartSettings, Field(description="Items that the strategy sees and chooses by.")]
    report: Annotated[
        PartSettings,
        Field(
            description="Other items, on which some networks of the front are measured once, at the end. The more "
            "there are, the smaller the loss that can be ruled out."
        ),
    ]

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
            raise ValueError("name the split of both parts or of neither, so that they can't share items")
        return self

    def part(self, name: ItemsPart) -> TaskItems:
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


def metrics_by_task(tasks: Sequence[TaskSettings]) -> dict[str, str]:
    """What is counted of each task, by its name."""
    return {task.name: task.metric for task in tasks}


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


def task_title(name: str) -> str:
    """What a task is called before others: of one that is named by a file, the file's name without the way there, as
    paths of a machine are nobody's business."""
    return PurePath(name).stem if is_task_file(name) else name


def split_tasks(names: object) -> list[Any]:
    """The tasks of a text such as `arc_easy,winogrande`; what is no such text stays as it is."""
    if not isinstance(names, str) or "," not in names:
        return [names]
    return [name.strip() for name in names.split(",")]


def one_by_one(tasks: object) -> object:
    """The sections of tasks as they are written, those that name several tasks with commas once for each."""
    if not isinstance(tasks, list | tuple):
        return tasks
    return [
        {**task, "name": name} if isinstance(task, dict) else task
        for task in tasks
        for name in (split_tasks(task["name"]) if isinstance(task, dict) and "name" in task else [""])
    ]
