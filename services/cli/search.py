"""`nasfarm train` and `nasfarm search`: trainer, coordinator and evaluator in one process, or evaluators elsewhere."""

import importlib.metadata
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.progress import Progress, TaskID

from services.cli.console import console, duration, progress
from services.cli.embedded import embedded_farm
from services.cli.estimate import assumed_tokens, estimate, whole_work, work_left
from services.cli.example import example_search_file
from services.cli.profile import print_cost, print_space
from services.cli.quiet import quiet_libraries
from services.cli.remote import remote_farm
from services.cli.run import RunDirectory
from services.coordinator.farm import Farm
from services.coordinator.front import ReportedNetworks, measure_front
from services.coordinator.generation import GenerationRow
from services.coordinator.history import History
from services.coordinator.outputs import write_report
from services.coordinator.plan import SearchPlan
from services.coordinator.report.table import front_table
from services.coordinator.results import accuracy, cost_tables
from services.coordinator.search import measure_costs, run_search
from services.evaluator.evaluator import Evaluator
from services.evaluator.preparation import PreparedTask
from services.evaluator.speed import parameter_tokens_per_second
from services.trainer.train import Plan as TrainingPlan
from services.trainer.train import check_unfinished, finished, prepare, train
from services.trainer.training import StepReport
from shared.broker import requests_queue
from shared.broker.address import BrokerAddress
from shared.environment import Environment
from shared.errors import UserError
from shared.manifest import SupernetManifest, search_space
from shared.messages import CheckpointRef, CostTable, Dtype, EvaluationRequest, Failure, Measurement
from shared.settings import Part, SearchSettings, read_search_file
from shared.space import SearchSpace
from shared.supernet.device import preferred_dtype
from shared.supernet.order import drop_order
from shared.supernet.source import fetch_model


@dataclass(frozen=True)
class Checked:
    """A search that was read and found possible: model, data and tasks are there."""

    settings: SearchSettings
    training: TrainingPlan
    supernet: SupernetManifest | None
    origins: dict[str, str]


def train_supernet(search_file: Path, runs: Path) -> None:
    """Make the super-network of a search file."""
    quiet_libraries()
    settings = read_search_file(search_file)
    run = RunDirectory(runs / settings.name)
    with run.claimed():
        checked = _check(settings, run, Environment.read())
        run.record(settings)
        if checked.supernet is not None:
            console.print(f"{run.supernet} is finished already.")
            return
        rate = parameter_tokens_per_second(checked.training.base, preferred_dtype())
        space = _space_before_ordering(checked)
        cost = estimate(settings, space, rate, *assumed_tokens(settings), whole_work(settings))
        print_space(space, preferred_dtype())
        console.print(f"Fine-tuning    about {duration(cost.training)}")
        _train(checked, run)
        console.print(f"Super-network  {run.supernet}")


def search(search_file: Path | None, runs: Path, address: BrokerAddress | None = None) -> None:
    """The main job: from a search file to a report. With a broker's address its evaluators do the measuring."""
    quiet_libraries()
    environment = Environment.read()
    settings = read_search_file(example_search_file(environment) if search_file is None else search_file)
    run = RunDirectory(runs / settings.name)
    with ExitStack() as stack:
        stack.enter_context(run.claimed())
        # Now, so that nothing is found wrong with the broker after an hour of fine-tuning.
        joined = None if address is None else stack.enter_context(remote_farm(address, settings.name))
        checked = _check(settings, run, environment)
        evaluator = Evaluator(environment)
        tasks = _check_tasks(evaluator, checked)
        opened = None if checked.supernet is None else _open(checked, checked.supernet, run)
        run.record(settings)  # only now: a run that belongs to another search stays as it is
        _announce(checked, tasks, opened)
        plan, history = opened or _open(checked, _train(checked, run), run)
        with closing(history):
            history.note("origins", checked.origins | {task.name: task.origin for task in tasks["search"]})
            requests = requests_queue(plan.supernet.digest)
            if joined is not None:
                console.print(f"Farm           {address}, evaluators of super-network {plan.supernet.digest}")
            broker, check = joined or stack.enter_context(embedded_farm(evaluator, requests))
            _search(plan, history, Farm(settings.name, requests, broker, history, check), run)


