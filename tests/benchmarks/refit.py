"""What refitted down projections are worth: a super-network's sub-networks as they are cut, and refitted, on ARC-Easy.

Run as `python -m tests.benchmarks.refit SUPERNET`, with NASFARM_DATA set. The super-network, which isn't changed, is
refitted on its own training data for the widths of its own space. Both score the same items: of the test split, as
searches use the validation split, by which the ridge was chosen (`--split validation --ridge RIDGE`).
"""

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from services.evaluator.batch_size import MOST_TOKENS
from services.evaluator.placement import to_device
from services.evaluator.preparation import prepare_task
from services.evaluator.scoring import score_together
from services.evaluator.tasks.loading import load_items
from services.evaluator.together import in_parts
from services.trainer.examples import calibration_batches
from services.trainer.refit import RIDGE, refit
from services.trainer.training_data import load_training_data
from shared.architecture import Architecture, dense, derive
from shared.environment import Environment
from shared.manifest import SupernetManifest, search_space
from shared.messages import ItemScores, TaskItems
from shared.network.sizes import parameters
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import preferred_dtype, torch_dtype
from shared.supernet.packing import pack
from shared.supernet.refitted import Refitted, read_refitted
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.tree import Tree
from tests.support.benchmark import environment_with_data

RANDOM = 4
EVERY = 4
"""Of so many layers one is narrowed, where some are."""


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description="What refitted down projections are worth.")
    parser.add_argument("supernet", type=Path)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--split", default="test")
    parser.add_argument("--ridge", type=float, default=RIDGE)
    asked = parser.parse_args()
    environment = environment_with_data()
    if environment is None:
        return
    manifest = SupernetManifest.read(asked.supernet)
    cpu, dtype = torch.device("cpu"), torch_dtype(preferred_dtype())
    checkpoint = Checkpoint.open(asked.supernet)
    found, seconds = refitted(checkpoint, manifest, environment, asked.ridge)
    print(f"refitted in {seconds:.0f} s of one core's time; ridge {asked.ridge}", flush=True)
    items = TaskItems(task="arc_easy", split=asked.split, stop=asked.items)
    loaded = load_items(items, environment.data)
    tokenizer = load_tokenizer(asked.supernet)
    task = prepare_task("arc_easy", loaded, tokenizer, checkpoint.config, cpu, MOST_TOKENS["cpu"])
    networks = chosen(search_space(checkpoint.network, manifest.space, manifest.drop_order))
    cut, fitted = (to_device(replace(checkpoint, refitted=each), cpu, dtype) for each in ({}, found))
    print(f"ARC-Easy {asked.split}, {asked.items} items{'million':>19}{'acc cut':>10}{'refitted':>10}", end="")
    print(f"{'won, lost':>12}{'margin cut':>12}{'refitted':>10}", flush=True)
    names = iter(networks.items())
    for part in in_parts(cut, list(networks.values())):
        both = [score_together(each.cut_together(part), task) for each in (cut, fitted)]
        for then, now in zip(*both, strict=True):
            name, network = next(names)
            print(
                f"{name:40}{parameters(derive(checkpoint.network, network)) / 1e6:9.1f}{compared(then, now)}",
                flush=True,
            )


def compared(then: ItemScores, now: ItemScores) -> str:
    """Accuracies, how many items are answered right only since then and only before, and mean margins."""
    right = list(zip(then.metrics["acc"], now.metrics["acc"], strict=True))
    won, lost = sum(after > before for before, after in right), sum(after < before for before, after in right)
    return (
        f"{mean(then.metrics['acc']):10.3f}{mean(now.metrics['acc']):10.3f}"
        f"{f'{won}, {lost}':>12}{mean(then.margins):12.3f}{mean(now.margins):10.3f}"
    )


def refitted(
    checkpoint: Checkpoint, manifest: SupernetManifest, environment: Environment, ridge: float
) -> tuple[Refitted, float]:
    """A super-network's projections refitted, and the seconds of a core that took."""
    data = load_training_data(checkpoint, manifest.training, environment)
    batches = calibration_batches(data.examples, manifest.training)
    text = [pack([Tree.plain(example.tokens) for example in batch]) for batch in batches]
    with tempfile.TemporaryDirectory() as scratch:
        began = time.process_time()
        compute = torch_dtype(preferred_dtype())
        refit(checkpoint, manifest.space.mlp_widths, text, compute, Path(scratch), lambda layers, of: None, ridge)
        seconds = time.process_time() - began
        found = read_refitted(Path(scratch), checkpoint.network)
        return {place: tensor.clone() for place, tensor in found.items()}, seconds


def chosen(space: SearchSpace) -> dict[str, Architecture]:
    """The networks that are compared."""
    whole = dense(space.network)
    widths = sorted(space.mlp_widths)
    middle, narrowest = widths[len(widths) // 2], widths[0]

    def narrowed(width: int, every: int = 1) -> Architecture:
        narrow = [width if layer % every == every // 2 else most for layer, most in enumerate(whole.mlp_widths)]
        return Architecture(layers=whole.layers, mlp_widths=tuple(narrow))

    return {
        f"every fourth MLP at {narrowest}": narrowed(narrowest, EVERY),
        f"all MLPs at {middle}": narrowed(middle),
        f"all MLPs at {narrowest}": narrowed(narrowest),
        **{f"random, seed {seed}": space.sample(random.Random(seed)) for seed in range(RANDOM)},
    }


def mean(values: Sequence[float]) -> float:
    """The mean of some numbers."""
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
