"""A fine-tuning of a single tiny network, small enough to be done many times."""

from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from services.trainer import training_state
from services.trainer.fine_tuning import StepReport
from services.trainer.recipe import FullMethod, LoraMethod, SingleRecord, Teacher
from services.trainer.single_fine_tuning import SinglePlan, make_single, plan_single
from shared.architecture import Architecture
from shared.environment import Environment
from tests.support.checkpoints import FAMILIES, write_checkpoint
from tests.support.tiny_training import tiny_settings
from tests.support.uneven import write_uneven

METHODS: dict[str, FullMethod | LoraMethod] = {"full": FullMethod(), "lora": LoraMethod(rank=3, alpha=6)}
SOURCES = (
    "llama",
    "llama-grouped-tied",
    "llama-biases",
    "qwen3",
    "gemma3",
    "smollm3-window",
    "llm-pruner",
    "slicegpt",
    "no-attention",
    "no-mlp",
    "all-of-it",
)
"""Alike layers, tied and not, with biases and norms of their own; and uneven ones as baselines leave them."""


def write_source(directory: Path, name: str = "llama-grouped-tied", **changes: Any) -> Path:
    """Write one of `SOURCES`, unless it is there."""
    if not directory.exists():
        if name in FAMILIES:
            write_checkpoint(directory, name, **changes)
        else:
            write_uneven(directory, name)
    return directory


def single_plan(
    source: Path,
    method: str = "full",
    architecture: Architecture | None = None,
    teacher: Teacher = "none",
    **training: Any,
) -> SinglePlan:
    """The plan of a short fine-tuning; the corpus lies beside the source."""
    settings = tiny_settings(source.parent, **{"steps": 8, **training}).training
    environment = Environment(data=None, cache=source.parent / "cache", threads=1)
    digest = f"digest of {source.name}"
    return plan_single(source, digest, architecture, settings, METHODS[method], environment, teacher=teacher)


def tuned(plan: SinglePlan, directory: Path, report: Callable[[StepReport], None] = lambda _: None) -> SingleRecord:
    """Make `directory`; what is unfinished lies beside it."""
    return make_single(plan, directory.with_name(f"{directory.name}.unfinished"), directory, report)


def tune_and_tell(source: Path, directory: Path, method: str, training: dict[str, Any], tell: Connection) -> None:
    """Fine-tune a network by a method into a directory, and send the number of each step that is done."""
    training_state.WAITING_SHARE = 1.0  # a state after each step, though its steps are shorter than the writing
    tuned(single_plan(source, method, **training), directory, lambda report: tell.send(report.step))