def _check(settings: SearchSettings, run: RunDirectory, environment: Environment) -> Checked:
    directory, origin = fetch_model(settings.model)
    console.print(f"Model          {origin}")
    training = prepare(settings, directory, environment)
    console.print(f"Training data  {training.instructions.origin}, {len(training.examples):,} examples")
    origins = {"model": origin, "training data": training.instructions.origin}
    supernet = finished(training, run.supernet)
    if supernet is None:
        check_unfinished(training, run.path)
    return Checked(settings, training, supernet, origins)


def _check_tasks(evaluator: Evaluator, checked: Checked) -> dict[str, list[PreparedTask]]:
    """Read all items of both parts now, so that nothing is found wrong with them after an hour of fine-tuning."""
    settings = checked.settings
    base = CheckpointRef(location=str(checked.training.base.directory), digest=checked.training.base_digest)
    prepared: dict[str, list[PreparedTask]] = {}
    parts: tuple[Part, ...] = ("search", "report")
    for part in parts:
        spec = settings.spec(part, "float32")
        prepared[part] = [evaluator.prepared(base, items) for items in spec.tasks]
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


def _space_before_ordering(checked: Checked) -> SearchSpace:
    """The search space, of which sizes don't depend on the order of dropping."""
    shape = checked.training.base.shape
    return search_space(shape, checked.settings.space, drop_order(shape.layers, None))


def _announce(
    checked: Checked, tasks: dict[str, list[PreparedTask]], opened: tuple[SearchPlan, History] | None
) -> None:
    rate = parameter_tokens_per_second(checked.training.base, preferred_dtype())
    tokens = (sum(task.tokens for task in tasks["search"]), sum(task.tokens for task in tasks["report"]))
    space = _space_before_ordering(checked)
    print_space(space, opened[0].dtype if opened else _dtype(checked.settings))
    work = work_left(*opened) if opened else whole_work(checked.settings)
    print_cost(checked.settings, estimate(checked.settings, space, rate, *tokens, work), checked.supernet is None)


def _dtype(settings: SearchSettings) -> Dtype:
    """What a search that begins now computes in."""
    return preferred_dtype() if settings.dtype == "auto" else settings.dtype


def _train(checked: Checked, run: RunDirectory) -> SupernetManifest:
    with progress("losses") as bar:
        job = bar.add_task("Fine-tuning", total=checked.settings.training.steps, losses="")

        def show(step: StepReport) -> None:
            full = "" if step.full_loss is None else f"full {step.full_loss:.3f}"
            subnet = "" if step.subnet_loss is None else f"sub-networks {step.subnet_loss:.3f}"
            bar.update(job, completed=step.step, losses=f"loss {full} {subnet}")

        return train(checked.training, run.path, show)


def _open(checked: Checked, manifest: SupernetManifest, run: RunDirectory) -> tuple[SearchPlan, History]:
    """The search's plan and its history, begun or to be continued."""
    settings = checked.settings
    # `auto` is decided once: a search goes on with what it began with, wherever that is.
    dtype = (_recorded_dtype(run) if settings.dtype == "auto" else None) or _dtype(settings)
    base_directory = checked.training.base.directory.absolute()  # evaluators run in directories of their own
    plan = SearchPlan(
        settings=settings,
        space=search_space(checked.training.base.shape, settings.space, manifest.drop_order),
        supernet=CheckpointRef(location=str(run.supernet.absolute()), digest=manifest.digest),
        base=CheckpointRef(location=str(base_directory), digest=checked.training.base_digest),
        dtype=dtype,
    )
    history = History.create_or_resume(run.history, plan.about())
    history.note("provenance", _provenance(manifest))
    return plan, history


