"""Single networks that are fine-tuned with their progress shown, and continued as they were begun."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

from services.trainer.fine_tuning import StepReport
from services.trainer.recipe import SingleRecord
from services.trainer.single_fine_tuning import SinglePlan, make_single
from shared.events import Events


def as_begun(plan: SinglePlan, made: Callable[[str], bool], begun: Callable[[str], bool]) -> SinglePlan:
    """The plan with what `training.memory: auto` took before, on whatever machine: of a network that is `made`, else of
    one whose fine-tuning is `begun`, both found by the plan's digest."""
    choices = plan.choices
    found = chain((each for each in choices if made(each.digest)), (each for each in choices if begun(each.digest)))
    return next(found, plan)


def make_shown(
    plan: SinglePlan, workspace: Path, place: Path, what: str, events: Events, rate_setting: str | None = None
) -> SingleRecord:
    """`make_single`, a step of its own; `what` is made, in words."""
    with events.step("Fine-tuning", None if plan.data is None else _steps(plan), what) as shown:

        def show(step: StepReport) -> None:
            loss = step.full_loss if step.subnet_loss is None else step.subnet_loss
            shown.reach(step.step, what if loss is None else f"{what}, loss {loss:.3f}")

        return make_single(plan, workspace, place, show, rate_setting)


def _steps(plan: SinglePlan) -> int | None:
    return None if plan.recipe.tuning is None else plan.recipe.tuning.training.steps
