"""What an export is verified on: report items of the run, or, where their data aren't at hand, a fixed text."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from services.application.export.report_items import report_tasks
from services.evaluator.batches import Continuation
from services.evaluator.preparation import PreparedTask, item_windows
from shared import facts
from shared.environment import Environment
from shared.errors import UserError
from shared.settings import SearchSettings, task_title
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.tokenizer import load_tokenizer

ITEMS = 64
"""Report items that an export is verified on, all tasks together; of the fixed text, as many questions."""
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class VerifiedItems:
    """`windows[i]` are the token sequences of item i, one for each of its requests, the items of one task after those
    of another; `metrics` says what is counted of each task. Without tasks, each item is a text of its own. `origin`
    says in words what they are, `missing` why they aren't the report items."""

    tasks: tuple[PreparedTask, ...]
    metrics: tuple[str, ...]
    windows: tuple[tuple[Continuation, ...], ...]
    origin: str
    missing: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens of all windows."""
        return sum(len(window.inputs) for item in self.windows for window in item)


def verified_items(settings: SearchSettings, checkpoint: Checkpoint, environment: Environment) -> VerifiedItems:
    """The first report items of a search, as many of each task, as the tokenizer of its super-network reads them.
    Raises UserError where there is no such tokenizer."""
    tokenizer = load_tokenizer(checkpoint.directory)
    try:
        return _report_items(settings, checkpoint, environment, tokenizer)
    except UserError as error:  # the data may be on another machine, and the export is verified all the same
        return VerifiedItems((), (), tuple(_text(tokenizer)), "a fixed text", str(error))


def _report_items(
    settings: SearchSettings, checkpoint: Checkpoint, environment: Environment, tokenizer: PreTrainedTokenizerBase
) -> VerifiedItems:
    most, device = max(1, ITEMS // len(settings.tasks)), torch.device("cpu")
    tasks = report_tasks(settings, checkpoint, tokenizer, environment, device, BATCH_TOKENS, most)
    windows = [each for task in tasks for each in item_windows(task.loaded, tokenizer, checkpoint.config)]
    names = " and ".join(task_title(task.name) for task in tasks)
    return VerifiedItems(tasks, settings.metrics, tuple(windows), f"{len(windows)} report items of {names}")


def _text(tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[Continuation, ...]]:
    for question in facts.questions("report")[:ITEMS]:
        tokens = tokenizer.encode(f"{question['question']} {question['choices']['text'][0]}")
        yield (Continuation(tuple(tokens[:-1]), tuple(tokens[1:])),)
