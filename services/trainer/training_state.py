"""The state of a fine-tuning on disk: killed at any moment, it resumes from the last one written."""

import os
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from shared.errors import UserError
from shared.files import writing


@dataclass
class TrainingState:
    """Everything a fine-tuning needs to be resumed: `plan` is the digest of its recipe, `step` the next step, `weights`
    what is trained; of a super-network also the order in which layers are dropped, and by which influence."""

    plan: str
    step: int
    drop_order: tuple[int, ...]
    influence: tuple[float, ...] | None
    losses: dict[str, float]
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]

    @classmethod
    def of_single(cls, plan: str, weights: dict[str, Tensor]) -> "TrainingState":
        """The first state of a network that drops no layers."""
        return cls(plan, 0, drop_order=(), influence=None, losses={}, weights=weights, optimizer={})


def save_state(path: Path, state: TrainingState) -> None:
    """Write the state in one step. Raises UserError where there is no room; the former state is then still there."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        try:
            with scratch.open("wb") as file:
                torch.save(vars(state), file)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        except RuntimeError as error:  # torch reports a full disk as a failure of its own archive writer
            raise OSError(None, str(error).splitlines()[0]) from error
        finally:
            scratch.unlink(missing_ok=True)


def load_state(path: Path, plan: str, mapped: bool = False) -> TrainingState | None:
    """The state to resume from, or None where there is none; with `mapped`, weights are read from disk on first use.

    Raises UserError if the state belongs to a fine-tuning with other settings, model or data.
    """
    if not path.exists():
        return None
    try:
        state = TrainingState(**torch.load(path, weights_only=True, map_location="cpu", mmap=mapped))
    except (RuntimeError, TypeError, EOFError, OSError, ValueError, UnpicklingError) as error:
        raise UserError(f"{path}: not a readable training state; remove it to start the fine-tuning again") from error
    if state.plan != plan:
        raise UserError(
            f"{path}: belongs to a fine-tuning with other settings, model or data; "
            "restore them, or remove the file to start again, or change `name` in the search file"
        )
    return state
