"""lm-eval's tasks by name: its prompts, choices, few-shot examples and metrics, on local data or the hub's."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import aggregate_subtask_metrics, mean
from lm_eval.api.samplers import FirstNSampler
from lm_eval.api.task import ConfigurableTask
from transformers import PreTrainedTokenizerBase

from services.evaluator.tasks.chat import ChatRenderer, chat_template
from services.evaluator.tasks.checked import CheckedTask, bad_row
from services.evaluator.tasks.index import task_manager
from services.evaluator.tasks.kinds import require_scorable
from services.evaluator.tasks.lm_eval_internals import making
from services.evaluator.tasks.local import MissingSplits, local_data
from shared.errors import UserError, first_line
from shared.files import is_file, user_path
from shared.messages import TaskItems
from shared.settings import is_task_file
from shared.text import shortened, shown

log = logging.getLogger(__name__)

NONE_MISSING = MissingSplits()
FEWSHOT_SEED = 1234
"""lm-eval's own default."""


@dataclass(frozen=True)
class Document:
    """One item: the task that it belongs to (a subject, for a group of tasks), its data, and the prompt before its
    choices; `chat` is the chat template that made the prompt, if one did."""

    task: ConfigurableTask
    index: int
    doc: dict[str, Any]
    context: str | list[str]
    chat: ChatRenderer | None = None

    @property
    def rolling(self) -> bool:
        """Whether it is a text to be scored as a whole, not a question with choices."""
        return bool(self.task.OUTPUT_TYPE == "loglikelihood_rolling")

    @property
    def choices(self) -> tuple[str, ...]:
        """The choices; none for a text."""
        return () if self.rolling else tuple(self.task.doc_to_choice(self.doc))

    def requests(self) -> list[Instance]:
        """What lm-eval asks a model about it: the choices in order, first after the context, then (for acc_mutual_info)
        without; or the whole text."""
        made = self.task.construct_requests(
            self.doc,
            self.context,
            metadata=(self.task.task_name, self.index, 1),
            apply_chat_template=self.chat is not None,
            chat_template=self.chat,
        )
        return list(made) if isinstance(made, list) else [made]

    def golds(self) -> tuple[int, ...]:
        """Indices of the right choices, as lm-eval's process_results finds them; none for a text, and for a task with a
        `process_results` of its own.

        Raises UserError where the data name a choice that doesn't exist.
        """
        if self.rolling or callable(self.task.config.process_results):
            return ()
        gold: Any = self.task.doc_to_text(self.doc) if self.task.multiple_input else self.task.doc_to_target(self.doc)
        choices = self.task.doc_to_choice(self.doc)
        listed = gold if isinstance(gold, list) else [gold]
        if not all(entry in choices if isinstance(entry, str) else 0 <= entry < len(choices) for entry in listed):
            raise bad_row(self.task, self.doc, "names a right answer that is not one of its choices")
        return tuple(choices.index(entry) if isinstance(entry, str) else int(entry) for entry in listed)

    def metrics(self, answers: Sequence[tuple[float, bool]]) -> dict[str, Any]:
        """lm-eval's metrics of this item, given the log-likelihood of each of its requests and whether it is the greedy
        choice; what a metric's aggregation needs (a pair for perplexity) where it is no number by itself."""
        results = [likelihood for likelihood, _ in answers] if self.rolling else list(answers)
        found: dict[str, Any] = self.task.process_results(self.doc, results)
        return found


