"""What ordering the neurons and choosing the layers is worth on the example model: ARC-Easy validation `acc`.

Run as `python -m tests.benchmarks.ordering [SUPERNET]`, with NASFARM_DATA set where the hub is out of reach. Without
an argument the untrained example model is measured, plain and ordered; with one, a fine-tuned super-network. With
`--ways` it is what the untrained model's ways of being ordered are worth, each with the layers that it drops first.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from services.evaluator.evaluator import Evaluator
from services.trainer.make_supernet import make_supernet, plan_training
from shared.architecture import Architecture
from shared.drop_orders import all_orders
from shared.environment import Environment
from shared.manifest import SupernetManifest
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, ItemScores, TaskItems
from shared.settings import parse_settings
from shared.supernet.order import drop_order
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from tests.support.content import digest_of

LAYERS, WIDTH, ITEMS = 30, 1536, 570
HALVED = (*range(2, 30, 4), 29)  # 8 layers, spread over the depth
RESPONSES = {"importance_on": "responses"}
DIVERGENCE = {"depth_rule": "divergence"}
WAYS: dict[str, dict[str, Mapping[str, Any]]] = {
    "usual": {},
    "responses": {"training": RESPONSES},
    "divergence": {"space": DIVERGENCE},
    "both": {"training": RESPONSES, "space": DIVERGENCE},
}
COMPARED = ("28 layers by importance", "26 layers by importance", "8 of 30 MLPs halved", "all MLPs halved")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What ordering the neurons and choosing the layers is worth.")
    parser.add_argument("supernet", type=Path, nargs="?")
    parser.add_argument("--ways", action="store_true")
    asked = parser.parse_args()
    environment = Environment.read()
    evaluator = Evaluator(environment)
    if asked.supernet is not None:
        orders = all_orders(SupernetManifest.read(asked.supernet).drop_order)
        table(evaluator, {"fine-tuned": asked.supernet}, orders[0])
        return
    base, _ = fetch_model(EXAMPLE_MODEL)
    if asked.ways:
        compare_ways(evaluator, base, environment)
        return
    directory, manifest = ordered(base, environment, "usual")
    table(evaluator, {"plain": base, "ordered": directory}, all_orders(manifest.drop_order)[0])


def ordered(base: Path, environment: Environment, way: str) -> tuple[Path, SupernetManifest]:
    """The untrained super-network that is ordered in one of the ways."""
    place = environment.cache / "benchmarks" / "ordered" / way
    settings = parse_settings(
        {
            "name": "ordered",
            "model": EXAMPLE_MODEL,
            "space": {"depths": [30, 26], "mlp_widths": [WIDTH, WIDTH // 2], **WAYS[way].get("space", {})},
            "training": {"steps": 0, **WAYS[way].get("training", {})},
            "tasks": [{"name": "arc_easy", "search": {"items": 1}, "report": {"items": 1}}],
        },
        "benchmark",
    )
    plan = plan_training(settings, base, environment)
    manifest = make_supernet(plan, place / "unfinished", place / "supernet", lambda _: None)
    assert manifest is not None
    return place / "supernet", manifest


def compare_ways(evaluator: Evaluator, base: Path, environment: Environment) -> None:
    """A line for each way of ordering, with accuracies and mean margins. A network is measured once, from whichever
    super-network, if only layers are missing from it."""
    known: dict[tuple[Architecture, str], ItemScores] = {}
    print(f"{'way':12}{'dropped first':18}{'seconds':>8}" + "".join(f"{name:>26}" for name in COMPARED))
    for way, sections in WAYS.items():
        began = time.process_time()
        directory, manifest = ordered(base, environment, way)
        line = f"{way:12}{', '.join(map(str, manifest.drop_order[:4])):18}{time.process_time() - began:8.0f}"
        for name in COMPARED:
            network = networks(manifest.drop_order)[name]
            narrow = set(network.mlp_widths) != {WIDTH}
            key = (network, str(sections.get("training")) if narrow else "")
            known[key] = scores = known.get(key) or measured(evaluator, directory, network)
            line += f"{mean(scores.metrics['acc']):15.3f} ({mean(scores.margins):+.3f})"
        print(line, flush=True)


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
    """Share of ARC-Easy's validation items answered right."""
    return mean(measured(evaluator, directory, architecture, items).metrics["acc"])


def measured(evaluator: Evaluator, directory: Path, architecture: Architecture, items: int = ITEMS) -> ItemScores:
    """Scores of ARC-Easy's validation items, in bfloat16."""
    request = EvaluationRequest(
        search="benchmark",
        checkpoint=CheckpointRef(location=str(directory), digest=digest_of(directory)),
        architecture=architecture,
        spec=EvaluationSpec(tasks=(TaskItems(task="arc_easy", split="validation", stop=items),), dtype="bfloat16"),
    )
    return evaluator.measure(request).scores[0]


if __name__ == "__main__":
    main()
