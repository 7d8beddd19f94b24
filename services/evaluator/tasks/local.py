"""Benchmark data from a local directory with the hub's schemas (NASFARM_DATA), in place of a download."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask

from services.evaluator.tasks.kinds import require_scorable
from services.evaluator.tasks.lm_eval_internals import downloading
from services.evaluator.tasks.schemas import require_text, to_hub_schema
from shared.errors import UserError, first_line
from shared.files import is_directory
from shared.rows import LocatedRow, find_rows_file, hub_folders, located_rows

FOLDERS = {
    ("allenai/ai2_arc", "ARC-Easy"): "arc_easy",
    ("allenai/ai2_arc", "ARC-Challenge"): "arc_challenge",
    ("allenai/winogrande", "winogrande_xl"): "winogrande",
    ("truthfulqa/truthful_qa", "multiple_choice"): "truthfulqa",
    ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1"): "wikitext2",
}
"""Folder of a dataset and its configuration. Any other dataset OWNER/NAME is looked for as NAME/CONFIGURATION, NAME or
the task's name; a column `subject`, if there is one, tells the configurations apart."""

READERS = ("json", "csv", "parquet", "text")
"""Not data sets, but loaders of `datasets` for files that a task names itself."""
SPLITS = ("train", "validation", "test", "dev")
FORMER_NAMES = {"train": ("train_l",)}
"""Other names of a split's file."""


class DataMissingError(UserError):
    """A task whose data are not on this machine and can't be fetched from the hub; another machine may have them."""


@dataclass
class MissingSplits:
    """The splits of a task that are missing from local data, by the files that were looked for; "" where one is there.
    `evaluated`: the split that lm-eval scores; `examples`: the one that few-shot examples come from."""

    evaluated: str = ""
    examples: str = ""


@dataclass(frozen=True)
class LocalData:
    """The splits of a dataset in a folder, and the places of their rows."""

    folder: Path
    splits: DatasetDict
    places: dict[str, list[LocatedRow]]


@contextmanager
def local_data(directory: Path | None) -> Iterator[set[str]]:
    """While this lasts, lm-eval's tasks take their data from `directory` if it has them, from the hub if not.

    Yields where data sets came from, filled as tasks are made. Making a task that can't be scored raises UserError, and
    one whose data are in neither place DataMissingError. A task from local data has `places`, its rows'
    (`LocalData.places`), and `missing`.
    """
    origins: set[str] = set()

    def download(task: ConfigurableTask, as_lm_eval: Callable[[], None]) -> None:
        require_scorable(task)  # before anything is fetched for it
        if callable(task.config.custom_dataset):
            origins.add("built in")
            as_lm_eval()
            return
        path, name = str(task.DATASET_PATH), task.DATASET_NAME
        found = load_local(directory, path, name, task) if directory is not None and path not in READERS else None
        if found is None:
            try:
                as_lm_eval()
            except Exception as error:  # the hub's client raises many kinds; none of them is a bug of ours
                raise DataMissingError(_nowhere(task, directory, error)) from error
            origins.add(_own_files(task) or f"{path} from the hub")
        else:
            task.dataset, task.places = found.splits, found.places
            origins.add(f"{path} from {found.folder}")
            task.missing = _forget_missing_splits(task, found.folder)

    with downloading(download):
        yield origins


def load_local(directory: Path, path: str, name: str | None, task: ConfigurableTask) -> LocalData | None:
    """The splits of a dataset that lie in `directory`; None if there are none."""
    for folder in (directory / candidate for candidate in _folders(path, name, task)):
        splits, places = {}, {}
        for split in dict.fromkeys((*SPLITS, *filter(None, _splits(task)))):
            file = _first(folder, split)
            if file is not None:
                places[split] = _rows(file, name)
                splits[split] = _dataset(places[split])
        if splits:
            return LocalData(folder, DatasetDict(splits), places)
    return None


def _folders(path: str, name: str | None, task: ConfigurableTask) -> list[str]:
    if name is not None and (path, name) in FOLDERS:
        return [FOLDERS[path, name]]
    return list(dict.fromkeys([*hub_folders(path, name), str(task.config.task)]))


def _own_files(task: ConfigurableTask) -> str | None:
    """Where the data of a task lie that names files or a directory itself, in words; None if it names a data set of the
    hub."""
    path, arguments = str(task.DATASET_PATH), task.config.dataset_kwargs or {}
    if path not in READERS:
        return f"directory {path}" if is_directory(Path(path)) else None
    named = arguments.get("data_files") or arguments.get("data_dir") or ()
    of_splits = list(named.values()) if isinstance(named, dict) else [named]
    files = [str(file) for each in of_splits for file in (each if isinstance(each, list | tuple) else [each])]
    if not files:
        return "files of its own"
    return f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}"


