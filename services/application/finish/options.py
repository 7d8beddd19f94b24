"""How a network is finished, as people say it on the command line. Loads no model."""

from dataclasses import dataclass
from typing import Any

from shared.errors import UserError
from shared.settings import MemoryChoice, TrainingSettings
from shared.text import shown


@dataclass(frozen=True)
class FinishOptions:
    """What is asked for; None: as the super-network was trained.

    Attributes:
        steps: optimiser steps.
        learning_rate: the highest of them.
        data: what is trained on.
        tokens_per_step: tokens in each step.
        memory: how weights are held.
        supernet: directory or URL of the super-network; None: where the run has it.
    """

    steps: int | None = None
    learning_rate: float | None = None
    data: str | None = None
    tokens_per_step: int | None = None
    memory: MemoryChoice | None = None
    supernet: str | None = None

    @property
    def training(self) -> dict[str, Any]:
        """What is asked for, by the names of the settings."""
        names = ("steps", "learning_rate", "data", "tokens_per_step", "memory")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def option(setting: str) -> str:
    """The option of a setting: `--learning-rate`."""
    return f"--{setting.replace('_', '-')}"


def finish_settings(made: TrainingSettings, options: FinishOptions) -> TrainingSettings:
    """How a network of a super-network that was `made` so is fine-tuned further: in a training of its own, which warms
    up and cools down as that one did, of one network, which is taught by the whole one: alone, where that one's
    sub-networks were, and else along with the data.

    Raises UserError for what can't be.
    """
    rate = options.learning_rate
    if rate is not None and not 0 < rate < 1:
        raise UserError(f"--learning-rate {rate:g}: must be above 0 and below 1, such as {made.learning_rate:g}")
    settings = made.model_copy(
        update={
            "subnets_per_step": 1,
            "sampling": "uniform",
            "distillation": "all" if made.distillation == "all" else "full",
            "refit": False,
            **options.training,
        }
    )
    if not settings.steps:
        raise UserError("--steps: the super-network was not fine-tuned, so say how many steps, such as --steps 400")
    return settings.model_copy(update={"warmup_steps": min(settings.warmup_steps, settings.steps // 2)})


def in_options(text: str) -> str:
    """What is said about settings of `training`, about options."""
    for setting in ("data", "tokens_per_step", "memory", "steps", "learning_rate"):
        text = text.replace(f"training.{setting}", option(setting))
    return text


def require_same(made: TrainingSettings, options: FinishOptions, where: str) -> None:
    """Raise UserError if what is there was made otherwise than is asked for; `where` says what it is."""
    for name, asked in options.training.items():
        found = getattr(made, name)
        if found != asked and not (name == "memory" and asked == "auto"):
            raise UserError(
                f"{option(name)} {shown(asked)}: {where} with {shown(found)}; leave it out, or give another --output"
            )
