"""lm-eval's index of its tasks, cached on disk: reading its 13,000 YAML files takes seconds."""

from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.tasks import TaskManager
from pydantic import TypeAdapter

from services.evaluator.tasks.lm_eval_internals import index_entry
from shared.environment import Environment
from shared.errors import UserError
from shared.files import is_directory, write_atomically

OWN = Path(__file__).parent
THEIRS = Path(lm_eval.tasks.__file__).parent

CachedEntry = tuple[str, str | None, list[str]]
"""Kind of an entry, its file (None for a tag), and the tasks of a tag, or the tags of a task."""
CACHED_INDEX = TypeAdapter(dict[str, CachedEntry])


@cache
def task_manager() -> TaskManager:
    """lm-eval's task manager, knowing its own tasks, groups and tags and ours; names are in its `task_index`."""
    manager = TaskManager(include_defaults=False, include_path=str(OWN))
    own = dict(manager.task_index)
    manager.task_index.update({name: _entry(name, row) for name, row in _defaults().items()} | own)
    return manager


def include_tasks(directory: Path) -> None:
    """Make the tasks, groups and tags of a directory known too, in place of those of the same names.

    Raises UserError where it holds none.
    """
    found = (
        TaskManager(include_defaults=False, include_path=str(directory)).task_index if is_directory(directory) else {}
    )
    if not found:
        raise UserError(f"{directory}: holds no task of lm-eval; name a directory with tasks in YAML")
    task_manager().task_index.update(found)


def _defaults() -> dict[str, CachedEntry]:
    """lm-eval's own index, from the cache if this very installation has been indexed before."""
    installed = f"{version('lm_eval')}-{THEIRS.stat().st_mtime_ns:x}"
    path = Environment.read().cache / "lm_eval_tasks" / f"{installed}.json"
    with suppress(OSError, ValueError):  # not there yet, or damaged: made anew
        return CACHED_INDEX.validate_json(path.read_bytes())
    index = {name: _row(entry) for name, entry in TaskManager().task_index.items()}
    with suppress(UserError):  # without a cache, every start takes that long
        write_atomically(path, CACHED_INDEX.dump_json(index))
    return index


def _row(entry: Any) -> CachedEntry:
    file = None if entry.yaml_path is None else str(entry.yaml_path.relative_to(THEIRS))
    return entry.kind.name, file, sorted(entry.tags)


def _entry(name: str, row: CachedEntry) -> Any:
    kind, file, names = row
    return index_entry(name, kind, None if file is None else THEIRS / file, set(names))