def _provenance(manifest: SupernetManifest) -> dict[str, str]:
    """What the report says of the fine-tuning and of the libraries that decide the search."""
    losses = ", ".join(f"{network} {loss:.3f}" for network, loss in manifest.losses.items())
    return {
        "Training data, digest": manifest.data["digest"],
        "Losses at the end": losses or "not fine-tuned",
        **{f"Fine-tuned with {name}": version for name, version in manifest.versions.items()},
        **{f"Searched with {name}": importlib.metadata.version(name) for name in ("numpy", "pymoo", "scikit-learn")},
    }


def _recorded_dtype(run: RunDirectory) -> Dtype | None:
    """What the run's search began with; None if it has not begun, or was killed while it began."""
    try:
        with closing(History.read(run.history)) as history:
            dtype: Dtype = history.about()["dtype"]
    except UserError:
        return None
    return dtype


class _Display:
    """Shows the search's progress on a bar."""

    def __init__(self, plan: SearchPlan, bar: Progress, job: TaskID) -> None:
        self._plan, self._bar, self._job = plan, bar, job

    def measured(self, request: EvaluationRequest, outcome: Measurement | Failure) -> None:
        """Advance the bar."""
        if isinstance(outcome, Failure):
            last = f"failed: {outcome.reason}"
        else:
            last = f"{request.architecture.depth} layers, {outcome.parameters / 1e6:.1f} M"
            if request.architecture.quantization != "none":
                last += f", {request.architecture.quantization}"
            if outcome.speed is not None:
                last += f": {median(outcome.speed.decode_tokens_per_second):.1f} tokens/s"
            else:
                last += f": {accuracy(outcome, self._plan.settings.metrics):.3f}"
        self._bar.update(self._job, advance=1, last=last)

    def generation_done(self, row: GenerationRow) -> None:
        """Print the generation's line."""
        quality = ""
        if row.predictor is not None:
            tau = "undefined" if row.kendall_tau is None else f"{row.kendall_tau:.2f}"
            error = "undefined" if row.mean_absolute_error is None else f"{row.mean_absolute_error:.3f}"
            quality = f", {row.predictor} on the unseen batch: Kendall tau {tau}, mean error {error}"
        self._bar.console.print(
            f"Generation {row.generation}: {row.evaluations} networks measured, "
            f"hypervolume {row.hypervolume:.4f}{quality}"
        )


def _show_cost_table(table: CostTable) -> None:
    load, whole = table.workload, max(table.prefill.mlp)
    name = "unquantised" if table.quantization == "none" else table.quantization
    console.print(
        f"Cost table     {name}: {table.engine} {table.engine_version} on {table.device}, {table.dtype}, "
        f"batch {load.batch}; a whole layer takes "
        f"{(table.prefill.attention + table.prefill.mlp[whole]) * 1000:.2f} ms of the prefill of "
        f"{load.prompt_tokens} tokens, {(table.decode.attention + table.decode.mlp[whole]) * 1000:.2f} ms of a "
        "step of decoding"
    )


def _search(plan: SearchPlan, history: History, farm: Farm, run: RunDirectory) -> None:
    with console.status("Cost table"):
        costs = measure_costs(plan, history, farm)
    for table in cost_tables(plan, history):
        _show_cost_table(table)
    with progress("last") as bar:
        total = min(max(plan.settings.search.evaluations, len(history.candidates())), plan.space.networks)
        job = bar.add_task("Search", total=total, last="")
        front = run_search(plan, costs, history, farm, _Display(plan, bar, job))
        networks = ReportedNetworks(plan, front)
        job = bar.add_task("Report", total=len(networks.required) + len(networks.optional), last="")
        measure_front(networks, farm, _Display(plan, bar, job).measured)
    content = write_report(plan, history, front, run.path)
    console.print(front_table(content))
    console.print(f"Report         {run.path / 'report.html'}")
    console.print(f"Front          {run.path / 'front.json'}, {run.path / 'front.svg'}, {run.path / 'front'}/N*.json")
    console.print(f"Super-network  {run.supernet}")
    console.print(f"History        {run.history}")
