"""Do the recipes of `training.memory` learn the same? The example model, fine-tuned by each on Alpaca.

Run as `python -m tests.benchmarks.memory_recipes [--steps 240] [--tokens 1024] [--items 570]`, with NASFARM_DATA set
where the hub is out of reach. `full` is trained with two seeds: how far these are apart is the noise. Losses are the
running means at the end; accuracies are those of ARC-Easy's validation split, of the dense network, with 8 of 30 MLPs
halved, and with all. What was interrupted goes on; what is finished isn't made again. Takes hours on two cores.
"""

import argparse
from pathlib import Path

from services.application.quiet_libraries import quiet_libraries
from services.cli.progress_bars import stage
from services.evaluator.evaluator import Evaluator
from services.trainer.make_supernet import make_supernet, plan_training
from shared.environment import Environment
from shared.errors import UserError
from shared.manifest import MANIFEST, SupernetManifest
from shared.settings import MemoryRecipe, parse_settings
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from tests.benchmarks.ordering import ITEMS, WIDTH, accuracy, networks

RUNS: dict[str, tuple[MemoryRecipe, int]] = {
    "full": ("full", 0),
    "full, seed 1": ("full", 1),
    "lean": ("lean", 0),
    "leanest": ("leanest", 0),
}
COMPARED = ("dense", "8 of 30 MLPs halved", "all MLPs halved")


def main() -> None:
    """Fine-tune by every recipe, and print losses and accuracies side by side."""
    asked = _arguments()
    quiet_libraries()
    environment = Environment.read()
    try:
        base, _ = fetch_model(EXAMPLE_MODEL)
        made = {name: fine_tuned(name, base, asked, environment) for name in RUNS}
    except UserError as error:
        print(f"skipped: {error}")
        return
    evaluator = Evaluator(environment)
    print(f"{'':24}" + "".join(f"{name:>14}" for name in made))
    for kind, said in (("full", "loss, full network"), ("subnet", "loss, sub-networks")):
        losses = [SupernetManifest.read(directory).losses.get(kind, float("nan")) for directory in made.values()]
        print(f"{said:24}" + "".join(f"{loss:14.4f}" for loss in losses))
    for name in COMPARED:
        values = []
        for directory in made.values():
            network = networks(SupernetManifest.read(directory).drop_order)[name]
            values.append(accuracy(evaluator, directory, network, asked.items))
        print(f"{name:24}" + "".join(f"{value:14.3f}" for value in values), flush=True)
    seeds = [SupernetManifest.read(made[name]).losses for name in ("full", "full, seed 1")]
    print(", ".join(f"noise of {kind}: {abs(seeds[0][kind] - seeds[1][kind]):.4f}" for kind in seeds[0]))


def fine_tuned(name: str, base: Path, asked: argparse.Namespace, environment: Environment) -> Path:
    """The super-network of a run, made where it isn't there yet."""
    memory, seed = RUNS[name]
    settings = parse_settings(
        {
            "name": "recipes",
            "model": EXAMPLE_MODEL,
            "space": {"depths": [30, 29, 28], "mlp_widths": [WIDTH, WIDTH * 3 // 4, WIDTH // 2]},
            "training": {"steps": asked.steps, "tokens_per_step": asked.tokens, "memory": memory, "seed": seed},
            "tasks": [{"name": "arc_easy", "search": {"items": 1}, "report": {"items": 1}}],
        },
        "benchmark",
    )
    plan = plan_training(settings, base, environment)
    place = environment.cache / "benchmarks" / "memory-recipes" / plan.digest

    if not (place / MANIFEST).is_file():
        with stage("Fine-tuning", asked.steps, name) as shown:
            make_supernet(
                plan, place.with_name(f"{place.name}.unfinished"), place, lambda report: shown.reach(report.step)
            )
    return place


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--items", type=int, default=ITEMS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