@dataclass(frozen=True)
class LoadedTask:
    """The asked items of a task, in the order of the request, and where the data came from.

    `by_size`: of a group of tasks, for each metric that lm-eval aggregates for it, whether its tasks count by their
    numbers of items or all the same.
    """

    documents: tuple[Document, ...]
    origin: str
    by_size: dict[str, bool] = field(default_factory=dict)

    @property
    def clusters(self) -> tuple[int, ...]:
        """Of each item the number of its task among those of the group; empty for a single task."""
        names = [str(document.task.task_name) for document in self.documents]
        numbers = {name: number for number, name in enumerate(sorted(set(names)))}
        return tuple(numbers[name] for name in names) if len(numbers) > 1 else ()

    @property
    def even(self) -> tuple[str, ...]:
        """The metrics of a group that count each of its tasks the same."""
        return tuple(sorted(metric for metric, by_size in self.by_size.items() if not by_size))

    def values(self, per_item: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Each metric over all items, by lm-eval's own aggregation, from `Document.metrics` of each; items without a
        metric don't count for it. A group's is that of its tasks' values, by the group's own rule; where it has none,
        all items are taken together."""
        members: dict[int, list[int]] = {}
        for index, document in enumerate(self.documents):
            members.setdefault(id(document.task), []).append(index)
        aggregations = {
            name: aggregation
            for indices in members.values()
            for name, aggregation in self.documents[indices[0]].task.aggregation().items()
        }

        def aggregated(name: str, indices: Sequence[int]) -> float:
            found = [per_item[index][name] for index in indices if name in per_item[index]]
            return float(aggregations.get(name, mean)(found))

        values = {}
        for name in dict.fromkeys(name for metrics in per_item for name in metrics):
            having = [indices for indices in members.values() if any(name in per_item[index] for index in indices)]
            if name in self.by_size:
                tasks = [aggregated(name, indices) for indices in having]
                sizes = [len(indices) for indices in having]
                values[name] = float(aggregate_subtask_metrics(tasks, sizes, self.by_size[name]))
            else:
                values[name] = aggregated(name, range(len(per_item)))
        return values


def load_items(asked: TaskItems, data: Path | None, tokenizer: PreTrainedTokenizerBase | None = None) -> LoadedTask:
    """Load the items that a request names; with the tokenizer's chat template, if they are asked for with one.

    Raises UserError for an unknown task, one of a kind that can't be scored, a split that it doesn't have, data that
    can't be loaded, fewer items than asked, or a missing chat template.
    """
    chat = chat_template(asked, tokenizer)
    leaves, origin, by_size = _configured(asked, data)
    counts = [len(leaf.eval_docs) for leaf in leaves]
    order = shuffled(sum(counts)) if asked.limit is None else _first_of_each(counts, asked.limit)
    if asked.stop > len(order):
        raise UserError(
            f"tasks.{asked.task}: {asked.stop} items are asked for of split {asked.split or _split(leaves[0])}, "
            f"it has {len(order)}; ask for fewer"
        )
    wanted = order[asked.start : asked.stop]
    return LoadedTask(tuple(_documents(leaves, counts, wanted, chat, asked.fewshot_as_multiturn)), origin, by_size)


def count_items(task: str, split: str | None, data: Path | None, limit: int | None = None) -> int:
    """How many items a split of a task has, `limit` being that of `TaskItems`. Raises UserError as `load_items`
    does."""
    leaves, _, _ = _configured(TaskItems(task=task, split=split, stop=1), data)
    counts = [len(leaf.eval_docs) for leaf in leaves]
    return sum(counts) if limit is None else len(_first_of_each(counts, limit))


def shuffled(count: int) -> list[int]:
    """The fixed order in which the items of a split are asked for; it depends on their number alone."""
    order = list(range(count))
    random.Random(count).shuffle(order)
    return order


def _first_of_each(counts: Sequence[int], limit: int) -> list[int]:
    """The first items of each of a group's tasks; items are numbered consecutively over all tasks."""
    firsts = [sum(counts[:number]) for number in range(len(counts))]
    return [first + index for first, count in zip(firsts, counts, strict=True) for index in range(min(count, limit))]


def _configured(asked: TaskItems, data: Path | None) -> tuple[list[ConfigurableTask], str, dict[str, bool]]:
    """lm-eval's tasks of that name, configured as asked; where their data came from; and `LoadedTask.by_size`."""
    with local_data(data) as origins, making(CheckedTask):
        leaves, by_size = _load(asked.task)
    for leaf in leaves:
        _configure(leaf, asked)
    return leaves, ", ".join(sorted(origins)), by_size


def _load(name: str) -> tuple[list[ConfigurableTask], dict[str, bool]]:
    manager, own = task_manager(), is_task_file(name)
    if own and not is_file(user_path(name)):
        raise UserError(f"tasks.{shortened(name)}: no such file; give the path of a task of lm-eval in YAML")
    if not own and name not in manager.task_index:
        close = get_close_matches(name, manager.task_index, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "`lm-eval ls tasks` lists those it knows"
        raise UserError(f"tasks.{shortened(name)}: lm-eval knows no such task; {hint}")
    try:
        loaded = manager.load(str(user_path(name)) if own else name)
    except UserError:
        raise
    except Exception as error:  # lm-eval and the hub's client raise many kinds; none of them is a bug of ours
        raise UserError(f"tasks.{name}: lm-eval can't load it ({first_line(error)}); fix its definition") from error
    tasks, group = list(loaded["tasks"].values()), loaded.get("groups", {}).get(name)
    for task in tasks:
        require_scorable(task)
    rules = (group.aggregate_metric_list or []) if group is not None else []
    by_size = {str(rule.metric): bool(rule.weight_by_size) for rule in rules}
    return sorted(tasks, key=lambda task: str(task.task_name)), by_size


def _split(task: ConfigurableTask) -> str:
    return str(task.config.test_split if task.has_test_docs() else task.config.validation_split)


def _configure(task: ConfigurableTask, asked: TaskItems) -> None:
    if asked.split is not None:
        if asked.split not in task.dataset:
            raise UserError(f"tasks.{asked.task}: no split {shown(asked.split)}; it has {', '.join(task.dataset)}")
        task.set_config("test_split", asked.split)
    elif getattr(task, "missing", NONE_MISSING).evaluated:
        raise UserError(
            f"tasks.{asked.task}: {task.missing.evaluated} is missing, there are only the splits "
            f"{', '.join(task.dataset)}; put the file there, or name another split"
        )
    # As lm-eval does: a task that fixes its number of examples at 0 keeps it.
    if asked.num_fewshot is not None and task.get_config("num_fewshot") != 0:
        task.set_config("num_fewshot", asked.num_fewshot)
    elif asked.num_fewshot:
        _log_fixed_num_fewshot(str(task.config.task), asked.num_fewshot)
    task.set_fewshot_seed(FEWSHOT_SEED)


@cache
def _log_fixed_num_fewshot(name: str, asked: int) -> None:
    """Once in a process: a task is loaded to count its items, to search and to report."""
    log.warning("tasks.%s: num_fewshot is %d, but the task fixes it at 0: no examples are given", name, asked)


def _check_shots(leaf: ConfigurableTask, shots: int) -> None:
    """Raise UserError where a task has fewer examples than are asked for.

    lm-eval keeps one back, lest an item be an example to itself, where it takes items and examples from one split or
    finds neither split named.
    """
    if shots == 0:
        return
    if getattr(leaf, "missing", NONE_MISSING).examples:
        raise UserError(
            f"tasks.{leaf.config.task}: num_fewshot is {shots}, but {leaf.missing.examples} is missing, from which "
            "examples come; put the file there, or ask for 0"
        )
    examples = len(leaf.sampler.fewshot_docs()) if hasattr(leaf, "sampler") else 0
    shared = leaf.fewshot_cfg.split == leaf.config.test_split
    if shared and isinstance(leaf.sampler, FirstNSampler):  # draws none more, but leaves out those that are the item
        shared = any(doc in leaf.sampler.df for doc in leaf.eval_docs) if shots == examples else True
    there = max(0, examples - 1) if shared else examples
    if shots > there:
        raise UserError(
            f"tasks.{leaf.config.task}: num_fewshot is {shots}, there are {examples} examples"
            f"{f', of which lm-eval keeps one back; ask for {there} at most' if shared else '; ask for fewer'}"
        )


def _documents(
    leaves: Sequence[ConfigurableTask],
    counts: Sequence[int],
    wanted: Sequence[int],
    chat: ChatRenderer | None,
    fewshot_as_multiturn: bool,
) -> list[Document]:
    documents: dict[int, Document] = {}
    first, needed = 0, set(wanted)
    for leaf, count in zip(leaves, counts, strict=True):
        shots = leaf.get_config("num_fewshot") or 0
        if any(first <= index < first + count for index in needed):
            _check_shots(leaf, shots)
        # Examples drawn at random come from one stream for the whole split: what an item gets depends on the others.
        drawn = shots > 0 and not isinstance(leaf.sampler, FirstNSampler)
        docs = leaf.eval_docs
        there = max((index - first + 1 for index in needed if first <= index < first + count), default=0)
        for index in range(there):
            if drawn or first + index in needed:
                doc = docs[index]
                context = leaf.fewshot_context(
                    doc,
                    shots,
                    apply_chat_template=chat is not None,
                    fewshot_as_multiturn=fewshot_as_multiturn,
                    chat_template=chat,
                    gen_prefix=leaf.doc_to_prefix(doc),
                )
                documents[first + index] = Document(leaf, first + index, doc, context, chat)
        first += count
    return [documents[index] for index in wanted]
