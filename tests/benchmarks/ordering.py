"""What ordering the neurons and choosing the layers is worth on the example model: ARC-Easy validation `acc`.

Run as `python -m tests.benchmarks.ordering [SUPERNET]`, with NASFARM_DATA set where the hub is out of reach. Without
an argument the untrained example model is measured, plain and ordered; with one, a fine-tuned super-network.
"""

import sys
from pathlib import Path

from services.evaluator.evaluator import Evaluator
from services.trainer.make_supernet import make_supernet, plan_training
from shared.architecture import Architecture
from shared.environment import Environment
from shared.manifest import SupernetManifest
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, TaskItems
from shared.settings import parse_settings
from shared.supernet.order import drop_order
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from tests.support.content import digest_of

LAYERS, WIDTH, ITEMS = 30, 1536, 570
HALVED = (*range(2, 30, 4), 29)  # 8 layers, spread over the depth


def main() -> None:
    """Measure and print."""
    environment = Environment.read()
    evaluator = Evaluator(environment)
    if len(sys.argv) > 1:
        supernet = Path(sys.argv[1])
        table(evaluator, {"fine-tuned": supernet}, SupernetManifest.read(supernet).drop_order)
        return
    base, _ = fetch_model(EXAMPLE_MODEL)
    run = environment.cache / "benchmarks" / "ordered"
    settings = parse_settings(
        {
            "name": "ordered",
            "model": EXAMPLE_MODEL,
            "space": {"depths": [30, 26], "mlp_widths": [WIDTH, WIDTH // 2]},
            "training": {"steps": 0},
            "tasks": [{"name": "arc_easy", "search": {"items": 1}, "report": {"items": 1}}],
        },
        "benchmark",
    )
    plan = plan_training(settings, base, environment)
    manifest = make_supernet(plan, run / "unfinished", run / "supernet", lambda _: None)
    table(evaluator, {"plain": base, "ordered": run / "supernet"}, manifest.drop_order)


def table(evaluator: Evaluator, checkpoints: dict[str, Path], order: tuple[int, ...]) -> None:
    """One line for each network, one column for each checkpoint."""
    print(f"{'ARC-Easy validation, acc':44}" + "".join(f"{name:>12}" for name in checkpoints))
    for label, architecture in networks(order).items():
        values = [accuracy(evaluator, directory, architecture) for directory in checkpoints.values()]
        print(f"{label:44}" + "".join(f"{value:12.3f}" for value in values), flush=True)


def networks(order: tuple[int, ...]) -> dict[str, Architecture]:
    """The networks that are compared."""

    def depth(dropped: tuple[int, ...]) -> Architecture:
        layers = tuple(layer for layer in range(LAYERS) if layer not in dropped)
        return Architecture(layers=layers, mlp_widths=(WIDTH,) * len(layers))

    def halved(layers: tuple[int, ...]) -> Architecture:
        widths = tuple(WIDTH // 2 if layer in layers else WIDTH for layer in range(LAYERS))
        return Architecture(layers=tuple(range(LAYERS)), mlp_widths=widths)

    first = drop_order(LAYERS, None)
    return {
        "dense": halved(()),
        "8 of 30 MLPs halved": halved(HALVED),
        "all MLPs halved": halved(tuple(range(LAYERS))),
        "28 layers by importance": depth(order[:2]),
        "26 layers by importance": depth(order[:4]),
        "first 28 layers": depth(first[:2]),
        "first 26 layers": depth(first[:4]),
    }


def accuracy(evaluator: Evaluator, directory: Path, architecture: Architecture, items: int = ITEMS) -> float:
    """Share of ARC-Easy's validation items answered right, in bfloat16."""
    request = EvaluationRequest(
        search="benchmark",
        checkpoint=CheckpointRef(location=str(directory), digest=digest_of(directory)),
        architecture=architecture,
        spec=EvaluationSpec(tasks=(TaskItems(task="arc_easy", split="validation", stop=items),), dtype="bfloat16"),
    )
    values = evaluator.measure(request).scores[0].metrics["acc"]
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
