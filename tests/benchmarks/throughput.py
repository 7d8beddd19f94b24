"""The additive cost model against real runs: 12 random sub-networks of the example space, prefill and decode.

Run as `python -m tests.benchmarks.throughput [CHECKPOINT]`. Both are measured anew by the torch engine, in turns: after
each run that goes into the table, half of the networks are run once. The error is small on a quiet machine alone; the
spread of each network's own runs says how quiet it was.
"""

import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from services.application.example import SEARCHES
from services.evaluator.cost_tables import cost_tables
from services.evaluator.engines import Engine, LoadedNetwork, PassSeconds, make_engine
from shared.architecture import Architecture
from shared.environment import Environment
from shared.messages import CostSpec, CostTable, Dtype, Workload
from shared.settings import read_search_file
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import preferred_dtype
from shared.supernet.order import drop_order
from shared.supernet.source import fetch_model

NETWORKS = 12
WORKLOAD = Workload(generated_tokens=8)
AIM = 0.05


def main() -> None:
    """Measure the table and the networks, and print how far they are apart."""
    environment = Environment.read()
    torch.set_num_threads(environment.threads)
    settings = read_search_file(SEARCHES / "smollm2-arc-easy.yaml")
    checkpoint = Checkpoint.open(Path(sys.argv[1]) if len(sys.argv) > 1 else fetch_model(settings.model)[0])
    shape, dtype, engine = checkpoint.network, preferred_dtype(), make_engine("torch")
    space = SearchSpace(shape, settings.space.depths, settings.space.mlp_widths, drop_order(shape.depth, None))
    rng = random.Random(0)
    networks = [space.sample(rng) for _ in range(NETWORKS)]
    print(f"torch {engine.version} on {engine.device}, {environment.threads} threads, {dtype}, {WORKLOAD}", flush=True)
    turns = InTurns(engine, checkpoint, networks, dtype)
    with tempfile.TemporaryDirectory() as empty:
        spec = CostSpec(engine="torch", workload=WORKLOAD, mlp_widths=space.mlp_widths)
        fresh = environment.model_copy(update={"cache": Path(empty)})
        (table,) = cost_tables(turns, checkpoint, space.largest(), dtype, spec, fresh)
    show(networks, table, turns.passes)


class InTurns:
    """An engine that, whenever it has run a network, also runs every second one of others, and notes their times."""

    def __init__(self, engine: Engine, checkpoint: Checkpoint, networks: list[Architecture], dtype: Dtype) -> None:
        self.name, self.version, self.device = engine.name, engine.version, engine.device
        self.passes: list[list[PassSeconds]] = [[] for _ in networks]
        self._engine = engine
        self._others = [(checkpoint, network, dtype) for network in networks]
        self._turn = 0

    @contextmanager
    def run(self, checkpoint: Checkpoint, architecture: Architecture, dtype: Dtype) -> Iterator[LoadedNetwork]:
        """Run what was asked for, then some of the others."""
        with self._engine.run(checkpoint, architecture, dtype) as running:
            yield running
        for index in range(self._turn % 2, len(self._others), 2):
            with self._engine.run(*self._others[index]) as running:
                self.passes[index].append(running.time(WORKLOAD, repeats=1))
        self._turn += 1


def show(networks: list[Architecture], table: CostTable, passes: list[list[PassSeconds]]) -> None:
    """A line for each network, then the errors of each phase."""
    for phase in ("prefill", "decode"):
        costs, errors = getattr(table, phase), []
        layers = ", ".join(f"{1000 * (costs.attention + mlp):.3f} ({width})" for width, mlp in costs.mlp.items())
        print(f"\n{phase}: fixed {1000 * costs.fixed:.2f} ms, a layer by its width {layers} ms")
        for number, (network, mine) in enumerate(zip(networks, passes, strict=True), 1):
            repeats = [seconds for each in mine for seconds in getattr(each, phase)]
            real, foretold = statistics.median(repeats), costs.seconds(network)
            errors.append(foretold / real - 1)
            print(
                f"network {number:2}: {network.depth} layers, mean width {statistics.mean(network.mlp_widths):6.0f}: "
                f"measured {1000 * real:7.2f} ms ({1000 * min(repeats):.2f} to {1000 * max(repeats):.2f}), "
                f"foretold {1000 * foretold:7.2f} ms, {100 * errors[-1]:+5.1f} %"
            )
        error = statistics.median(map(abs, errors))
        print(
            f"{phase}: median absolute error {100 * error:.1f} % ({'within' if error < AIM else 'above'} the aim of "
            f"{100 * AIM:.0f} %), largest {100 * max(map(abs, errors)):.1f} %"
        )


if __name__ == "__main__":
    main()
