"""The report items of a run, ready to be scored by networks of its super-network."""

import torch
from transformers import PreTrainedTokenizerBase

from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.tasks.index import include_tasks
from services.evaluator.tasks.loading import load_items
from shared.environment import Environment
from shared.files import user_path
from shared.settings import SearchSettings
from shared.supernet.checkpoint import Checkpoint


def report_tasks(
    settings: SearchSettings,
    checkpoint: Checkpoint,
    tokenizer: PreTrainedTokenizerBase,
    environment: Environment,
    device: torch.device,
    batch_tokens: int,
    most: int | None = None,
) -> tuple[PreparedTask, ...]:
    """The report items of each task; `most`: only the first so many. Raises UserError where their data aren't at
    hand."""
    if settings.include_path is not None:
        include_tasks(user_path(settings.include_path))
    tasks = []
    for asked in (task.part("report") for task in settings.tasks):
        stop = asked.stop if most is None else min(asked.stop, asked.start + most)
        loaded = load_items(asked.model_copy(update={"stop": stop}), environment.data, tokenizer)
        tasks.append(prepare_task(asked.task, loaded, tokenizer, checkpoint.config, device, batch_tokens))
    return tuple(tasks)
