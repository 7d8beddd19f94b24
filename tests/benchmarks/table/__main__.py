"""Measures the table of all 2,048 networks of a small space of a super-network, by default that of the example search:
`make bench-table SUPERNET=DIRECTORY`.

    python -m tests.benchmarks.table [SUPERNET] [--items 400] [--networks 2048] [--output FILE]

Networks that differ in their last layers only are scored together. It takes about an hour on two cores for the example
super-network; what is done stays in the cache, and the same command goes on from there. Of the items nothing is stored
but which of them each network answers right, and how sure it is.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.evaluator.batch_size import MOST_TOKENS
from services.evaluator.placement import to_device
from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.scoring import score_together
from services.evaluator.tasks.loading import load_items
from shared.digest import digest_json
from shared.drop_orders import all_orders
from shared.environment import Environment
from shared.errors import UserError
from shared.manifest import SupernetManifest
from shared.messages import TaskItems
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import device_name
from shared.supernet.tokenizer import load_tokenizer
from tests.support.benchmark import environment_with_data
from tests.support.network_table import EXAMPLE_TABLE, NetworkTable, TableSpace

ITEMS = 400
PART = 64
"""Networks that are scored together: they share all but their last six elastic layers."""
SUPERNET = Path("runs/smollm2-arc-easy/supernet")
"""The example search's."""


class TableMaker:
    """Measures a space part by part, and keeps each part in a directory until all are there."""

    def __init__(self, checkpoint: Checkpoint, space: TableSpace, task: PreparedTask, parts: Path) -> None:
        self._checkpoint, self._space, self._task, self._parts = checkpoint, space, task, parts

    def measured(self, networks: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Whether each of the first networks answers each item right, and the sigmoids of their margins; both
        (networks, items)."""
        found = [self._part(start, min(start + PART, networks)) for start in range(0, networks, PART)]
        correct, soft = zip(*found, strict=True)
        return np.concatenate(correct), np.concatenate(soft)

    def _part(self, start: int, stop: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        file = self._parts / f"{start}-{stop}.npy"
        if not file.exists():
            self._measure(start, stop, file)
        margins, correct = np.load(file)
        return correct.astype(bool), 1 / (1 + np.exp(-margins))

    def _measure(self, start: int, stop: int, file: Path) -> None:
        began = time.perf_counter()
        networks = self._checkpoint.cut_together([self._space.architecture(row) for row in range(start, stop)])
        scores = score_together(networks, self._task)
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = file.with_suffix(".part")
        with whole.open("wb") as output:
            np.save(output, np.array([[one.margins for one in scores], [one.metrics["acc"] for one in scores]]))
        whole.replace(file)
        seconds = (time.perf_counter() - began) / (stop - start)
        print(f"networks {start} to {stop - 1} of {self._space.size}: {seconds:.1f} s each", flush=True)


def make_table(supernet: Path, items: TaskItems, networks: int | None, environment: Environment) -> NetworkTable:
    """The table of a super-network; of its first networks only, if a number is given."""
    manifest = SupernetManifest.read(supernet)
    cpu = torch.device("cpu")
    checkpoint = to_device(Checkpoint.open(supernet), cpu, torch.bfloat16)
    whole = checkpoint.network
    narrow = min(manifest.space.mlp_widths)
    order = all_orders(manifest.drop_order)[0]
    space = TableSpace.of(whole.mlp_widths, (whole.depth, whole.depth - 1), order, narrow)
    loaded = load_items(items, environment.data)
    tokenizer = load_tokenizer(supernet)
    task = prepare_task(items.task, loaded, tokenizer, checkpoint.config, cpu, MOST_TOKENS["cpu"])
    about: dict[str, Any] = {
        "supernet": manifest.digest,
        "task": items.model_dump(mode="json", exclude_defaults=True),
        "items_digest": task.digest,
        "dtype": "bfloat16",
        "device": device_name(cpu),
        "torch": torch.__version__,
    }
    parts = environment.cache / "benchmarks" / "table" / digest_json([about, vars(space)])
    correct, soft = TableMaker(checkpoint, space, task, parts).measured(networks or space.size)
    return NetworkTable(about, space, correct, soft)


def main() -> None:
    """Measure what isn't yet, and write the table."""
    parser = argparse.ArgumentParser(prog="table", description="Measure all networks of a small space.")
    parser.add_argument("supernet", type=Path, nargs="?", default=SUPERNET, help="directory of a super-network")
    parser.add_argument("--items", type=int, default=ITEMS, help="of ARC-Easy's validation split")
    parser.add_argument("--networks", type=int, help="the first so many; all by default")
    parser.add_argument("--output", type=Path, default=EXAMPLE_TABLE)
    given = parser.parse_args()
    environment = environment_with_data()
    if environment is None:
        return
    items = TaskItems(task="arc_easy", split="validation", stop=given.items)
    try:
        table = make_table(given.supernet, items, given.networks, environment)
    except UserError as error:
        sys.exit(f"bench-table: {error}")
    table.write(given.output)
    accuracies = table.correct.mean(1)
    print(
        f"{len(accuracies)} networks, {table.correct.shape[1]} items: accuracy {accuracies.min():.3f} to "
        f"{accuracies.max():.3f}; {given.output}, {given.output.stat().st_size / 1e3:.0f} kB"
    )


if __name__ == "__main__":
    main()
