"""`nasfarm evaluate`: one measurement by hand."""

from pathlib import Path

from pydantic import ValidationError
from rich.table import Table

from services.cli.console import console
from services.cli.quiet import quiet_libraries
from services.coordinator.report.wording import parameters
from services.coordinator.statistics import wilson_interval
from services.evaluator.evaluator import Evaluator
from services.evaluator.tasks.loading import count_items
from shared.architecture import Architecture
from shared.environment import Environment
from shared.errors import UserError
from shared.manifest import content_digest, digest_content, read_shape
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, TaskItems
from shared.settings import explain
from shared.space import dense
from shared.supernet.device import preferred_dtype
from shared.supernet.source import fetch_model


def evaluate_one(
    checkpoint: str | None,
    architecture: Path | None,
    task: str,
    items: int | None,
    split: str | None,
    num_fewshot: int | None,
) -> None:
    """Measure a sub-network of a checkpoint on a task and print what came out."""
    quiet_libraries()
    environment = Environment.read()
    directory, origin = fetch_model(_supernet_of(architecture) if checkpoint is None else checkpoint)
    chosen = dense(read_shape(directory)) if architecture is None else read_architecture(architecture)
    stop = items or count_items(task, split, environment.data)
    spec = EvaluationSpec(
        tasks=(TaskItems(task=task, num_fewshot=num_fewshot, split=split, stop=stop),), dtype=preferred_dtype()
    )
    reference = CheckpointRef(location=str(directory), digest=content_digest(digest_content(directory)))
    request = EvaluationRequest(search="by-hand", checkpoint=reference, architecture=chosen, spec=spec)
    measurement = Evaluator(environment).measure(request)
    scores = measurement.scores[0]
    console.print(
        f"{origin}: {chosen.depth} layers, {parameters(measurement.parameters)} parameters ({measurement.parameters:,})"
    )
    table = Table("metric", "value", "95 % interval")
    for name, values in scores.metrics.items():
        low, high = wilson_interval(sum(values), len(values))
        table.add_row(name, f"{sum(values) / len(values):.4f}", f"{low:.4f} to {high:.4f}")
    console.print(table)
    console.print(
        f"{len(scores.items)} items of {task} in {measurement.seconds['score']:.1f} s "
        f"(cut in {measurement.seconds['cut'] * 1000:.1f} ms), {spec.dtype} on {measurement.versions['device']}"
    )


def _supernet_of(architecture: Path | None) -> str:
    """The super-network of the run in whose front an architecture file lies."""
    if architecture is None:
        raise UserError("nothing to measure: give --architecture runs/NAME/front/N1.json, or --checkpoint, or both")
    supernet = architecture.resolve().parent.parent / "supernet"
    if not supernet.is_dir():
        raise UserError(f"{architecture}: lies in no run with a super-network; say which one with --checkpoint")
    return str(supernet)


def read_architecture(path: Path) -> Architecture:
    """Read an architecture file. Raises UserError that names file and field."""
    try:
        return Architecture.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: can't be read ({error.strerror}); give a file such as runs/NAME/front/N1.json"
        ) from error
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}; it should hold layers and mlp_widths") from error
