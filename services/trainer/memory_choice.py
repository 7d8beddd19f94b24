"""Which recipe of `training.memory` a fine-tuning takes: what the settings say or, where that is `auto`, what this
machine has room for, decided once."""

import json
from functools import partial
from pathlib import Path

import torch
from pydantic import TypeAdapter

from services.trainer.distributed.environment import processes
from services.trainer.training_data import TrainingData
from services.trainer.training_state import FORMER_STATE
from shared.errors import UserError
from shared.files import write_atomically
from shared.json_text import parse_json
from shared.memory_needs import FineTuningNeeds, fine_tuning_needs, first_that_fits, recipes_for
from shared.network.shape import NetworkShape
from shared.settings import MemoryRecipe, TrainingSettings
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import compute_device, device_memory, preferred_dtype

MEMORY = "memory.json"
"""The file, in what is unfinished, of the recipe that was taken: so it isn't decided again on another machine."""


def memory_to_take(
    base: Checkpoint, training: TrainingSettings, data: TrainingData, teacher: NetworkShape | None = None
) -> MemoryRecipe:
    """The recipe that settings ask for, of a fine-tuning of all of a checkpoint's weights on this machine; `teacher` as
    in `needs_of`."""
    if not training.steps:
        return "full"
    if training.memory != "auto":
        return training.memory
    memory = device_memory(compute_device())
    if memory is None:
        return "full"
    return first_that_fits(
        memory.total, recipes_for(training), partial(needs_of, base, training, data, teacher=teacher)
    )


def needs_of(
    base: Checkpoint,
    training: TrainingSettings,
    data: TrainingData,
    memory: MemoryRecipe,
    refitted: int = 0,
    teacher: NetworkShape | None = None,
) -> FineTuningNeeds:
    """What a fine-tuning of all of a checkpoint's weights takes here, by a recipe, if so many numbers are refitted, or
    another network is its teacher."""
    numbers = sum(len(example.tokens) for example in data.examples)
    needs = fine_tuning_needs(
        base.network,
        training,
        memory,
        preferred_dtype(),
        stored_bytes=number_bytes(base),
        sequence_tokens=round(numbers / len(data.examples)),
        refitted=refitted,
        teacher=teacher,
    )
    return needs.shared_by(processes()) if compute_device().type == "cuda" else needs  # CPUs have one memory


def number_bytes(base: Checkpoint) -> int:
    """Bytes of a number in a checkpoint's weights, of the largest where they differ; of one whose weights aren't here,
    those of its config's dtype, which is bfloat16 unless it names one."""
    named = base.config.dtype
    assumed = named if isinstance(named, torch.dtype) else torch.bfloat16
    return max((tensor.element_size() for tensor in base.weights.values()), default=assumed.itemsize)


def record_memory(workspace: Path, memory: MemoryRecipe) -> None:
    """Say in what is unfinished which recipe was taken. Raises OSError where it can't be written."""
    write_atomically(workspace / MEMORY, json.dumps({"memory": memory}) + "\n")


def recorded_memory(workspace: Path) -> MemoryRecipe | None:
    """The recipe that an interrupted fine-tuning has taken; None where nothing is unfinished.

    Raises UserError where that can't be read.
    """
    file = workspace / MEMORY
    try:
        return TypeAdapter(MemoryRecipe).validate_python(parse_json(file.read_bytes())["memory"])
    except FileNotFoundError:
        return "full" if (workspace / FORMER_STATE).exists() else None  # of an earlier release
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: can't be read; remove {workspace} to start the fine-tuning again") from error
