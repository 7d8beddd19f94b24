"""One measurement by hand: a sub-network of a checkpoint, by an evaluator in this process."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.application.architecture_file import read_architecture
from services.application.checkpoint_content import content_of, fetched
from services.evaluator.evaluator import Evaluator
from services.evaluator.scoring import count_waves
from shared.architecture import dense
from shared.checkpoint_files import FileDigests, content_digest
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.manifest import read_network
from shared.messages import CheckpointRef, Dtype, EvaluationRequest, EvaluationResult, EvaluationSpec, Measurement

MORE_STEPS = 2
"""Of a measurement, besides tasks read, rows scored and runs: the network is ready, and cut out."""
WAITING = "waiting for another evaluator of this machine"


@dataclass(frozen=True)
class NetworkChoice:
    """Which network, and held as what.

    Attributes:
        checkpoint: directory or id; None: the super-network of the run in which the architecture's file lies.
        architecture: its file; None: the whole network.
        int8: whether the layers' weights are quantised.
        dtype: what is computed in; None: what suits this machine.
    """

    checkpoint: str | None
    architecture: Path | None
    int8: bool
    dtype: Dtype | None


@dataclass(frozen=True)
class Evaluation:
    """What was asked, where the checkpoint came from, and the answer."""

    origin: str
    request: EvaluationRequest
    result: EvaluationResult


def evaluate_once(network: NetworkChoice, spec: EvaluationSpec, environment: Environment, events: Events) -> Evaluation:
    """Measure a network as `spec` says. Raises UserError if there is no such network."""
    directory, origin = fetched(
        _supernet_of(network.architecture) if network.checkpoint is None else network.checkpoint, events
    )
    chosen = dense(read_network(directory)) if network.architecture is None else read_architecture(network.architecture)
    if network.int8:
        chosen = chosen.quantized("int8")
    digest = content_digest(content_of(directory, FileDigests(environment.cache), events))
    reference = CheckpointRef(location=str(directory), digest=digest)
    request = EvaluationRequest(
        search="by-hand", checkpoint=reference, architecture=chosen, spec=spec.computing(chosen)
    )
    return Evaluation(origin, request, evaluated(Evaluator(environment), request, events))


def evaluated(evaluator: Evaluator, request: EvaluationRequest, events: Events, what: str = "") -> EvaluationResult:
    """The answer, in steps; `what` is measured, in words."""
    try:
        with events.step("Tasks", note="reading"):
            tasks = [evaluator.prepared(request.checkpoint, items) for items in request.spec.tasks]
    except UserError:  # the answer says so
        tasks = []
    speed = request.spec.speed
    steps = sum(count_waves(task) for task in tasks) + (0 if speed is None else 1 + speed.repeats)
    steps += len(tasks) + MORE_STEPS
    with events.step("Measuring", steps, what) as shown:
        result = evaluator.evaluate(request, partial(shown.advance, what), partial(shown.reach, 0, WAITING))
        if isinstance(result.outcome, Measurement):
            shown.reach(steps)
    return result


def _supernet_of(architecture: Path | None) -> str:
    """The super-network of the run in whose front an architecture file lies."""
    if architecture is None:
        raise UserError("nothing to measure: give --architecture runs/NAME/front/N1.json, or --checkpoint, or both")
    supernet = architecture.resolve().parent.parent / "supernet"
    if not supernet.is_dir():
        raise UserError(f"{architecture}: lies in no run with a super-network; say which one with --checkpoint")
    return str(supernet)
