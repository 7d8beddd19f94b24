"""What the levers of `training` are worth in equal time: the example model, fine-tuned on Alpaca by one recipe after
the other, and what networks of fixed sizes, cut out of what comes out, lose against the dense one.

Run as `python -m tests.benchmarks.front [--recipes uniform both ...] [--seed 0]`, with NASFARM_DATA set where the hub
is out of reach. A recipe has as many steps as take about as much processor time as the first one's; the seconds are
printed. Each super-network is measured as it was trained and with its down projections refitted (`training.refit`).
Printed are, of each network, accuracy and mean margin (in nats) on ARC-Easy's test items and WinoGrande's validation
items, and on WikiText-2 the divergence of its predictions from the untouched model's. What is finished isn't made
again, and keeps its seconds.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from services.application.quiet_libraries import quiet_libraries
from services.cli.progress_bars import stage
from services.evaluator.batch_size import MOST_TOKENS
from services.evaluator.placement import to_device
from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.scoring import score_together
from services.evaluator.tasks.loading import load_items
from services.trainer.make_supernet import TrainingPlan, make_supernet, plan_training
from services.trainer.refit import RIDGE
from shared.architecture import Architecture, dense
from shared.environment import Environment
from shared.genome_draws import genomes_of_all_sizes
from shared.manifest import MANIFEST, SupernetManifest, search_space
from shared.messages import ItemScores, TaskItems
from shared.rows import located_rows
from shared.settings import parse_settings
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.device import preferred_dtype, torch_dtype
from shared.supernet.packing import pack
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.tree import Tree
from tests.benchmarks.refit import mean, refitted
from tests.support.benchmark import environment_with_data

BOTH = {"sampling": "stratified", "distillation": "full"}
TAUGHT = {"sampling": "stratified", "distillation": "all", "full_every": 4, "importance_on": "responses"}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "uniform": {"steps": 200},
    "stratified": {"steps": 200, "sampling": "stratified"},
    "distilled": {"steps": 165, "distillation": "full"},
    "both": {"steps": 165, **BOTH},
    "both, rate 1e-4": {"steps": 165, **BOTH, "learning_rate": 1e-4},
    "both, rate 3e-4": {"steps": 165, **BOTH, "learning_rate": 3e-4},
    "both, rate 1e-4, responses": {"steps": 165, **BOTH, "learning_rate": 1e-4, "importance_on": "responses"},
    "taught alone, rate 1e-4": {"steps": 130, **TAUGHT, "learning_rate": 1e-4},
    "taught alone, rate 1e-4, half the time": {"steps": 65, **TAUGHT, "learning_rate": 1e-4},
}
"""The keys of `training`, with a number of steps for each that takes about as much time."""
TIMES_SMALLER = (1.15, 1.3)
OF_EACH = 2
"""Random networks of each size."""
NEAR = 0.005
"""How far, as a share, a network's size may be from what is wanted."""
DRAWS = 20_000
PASSAGE, PASSAGES = 512, 6
"""Tokens of WikiText-2 that are read together, and how often."""
TOKENS_AT_ONCE = 256
"""Whose predictions, each over the whole vocabulary, are in memory together."""


@dataclass(frozen=True)
class Made:
    """A super-network, and the seconds that its fine-tuning took, by kind."""

    directory: Path
    seconds: Mapping[str, float]

    @property
    def manifest(self) -> SupernetManifest:
        """What it says of itself."""
        return SupernetManifest.read(self.directory)


class Reading:
    """WikiText-2's first passages, and what a model predicts there, against which others are held."""

    def __init__(self, passages: Sequence[Sequence[int]], model: Decoder) -> None:
        self._packed = pack([Tree.plain(passage) for passage in passages])
        self._model = model
        with torch.inference_mode():
            self._states = model.hidden(self._packed)

    @torch.inference_mode()
    def divergence(self, network: Decoder) -> float:
        """Mean Kullback-Leibler divergence, in nats a token, of a network's predictions from the model's."""
        total = 0.0
        states = network.hidden(self._packed)
        for ours, theirs in zip(*(torch.split(each, TOKENS_AT_ONCE) for each in (states, self._states)), strict=True):
            predicted, expected = _predictions(network, ours), _predictions(self._model, theirs)
            total += float(F.kl_div(predicted, expected, reduction="sum", log_target=True))
        return total / len(self._states)


def _predictions(network: Decoder, states: Tensor) -> Tensor:
    return network.logits(states).float().log_softmax(-1)


