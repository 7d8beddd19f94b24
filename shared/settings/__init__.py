"""Search files and study files, documented once: what they may say, how they are read, what is said about mistakes."""

from shared.settings.mistakes import explain
from shared.settings.reading import (
    MOST_BYTES,
    check_new_name,
    parse_settings,
    parse_study,
    read_search_file,
    read_study_file,
    write_search_file,
)
from shared.settings.search_file import OF_SERVING, TIMES, Objective, SearchSettings
from shared.settings.sections import (
    DepthRule,
    MemoryChoice,
    MemoryRecipe,
    ReportingSettings,
    ServingSettings,
    SpaceSettings,
    StrategyName,
    StrategySettings,
    TrainingSettings,
)
from shared.settings.study_file import StudySettings
from shared.settings.tasks import (
    ItemsPart,
    PartSettings,
    TaskSettings,
    is_task_file,
    metrics_by_task,
    split_tasks,
    task_title,
    true_or_named,
)
from shared.settings.values import LONGEST_NAME

__all__ = [
    "LONGEST_NAME",
    "MOST_BYTES",
    "OF_SERVING",
    "TIMES",
    "DepthRule",
    "ItemsPart",
    "MemoryChoice",
    "MemoryRecipe",
    "Objective",
    "PartSettings",
    "ReportingSettings",
    "SearchSettings",
    "ServingSettings",
    "SpaceSettings",
    "StrategyName",
    "StrategySettings",
    "StudySettings",
    "TaskSettings",
    "TrainingSettings",
    "check_new_name",
    "explain",
    "is_task_file",
    "metrics_by_task",
    "parse_settings",
    "parse_study",
    "read_search_file",
    "read_study_file",
    "split_tasks",
    "task_title",
    "true_or_named",
    "write_search_file",
]
