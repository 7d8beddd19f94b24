"""`nasfarm train`: the super-network of a search file. Needs torch, as all that checks a search on this machine."""

from dataclasses import dataclass
from pathlib import Path

from services.cli.console import console, duration, progress
from services.cli.estimate import assumed_tokens, estimate, whole_work
from services.cli.profile import print_space
from services.cli.quiet import quiet_libraries
from services.cli.run import RunDirectory
from services.evaluator.evaluator import Evaluator
from services.evaluator.preparation import PreparedTask
from services.evaluator.speed import parameter_tokens_per_second
from services.trainer.train import Plan, check_unfinished, finished, prepare, train
from services.trainer.training import StepReport
from shared.environment import Environment
from shared.errors import UserError
from shared.manifest import SupernetManifest, search_space
from shared.messages import CheckpointRef
from shared.settings import Part, SearchSettings, read_search_file
from shared.space import SearchSpace
from shared.supernet.device import preferred_dtype
from shared.supernet.order import drop_order
from shared.supernet.source import fetch_model


@dataclass(frozen=True)
class Checked:
    """A search that was read and found possible: model, data and tasks are there."""

    settings: SearchSettings
    training: Plan
    supernet: SupernetManifest | None
    origins: dict[str, str]

    @property
    def base(self) -> CheckpointRef:
        """The base checkpoint as it lies on this machine; evaluators may run in directories of their own."""
        return CheckpointRef(location=str(self.training.base.directory.absolute()), digest=self.training.base_digest)


def train_supernet(search_file: Path, runs: Path) -> None:
    """Make the super-network of a search file."""
    quiet_libraries()
    settings = read_search_file(search_file)
    run = RunDirectory(runs / settings.name)
    with run.claimed():
        checked = check(settings, run, Environment.read())
        run.record(settings)
        if checked.supernet is not None:
            console.print(f"{run.supernet} is finished already.")
            return
        rate = parameter_tokens_per_second(checked.training.base, preferred_dtype())
        space = space_before_ordering(checked)
        cost = estimate(settings, space, rate, *assumed_tokens(settings), whole_work(settings))
        print_space(space, preferred_dtype())
        console.print(f"Fine-tuning    about {duration(cost.training)}")
        fine_tune(checked, run)
        console.print(f"Super-network  {run.supernet}")


def train_before_search(settings: SearchSettings, run: RunDirectory, environment: Environment) -> None:
    """Make the super-network of a search that others are going to measure, once tasks are found to be there too."""
    quiet_libraries()
    checked = check(settings, run, environment)
    check_tasks(Evaluator(environment), checked)
    run.record(settings)
    fine_tune(checked, run)


def check(settings: SearchSettings, run: RunDirectory, environment: Environment) -> Checked:
    """Find model and training data, and the super-network if it is finished. Raises UserError if anything is wrong."""
    directory, origin = fetch_model(settings.model)
    console.print(f"Model          {origin}")
    training = prepare(settings, directory, environment)
    console.print(f"Training data  {training.instructions.origin}, {len(training.examples):,} examples")
    for left_out in training.left_out:
        console.print(f"               {left_out}", markup=False)
    origins = {"model": origin, "training data": training.instructions.origin}
    supernet = finished(training, run.supernet)
    if supernet is None:
        check_unfinished(training, run.path)
    return Checked(settings, training, supernet, origins)


def check_tasks(evaluator: Evaluator, checked: Checked) -> dict[Part, list[PreparedTask]]:
    """Read all items of both parts now, so that nothing is found wrong with them after an hour of fine-tuning."""
    settings = checked.settings
    prepared: dict[Part, list[PreparedTask]] = {}
    parts: tuple[Part, ...] = ("search", "report")
    for part in parts:
        spec = settings.spec(part, "float32")
        prepared[part] = [evaluator.prepared(checked.base, items) for items in spec.tasks]
        for task, metric in zip(prepared[part], settings.metrics, strict=True):
            if metric not in task.metrics:
                raise UserError(
                    f"tasks.{task.name}.metric: lm-eval has no {metric!r} for it, but {', '.join(task.metrics)}"
                )
            if not all(task.golds):
                raise UserError(f"tasks.{task.name}: doesn't count right answers; choose a task that does")
    for search_task, report_task in zip(prepared["search"], prepared["report"], strict=True):
        console.print(
            f"Task           {search_task.name}: {search_task.origin}; {len(search_task.documents)} items to search, "
            f"{len(report_task.documents)} others to report"
        )
    return prepared


def space_before_ordering(checked: Checked) -> SearchSpace:
    """The search space, of which sizes don't depend on the order of dropping."""
    shape = checked.training.base.shape
    return search_space(shape, checked.settings.space, drop_order(shape.layers, None))


def fine_tune(checked: Checked, run: RunDirectory) -> SupernetManifest:
    """Make the super-network, with a progress bar."""
    with progress("losses") as bar:
        job = bar.add_task("Fine-tuning", total=checked.settings.training.steps, losses="")

        def show(step: StepReport) -> None:
            full = "" if step.full_loss is None else f"full {step.full_loss:.3f}"
            subnet = "" if step.subnet_loss is None else f"sub-networks {step.subnet_loss:.3f}"
            bar.update(job, completed=step.step, losses=f"loss {full} {subnet}")

        return train(checked.training, run.path, show)