class Ruler:
    """Measures sub-networks on the same items and passages."""

    def __init__(self, base: Path, items: Mapping[str, int], environment: Environment) -> None:
        self._cpu, self._dtype = torch.device("cpu"), torch_dtype(preferred_dtype())
        checkpoint, tokenizer = self.ready(Checkpoint.open(base)), load_tokenizer(base)
        self._tasks: list[PreparedTask] = []
        for name, number in items.items():
            split = "validation" if name == "winogrande" else "test"
            loaded = load_items(TaskItems(task=name, split=split, stop=number), environment.data)
            self._tasks.append(prepare_task(name, loaded, tokenizer, checkpoint.config, self._cpu, MOST_TOKENS["cpu"]))
        assert environment.data is not None
        rows = located_rows(environment.data / "wikitext2" / "test.jsonl.gz")
        text = "".join(row["text"] for _, row in rows)
        tokens = tokenizer(text[: 8 * PASSAGE * PASSAGES], verbose=False)["input_ids"]
        passages = [tokens[start : start + PASSAGE] for start in range(0, PASSAGE * PASSAGES, PASSAGE)]
        self._reading = Reading(passages, checkpoint.cut(dense(checkpoint.network)))

    def ready(self, checkpoint: Checkpoint) -> Checkpoint:
        """In the dtype that scores."""
        return to_device(checkpoint, self._cpu, self._dtype)

    def cells(self, checkpoint: Checkpoint, network: Architecture) -> str:
        """Accuracy and mean margin by task, and the divergence."""
        cut = checkpoint.cut(network)
        scores: list[ItemScores] = [score_together([cut], task)[0] for task in self._tasks]
        tasks = "".join(f"{100 * mean(one.metrics['acc']):7.1f} {mean(one.margins):6.3f}" for one in scores)
        return f"{tasks}{self._reading.divergence(cut):8.4f}"


def networks(space: SearchSpace) -> dict[str, Architecture]:
    """The networks that are compared, from the largest to the smallest; as genomes they are the same in every space."""
    whole, rng = dense(space.network), np.random.default_rng(0)
    drawn = [space.architecture(genome) for genome in genomes_of_all_sizes(space, DRAWS, rng).tolist()]
    found = {"dense": whole}
    for times in TIMES_SMALLER:
        size = space.parameters(whole) / times
        near = (one for one in drawn if abs(space.parameters(one) / size - 1) < NEAR)
        found |= {f"{times} times smaller, {number}": next(near) for number in range(1, OF_EACH + 1)}
    return found | {"the smallest": space.smallest()}


def main() -> None:
    """Fine-tune by every recipe, and print a table for each."""
    asked = _arguments()
    quiet_libraries()
    environment = environment_with_data()
    if environment is None:
        return
    base, _ = fetch_model(EXAMPLE_MODEL)
    data = None
    ruler = Ruler(base, {"arc_easy": asked.items, "winogrande": asked.items // 2}, environment)
    for name in asked.recipes:
        plan = _plan(RECIPES[name], base, asked, environment, data)
        data = plan.data
        one = _made(name, plan, environment.cache / "benchmarks" / "front")
        seconds = ", ".join(f"{value:.0f} {kind}" for kind, value in one.seconds.items())
        print(f"\n{name}: {plan.settings.training.steps} steps, {seconds}; drops {one.manifest.drop_order[:2]}")
        print(f"{'':24}" + 2 * f"{'ARC-Easy':>14}{'WinoGrande':>14}{'KL':>8}  ")
        checkpoint = Checkpoint.open(one.directory)
        fitted, _ = refitted(checkpoint, one.manifest, environment, RIDGE)
        both = [ruler.ready(each) for each in (checkpoint, replace(checkpoint, refitted=fitted))]
        space = search_space(checkpoint.network, one.manifest.space, one.manifest.drop_order)
        for label, network in networks(space).items():
            print(f"{label:24}" + "  ".join(ruler.cells(each, network) for each in both), flush=True)


def _plan(
    recipe: Mapping[str, Any], base: Path, asked: argparse.Namespace, environment: Environment, data: Any
) -> TrainingPlan:
    settings = parse_settings(
        {
            "name": "front",
            "model": EXAMPLE_MODEL,
            "space": {"depths": [30, 29, 28], "mlp_widths": [1536, 1152, 768]},
            "training": {"tokens_per_step": 1024, "seed": asked.seed, **recipe},
            "tasks": [{"name": "arc_easy", "search": {"items": 1}, "report": {"items": 1}}],
        },
        "benchmark",
    )
    return plan_training(settings, base, environment, data)


def _made(name: str, plan: TrainingPlan, directory: Path) -> Made:
    """The super-network of a plan, made where it isn't there yet."""
    place = directory / plan.digest
    took = place.with_name(f"{place.name}.json")

    if not (place / MANIFEST).is_file() or not took.is_file():
        started = time.perf_counter(), time.process_time()
        with stage("Fine-tuning", plan.settings.training.steps, name) as shown:
            make_supernet(
                plan, place.with_name(f"{place.name}.unfinished"), place, lambda report: shown.reach(report.step)
            )
        seconds = {"s": time.perf_counter() - started[0], "s of processors": time.process_time() - started[1]}
        took.write_text(json.dumps(seconds), encoding="utf-8")
    return Made(place, json.loads(took.read_text(encoding="utf-8")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--items", type=int, default=400, help="of ARC-Easy's test split, and half as many of WinoGrande"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
