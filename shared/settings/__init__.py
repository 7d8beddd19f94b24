"""The search file, documented once: what it may say, how it is read, and what is said about mistakes in it."""

from shared.settings.mistakes import explain
from shared.settings.reading import (
    LONGEST_NAME,
    MOST_BYTES,
    check_new_name,
    parse_settings,
    read_search_file,
    write_search_file,
)
from shared.settings.search_file import TIMES, Objective, SearchSettings
from shared.settings.sections import (
    ReportingSettings,
    ServingSettings,
    SpaceSettings,
    StrategyName,
    StrategySettings,
    TrainingSettings,
)
from shared.settings.tasks import ItemsPart, PartSettings, TaskSettings, is_task_file, split_tasks, true_or_named

__all__ = [
    "LONGEST_NAME",
    "MOST_BYTES",
    "TIMES",
    "ItemsPart",
    "Objective",
    "PartSettings",
    "ReportingSettings",
    "SearchSettings",
    "ServingSettings",
    "SpaceSettings",
    "StrategyName",
    "StrategySettings",
    "TaskSettings",
    "TrainingSettings",
    "check_new_name",
    "explain",
    "is_task_file",
    "parse_settings",
    "read_search_file",
    "split_tasks",
    "true_or_named",
    "write_search_file",
]
