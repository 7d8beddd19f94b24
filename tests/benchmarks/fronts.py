"""What several searches of one super-network are worth: what one would take of their fronts, on items that nothing was
chosen on.

    python -m tests.benchmarks.fronts runs/bayesian runs/linas runs/random [--limits 95 100 105 110 115 120 125 130]

For each limit to the parameters (in millions) each run takes the network of its front that it holds to be the most
accurate within it. These are measured on the report items (what is done stays in the cache). Printed are their
accuracies, in %; their mean over the limits with its 95 % interval, and the mean difference from the first run with its
own, paired by item.
"""

import argparse
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from services.application.run_directory import RunDirectory
from services.coordinator.genomes import FloatArray
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan, plan_of
from services.coordinator.results import best_networks, evaluated_so_far
from services.evaluator.batch_size import MOST_TOKENS
from services.evaluator.placement import to_device
from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.scoring import score_together
from services.evaluator.tasks.loading import load_items
from shared.architecture import Architecture
from shared.digest import digest_json
from shared.environment import Environment
from shared.errors import UserError
from shared.messages import MOST_TOGETHER
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.tokenizer import load_tokenizer
from tests.support.benchmark import environment_with_data

LIMITS = (95, 100, 105, 110, 115, 120, 125, 130)
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Choice:
    """The networks that a run would have one take, one for each limit."""

    name: str
    plan: SearchPlan
    networks: tuple[Architecture, ...]


def choice(path: Path, limits: list[float]) -> Choice:
    """Raises UserError for a run without a front, or without a network within a limit."""
    run = RunDirectory(path)
    with closing(History.read(run.history)) as history:
        plan = plan_of(history, run.settings())
        front = best_networks(evaluated_so_far(plan, history))
    chosen = []
    for limit in limits:
        fitting = [one for one in front if plan.space.parameters(one.architecture) <= limit * 1e6]
        if not fitting:
            raise UserError(f"{path}: its front has no network of at most {limit:g} M parameters")
        chosen.append(max(fitting, key=lambda one: one.accuracy or 0.0).architecture)
    return Choice(path.name, plan, tuple(chosen))


class Measurer:
    """Measures networks of a super-network on the report items of a search's first task, each once."""

    def __init__(self, supernet: Path, plan: SearchPlan, environment: Environment) -> None:
        cpu = torch.device("cpu")
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[plan.dtype]
        self._checkpoint = to_device(Checkpoint.open(supernet), cpu, dtype)
        asked, tokenizer = plan.settings.tasks[0].part("report"), load_tokenizer(supernet)
        loaded = load_items(asked, environment.data)
        config = self._checkpoint.config
        self._task: PreparedTask = prepare_task(asked.task, loaded, tokenizer, config, cpu, MOST_TOKENS["cpu"])
        self._metric = plan.settings.metrics[0]
        about = [plan.supernet.digest, self._task.digest, plan.dtype, self._metric]
        self._cache = environment.cache / "benchmarks" / "fronts" / digest_json(about)

    def right(self, networks: list[Architecture]) -> dict[Architecture, FloatArray]:
        """Whether each network answers each item right."""
        self._cache.mkdir(parents=True, exist_ok=True)
        left = [one for one in networks if not self._file(one).exists()]
        ordered = sorted(left, key=lambda one: list(zip(one.layers, one.mlp_widths, strict=True)))
        for start in range(0, len(ordered), MOST_TOGETHER):
            print(f"\r{len(networks) - len(left) + start} of {len(networks)}", end="", file=sys.stderr, flush=True)
            part = ordered[start : start + MOST_TOGETHER]
            scores = score_together(self._checkpoint.cut_together(part), self._task)
            for one, found in zip(part, scores, strict=True):
                whole = self._file(one).with_suffix(".part")
                with whole.open("wb") as output:
                    np.save(output, np.array(found.metrics[self._metric]))
                whole.replace(self._file(one))
        print("\r" + " " * 20 + "\r", end="", file=sys.stderr, flush=True)
        return {one: np.load(self._file(one)) for one in networks}

    def _file(self, network: Architecture) -> Path:
        return self._cache / f"{network.digest}.npy"


def interval(by_item: FloatArray) -> tuple[float, float]:
    """A mean over items, which are independent, and half its 95 % interval; both in %."""
    return 100 * float(by_item.mean()), 100 * NORMAL_95 * float(by_item.std(ddof=1)) / len(by_item) ** 0.5


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(prog="fronts")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--limits", type=float, nargs="+", default=list(LIMITS), metavar="MILLIONS")
    given = parser.parse_args()
    environment = environment_with_data()
    if environment is None:
        return
    try:
        choices = [choice(path, given.limits) for path in given.runs]
        if len({one.plan.supernet.digest for one in choices}) > 1:
            raise UserError("the runs are of different super-networks")
        measurer = Measurer(given.runs[0] / "supernet", choices[0].plan, environment)
    except UserError as error:
        sys.exit(f"fronts: {error}")
    right = measurer.right(list(dict.fromkeys(network for one in choices for network in one.networks)))
    print(f"{'':20}" + "".join(f"{f'{limit:g} M':>7}" for limit in given.limits) + f"{'mean':>14}{'against first':>16}")
    first = np.array([right[network] for network in choices[0].networks])
    for one in choices:
        answers = np.array([right[network] for network in one.networks])
        mean, half = interval(answers.mean(axis=0))
        difference, uncertain = interval((answers - first).mean(axis=0))
        against = "" if one is choices[0] else f"{difference:+.1f} ±{uncertain:.1f}"
        accuracies = "".join(f"{100 * own.mean():7.1f}" for own in answers)
        print(f"{one.name:20}{accuracies}{f'{mean:.1f} ±{half:.1f}':>14}{against:>16}")


if __name__ == "__main__":
    main()