def _splits(task: ConfigurableTask) -> tuple[str | None, ...]:
    config = task.config
    return config.training_split, config.validation_split, config.test_split, task.fewshot_cfg.split


def _nowhere(task: ConfigurableTask, directory: Path | None, error: Exception) -> str:
    if (own := _own_files(task)) is not None:
        remedy = "put it there, or correct dataset_path or dataset_kwargs in the task's file"
        return f"tasks.{task.config.task}: {own}: can't be read ({first_line(error)}); {remedy}"
    looked = ""
    if directory is not None:
        split = task.config.test_split or task.config.validation_split
        folders = _folders(str(task.DATASET_PATH), task.DATASET_NAME, task)
        looked = (
            f", where {' and '.join(str(directory / each / f'{split}.jsonl') for each in folders)} were looked for,"
        )
        looked = looked.replace(" were ", " was ") if len(folders) == 1 else looked
    return (
        f"tasks.{task.config.task}: lm-eval can't load it from NASFARM_DATA{looked} or the hub ({first_line(error)}); "
        "set NASFARM_DATA, or use the built-in task plain_facts"
    )


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


def _forget_missing_splits(task: ConfigurableTask, folder: Path) -> MissingSplits:
    """Unset the splits that aren't there: lm-eval looks at all splits as it makes a task, but only those that are asked
    for need to be there."""
    config, there = task.config, next(iter(task.dataset))
    scored = config.test_split or config.validation_split
    examples = task.fewshot_cfg.split or config.training_split or config.validation_split or config.test_split
    missing = MissingSplits(
        *(
            "" if split is None or split in task.dataset else str(folder / f"{split}.jsonl")
            for split in (scored, examples)
        )
    )
    for split in ("training_split", "validation_split", "fewshot_split"):
        if task.get_config(split) not in task.dataset:
            task.set_config(split, None)
    if task.fewshot_cfg.split not in task.dataset:
        task.fewshot_cfg.split = None
    if scored is not None and scored not in task.dataset:
        task.set_config("test_split", there)
    return missing


@lru_cache(maxsize=16)
def _cached_rows(file: Path) -> list[LocatedRow]:
    """Rows of a file; MMLU's 57 tasks all read the same two, and every task is loaded to search and to report."""
    rows = located_rows(file)
    for place, row in rows:
        require_text(row, place)
    return [(place, to_hub_schema(row)) for place, row in rows]


def _first(folder: Path, split: str) -> Path | None:
    names = (split, *FORMER_NAMES.get(split, ()))
    return next((file for name in names if (file := find_rows_file(folder, name))), None)


def _rows(file: Path, name: str | None) -> list[LocatedRow]:
    rows = _cached_rows(file)
    if name is not None and "subject" in rows[0][1]:
        rows = [(place, row) for place, row in rows if row.get("subject") == name]
        if not rows:
            raise UserError(f"{file}: no row has the subject {name!r}; fetch the file again")
    if name is not None and name.startswith("wikitext") and "text" in rows[0][1]:
        return [(str(file), page) for page in wikitext_pages([row for _, row in rows])]
    return rows


def _dataset(rows: list[LocatedRow]) -> Dataset:
    """Rows as lm-eval needs them: columns of one type each. Where a column has values of several plain types, they
    become strings."""
    kinds: dict[str, dict[str, str]] = {}
    for place, row in rows:
        for field, value in row.items():
            if value is not None:
                kinds.setdefault(field, {}).setdefault(type(value).__name__, place)
    mixed = {field: found for field, found in kinds.items() if len(found) > 1 and set(found) != {"int", "float"}}
    for field, found in mixed.items():
        if not set(found) <= {"str", "int", "float", "bool"}:
            (first, _), (second, place) = list(found.items())[:2]
            raise UserError(f"{place}: {field} is of type {second}, and of type {first} before; fix or remove the row")

    def plain(row: dict[str, Any]) -> dict[str, Any]:
        return {field: str(value) if field in mixed and value is not None else value for field, value in row.items()}

    every = list(kinds | dict.fromkeys(field for _, row in rows for field in row))
    content = [{field: plain(row).get(field) for field in every} for _, row in rows]
    try:
        return Dataset.from_list(content)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        place = rows[0][0].rsplit(":", 1)[0]
        raise UserError(f"{place}: its rows don't have the same form ({first_line(error)}); fix the file") from error
