"""Benchmark data from a local directory with the hub's schemas (NASFARM_DATA), in place of a download."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask

from services.evaluator.tasks.kinds import require_scorable
from shared.rows import find_rows, read_rows

FOLDERS = {
    ("allenai/ai2_arc", "ARC-Easy"): "arc_easy",
    ("allenai/ai2_arc", "ARC-Challenge"): "arc_challenge",
    ("allenai/winogrande", "winogrande_xl"): "winogrande",
    ("truthfulqa/truthful_qa", "multiple_choice"): "truthfulqa",
    ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1"): "wikitext2",
}
"""Folder of a dataset and its configuration. Any other dataset OWNER/NAME is looked for as NAME/CONFIGURATION or NAME,
where a column `subject`, if there is one, tells the configurations apart."""

FILES = {"train": ("train", "train_l"), "validation": ("validation",), "test": ("test",), "dev": ("dev",)}


@contextmanager
def local_data(directory: Path | None) -> Iterator[dict[str, str]]:
    """While this lasts, lm-eval's tasks take their data from `directory` if it has them, from the hub if not.

    Yields a mapping from dataset to where it came from, filled as tasks are made. Making a task that can't be scored
    raises UserError.
    """
    origins: dict[str, str] = {}
    original = ConfigurableTask.download

    def download(task: ConfigurableTask, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        require_scorable(task)  # before anything is fetched for it
        if callable(task.config.custom_dataset):
            origins[task.config.task] = "built in"
            original(task, dataset_kwargs, **kwargs)
            return
        path, name = str(task.DATASET_PATH), task.DATASET_NAME
        found = load_local(directory, path, name) if directory is not None else None
        if found is None:
            original(task, dataset_kwargs, **kwargs)
            origins[path] = f"{path} from the hub"
        else:
            task.dataset, origin = found
            origins[path] = f"{path} from {origin}"
            if task.OUTPUT_TYPE == "loglikelihood_rolling":
                _forget_missing_splits(task)

    with patch.object(ConfigurableTask, "download", download):
        yield origins


def load_local(directory: Path, path: str, name: str | None) -> tuple[DatasetDict, Path] | None:
    """The splits of a dataset that lie in `directory`, and in which folder; None if there are none."""
    short = path.rsplit("/", 1)[-1]
    folders = [FOLDERS[path, name]] if name and (path, name) in FOLDERS else [f"{short}/{name}", short]
    for folder in (directory / candidate for candidate in folders):
        files = {split: _first(folder, names) for split, names in FILES.items()}
        splits = {split: _rows(file, name) for split, file in files.items() if file is not None}
        if splits:
            return DatasetDict(splits), folder
    return None


def wikitext_pages(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The articles of WikiText, whole, from the rows of its hub dataset, one for each line of the raw file.

    As EleutherAI/wikitext_document_level cuts them: at every heading of the first level.
    """
    raw = "".join(row["text"] or " \n" for row in rows)
    pages: list[list[str]] = [[]]
    for line in raw.split("\n"):
        heading = line.replace("= = =", "===").replace("= =", "==").strip()
        if heading.startswith("= ") and heading.endswith(" ="):
            pages.append([])
        pages[-1].append(line)
    texts = ["\n".join(lines) for lines in pages]
    return [{"page": text} for text in texts if text.strip()]


def _forget_missing_splits(task: ConfigurableTask) -> None:
    """lm-eval takes examples from a task's other splits as it makes the task, even for texts, which have none."""
    for split in ("training_split", "validation_split"):
        if task.get_config(split) not in task.dataset:
            task.set_config(split, None)


@lru_cache(maxsize=16)
def _cached_rows(file: Path) -> list[dict[str, Any]]:
    """Rows of a file; MMLU's 57 tasks all read the same two, and every task is loaded to search and to report."""
    return read_rows(file)


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((file for name in names if (file := find_rows(folder, name))), None)


def _rows(file: Path, name: str | None) -> Dataset:
    rows = _cached_rows(file)
    if name is not None and "subject" in rows[0]:
        rows = [row for row in rows if row["subject"] == name]
    if name is not None and name.startswith("wikitext") and "text" in rows[0]:
        rows = wikitext_pages(rows)
    return Dataset.from_list(rows)
