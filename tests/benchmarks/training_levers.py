"""What `training.sampling` and `training.distillation` are worth: the example model, fine-tuned on Alpaca by each.

Run as `python -m tests.benchmarks.training_levers [--steps 200] [--tokens 1024] [--items 300]`, with NASFARM_DATA set
where the hub is out of reach. All take the same batches for as many steps. Of fixed networks of the super-networks that
come out it prints the loss (cross-entropy of response tokens) on batches that none was trained on, and the accuracy on
ARC-Easy's test split; then the seconds that each fine-tuning took, on the clock and of processors. What is finished
isn't made again, and keeps its seconds; `--items 0` leaves out ARC-Easy.
"""

import argparse
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from services.application.quiet_libraries import quiet_libraries
from services.evaluator.evaluator import Evaluator
from services.trainer.examples import Example, batches
from services.trainer.fine_tuning import StepReport, response_loss
from services.trainer.make_supernet import TrainingPlan, make_supernet, plan_training
from services.trainer.step_division import response
from shared.architecture import Architecture, dense
from shared.manifest import MANIFEST, SupernetManifest, search_space
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, TaskItems
from shared.settings import parse_settings
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import compute_device, preferred_dtype, torch_dtype
from shared.supernet.packing import pack
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from shared.supernet.tree import Tree
from tests.benchmarks.ordering import HALVED
from tests.support.benchmark import environment_with_data
from tests.support.content import digest_of

LEVERS: Mapping[str, Mapping[str, str]] = {
    "uniform": {},
    "stratified": {"sampling": "stratified"},
    "both": {"sampling": "stratified", "distillation": "full"},
}
WIDTHS = (1536, 1152, 768)


@dataclass(frozen=True)
class Made:
    """A super-network, its search space, and the seconds that its fine-tuning took, by kind."""

    directory: Path
    space: SearchSpace
    seconds: Mapping[str, float]


def main() -> None:
    """Fine-tune by every lever, and print losses, accuracies and seconds side by side."""
    asked = _arguments()
    quiet_libraries()
    environment = environment_with_data()
    if environment is None:
        return
    base, _ = fetch_model(EXAMPLE_MODEL)
    plans: dict[str, TrainingPlan] = {}
    for name, levers in LEVERS.items():
        settings = parse_settings(
            {
                "name": "levers",
                "model": EXAMPLE_MODEL,
                "space": {"depths": [30, 29, 28], "mlp_widths": list(WIDTHS)},
                "training": {"steps": asked.steps, "tokens_per_step": asked.tokens, "seed": asked.seed, **levers},
                "tasks": [{"name": "arc_easy", "search": {"items": 1}, "report": {"items": 1}}],
            },
            "benchmark",
        )
        former = next(iter(plans.values()), None)
        plans[name] = plan_training(settings, base, environment, former.data if former else None)
    made = {name: _made(name, plan, environment.cache / "benchmarks" / "levers") for name, plan in plans.items()}
    held_out = _held_out(plans["uniform"], asked.batches)
    evaluator = Evaluator(environment)
    print(f"{'':26}" + "".join(f"{name:>20}" for name in made))
    for label in networks(made["uniform"].space):
        cells = []
        for one in made.values():
            network = networks(one.space)[label]
            right = f" {accuracy(evaluator, one.directory, network, asked.items):.3f}" if asked.items else ""
            cells.append(f"{loss(one.directory, network, held_out):.4f}{right}")
        print(f"{label:26}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
    for kind in ("seconds", "seconds of processors"):
        print(f"{kind:26}" + "".join(f"{one.seconds[kind]:20.0f}" for one in made.values()))


def networks(space: SearchSpace) -> dict[str, Architecture]:
    """The networks that are compared, from the largest to the smallest."""
    whole = dense(space.network)
    halved = tuple(WIDTHS[2] if layer in HALVED else WIDTHS[0] for layer in whole.layers)
    return {
        "dense": whole,
        "8 of 30 MLPs halved": whole.model_copy(update={"mlp_widths": halved}),
        "all MLPs at 1,152": whole.model_copy(update={"mlp_widths": (WIDTHS[1],) * whole.depth}),
        "all MLPs halved": whole.model_copy(update={"mlp_widths": (WIDTHS[2],) * whole.depth}),
        "the smallest": space.smallest(),
    }


def loss(directory: Path, architecture: Architecture, held_out: Sequence[Sequence[Example]]) -> float:
    """Mean cross-entropy of the response tokens."""
    device, dtype = compute_device(), torch_dtype(preferred_dtype())
    network = Checkpoint.open(directory).cut(architecture).map(lambda tensor: tensor.to(device, dtype))
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for batch in held_out:
            packed = pack([Tree.plain(example.tokens) for example in batch], device)
            learnt = sum(len(response(example)) for example in batch)
            total += float(response_loss(network, packed, batch)) * learnt
            tokens += learnt
    return total / tokens


def accuracy(evaluator: Evaluator, directory: Path, architecture: Architecture, items: int) -> float:
    """Share of ARC-Easy's test items answered right."""
    request = EvaluationRequest(
        search="benchmark",
        checkpoint=CheckpointRef(location=str(directory), digest=digest_of(directory)),
        architecture=architecture,
        spec=EvaluationSpec(tasks=(TaskItems(task="arc_easy", split="test", stop=items),), dtype=preferred_dtype()),
    )
    values = evaluator.measure(request).scores[0].metrics["acc"]
    return sum(values) / len(values)


def _held_out(plan: TrainingPlan, number: int) -> list[list[Example]]:
    """The batches that follow those of the last step."""
    training = plan.settings.training
    stream = batches(plan.data.examples, training.tokens_per_step, training.seed)
    return list(itertools.islice(stream, training.steps, training.steps + number))


def _made(name: str, plan: TrainingPlan, directory: Path) -> Made:
    """The super-network of a plan, made where it isn't there yet."""
    place = directory / plan.digest
    took = place.with_name(f"{place.name}.json")

    def show(report: StepReport) -> None:
        print(f"\r{name}: {report.step} of {report.steps} steps", end="", flush=True)

    if not (place / MANIFEST).is_file() or not took.is_file():
        started = time.perf_counter(), time.process_time()
        make_supernet(plan, place.with_name(f"{place.name}.unfinished"), place, show)
        seconds = {
            "seconds": time.perf_counter() - started[0],
            "seconds of processors": time.process_time() - started[1],
        }
        took.write_text(json.dumps(seconds), encoding="utf-8")
        print()
    network = plan.base.network
    space = search_space(network, plan.settings.space, SupernetManifest.read(place).drop_order)
    return Made(place, space, json.loads(took.read_text(encoding="utf-8")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--items", type=int, default=300, help="of ARC-Easy's test split")
    parser.add_argument("--batches", type=int, default=8, help="that losses are taken on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
