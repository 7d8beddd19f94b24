"""A fine-tuning of a tiny network, small enough to be done many times."""

import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from services.trainer import training_state
from services.trainer.fine_tuning import StepReport
from services.trainer.make_supernet import TrainingPlan, make_supernet, plan_training
from shared.environment import Environment
from shared.manifest import SupernetManifest
from shared.settings import SearchSettings, parse_settings
from tests.support.checkpoints import LAYERS, WIDTH, write_checkpoint
from tests.support.instructions import few_instructions


def tiny_settings(directory: Path, space: Mapping[str, Any] | None = None, **training: Any) -> SearchSettings:
    """Settings of a short fine-tuning on a small corpus, which is written into the directory; `space` and `training`
    are changes of these sections."""
    values = {
        "name": "tiny",
        "model": str(directory / "base"),
        "space": {"depths": [LAYERS, 3], "mlp_widths": [WIDTH, WIDTH // 2], **(space or {})},
        "training": {
            "data": few_instructions(directory),
            "steps": 30,
            "tokens_per_step": 256,
            "learning_rate": 3e-3,
            "warmup_steps": 4,
            "calibration_tokens": 512,
            **training,
        },
        "tasks": [{"name": "plain_facts", "search": {"items": 1}, "report": {"items": 1}}],
    }
    return parse_settings(values, "settings")


def tiny_plan(directory: Path, family: str = "llama-grouped-tied", **training: Any) -> TrainingPlan:
    """The plan of a short fine-tuning of a tiny network, which is made where it isn't there yet."""
    base = directory / "base"
    if not base.exists():
        write_checkpoint(base, family)
    return plan_training(tiny_settings(directory, **training), base, Environment(data=None, cache=directory, threads=1))


def run(directory: Path, name: str = "run", family: str = "llama-grouped-tied", **training: Any) -> SupernetManifest:
    """Fine-tune from the beginning or from where an earlier call was interrupted."""
    return train_in(directory / name, tiny_plan(directory, family, **training))


def train_in(
    directory: Path, plan: TrainingPlan, report: Callable[[StepReport], None] = lambda report: None
) -> SupernetManifest:
    """Make `directory/supernet`; what is unfinished lies in `directory/unfinished`."""
    return make_supernet(plan, directory / "unfinished", directory / "supernet", report)


def train_and_tell(directory: Path, name: str, training: dict[str, Any], tell: Connection) -> None:
    """Fine-tune as `run` does, and send the number of each step that is done."""
    training_state.WAITING_SHARE = 1.0  # a state after each step, though its steps are shorter than the writing
    train_in(directory / name, tiny_plan(directory, **training), lambda report: tell.send(report.step))


def train_and_die(directory: Path, name: str, training: dict[str, Any], step: int) -> None:
    """Fine-tune as `run` does, and be killed by SIGKILL after so many steps, before the state of the last one is
    saved."""
    training_state.WAITING_SHARE = 1.0

    def report(progress: StepReport) -> None:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    train_in(directory / name, tiny_plan(directory, **training), report)


def refit_and_die(directory: Path, name: str, training: dict[str, Any], layers: int) -> None:
    """Fine-tune as `run` does, and be killed by SIGKILL when the projections of so many layers are refitted."""

    def refitted(done: int, _: int) -> None:
        if done == layers:
            os.kill(os.getpid(), signal.SIGKILL)

    place = directory / name
    plan = tiny_plan(directory, **training)
    make_supernet(plan, place / "unfinished", place / "supernet", lambda _: None, refitted=refitted)
